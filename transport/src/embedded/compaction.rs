// SPDX-License-Identifier: Apache-2.0
//! Compaction of one partition: closed segments are written again without the records that a later one of the same key
//! replaces, small neighbours into one. Records keep their offsets; the last record of each key stays, tombstones too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use highwater_core::Result;
use highwater_core::transport::Record;

use super::block::{Blocks, read_records};
use super::entry::Segment;
use super::segment_file::SegmentFile;
use super::state::{partition_folder, segment_path};
use super::store::Store;

/// What a key costs in memory beside its bytes.
const KEY_OVERHEAD_BYTES: usize = 48;

/// The last offset of each key in a stretch of a partition.
pub(super) struct LastOffsets {
    offsets: HashMap<Box<[u8]>, u64>,
    /// Where the stretch ends.
    pub(super) to: u64,
}

impl LastOffsets {
    fn keeps(&self, record: &Record) -> bool {
        let later = record.key.as_deref().and_then(|key| self.offsets.get(key));
        later.is_none_or(|later| *later <= record.offset)
    }
}

pub(super) struct Compaction<'a> {
    store: &'a Store,
    topic: Arc<str>,
    partition: u32,
    segments: &'a [Segment],
}

impl<'a> Compaction<'a> {
    /// Of these closed segments, in order.
    pub(super) fn new(store: &'a Store, topic: &str, partition: u32, segments: &'a [Segment]) -> Self {
        Compaction {
            store,
            topic: topic.into(),
            partition,
            segments,
        }
    }

    fn open(&self, segment: Segment) -> Result<Option<SegmentFile>> {
        SegmentFile::open(segment_path(
            &self.store.path,
            &self.topic,
            self.partition,
            segment.base,
            segment.generation,
        ))
    }

    /// The last offsets of the keys from `from` on, as far as the memory set for it reaches. `None`: the store closes.
    pub(super) fn last_offsets(&self, from: u64) -> Result<Option<LastOffsets>> {
        let mut keys = LastOffsets {
            offsets: HashMap::new(),
            to: from,
        };
        let (mut memory, mut records) = (0_usize, Vec::new());
        for segment in self.segments.iter().filter(|segment| segment.base >= from) {
            let Some(file) = self.open(*segment)? else {
                return Ok(None);
            };
            let mut blocks = file.blocks(0, segment.bytes);
            while let Some(header) = blocks.header()? {
                if self.store.stopping.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let payload = blocks.payload(&header)?;
                read_records(&header, &payload, 0, &self.topic, self.partition, &mut records)
                    .ok_or_else(|| blocks.damaged())?;
                for record in records.drain(..) {
                    let Some(key) = record.key else { continue };
                    if keys.offsets.insert(key.as_ref().into(), record.offset).is_none() {
                        memory += key.len() + KEY_OVERHEAD_BYTES;
                    }
                }
                blocks.pass(&header);
            }
            // Whole segments only, so that the next round begins at a segment.
            keys.to = segment.base + 1;
            if memory > self.store.settings.compaction_memory_bytes_max {
                break;
            }
        }
        Ok(Some(keys))
    }

    /// Neighbours that fit into one segment.
    pub(super) fn groups(&self) -> Vec<&'a [Segment]> {
        let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (at, segment) in self.segments.iter().enumerate() {
            if at > start && bytes + segment.bytes > self.store.settings.segment_bytes {
                groups.push(&self.segments[start..at]);
                (start, bytes) = (at, 0);
            }
            bytes += segment.bytes;
        }
        groups.push(&self.segments[start..]);
        groups
    }

    /// Writes a group's remaining records to a new file. `None`: it would be the same.
    pub(super) fn rewrite(&self, group: &[Segment], keys: &LastOffsets) -> Result<Option<Segment>> {
        let Some(first) = group.first() else { return Ok(None) };
        let generation = group.iter().map(|segment| segment.generation).max().unwrap_or(0) + 1;
        let path = segment_path(&self.store.path, &self.topic, self.partition, first.base, generation);
        let file = self.store.disk.create(&path)?;
        let written = self.write_group(group, keys, &file, &path);
        let done = match written {
            Ok((bytes, dropped)) if dropped > 0 || (group.len() > 1 && bytes > 0) => {
                let folder = partition_folder(&self.store.path, &self.topic, self.partition);
                self.store
                    .disk
                    .sync(&file, &path)
                    .and_then(|()| self.store.disk.sync_folder(&folder))
                    .map(|()| {
                        Some(Segment {
                            base: first.base,
                            generation,
                            bytes,
                        })
                    })
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        if !matches!(&done, Ok(Some(segment)) if segment.bytes > 0) {
            self.store.disk.remove(&path)?;
        }
        done
    }

    fn write_group(
        &self,
        group: &[Segment],
        keys: &LastOffsets,
        file: &std::fs::File,
        path: &std::path::Path,
    ) -> Result<(u64, u64)> {
        let (mut bytes, mut dropped, mut records, mut kept) = (0_u64, 0_u64, Vec::new(), Blocks::default());
        let mut flush = |kept: &mut Blocks| {
            let content = kept.take();
            self.store.disk.write_at(file, path, &content, bytes)?;
            bytes += content.len() as u64;
            Ok::<u64, highwater_core::Error>(bytes)
        };
        for segment in group {
            let Some(source) = self.open(*segment)? else {
                return Ok((0, 0));
            };
            let mut blocks = source.blocks(0, segment.bytes);
            while let Some(header) = blocks.header()? {
                let payload = blocks.payload(&header)?;
                read_records(&header, &payload, 0, &self.topic, self.partition, &mut records)
                    .ok_or_else(|| blocks.damaged())?;
                for record in records.drain(..) {
                    if keys.keeps(&record) {
                        kept.push_kept(&record);
                    } else {
                        dropped += 1;
                    }
                }
                blocks.pass(&header);
                if kept.len() > 1 << 20 {
                    flush(&mut kept)?;
                }
            }
        }
        Ok((flush(&mut kept)?, dropped))
    }
}
