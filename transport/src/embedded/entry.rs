// SPDX-License-Identifier: Apache-2.0
//! What the journal says happened. The store's state is its entries, applied in order.

use std::time::Duration;

use bytes::Bytes;
use highwater_core::transport::{Cleanup, Offsets, TopicSpec};

use super::wire::{Cursor, put_bytes, put_number, put_optional};

/// A segment file: its first offset, which rewriting of it this is, and how many of its bytes are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) base: u64,
    pub(super) generation: u32,
    pub(super) bytes: u64,
}

/// What one commit did to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) topic: String,
    pub(super) partition: u32,
    /// The segments written to, the first of which may have been there before.
    pub(super) segments: Vec<Segment>,
    /// The next offset.
    pub(super) end: u64,
}

/// All of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Commit {
    pub(super) writer: String,
    pub(super) growth: Vec<Growth>,
    /// In the stored form.
    pub(super) checkpoint: Option<Bytes>,
    pub(super) groups: Vec<(String, Offsets)>,
    /// Whether its data was forced to the disk before this was written.
    pub(super) synced: bool,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A topic was made.
    Topic(TopicSpec),
    /// A partition as it was when the journal file began.
    Partition {
        topic: String,
        partition: u32,
        end: u64,
        segments: Vec<Segment>,
    },
    /// A transaction was committed; also what writers and groups had when the journal file began.
    Commit(Commit),
    /// Segments were taken away by retention, or compaction put one in the place of some.
    Replaced {
        topic: String,
        partition: u32,
        gone: Vec<u64>,
        added: Option<Segment>,
    },
    /// A partition's last segment was closed.
    Rolled { topic: String, partition: u32, base: u64 },
    /// All data before this is on the disk.
    Synced,
    /// The state at the journal file's beginning is complete.
    Begun,
}

const TOPIC: u8 = 1;
const PARTITION: u8 = 2;
const COMMIT: u8 = 3;
const REPLACED: u8 = 4;
const ROLLED: u8 = 5;
const SYNCED: u8 = 6;
const BEGUN: u8 = 7;

impl Entry {
    /// Its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Entry::Topic(spec) => put_topic(&mut bytes, spec),
            Entry::Partition {
                topic,
                partition,
                end,
                segments,
            } => {
                put_place(&mut bytes, PARTITION, topic, *partition);
                put_number(&mut bytes, *end);
                put_segments(&mut bytes, segments);
            }
            Entry::Commit(commit) => put_commit(&mut bytes, commit),
            Entry::Replaced {
                topic,
                partition,
                gone,
                added,
            } => {
                put_place(&mut bytes, REPLACED, topic, *partition);
                put_number(&mut bytes, gone.len() as u64);
                gone.iter().for_each(|base| put_number(&mut bytes, *base));
                put_segments(&mut bytes, added.as_slice());
            }
            Entry::Rolled { topic, partition, base } => {
                put_place(&mut bytes, ROLLED, topic, *partition);
                put_number(&mut bytes, *base);
            }
            Entry::Synced => bytes.push(SYNCED),
            Entry::Begun => bytes.push(BEGUN),
        }
        bytes
    }

    /// The entry in `bytes`; `None` where they are not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
        let mut cursor = Cursor::new(bytes);
        let entry = match cursor.octet()? {
            TOPIC => topic(&mut cursor)?,
            PARTITION => Entry::Partition {
                topic: cursor.text()?,
                partition: cursor.number_u32()?,
                end: cursor.number()?,
                segments: segments(&mut cursor)?,
            },
            COMMIT => Entry::Commit(commit(&mut cursor)?),
            REPLACED => Entry::Replaced {
                topic: cursor.text()?,
                partition: cursor.number_u32()?,
                gone: (0..cursor.number()?).map(|_| cursor.number()).collect::<Option<_>>()?,
                added: segments(&mut cursor)?.pop(),
            },
            ROLLED => Entry::Rolled {
                topic: cursor.text()?,
                partition: cursor.number_u32()?,
                base: cursor.number()?,
            },
            SYNCED => Entry::Synced,
            BEGUN => Entry::Begun,
            _ => return None,
        };
        cursor.is_at_end().then_some(entry)
    }
}

fn put_place(bytes: &mut Vec<u8>, tag: u8, topic: &str, partition: u32) {
    bytes.push(tag);
    put_bytes(bytes, topic.as_bytes());
    put_number(bytes, u64::from(partition));
}

fn put_topic(bytes: &mut Vec<u8>, spec: &TopicSpec) {
    put_place(bytes, TOPIC, &spec.name, spec.partitions);
    bytes.push(match spec.cleanup {
        Cleanup::Delete => 0,
        Cleanup::Compact => 1,
    });
    let retention_ms = spec
        .retention
        .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX - 1));
    put_number(bytes, retention_ms.map_or(0, |age_ms| age_ms.saturating_add(1)));
}

fn topic(cursor: &mut Cursor<'_>) -> Option<Entry> {
    let (name, partitions) = (cursor.text()?, cursor.number_u32()?);
    let cleanup = match cursor.octet()? {
        0 => Cleanup::Delete,
        1 => Cleanup::Compact,
        _ => return None,
    };
    let retention = cursor.number()?.checked_sub(1).map(Duration::from_millis);
    Some(Entry::Topic(TopicSpec {
        name,
        partitions,
        cleanup,
        retention,
    }))
}

fn put_segments(bytes: &mut Vec<u8>, segments: &[Segment]) {
    put_number(bytes, segments.len() as u64);
    for segment in segments {
        put_number(bytes, segment.base);
        put_number(bytes, u64::from(segment.generation));
        put_number(bytes, segment.bytes);
    }
}

fn segments(cursor: &mut Cursor<'_>) -> Option<Vec<Segment>> {
    let segment = |cursor: &mut Cursor<'_>| {
        Some(Segment {
            base: cursor.number()?,
            generation: cursor.number_u32()?,
            bytes: cursor.number()?,
        })
    };
    (0..cursor.number()?).map(|_| segment(cursor)).collect()
}

fn put_commit(bytes: &mut Vec<u8>, commit: &Commit) {
    bytes.push(COMMIT);
    bytes.push(u8::from(commit.synced));
    put_bytes(bytes, commit.writer.as_bytes());
    put_number(bytes, commit.growth.len() as u64);
    for growth in &commit.growth {
        put_bytes(bytes, growth.topic.as_bytes());
        put_number(bytes, u64::from(growth.partition));
        put_segments(bytes, &growth.segments);
        put_number(bytes, growth.end);
    }
    put_optional(bytes, commit.checkpoint.as_deref());
    put_number(bytes, commit.groups.len() as u64);
    for (group, offsets) in &commit.groups {
        put_bytes(bytes, group.as_bytes());
        put_number(bytes, offsets.len() as u64);
        for ((topic, partition), offset) in offsets {
            put_bytes(bytes, topic.as_bytes());
            put_number(bytes, u64::from(*partition));
            put_number(bytes, *offset);
        }
    }
}

fn commit(cursor: &mut Cursor<'_>) -> Option<Commit> {
    let synced = cursor.octet()? != 0;
    let writer = cursor.text()?;
    let growth = (0..cursor.number()?).map(|_| growth(cursor)).collect::<Option<_>>()?;
    let checkpoint = cursor.optional()?.map(Bytes::copy_from_slice);
    let group = |cursor: &mut Cursor<'_>| {
        let name = cursor.text()?;
        let offsets = (0..cursor.number()?).map(|_| Some(((cursor.text()?, cursor.number_u32()?), cursor.number()?)));
        Some((name, offsets.collect::<Option<Offsets>>()?))
    };
    let groups = (0..cursor.number()?).map(|_| group(cursor)).collect::<Option<_>>()?;
    Some(Commit {
        writer,
        growth,
        checkpoint,
        groups,
        synced,
    })
}

fn growth(cursor: &mut Cursor<'_>) -> Option<Growth> {
    Some(Growth {
        topic: cursor.text()?,
        partition: cursor.number_u32()?,
        segments: segments(cursor)?,
        end: cursor.number()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_each_cut_is_refused() {
        let segment = Segment {
            base: 300,
            generation: 2,
            bytes: 70_000,
        };
        let commit = Commit {
            writer: "task".to_owned(),
            growth: vec![Growth {
                topic: "t".to_owned(),
                partition: 1,
                segments: vec![segment; 2],
                end: 9,
            }],
            checkpoint: Some(Bytes::from_static(b"state")),
            groups: vec![("g".to_owned(), Offsets::from([(("t".to_owned(), 0), 5)]))],
            synced: true,
        };
        let spec = |retention| TopicSpec {
            name: "t".to_owned(),
            partitions: 3,
            cleanup: Cleanup::Compact,
            retention,
        };
        let entries = [
            Entry::Topic(spec(None)),
            Entry::Topic(spec(Some(Duration::ZERO))),
            Entry::Partition {
                topic: "t".to_owned(),
                partition: 2,
                end: 77,
                segments: vec![segment],
            },
            Entry::Commit(commit),
            Entry::Commit(Commit::default()),
            Entry::Replaced {
                topic: "t".to_owned(),
                partition: 0,
                gone: vec![1, 2],
                added: Some(segment),
            },
            Entry::Replaced {
                topic: "t".to_owned(),
                partition: 0,
                gone: vec![],
                added: None,
            },
            Entry::Rolled {
                topic: "t".to_owned(),
                partition: 0,
                base: 1 << 40,
            },
            Entry::Synced,
            Entry::Begun,
        ];
        for entry in entries {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes), Some(entry));
            for length in 0..bytes.len() {
                assert_eq!(Entry::decode(&bytes[..length]), None);
            }
        }
    }
}
