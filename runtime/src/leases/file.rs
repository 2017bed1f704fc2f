// SPDX-License-Identifier: Apache-2.0
//! A lease on a lock of the operating system: for copies on one machine that share the embedded transport's folder. The
//! system frees it when its holder dies, however that happens.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use highwater_core::{Error, ErrorKind, Result};

use super::Lease;

/// How often a copy that waits tries.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// The exclusive lock of one file.
#[derive(Debug)]
pub struct FileLease {
    path: PathBuf,
    held: Option<File>,
}

impl FileLease {
    /// A lease on the lock of the file at `path`, which is made with its folder when it is acquired.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        FileLease {
            path: path.into(),
            held: None,
        }
    }

    fn open(&self) -> std::io::Result<File> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)
    }

    fn failure(&self, error: std::io::Error) -> Error {
        Error::new(
            ErrorKind::Storage,
            format!("cannot lock file \"{}\"", self.path.display()),
        )
        .with_fix("make its folder writable for this user")
        .with_source(error)
    }
}

#[async_trait]
impl Lease for FileLease {
    async fn acquire(&mut self) -> Result<()> {
        if self.held.is_some() {
            return Ok(());
        }
        let file = self.open().map_err(|error| self.failure(error))?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => tokio::time::sleep(TRY_EVERY).await,
                Err(TryLockError::Error(error)) => return Err(self.failure(error)),
            }
        }
        self.held = Some(file);
        Ok(())
    }

    /// The system takes no lock away.
    async fn lost(&mut self) {
        std::future::pending().await
    }

    async fn release(&mut self) -> Result<()> {
        // Closing the file frees the lock.
        self.held = None;
        Ok(())
    }
}
