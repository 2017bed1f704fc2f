// SPDX-License-Identifier: Apache-2.0
//! Files for transactions that are too large for memory before they commit.
//!
//! A file has no name: it is unlinked as soon as it is open, so that nothing is left behind by a process that dies, and
//! nobody else can read rows in it. What it holds is not durable and need not be: until its transaction is delivered and
//! committed downstream, the server sends it again.

use crate::protocol::framing::{FRAME_BYTES_MAX, FrameBatch, FrameSplitter};
use crate::stream_settings::SpillSettings;
use highwater_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

/// How much is read back at once.
const READ_BYTES: u64 = 1 << 20;

/// The files of one log reader.
#[derive(Debug)]
pub(super) struct SpillFiles {
    directory: PathBuf,
    bytes_max: u64,
    /// On disk now.
    bytes: u64,
    files: HashMap<u32, SpillFile>,
    writing: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
struct SpillFile {
    file: Arc<File>,
    length: u64,
}

impl SpillFiles {
    pub(super) fn new(settings: &SpillSettings) -> Self {
        Self {
            directory: settings.directory(),
            bytes_max: settings.spill_bytes_max,
            bytes: 0,
            files: HashMap::new(),
            writing: None,
        }
    }

    /// Begins to append `chunk` to the file of a transaction; [`SpillFiles::settle`] waits for it.
    pub(super) fn append(&mut self, xid: u32, chunk: Vec<u8>) -> Result<()> {
        let length = chunk.len() as u64;
        if self.bytes + length > self.bytes_max {
            return Err(self.over_limit(xid));
        }
        let file = match self.files.entry(xid) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let file = nameless_file(&self.directory).map_err(|error| failure(&self.directory, error))?;
                tracing::info!(transaction = xid, directory = %self.directory.display(), "a large transaction goes to disk until it commits");
                entry.insert(SpillFile {
                    file: Arc::new(file),
                    length: 0,
                })
            }
        };
        file.length += length;
        self.bytes += length;
        let file = file.file.clone();
        self.writing = Some(spawn_blocking(move || (&*file).write_all(&chunk)));
        Ok(())
    }

    /// Waits for what is being written. Cancel-safe.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        let written = writing.await;
        self.writing = None;
        flatten(written).map_err(|error| failure(&self.directory, error))
    }

    /// Hands over the file of a transaction, if it has one.
    pub(super) fn take(&mut self, xid: u32) -> Option<SpillReader> {
        let SpillFile { file, length } = self.files.remove(&xid)?;
        self.bytes -= length;
        Some(SpillReader {
            file,
            directory: self.directory.clone(),
            left: length,
            rewound: false,
            splitter: FrameSplitter::new(FRAME_BYTES_MAX),
            reading: None,
        })
    }

    /// Gives up the file of a transaction, if it has one.
    pub(super) fn discard(&mut self, xid: u32) {
        if let Some(SpillFile { file, length }) = self.files.remove(&xid) {
            self.bytes -= length;
            // Freeing gigabytes takes a while.
            spawn_blocking(move || drop(file));
        }
    }

    fn over_limit(&self, xid: u32) -> Error {
        let what = format!(
            "transactions that have not committed yet need more than {} bytes on disk (`spill.spill_bytes_max`)",
            self.bytes_max
        );
        Error::new(ErrorKind::LimitReached, what)
            .with("transaction", xid)
            .with("directory", self.directory.display())
            .with_fix(
                "raise `spill.spill_bytes_max`, or set `streaming: off` to have the server keep them; nothing is lost",
            )
    }
}

/// A transaction's file, read back.
#[derive(Debug)]
pub(super) struct SpillReader {
    file: Arc<File>,
    directory: PathBuf,
    left: u64,
    rewound: bool,
    splitter: FrameSplitter,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl SpillReader {
    /// The next frames, or `None` at the end. Cancel-safe.
    pub(super) async fn next_batch(&mut self) -> Result<Option<FrameBatch>> {
        loop {
            let batch = self.splitter.take_batch();
            if let Some(batch) = batch.map_err(|error| self.unreadable(io::Error::other(error)))? {
                return Ok(Some(batch));
            }
            if self.left == 0 {
                return match self.splitter.buffered_bytes() {
                    0 => Ok(None),
                    _ => Err(self.unreadable(io::ErrorKind::UnexpectedEof.into())),
                };
            }
            let block = self.read_block().await.map_err(|error| self.unreadable(error))?;
            self.left -= block.len() as u64;
            self.splitter.buffer().extend_from_slice(&block);
        }
    }

    async fn read_block(&mut self) -> io::Result<Vec<u8>> {
        let reading = self.reading.get_or_insert_with(|| {
            let (file, rewound) = (self.file.clone(), std::mem::replace(&mut self.rewound, true));
            let length = self.left.min(READ_BYTES) as usize;
            spawn_blocking(move || {
                let mut file = &*file;
                if !rewound {
                    file.seek(SeekFrom::Start(0))?;
                }
                let mut block = vec![0; length];
                file.read_exact(&mut block)?;
                Ok(block)
            })
        });
        let read = reading.await;
        self.reading = None;
        flatten(read)
    }

    fn unreadable(&self, error: io::Error) -> Error {
        let what = format!(
            "spill directory \"{}\": a file cannot be read back",
            self.directory.display()
        );
        Error::new(ErrorKind::Storage, what).with_source(error)
    }
}

fn flatten<T>(result: std::result::Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    result.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn nameless_file(directory: &Path) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    tempfile::tempfile_in(directory)
}

/// Whether large transactions can go to disk there.
pub(crate) fn try_directory(directory: &Path) -> Result<()> {
    nameless_file(directory)
        .map(|_| ())
        .map_err(|error| failure(directory, error))
}

fn failure(directory: &Path, error: io::Error) -> Error {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let (what, fix) = if full {
        (
            "no space left for a transaction that has not committed yet",
            "make room or name another place in `spill.directory`, or set `streaming: off` to have the server keep large \
             transactions; nothing is lost",
        )
    } else {
        (
            "a file for a large transaction cannot be written",
            "name a directory that can be written in `spill.directory`, or set `streaming: off` to have the server keep \
             large transactions",
        )
    };
    Error::new(
        ErrorKind::Storage,
        format!("spill directory \"{}\": {what}: {error}", directory.display()),
    )
    .with_fix(fix)
    .with_source(error)
}
