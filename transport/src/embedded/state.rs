// SPDX-License-Identifier: Apache-2.0
//! What is committed, in memory: topics with their segments, checkpoints, group offsets.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_core::transport::{Offsets, TopicSpec};

use super::entry::{Commit, Entry, Segment};

#[derive(Default)]
pub(super) struct State {
    pub(super) topics: BTreeMap<String, Topic>,
    /// By writer, in the stored form.
    pub(super) checkpoints: BTreeMap<String, Bytes>,
    pub(super) groups: BTreeMap<String, Offsets>,
    /// By writer, how often it was opened by this process.
    pub(super) epochs: HashMap<String, u64>,
}

pub(super) struct Topic {
    pub(super) spec: TopicSpec,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Default)]
pub(super) struct Partition {
    /// The next offset.
    pub(super) end: u64,
    /// In offset order. Only the last one grows.
    pub(super) segments: Vec<Segment>,
}

impl Partition {
    /// The first offset held.
    pub(super) fn start(&self) -> u64 {
        self.segments.first().map_or(self.end, |segment| segment.base)
    }

    /// The segment that holds `offset` or, where compaction left a gap, the next record after it, and whether it is the
    /// last one. `None`: there is nothing at or after the offset.
    pub(super) fn segment_for(&self, offset: u64) -> Option<(Segment, bool)> {
        let at = self
            .segments
            .partition_point(|segment| segment.base <= offset)
            .saturating_sub(1);
        self.segments
            .get(at)
            .map(|segment| (*segment, at + 1 == self.segments.len()))
    }

    fn grow(&mut self, segment: Segment) {
        match self.segments.last_mut() {
            Some(last) if last.base == segment.base => *last = segment,
            _ => self.segments.push(segment),
        }
    }
}

impl State {
    pub(super) fn partition(&self, topic: &str, partition: u32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(partition as usize)
    }

    fn partition_mut(&mut self, topic: &str, partition: u32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(partition as usize)
    }

    /// Makes an entry true; `None` where it speaks of what is not there.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<()> {
        match entry {
            Entry::Topic(spec) => {
                let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
                self.topics.insert(
                    spec.name.clone(),
                    Topic {
                        spec: spec.clone(),
                        partitions,
                    },
                );
            }
            Entry::Partition {
                topic,
                partition,
                end,
                segments,
            } => {
                *self.partition_mut(topic, *partition)? = Partition {
                    end: *end,
                    segments: segments.clone(),
                };
            }
            Entry::Commit(commit) => self.apply_commit(commit)?,
            Entry::Replaced {
                topic,
                partition,
                gone,
                added,
            } => {
                let partition = self.partition_mut(topic, *partition)?;
                partition.segments.retain(|segment| !gone.contains(&segment.base));
                if let Some(added) = added {
                    let at = partition.segments.partition_point(|segment| segment.base < added.base);
                    partition.segments.insert(at, *added);
                }
            }
            Entry::Rolled { topic, partition, base } => {
                self.partition_mut(topic, *partition)?.grow(Segment {
                    base: *base,
                    generation: 0,
                    bytes: 0,
                });
            }
            Entry::Synced | Entry::Begun => {}
        }
        Some(())
    }

    fn apply_commit(&mut self, commit: &Commit) -> Option<()> {
        for growth in &commit.growth {
            let partition = self.partition_mut(&growth.topic, growth.partition)?;
            growth.segments.iter().for_each(|segment| partition.grow(*segment));
            partition.end = growth.end;
        }
        if let Some(checkpoint) = &commit.checkpoint {
            self.checkpoints.insert(commit.writer.clone(), checkpoint.clone());
        }
        for (group, offsets) in &commit.groups {
            self.groups.entry(group.clone()).or_default().extend(offsets.clone());
        }
        Some(())
    }

    /// Entries that make this state from nothing.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, topic) in &self.topics {
            entries.push(Entry::Topic(topic.spec.clone()));
            for (partition, number) in topic.partitions.iter().zip(0..) {
                entries.push(Entry::Partition {
                    topic: name.clone(),
                    partition: number,
                    end: partition.end,
                    segments: partition.segments.clone(),
                });
            }
        }
        for (writer, checkpoint) in &self.checkpoints {
            let (writer, checkpoint) = (writer.clone(), Some(checkpoint.clone()));
            entries.push(Entry::Commit(Commit {
                writer,
                checkpoint,
                synced: true,
                ..Commit::default()
            }));
        }
        let groups = self
            .groups
            .iter()
            .map(|(group, offsets)| (group.clone(), offsets.clone()))
            .collect();
        entries.push(Entry::Commit(Commit {
            groups,
            synced: true,
            ..Commit::default()
        }));
        entries.push(Entry::Begun);
        entries
    }
}

/// Where a partition's segments are.
pub(super) fn partition_folder(store: &Path, topic: &str, partition: u32) -> PathBuf {
    store.join("topics").join(topic).join(partition.to_string())
}

/// A segment's file.
pub(super) fn segment_path(store: &Path, topic: &str, partition: u32, base: u64, generation: u32) -> PathBuf {
    partition_folder(store, topic, partition).join(format!("{base:020}-{generation:05}.log"))
}
