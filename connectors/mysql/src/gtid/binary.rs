// SPDX-License-Identifier: Apache-2.0
//! The bytes of GTID sets, as PREVIOUS_GTIDS and COM_BINLOG_DUMP_GTID carry them.
//!
//! ```text
//! without tags   sources:8                      { uuid:16                    intervals:8 { first:8 end:8 }… }…
//! with tags      01 sources:6 01                { uuid:16  length*2:1  tag   intervals:8 { first:8 end:8 }… }…
//! ```
//!
//! Integers are little-endian, `end` is the number after the last. A set without tags has the first form, which every
//! server reads. The length of a tag is an integer of the server's serialization library, one byte for what a tag may have.

use super::set::GtidSet;
use super::source::{SourceUuid, TAG_BYTES_MAX, Tag, TransactionSource};
use super::{GtidError, Interval};

/// The number of the form with tags, in its first byte and its eighth.
pub const TAGGED_FORMAT: u8 = 1;

impl GtidSet {
    /// The set's bytes, with tags only where there are any.
    pub fn encode(&self) -> Vec<u8> {
        let tagged = self.has_tags();
        let count = self.iter().len() as u64;
        let format = u64::from(TAGGED_FORMAT);
        let head = if tagged {
            (format << 56) | (count << 8) | format
        } else {
            count
        };
        let mut bytes = head.to_le_bytes().to_vec();
        for (source, intervals) in self.iter() {
            bytes.extend(source.uuid.0);
            if tagged {
                let tag = source.tag.as_str().as_bytes();
                let length = u8::try_from(tag.len() << 1).expect("invariant: a tag has 32 bytes at most");
                bytes.push(length);
                bytes.extend(tag);
            }
            bytes.extend((intervals.iter().len() as u64).to_le_bytes());
            for interval in intervals.iter() {
                bytes.extend(interval.first().to_le_bytes());
                bytes.extend((interval.last() + 1).to_le_bytes());
            }
        }
        bytes
    }

    /// Reads what [`GtidSet::encode`] or a server wrote, in either form.
    pub fn decode(bytes: &[u8]) -> Result<Self, GtidError> {
        let mut reader = Reader {
            rest: bytes,
            length: bytes.len(),
        };
        let (tagged, count) = read_head(&mut reader)?;
        let mut set = GtidSet::default();
        for _ in 0..count {
            let source = read_source(&mut reader, tagged)?;
            for _ in 0..reader.u64("how many intervals a source has")? {
                let first = reader.u64("first number of an interval")?;
                let end = reader.u64("end of an interval")?;
                let interval = end.checked_sub(1).and_then(|last| Interval::new(first, last));
                set.insert(
                    &source,
                    interval.ok_or_else(|| reader.malformed("no range of transaction numbers"))?,
                );
            }
        }
        if reader.rest.is_empty() {
            Ok(set)
        } else {
            Err(reader.malformed("bytes after the last interval"))
        }
    }
}

/// Whether sources have tags, and how many there are.
fn read_head(reader: &mut Reader<'_>) -> Result<(bool, u64), GtidError> {
    let head: [u8; 8] = reader.array("how many sources there are")?;
    match head {
        [TAGGED_FORMAT, a, b, c, d, e, f, TAGGED_FORMAT] => Ok((true, u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))),
        [.., 0] => Ok((false, u64::from_le_bytes(head))),
        _ => Err(reader.malformed("a form that is not known")),
    }
}

fn read_source(reader: &mut Reader<'_>, tagged: bool) -> Result<TransactionSource, GtidError> {
    let uuid = SourceUuid(reader.array("uuid of a source")?);
    let mut tag = Tag::default();
    if tagged {
        let [doubled] = reader.array("length of a tag")?;
        let length = usize::from(doubled >> 1);
        if doubled & 1 == 1 || length > TAG_BYTES_MAX {
            return Err(reader.malformed("tag that is too long"));
        }
        let text = std::str::from_utf8(reader.bytes(length, "tag")?).ok();
        tag = text
            .and_then(Tag::parse)
            .ok_or_else(|| reader.malformed("tag with other characters"))?;
    }
    Ok(TransactionSource { uuid, tag })
}

struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, what: &'static str) -> GtidError {
        GtidError {
            offset: self.length - self.rest.len(),
            what,
        }
    }

    fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], GtidError> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or_else(|| self.malformed(what))?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GtidError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or_else(|| self.malformed(what))?;
        self.rest = tail;
        Ok(*head)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GtidError> {
        self.array(what).map(u64::from_le_bytes)
    }
}
