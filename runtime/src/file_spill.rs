// SPDX-License-Identifier: Apache-2.0
//! A [`Spill`] in files: one a run, entries in the order of their digests, in blocks that are checked when they are read.
//!
//! ```text
//!   crc32 of the rest │ digest, length, value │ digest, length, value │ …     one block: about 4 KiB, or one larger entry
//! ```
//!
//! Digests are evenly spread, so asking for a chunk's keys reads about one block a key and run. Of a block only its first
//! digest and its place are kept in memory: four MiB for each GiB on disk.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_core::spill::{Spill, SpillEntry, SpillRun};
use highwater_core::{Class, Error, ErrorKind, Result};

const BLOCK_BYTES: usize = 4_096;
const CRC_BYTES: usize = 4;
/// Digest and length in front of a value.
const ENTRY_HEAD_BYTES: usize = 12;
const SUFFIX: &str = "run";

#[derive(Debug)]
struct Block {
    first: u64,
    offset: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Run {
    file: File,
    blocks: Vec<Block>,
    bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct FileSpill {
    folder: PathBuf,
    bytes_max: u64,
    runs: BTreeMap<SpillRun, Run>,
}

impl FileSpill {
    /// Opens an empty store for at most `bytes_max` bytes in `folder`, which is made if it is missing; runs that an earlier
    /// one left there are removed.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] when the folder cannot be made, read or cleared.
    pub fn open(folder: &Path, bytes_max: u64) -> Result<Self> {
        let failed = |error| storage(folder, "the folder of remembered keys cannot be used", error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        for file in std::fs::read_dir(folder).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                std::fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(FileSpill {
            folder: folder.to_owned(),
            bytes_max,
            runs: BTreeMap::new(),
        })
    }

    fn path(&self, run: SpillRun) -> PathBuf {
        self.folder.join(format!("{}.{SUFFIX}", run.0))
    }
}

fn storage(path: &Path, what: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("{what}: {}", path.display()))
        .with_source(error)
        .with_fix("see that the disk has room and the folder belongs to this user")
}

/// Which of the sorted entries share a block.
fn blocks_of(entries: &[&SpillEntry]) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (at, entry) in entries.iter().enumerate() {
        let size = ENTRY_HEAD_BYTES + entry.value.len();
        match blocks.last_mut() {
            Some(block) if bytes + size <= BLOCK_BYTES => {
                block.end = at + 1;
                bytes += size;
            }
            _ => {
                blocks.push(at..at + 1);
                bytes = CRC_BYTES + size;
            }
        }
    }
    blocks
}

fn block_bytes(entries: &[&SpillEntry]) -> usize {
    let sizes = entries.iter().map(|entry| ENTRY_HEAD_BYTES + entry.value.len());
    CRC_BYTES + sizes.sum::<usize>()
}

fn encode(entries: &[&SpillEntry], block: &mut Vec<u8>) -> std::io::Result<()> {
    block.clear();
    block.extend_from_slice(&[0; CRC_BYTES]);
    for entry in entries {
        let length = u32::try_from(entry.value.len()).map_err(std::io::Error::other)?;
        block.extend_from_slice(&entry.digest.to_le_bytes());
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&entry.value);
    }
    let crc = crc32fast::hash(&block[CRC_BYTES..]);
    block[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// The entries of a block; `None` if its bytes are not what was written.
fn decode(block: &Bytes) -> Option<Vec<SpillEntry>> {
    let (crc, payload) = block.split_first_chunk::<CRC_BYTES>()?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut entries = Vec::new();
    let mut rest = block.slice(CRC_BYTES..);
    while !rest.is_empty() {
        let (digest, behind) = rest.split_first_chunk::<8>()?;
        let (length, values) = behind.split_first_chunk::<4>()?;
        let (digest, length) = (u64::from_le_bytes(*digest), u32::from_le_bytes(*length) as usize);
        if values.len() < length {
            return None;
        }
        let end = ENTRY_HEAD_BYTES + length;
        entries.push(SpillEntry {
            digest,
            value: rest.slice(ENTRY_HEAD_BYTES..end),
        });
        rest = rest.slice(end..);
    }
    Some(entries)
}

impl Run {
    fn write(path: &Path, entries: &[&SpillEntry], blocks: &[Range<usize>], bytes: u64) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let mut out = BufWriter::with_capacity(16 * BLOCK_BYTES, file);
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let mut offset = 0;
        let mut places = Vec::with_capacity(blocks.len());
        for entries in blocks.iter().filter_map(|range| entries.get(range.clone())) {
            encode(entries, &mut block)?;
            out.write_all(&block)?;
            places.push(Block {
                first: entries.first().map_or(0, |entry| entry.digest),
                offset,
                bytes: block.len(),
            });
            offset += block.len() as u64;
        }
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(Run {
            file,
            blocks: places,
            bytes,
        })
    }

    fn read(&self, block: &Block) -> std::io::Result<Option<Vec<SpillEntry>>> {
        let mut bytes = vec![0; block.bytes];
        self.file.read_exact_at(&mut bytes, block.offset)?;
        Ok(decode(&bytes.into()))
    }

    /// Appends the entries with one of the digests, which are ascending. `false`: damaged.
    fn find(&self, digests: &[u64], found: &mut Vec<SpillEntry>) -> std::io::Result<bool> {
        let mut cached: Option<(usize, Vec<SpillEntry>)> = None;
        for &digest in digests {
            let before = self.blocks.partition_point(|block| block.first < digest);
            let mut at = before.saturating_sub(1);
            while let Some(block) = self.blocks.get(at).filter(|block| block.first <= digest) {
                if cached.as_ref().is_none_or(|(cached, _)| *cached != at) {
                    let Some(entries) = self.read(block)? else {
                        return Ok(false);
                    };
                    cached = Some((at, entries));
                }
                let entries = cached.iter().flat_map(|(_, entries)| entries);
                found.extend(entries.filter(|entry| entry.digest == digest).cloned());
                at += 1;
            }
        }
        Ok(true)
    }
}

impl Spill for FileSpill {
    fn write(&mut self, run: SpillRun, entries: &[SpillEntry]) -> Result<()> {
        let mut sorted: Vec<&SpillEntry> = entries.iter().collect();
        sorted.sort_by_key(|entry| entry.digest);
        let blocks = blocks_of(&sorted);
        let sizes = blocks.iter().filter_map(|range| sorted.get(range.clone()));
        let bytes: u64 = sizes.map(|entries| block_bytes(entries) as u64).sum();
        let kept: u64 = self.runs.values().map(|run| run.bytes).sum();
        if kept + bytes > self.bytes_max {
            return Err(
                Error::new(ErrorKind::LimitReached, "the store of remembered keys is full")
                    .with("bytes_max", self.bytes_max)
                    .with_fix("nothing is lost; a larger spill_bytes_max spares reading again"),
            );
        }
        let path = self.path(run);
        match Run::write(&path, &sorted, &blocks, bytes) {
            Ok(written) => {
                self.runs.insert(run, written);
                Ok(())
            }
            Err(error) => {
                // What is there takes room; that it cannot be removed either says no more than the first failure.
                let _ = std::fs::remove_file(&path);
                Err(storage(&path, "remembered keys cannot be written", error))
            }
        }
    }

    fn recall(&mut self, runs: &[SpillRun], digests: &[u64]) -> Result<Vec<SpillEntry>> {
        let mut digests = digests.to_vec();
        digests.sort_unstable();
        digests.dedup();
        let mut found = Vec::new();
        for number in runs {
            let run = self
                .runs
                .get(number)
                .ok_or_else(|| Error::bug("a run was asked that is not kept").with("run", number.0))?;
            let path = self.path(*number);
            let intact = run
                .find(&digests, &mut found)
                .map_err(|error| storage(&path, "remembered keys cannot be read", error))?;
            if !intact {
                return Err(Error::new(
                    ErrorKind::Storage,
                    format!("remembered keys are damaged: {}", path.display()),
                )
                .with_class(Class::Retryable)
                .with_fix("nothing is lost; see whether the disk fails"));
            }
        }
        Ok(found)
    }

    fn forget(&mut self, run: SpillRun) {
        if self.runs.remove(&run).is_some() {
            // A name that stays takes room until the store is opened again, and is no answer to anything.
            let _ = std::fs::remove_file(self.path(run));
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_testkit::spill_suite::{SpillHarness, run};

    use super::*;

    struct Folder(tempfile::TempDir);

    impl SpillHarness for Folder {
        type Store = FileSpill;

        fn open(&self, bytes_max: u64) -> FileSpill {
            FileSpill::open(&self.0.path().join("remembered"), bytes_max).unwrap()
        }

        fn damage(&self, part: u64) -> bool {
            let path = self.0.path().join("remembered/1.run");
            let mut bytes = std::fs::read(&path).unwrap();
            let at = bytes.len() * part as usize / 1_000;
            bytes[at] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
            true
        }
    }

    #[test]
    fn the_store_in_files_conforms() {
        run(|| Folder(tempfile::tempdir().unwrap()));
    }

    #[test]
    fn nobody_else_may_read_the_files_and_foreign_ones_stay() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("README"), "mine").unwrap();
        let mut store = FileSpill::open(folder.path(), 1 << 20).unwrap();
        store.write(SpillRun(1), &[]).unwrap();
        let mode = std::fs::metadata(folder.path().join("1.run"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        FileSpill::open(folder.path(), 1 << 20).unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect();
        assert_eq!(names, ["README"]);
    }

    #[test]
    fn a_disk_that_fails_is_told_with_its_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileSpill::open(folder.path(), 1 << 20).unwrap();
        // A folder stands where the file belongs.
        std::fs::create_dir(folder.path().join("1.run")).unwrap();
        let error = store.write(SpillRun(1), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.message().contains("1.run"), "{error}");
        store.write(SpillRun(2), &[]).unwrap();
    }
}
