// SPDX-License-Identifier: Apache-2.0
//! A server that runs as a native process: started, watched, stopped, killed, frozen.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command;
use crate::error::{Error, Result};
use crate::spawner;
use crate::wait;

/// Lines of a server's log that an error shows.
const LOG_TAIL_LINES: usize = 30;
/// Bytes of a server's log that are read for its tail.
const LOG_TAIL_BYTES: u64 = 64 * 1024;
/// Time for killed processes to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Time for a frozen process to be stopped.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// A running child with a log file. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    name: String,
    child: Child,
    log: PathBuf,
    log_start: u64,
}

impl ServerProcess {
    /// Starts `command`, its output appended to `log`; `death_signal` is what it gets if this process dies first.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path, death_signal: i32) -> Result<Self> {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .map_err(|e| Error::during(format!("cannot open {}", log.display()), e))
        };
        let (out, err) = (open()?, open()?);
        let log_start = out.metadata().map_or(0, |meta| meta.len());
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child =
            spawner::spawn(command, death_signal).map_err(|e| Error::during(format!("cannot start {name}"), e))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            log_start,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that this run wrote to its log.
    pub(crate) fn log_of_this_run(&self) -> String {
        read_from(&self.log, self.log_start)
    }

    /// Waits until `ready` gives a value; fails early, with the log's tail, when the server dies.
    pub(crate) async fn wait_ready<T, F>(&mut self, limit: Duration, mut ready: impl FnMut(&Self) -> F) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        let end = Instant::now() + limit;
        let what = format!("{} (pid {}) to be ready", self.name, self.pid());
        loop {
            if let Some(value) = ready(self).await {
                return Ok(value);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(
                    Error::new(format!("{} died while starting ({status})", self.name)).with_log(self.log_tail())
                );
            }
            if Instant::now() >= end {
                return Err(Error::new(format!("waited {limit:?} for {what}")).with_log(self.log_tail()));
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// Sends `signal` and waits until the server has ended by itself.
    pub(crate) async fn stop(&mut self, signal: i32, limit: Duration) -> Result<()> {
        send(self.pid(), libc::SIGCONT);
        send(self.pid(), signal);
        let what = format!("the end of {} (pid {})", self.name, self.pid());
        let child = &mut self.child;
        let ended = wait::until(limit, &what, || {
            let ended = matches!(child.try_wait(), Ok(Some(_)));
            async move { Ok(ended.then_some(())) }
        })
        .await;
        ended.map_err(|e| e.with_log(self.log_tail()))
    }

    /// SIGKILL for the server and its children, as a crash of the machine would be; returns when all are gone.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        let family = descendants(self.pid());
        send(self.pid(), libc::SIGKILL);
        for pid in &family {
            send(*pid, libc::SIGKILL);
        }
        let _ = self.child.wait();
        let end = Instant::now() + KILL_LIMIT;
        while family.iter().any(|pid| is_running(*pid)) {
            if Instant::now() >= end {
                return Err(Error::new(format!(
                    "processes of {} outlived SIGKILL: {family:?}",
                    self.name
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Freezes the server and its children (SIGSTOP); its sockets stay open and silent.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal_family(libc::SIGSTOP);
        let end = Instant::now() + FREEZE_LIMIT;
        while state(self.pid()) != Some('T') {
            if Instant::now() >= end {
                return Err(Error::new(format!("{} (pid {}) did not freeze", self.name, self.pid())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Lets a frozen server go on (SIGCONT).
    pub(crate) fn resume(&self) {
        self.signal_family(libc::SIGCONT);
    }

    fn signal_family(&self, signal: i32) {
        send(self.pid(), signal);
        for pid in descendants(self.pid()) {
            send(pid, signal);
        }
    }

    /// True while the server has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn log_tail(&self) -> String {
        let length = fs::metadata(&self.log).map_or(0, |meta| meta.len());
        let text = read_from(&self.log, length.saturating_sub(LOG_TAIL_BYTES).max(self.log_start));
        command::tail(&text, LOG_TAIL_LINES)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.is_running()
            && let Err(error) = self.kill9()
        {
            eprintln!("testbed: {error}");
        }
    }
}

fn read_from(path: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(offset)).is_ok()
    {
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a signal to one process that we started (or a child of it).
pub(crate) fn send(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // SAFETY: kill takes numbers only.
        unsafe { libc::kill(pid, signal) };
    }
}

/// The letter of a process' state and its parent, from `/proc/PID/stat`; the name before them may hold anything.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn state(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// True while a process exists and is no zombie.
fn is_running(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.1)))
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family.split_off(1)
}
