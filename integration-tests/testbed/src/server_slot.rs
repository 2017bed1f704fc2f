// SPDX-License-Identifier: Apache-2.0
//! The place of a native server that may run or not: what every handle of the process back end holds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::server_process::ServerProcess;

/// A server's process, if it was started and not ended since.
#[derive(Debug, Default)]
pub(crate) struct ServerSlot(Mutex<Option<ServerProcess>>);

impl ServerSlot {
    /// Puts a started server in; one that was there is killed.
    pub(crate) fn fill(&self, process: ServerProcess) {
        *self.slot() = Some(process);
    }

    /// Ends the server with `signal`, if it is there, and waits for its end.
    pub(crate) async fn stop(&self, signal: i32, limit: Duration) -> Result<()> {
        let process = self.slot().take();
        match process {
            Some(mut process) => process.stop(signal, limit).await,
            None => Ok(()),
        }
    }

    pub(crate) fn kill9(&self) -> Result<()> {
        self.slot().take().map_or(Ok(()), |mut process| process.kill9())
    }

    pub(crate) fn pause(&self) -> Result<()> {
        self.slot().as_ref().map_or(Ok(()), ServerProcess::pause)
    }

    pub(crate) fn resume(&self) {
        if let Some(process) = self.slot().as_ref() {
            process.resume();
        }
    }

    /// The process id, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.slot()
            .as_mut()
            .and_then(|process| process.is_running().then(|| process.pid()))
    }

    fn slot(&self) -> MutexGuard<'_, Option<ServerProcess>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
