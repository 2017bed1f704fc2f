// SPDX-License-Identifier: Apache-2.0
//! A `highwater` process: started, watched, stopped, frozen, killed.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use highwater_testbed::wait;

use crate::binary;

/// The longest that a process may take to end once it was told to.
pub const END_LIMIT: Duration = Duration::from_secs(30);

/// A command that has run to its end.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it told on standard error.
    pub err: String,
}

impl Ended {
    /// Requires an exit code, and shows what was said otherwise.
    ///
    /// # Panics
    /// When the code is another.
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }

    /// Requires that standard error mentions each of these, whatever the case.
    ///
    /// # Panics
    /// When one is missing.
    pub fn telling(self, parts: &[&str]) -> Self {
        let err = self.err.to_lowercase();
        for part in parts {
            assert!(err.contains(&part.to_lowercase()), "{part:?} is not in:\n{}", self.err);
        }
        self
    }
}

/// Runs `highwater` with arguments to its end.
///
/// # Panics
/// When it does not end within a minute.
pub async fn highwater(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(folder.path(), arguments, environment);
    process.ended(Duration::from_secs(60)).await
}

/// A running `highwater`. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `highwater` with arguments; its output goes to files in `folder`, numbered by starts.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let number = (0..)
            .find(|number| !folder.join(format!("run-{number}.err")).exists())
            .unwrap_or(0);
        let out = folder.join(format!("run-{number}.out"));
        let err = folder.join(format!("run-{number}.err"));
        let mut command = Command::new(binary::highwater());
        command
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(&out).expect("a file for the output"))
            .stderr(File::create(&err).expect("a file for the errors"));
        // SAFETY: prctl is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().expect("highwater starts");
        Process { child, out, err }
    }

    /// What it has told on standard error so far.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    /// What it has printed so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: kill takes numbers only; the child was not waited for, so the number is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }

    /// SIGTERM, and what came of it.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn terminate(&mut self) -> Ended {
        self.signal(libc::SIGTERM);
        self.ended(END_LIMIT).await
    }

    /// Waits until SIGSTOP has stopped it, all of its threads.
    ///
    /// # Panics
    /// When it is not stopped within `limit`, or the process ends before.
    pub async fn is_stopped(&mut self, limit: Duration) {
        let threads = format!("/proc/{}/task", self.pid());
        let stopped = wait::until(limit, "a stopped process", || {
            let stopped = all_are_stopped(&threads);
            let gone = !self.is_running();
            async move {
                if gone {
                    return Err(highwater_testbed::Error::new(
                        "highwater ended instead of being stopped",
                    ));
                }
                Ok(stopped.then_some(()))
            }
        })
        .await;
        if let Err(error) = stopped {
            panic!("{error}:\n{}", self.err_tail());
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Ended {
        match self.status(limit).await {
            Some(status) => Ended {
                code: status.code(),
                out: self.out(),
                err: self.err(),
            },
            None => panic!("highwater still runs after {limit:?}:\n{}", self.err_tail()),
        }
    }

    /// Waits until SIGKILL has ended it; `false` when it still runs after `limit`.
    ///
    /// # Panics
    /// When it ended in another way.
    pub async fn was_killed(&mut self, limit: Duration) -> bool {
        match self.status(limit).await {
            None => false,
            Some(status) if status.signal() == Some(libc::SIGKILL) => true,
            Some(status) => panic!("highwater ended by itself ({status}):\n{}", self.err_tail()),
        }
    }

    /// Waits until standard error holds a text.
    ///
    /// # Panics
    /// When it does not within `limit`, or the process ends before.
    pub async fn tells(&mut self, text: &str, limit: Duration) {
        let told = wait::until(limit, &format!("{text:?} on standard error"), || {
            let told = self.err().contains(text);
            let gone = !told && !self.is_running() && !self.err().contains(text);
            async move {
                if gone {
                    return Err(highwater_testbed::Error::new(format!(
                        "highwater ended without {text:?}"
                    )));
                }
                Ok(told.then_some(()))
            }
        })
        .await;
        if let Err(error) = told {
            panic!("{error}:\n{}", self.err_tail());
        }
    }

    /// The end of what it has told on standard error.
    pub fn err_tail(&self) -> String {
        let err = self.err();
        let lines: Vec<&str> = err.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    async fn status(&mut self, limit: Duration) -> Option<ExitStatus> {
        let child = &mut self.child;
        wait::until(limit, "the end", || {
            let status = child.try_wait().ok().flatten();
            async move { Ok(status) }
        })
        .await
        .ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill9();
        }
    }
}

/// Whether each thread of a process is stopped. One that waits for the disk when the signal comes finishes its call first,
/// long after its process' first thread has stopped.
fn all_are_stopped(threads: &str) -> bool {
    let Ok(threads) = std::fs::read_dir(threads) else {
        return false;
    };
    let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        Ok::<_, std::io::Error>(stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    };
    threads.map(is_stopped).all(|stopped| stopped.unwrap_or(false))
}
