// SPDX-License-Identifier: Apache-2.0
//! Reading segment files: their blocks in order, each checked.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_core::Result;

use super::block::{HEADER_BYTES, Header};
use super::disk::{damaged, failed};

/// How much is read at once.
const READ_BYTES: u64 = 1 << 20;

/// A walk over the committed blocks of one file, its content read in large pieces.
pub(super) struct Blocks<'a> {
    file: &'a File,
    path: &'a Path,
    /// Where the next block begins.
    pub(super) at: u64,
    /// Where the committed bytes end.
    end: u64,
    piece: Bytes,
    piece_start: u64,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(file: &'a File, path: &'a Path, at: u64, end: u64) -> Self {
        Blocks {
            file,
            path,
            at,
            end,
            piece: Bytes::new(),
            piece_start: at,
        }
    }

    fn held(&mut self, bytes: u64) -> Result<Bytes> {
        let start = (self.at - self.piece_start) as usize;
        if let Some(end) = start.checked_add(bytes as usize).filter(|end| *end <= self.piece.len()) {
            return Ok(self.piece.slice(start..end));
        }
        if bytes > self.end - self.at {
            return Err(damaged(self.path, self.at, "a block reaches past the committed end"));
        }
        let wanted = bytes.max(READ_BYTES).min(self.end - self.at);
        let mut piece = vec![0; wanted as usize];
        self.file
            .read_exact_at(&mut piece, self.at)
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    damaged(self.path, self.at, "it is shorter than what was committed")
                }
                _ => failed("read", self.path, 0, source),
            })?;
        self.piece = piece.into();
        self.piece_start = self.at;
        Ok(self.piece.slice(..bytes as usize))
    }

    /// The next block's header; `None` at the end.
    pub(super) fn header(&mut self) -> Result<Option<Header>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let bytes = self.held((HEADER_BYTES as u64).min(self.end - self.at))?;
        let header =
            Header::read(&bytes).ok_or_else(|| damaged(self.path, self.at, "a block does not begin where one must"))?;
        Ok(Some(header))
    }

    /// The payload of the block whose header was read.
    pub(super) fn payload(&mut self, header: &Header) -> Result<Bytes> {
        Ok(self.held(header.block_bytes())?.slice(HEADER_BYTES..))
    }

    /// Goes on to the block after it.
    pub(super) fn pass(&mut self, header: &Header) {
        self.at += header.block_bytes();
    }

    /// The error of a block whose payload does not check.
    pub(super) fn damaged(&self) -> highwater_core::Error {
        damaged(self.path, self.at, "a block is not what was written")
    }
}

/// A segment's file, open for reading.
pub(super) struct SegmentFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl SegmentFile {
    /// Opens it; `None` where it is gone.
    pub(super) fn open(path: PathBuf) -> Result<Option<SegmentFile>> {
        match File::open(&path) {
            Ok(file) => Ok(Some(SegmentFile { file, path })),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed("open", &path, 0, source)),
        }
    }

    pub(super) fn blocks(&self, at: u64, end: u64) -> Blocks<'_> {
        Blocks::new(&self.file, &self.path, at, end)
    }
}
