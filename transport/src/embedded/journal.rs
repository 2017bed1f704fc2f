// SPDX-License-Identifier: Apache-2.0
//! The journal: one file of entries, which makes commits atomic. A transaction is committed when its entry is whole.
//!
//! A frame is `HWJ1`, the entry's length, its checksum, the checksum of these twelve bytes, the entry, and four closing
//! bytes; numbers are little endian. An end of the file that is cut short, as an interrupted write leaves it, is cut off;
//! anything else that does not check is damage and an error, never skipped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_core::{Error, ErrorKind, Result};

use super::disk::{Disk, damaged, failed};
use super::entry::Entry;

const MAGIC: [u8; 4] = *b"HWJ1";
const CLOSING: [u8; 4] = *b"1JWH";
const HEADER_BYTES: usize = 16;
/// The journal begins a new file when it has grown by this much.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

pub(super) struct Journal {
    disk: Arc<Disk>,
    folder: PathBuf,
    number: u64,
    path: PathBuf,
    file: File,
    bytes: u64,
    begun_bytes: u64,
}

/// An entry and where the file stands before and after it.
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) start: u64,
}

fn frame(entry: &Entry, bytes: &mut Vec<u8>) -> Result<()> {
    let payload = entry.encode();
    let length = u32::try_from(payload.len()).map_err(|_| {
        Error::new(
            ErrorKind::LimitReached,
            "a transaction's checkpoint and offsets are larger than 4 GiB",
        )
        .with_fix("commit more often")
    })?;
    let start = bytes.len();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    let crc = crc32fast::hash(&bytes[start..]);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&CLOSING);
    Ok(())
}

/// A frame at the start of `rest`.
enum Frame<'a> {
    Whole {
        payload: &'a [u8],
        bytes: usize,
    },
    /// The rest of the file is what an interrupted write left.
    Cut,
    Damaged(&'static str),
}

fn next_frame(rest: &[u8]) -> Frame<'_> {
    let Some(header) = rest.first_chunk::<HEADER_BYTES>() else {
        return Frame::Cut;
    };
    if rest.iter().all(|octet| *octet == 0) {
        return Frame::Cut;
    }
    let word = |at: usize| {
        let bytes: [u8; 4] = std::array::from_fn(|index| header.get(at + index).copied().unwrap_or_default());
        u32::from_le_bytes(bytes)
    };
    let covered = header.first_chunk::<12>().expect("invariant: 12 of 16 bytes");
    if covered.first_chunk::<4>() != Some(&MAGIC) || crc32fast::hash(covered) != word(12) {
        return Frame::Damaged("an entry does not begin where one must");
    }
    let bytes = HEADER_BYTES + word(4) as usize + CLOSING.len();
    let Some((payload, closing)) = rest
        .get(HEADER_BYTES..bytes)
        .and_then(|body| body.split_last_chunk::<4>())
    else {
        return Frame::Cut;
    };
    let whole = crc32fast::hash(payload) == word(8);
    match (whole, *closing) {
        (true, CLOSING) => Frame::Whole { payload, bytes },
        // A power failure can leave the file longer than what was written to it.
        (_, [.., 0])
            if rest
                .get(bytes..)
                .is_some_and(|after| after.iter().all(|octet| *octet == 0)) =>
        {
            Frame::Cut
        }
        _ => Frame::Damaged("an entry is not what was written"),
    }
}

/// The entries of a journal file, in order, and where the last whole one ends.
fn scan(path: &Path, content: &[u8]) -> Result<(Vec<Found>, u64)> {
    let (mut entries, mut at) = (Vec::new(), 0);
    loop {
        let rest = content.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        match next_frame(rest) {
            Frame::Whole { payload, bytes } => {
                let entry = Entry::decode(payload)
                    .ok_or_else(|| damaged(path, at as u64, "it holds an entry of an unknown form"))?;
                entries.push(Found {
                    entry,
                    start: at as u64,
                });
                at += bytes;
            }
            Frame::Cut => break,
            Frame::Damaged(why) => return Err(damaged(path, at as u64, why)),
        }
    }
    Ok((entries, at as u64))
}

fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let listed = std::fs::read_dir(folder).map_err(|source| failed("list", folder, 0, source))?;
    let mut numbers = Vec::new();
    for entry in listed {
        let name = entry.map_err(|source| failed("list", folder, 0, source))?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|stem| stem.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Journal {
    /// Opens the newest journal file in `folder`, or begins the first, and gives its entries. What an interrupted write
    /// left at its end is cut off.
    pub(super) fn open(disk: Arc<Disk>, folder: PathBuf) -> Result<(Journal, Vec<Found>)> {
        disk.make_folder(&folder)?;
        let numbers = numbers(&folder)?;
        let Some((&number, older)) = numbers.split_last() else {
            return Ok((Self::begin(disk, folder, 1, &[Entry::Begun])?, Vec::new()));
        };
        for older in older {
            disk.remove(&Self::file_path(&folder, *older))?;
        }
        let path = Self::file_path(&folder, number);
        let content = std::fs::read(&path).map_err(|source| failed("read", &path, 0, source))?;
        let (entries, bytes) = scan(&path, &content)?;
        let begun = entries.iter().position(|found| found.entry == Entry::Begun);
        let begun = begun.ok_or_else(|| damaged(&path, bytes, "its beginning is cut short"))?;
        let begun_bytes = entries.get(begun + 1).map_or(bytes, |next| next.start);
        let file = disk.open(&path)?;
        let mut journal = Journal {
            disk,
            folder,
            number,
            path,
            file,
            bytes,
            begun_bytes,
        };
        if bytes < content.len() as u64 {
            tracing::warn!(path = %journal.path.display(), bytes = content.len() as u64 - bytes, "cut off an interrupted write");
            journal.cut(bytes)?;
        }
        Ok((journal, entries))
    }

    fn file_path(folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{number:020}.log"))
    }

    /// Writes a new file that begins with `entries`, all of it on the disk under its name or nothing.
    fn begin(disk: Arc<Disk>, folder: PathBuf, number: u64, entries: &[Entry]) -> Result<Journal> {
        let path = Self::file_path(&folder, number);
        let temporary = folder.join("next.tmp");
        let mut bytes = Vec::new();
        entries.iter().try_for_each(|entry| frame(entry, &mut bytes))?;
        let written = (|| {
            let file = disk.create(&temporary)?;
            disk.write_at(&file, &temporary, &bytes, 0)?;
            disk.sync(&file, &temporary)?;
            disk.rename(&temporary, &path)?;
            disk.sync_folder(&folder)?;
            Ok(file)
        })();
        let file = written.inspect_err(|_| {
            // The old file stays in use; what is left of the new one is in the way only.
            let _ = disk.remove(&temporary);
        })?;
        let bytes = bytes.len() as u64;
        Ok(Journal {
            disk,
            folder,
            number,
            path,
            file,
            bytes,
            begun_bytes: bytes,
        })
    }

    /// Appends entries as one write. On an error the file is as before, or, where that fails too, the second error says
    /// that nothing more may be written.
    pub(super) fn append(&mut self, entries: &[Entry], sync: bool) -> Result<(), (Error, Option<Error>)> {
        let mut bytes = Vec::new();
        entries
            .iter()
            .try_for_each(|entry| frame(entry, &mut bytes))
            .map_err(|error| (error, None))?;
        let written = self.disk.write_at(&self.file, &self.path, &bytes, self.bytes);
        let synced = written.and_then(|()| {
            if sync {
                self.disk.sync(&self.file, &self.path)
            } else {
                Ok(())
            }
        });
        if let Err(error) = synced {
            return Err((error, self.cut(self.bytes).err()));
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Drops what lies behind `bytes`.
    pub(super) fn cut(&mut self, bytes: u64) -> Result<()> {
        self.disk.set_len(&self.file, &self.path, bytes)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Whether it is time to begin a new file.
    pub(super) fn is_long(&self) -> bool {
        self.bytes - self.begun_bytes > GROWTH_BYTES_MAX.max(self.begun_bytes)
    }

    /// Goes on in a new file that begins with `entries`. All data is on the disk. On an error the old file stays.
    pub(super) fn renew(&mut self, entries: &[Entry]) -> Result<()> {
        let next = Self::begin(Arc::clone(&self.disk), self.folder.clone(), self.number + 1, entries)?;
        let old = std::mem::replace(self, next);
        // Left behind, it is removed at the next start.
        old.disk.remove(&old.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for base in 0..count {
            frame(
                &Entry::Rolled {
                    topic: "t".to_owned(),
                    partition: 0,
                    base,
                },
                &mut bytes,
            )
            .unwrap();
        }
        bytes
    }

    #[test]
    fn each_cut_leaves_the_whole_entries_before_it() {
        let bytes = content(5);
        let one = bytes.len() / 5;
        for length in 0..=bytes.len() {
            let (entries, end) = scan(Path::new("j"), &bytes[..length]).unwrap();
            assert_eq!(
                (entries.len(), end as usize),
                (length / one, length / one * one),
                "cut at {length}"
            );
            let mut padded = bytes[..length].to_vec();
            padded.resize(bytes.len() + 600, 0);
            // A file that grew without its content: cut off where no part of an entry is there, else told apart by its
            // closing bytes.
            if length % one == 0 || length % one >= HEADER_BYTES {
                let (entries, _) = scan(Path::new("j"), &padded).unwrap();
                assert_eq!(entries.len(), length / one, "padded at {length}");
            }
        }
    }

    #[test]
    fn each_flipped_bit_is_damage_that_names_the_file_and_the_place() {
        let mut bytes = content(3);
        let one = bytes.len() / 3;
        for at in 0..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            let error = scan(Path::new("the-journal"), &bytes)
                .err()
                .unwrap_or_else(|| panic!("bit {at} went unnoticed"));
            assert!(error.to_string().contains("the-journal"), "{error}");
            assert_eq!(error.context()[0], ("byte", (at / 8 / one * one).to_string()));
            bytes[at / 8] ^= 1 << (at % 8);
        }
    }
}
