// SPDX-License-Identifier: Apache-2.0
//! What a `Version` engine remembers of the log while a table is copied: per key and cell the newest write time, and
//! deletions of rows, partitions and ranges with theirs. How a chunk's row fares by it: `cell_verdict.rs`.
//!
//! Repeats change nothing and take no room. Cells are told apart by their columns' names: a shape that gains a column may
//! have all others at other places.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::change::{Change, ChangeVersion, DeletionScope};
use crate::dblog::window::KeyMap;
use crate::schema::{Key, TableSchema};

/// A deletion: everything written up to then is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deleted {
    /// Its write time.
    pub at: i64,
    /// Which of the log's events said so last.
    pub seen_at: u64,
}

impl Deleted {
    /// Both together.
    pub(super) fn and(self, other: Deleted) -> Deleted {
        Deleted {
            at: self.at.max(other.at),
            seen_at: self.seen_at.max(other.seen_at),
        }
    }
}

fn add(known: &mut Option<Deleted>, deleted: Deleted) {
    *known = Some(known.map_or(deleted, |known| known.and(deleted)));
}

/// What is known of one key.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyCells {
    /// The newest write time of each cell, by the memory's number of its column.
    pub times: Vec<Option<i64>>,
    /// Which of the log's events wrote a cell of it last.
    pub seen_at: u64,
    /// Its row's own deletion.
    pub deleted: Option<Deleted>,
}

#[derive(Debug, Default)]
struct PartitionNews {
    deleted: Option<Deleted>,
    ranges: Vec<(Vec<u8>, Vec<u8>, Deleted)>,
}

type PartitionMap = HashMap<Vec<u8>, PartitionNews, BuildHasherDefault<DefaultHasher>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CellMemory {
    columns: HashMap<String, usize, BuildHasherDefault<DefaultHasher>>,
    keys: KeyMap<KeyCells>,
    partitions: PartitionMap,
    ranges: usize,
}

impl CellMemory {
    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.partitions.len() + self.ranges
    }

    /// Takes in a log event, the `seen_at`th.
    pub(super) fn record<P>(&mut self, change: &Change<P>, seen_at: u64) {
        match &change.version {
            ChangeVersion::Deletion { scope, at } => {
                self.record_deletion(scope, change.key(), Deleted { at: *at, seen_at });
            }
            ChangeVersion::Cells(times) => {
                if let Some(key) = change.key() {
                    self.record_cells(&change.schema, key, times, seen_at);
                }
            }
            // Without a write time it cannot be compared: it wins over any chunk.
            ChangeVersion::InOrder | ChangeVersion::At(_) => {
                if let Some(key) = change.key() {
                    let times = vec![Some(i64::MAX); change.schema.columns.len()];
                    self.record_cells(&change.schema, key, &times, seen_at);
                }
            }
        }
    }

    fn record_deletion(&mut self, scope: &DeletionScope, key: Option<Key>, deleted: Deleted) {
        match scope {
            DeletionScope::Row => {
                if let Some(key) = key {
                    add(&mut self.keys.entry(key).or_default().deleted, deleted);
                }
            }
            DeletionScope::Partition(partition) => {
                let partition = self.partitions.entry(partition.as_bytes().to_vec()).or_default();
                add(&mut partition.deleted, deleted);
            }
            DeletionScope::Range {
                partition,
                from,
                through,
            } => {
                let ranges = &mut self.partitions.entry(partition.as_bytes().to_vec()).or_default().ranges;
                match ranges.iter_mut().find(|range| range.0 == *from && range.1 == *through) {
                    Some(known) => known.2 = known.2.and(deleted),
                    None => {
                        ranges.push((from.clone(), through.clone(), deleted));
                        self.ranges += 1;
                    }
                }
            }
        }
    }

    fn record_cells(&mut self, schema: &TableSchema, key: Key, times: &[Option<i64>], seen_at: u64) {
        let cells = self.keys.entry(key).or_default();
        cells.seen_at = seen_at;
        for (column, time) in schema.columns.iter().zip(times) {
            let number = match self.columns.get(&column.name) {
                Some(number) => *number,
                None => {
                    self.columns.insert(column.name.clone(), self.columns.len());
                    self.columns.len() - 1
                }
            };
            if cells.times.len() <= number {
                cells.times.resize(number + 1, None);
            }
            if let Some(known) = cells.times.get_mut(number) {
                *known = (*known).max(*time);
            }
        }
    }

    /// The memory's numbers of a shape's columns, where it has met them.
    pub(super) fn numbers(&self, schema: &TableSchema) -> Vec<Option<usize>> {
        let columns = schema.columns.iter();
        columns.map(|column| self.columns.get(&column.name).copied()).collect()
    }

    /// What the log said of a key's cells.
    pub(super) fn cells(&self, key: &Key) -> Option<&KeyCells> {
        self.keys.get(key)
    }

    /// The deletions that cover a key, taken together.
    pub(super) fn deleted(&self, key: &Key) -> Option<Deleted> {
        let mut deleted = self.keys.get(key).and_then(|cells| cells.deleted);
        if self.partitions.is_empty() {
            return deleted;
        }
        for (prefix, clustering) in prefixes(key.as_bytes()) {
            let Some(partition) = self.partitions.get(prefix) else {
                continue;
            };
            let covers = |range: &&(Vec<u8>, Vec<u8>, Deleted)| {
                clustering >= range.0.as_slice()
                    && (clustering <= range.1.as_slice() || clustering.starts_with(&range.1))
            };
            let ranges = partition.ranges.iter().filter(covers).map(|range| range.2);
            for covering in partition.deleted.into_iter().chain(ranges) {
                add(&mut deleted, covering);
            }
        }
        deleted
    }
}

/// Where canonical key bytes can be cut between two columns: what lies before and behind.
fn prefixes(key: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(*key.get(at..)?.first_chunk::<4>()?);
        at += 4;
        // NULL has no bytes.
        if length != u32::MAX {
            at = at.checked_add(length as usize)?;
        }
        key.split_at_checked(at)
    })
}
