// SPDX-License-Identifier: Apache-2.0
//! Who started a container, in words by which another process can tell that the starter is dead.
//!
//! A container is no child of the process that asked for it: SIGKILL for a test leaves its containers behind. So each
//! carries its owner, and the next test that uses the engine removes those of dead ones ([`super::sweep`]).

use std::fs;

/// The label of a container with its owner.
pub(crate) const LABEL: &str = "highwater.testbed.owner";

/// This process: boot, process namespace, process id and the time at which it started, for ids are used again.
pub(crate) fn this_process() -> String {
    let pid = std::process::id();
    let started = status(pid).map_or(0, |(_, started)| started);
    format!("{}:{}:{pid}:{started}", boot(), namespace())
}

/// True when `owner` was a process of this machine, seen from here, and has ended. Anything else counts as alive: an
/// engine may be shared by machines and by containers, whose processes cannot be looked at.
pub(crate) fn is_dead(owner: &str) -> bool {
    let parts: Vec<&str> = owner.split(':').collect();
    let &[its_boot, its_namespace, pid, its_start] = parts.as_slice() else {
        return false;
    };
    if its_boot.is_empty() || its_boot != boot() || its_namespace != namespace() {
        return false;
    }
    let (Ok(pid), Ok(its_start)) = (pid.parse::<u32>(), its_start.parse::<u64>()) else {
        return false;
    };
    match status(pid) {
        Some((state, started)) => matches!(state, 'Z' | 'X') || started != its_start,
        None => !exists(pid),
    }
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The number in `pid:[4026531836]`.
fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = link.to_string_lossy();
    text.chars().filter(char::is_ascii_digit).collect()
}

/// A process' state and start, in clock ticks since boot: fields 3 and 22 of its `stat`.
fn status(pid: u32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// Whether there is such a process, be it hidden from `/proc`.
fn exists(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 only asks.
    let found = unsafe { libc::kill(pid, 0) } == 0;
    found || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_not_dead_and_its_successor_with_the_same_id_is_another() {
        let me = this_process();
        assert!(!is_dead(&me), "{me}");
        let (rest, started) = me.rsplit_once(':').unwrap();
        let before: u64 = started.parse::<u64>().unwrap() - 1;
        assert!(is_dead(&format!("{rest}:{before}")));
    }

    #[test]
    fn a_killed_process_is_dead_even_before_its_parent_asked_for_its_end() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id();
        let owner = format!("{}:{}:{pid}:{}", boot(), namespace(), status(pid).unwrap().1);
        assert!(!is_dead(&owner));
        child.kill().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !is_dead(&owner) {
            assert!(std::time::Instant::now() < end, "the killed child counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_dead(&owner));
    }

    #[test]
    fn processes_of_other_machines_and_namespaces_are_left_alone() {
        for foreign in [
            format!("another-boot:{}:1:1", namespace()),
            format!("{}:1:1:1", boot()),
            format!("{}:{}:not a number:1", boot(), namespace()),
            String::new(),
        ] {
            assert!(!is_dead(&foreign), "{foreign}");
        }
    }
}
