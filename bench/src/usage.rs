// SPDX-License-Identifier: Apache-2.0
//! What a process has used, by the kernel's own books.

use crate::failure::{Failure, Result};

/// CPU seconds, user and system, of this process with all its threads, ended ones included.
pub(crate) fn cpu_seconds() -> f64 {
    // SAFETY: an all-zero rusage is a valid value of the plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The most memory that this process ever held resident (`VmHWM`), in megabytes of 1,000,000 bytes.
pub(crate) fn rss_peak_mb() -> Result<f64> {
    rss_peak_mb_of(std::process::id())
}

/// The same of another process of this machine.
pub(crate) fn rss_peak_mb_of(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status =
        std::fs::read_to_string(&path).map_err(|error| Failure::during(format!("cannot read {path}"), error))?;
    peak_in(&status).ok_or_else(|| Failure::new(format!("{path} has no VmHWM")))
}

fn peak_in(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

/// CPU seconds, user and system, of another process of this machine with all its threads.
pub(crate) fn cpu_seconds_of(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| Failure::during(format!("cannot read {path}"), error))?;
    let ticks = ticks_in(&stat).ok_or_else(|| Failure::new(format!("{path} has another form than proc(5) says")))?;
    // SAFETY: a plain call without pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks as f64 / per_second as f64)
}

/// `utime` and `stime` of a line of `/proc/PID/stat`. The second field is a name in brackets that may hold blanks.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_blanks_and_brackets() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 700 30 0 0 20 0 4 0 1 2 3";
        assert_eq!(ticks_in(stat), Some(730));
        assert_eq!(ticks_in("42 (a) S 1 2"), None);
    }

    #[test]
    fn the_peak_is_in_megabytes() {
        assert_eq!(peak_in("Name:\tx\nVmHWM:\t    1000 kB\n"), Some(1.024));
        assert!(rss_peak_mb().unwrap() > 0.5);
    }

    #[test]
    fn work_of_another_thread_is_counted_by_both_ways_of_asking() {
        let before = (cpu_seconds(), cpu_seconds_of(std::process::id()).unwrap());
        let spun = std::thread::spawn(|| {
            let began = crate::clock::monotonic_us();
            let start = cpu_seconds();
            while cpu_seconds() - start < 0.2 && crate::clock::monotonic_us() - began < 60_000_000 {
                std::hint::black_box(());
            }
        });
        spun.join().unwrap();
        assert!(cpu_seconds() - before.0 >= 0.15);
        assert!(cpu_seconds_of(std::process::id()).unwrap() - before.1 >= 0.1);
    }
}
