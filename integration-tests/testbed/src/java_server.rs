// SPDX-License-Identifier: Apache-2.0
//! A server on Java, on either back end: what Kafka and the registry have in common.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::backend::Backend;
use crate::container::contained::Contained;
use crate::error::{Error, Result};
use crate::run_dir::RunDir;
use crate::server_process::ServerProcess;
use crate::server_slot::ServerSlot;

/// A Java server, started or not.
#[derive(Debug)]
pub(crate) enum JavaServer {
    Process(Box<JavaProcess>),
    Container(Box<Contained>),
}

/// A Java server as a child of this process.
#[derive(Debug)]
pub(crate) struct JavaProcess {
    name: String,
    process: ServerSlot,
    // Last: the directory goes after the process.
    dir: RunDir,
}

impl JavaProcess {
    pub(crate) fn new(name: String, dir: RunDir) -> Self {
        Self {
            name,
            process: ServerSlot::default(),
            dir,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and waits until `ready` gives a value.
    pub(crate) async fn start<F>(
        &self,
        command: Command,
        limit: Duration,
        ready: impl FnMut(&ServerProcess) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Option<()>>,
    {
        let log = self.dir.path().join("log");
        let mut process = ServerProcess::start(&self.name, command, &log, libc::SIGKILL)?;
        process.wait_ready(limit, ready).await?;
        self.process.fill(process);
        Ok(())
    }
}

impl JavaServer {
    pub(crate) fn backend(&self) -> Backend {
        match self {
            Self::Process(_) => Backend::Process,
            Self::Container(_) => Backend::Container,
        }
    }

    /// Stops it in an orderly way.
    pub(crate) async fn stop(&self, limit: Duration) -> Result<()> {
        match self {
            Self::Process(server) => server.process.stop(libc::SIGTERM, limit).await,
            Self::Container(container) => container.end_with("SIGTERM", limit).await,
        }
    }

    pub(crate) async fn kill9(&self) -> Result<()> {
        match self {
            Self::Process(server) => server.process.kill9(),
            Self::Container(container) => container.kill9().await,
        }
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        match self {
            Self::Process(server) => server.process.pause(),
            Self::Container(container) => container.pause().await,
        }
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        match self {
            Self::Process(server) => {
                server.process.resume();
                Ok(())
            }
            Self::Container(container) => container.resume().await,
        }
    }

    /// The process id, if it runs; in a container, as the engine's machine sees it.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(server) => server.process.pid(),
            Self::Container(container) => container.pid(),
        }
    }

    /// An error if it runs, for it cannot be started twice.
    pub(crate) fn check_ended(&self) -> Result<()> {
        match self.pid() {
            Some(pid) => Err(Error::new(format!(
                "this server runs already (pid {pid}): stop it first"
            ))),
            None => Ok(()),
        }
    }

    pub(crate) fn dir(&self) -> &RunDir {
        match self {
            Self::Process(server) => &server.dir,
            Self::Container(container) => container.dir(),
        }
    }

    /// The end of this process.
    pub(crate) fn end(&self) {
        match self {
            Self::Process(server) => {
                let _ = server.process.kill9();
                server.dir.dispose();
            }
            Self::Container(container) => container.end(),
        }
    }
}
