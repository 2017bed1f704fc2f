// SPDX-License-Identifier: Apache-2.0
//! The processor time that this process has used.

use std::time::Duration;

/// User and system time of all its threads.
pub fn used() -> Duration {
    // SAFETY: getrusage fills the structure it is given and keeps no pointer to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |part: libc::timeval| Duration::new(part.tv_sec as u64, part.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}
