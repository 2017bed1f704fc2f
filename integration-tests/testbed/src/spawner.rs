// SPDX-License-Identifier: Apache-2.0
//! Starts children that die with this process.
//!
//! The kernel's parent-death signal fires when the *thread* that forked ends, and every test has a thread of its
//! own: a server shared by several tests would die with the first. So one thread, which lives as long as the
//! process, does all the forking.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Requests that may wait for the forking thread.
const REQUESTS_MAX: usize = 16;

struct Request {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

/// Starts `command` in a session of its own; it gets `death_signal` when this process ends, however it ends.
pub(crate) fn spawn(mut command: Command, death_signal: i32) -> io::Result<Child> {
    let parent = std::process::id();
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            if libc::prctl(libc::PR_SET_PDEATHSIG, death_signal) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the call.
            if libc::getppid().cast_unsigned() != parent {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    let (reply, answer) = sync_channel(1);
    let gone = || io::Error::other("the forking thread has ended");
    forking_thread().send(Request { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn forking_thread() -> &'static SyncSender<Request> {
    static THREAD: OnceLock<SyncSender<Request>> = OnceLock::new();
    THREAD.get_or_init(|| {
        let (sender, requests) = sync_channel::<Request>(REQUESTS_MAX);
        std::thread::spawn(move || {
            for Request { mut command, reply } in requests {
                let _ = reply.send(command.spawn());
            }
        });
        sender
    })
}
