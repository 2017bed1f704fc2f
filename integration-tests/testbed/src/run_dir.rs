// SPDX-License-Identifier: Apache-2.0
//! The directory of one running server: data, sockets, log. Removed on success, kept on failure.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cache;
use crate::error::{Error, Result};

/// Where run directories are made: short, for a Unix socket's path holds 107 bytes.
const PARENT: &str = "/tmp";
/// How their names begin.
const PREFIX: &str = "hwtb-";

/// The run directories of all processes, dead ones' too.
pub(crate) fn all() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(PARENT).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .map(|entry| entry.path())
        .collect()
}

/// A unique, short directory. It is removed when dropped, unless the thread is panicking, [`RunDir::keep`] was called,
/// or `HIGHWATER_KEEP` is set; then its path is printed.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    kept: AtomicBool,
}

impl RunDir {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(PARENT)
            .map_err(|e| Error::during(format!("cannot create a run directory in {PARENT}"), e))?;
        Ok(Self {
            path: dir.keep(),
            kept: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the directory whatever happens.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Removes the directory or says where it was kept.
    pub(crate) fn dispose(&self) {
        if self.is_kept() {
            eprintln!("testbed: kept {}", self.path.display());
        } else if let Err(error) = cache::remove_dir(&self.path) {
            eprintln!("testbed: {error}");
        }
    }

    /// Whether the directory stays when it is disposed of now.
    pub(crate) fn is_kept(&self) -> bool {
        std::thread::panicking() || self.kept.load(Ordering::Relaxed) || std::env::var_os("HIGHWATER_KEEP").is_some()
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        self.dispose();
    }
}
