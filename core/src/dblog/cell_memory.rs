// SPDX-License-Identifier: Apache-2.0
//! What a `Version` engine remembers of the log while a table is copied: per key and cell the newest write time, and
//! deletions with theirs.
//!
//! A chunk's cell leaves only if nothing newer of it has left already. Ties go to the deletion, as in the database. A
//! cell without a write time cannot be compared: it loses to whatever the log said of it, and its key is read again; in
//! that second read only what the log said *after* the read was asked for counts, or no such key would ever settle.

use std::sync::Arc;

use crate::change::{Change, ChangeVersion, DeletionScope};
use crate::dblog::window::KeyMap;
use crate::image::{Cell, CellRef, RowImage, RowImageBuilder};
use crate::schema::{Key, TableSchema};

#[derive(Debug, Clone)]
struct CellNews {
    times: Vec<Option<i64>>,
    seen_at: u64,
}

#[derive(Debug, Clone)]
struct Deletion {
    scope: DeletionScope,
    key: Option<Key>,
    at: i64,
    seen_at: u64,
}

impl Deletion {
    fn covers(&self, key: &Key) -> bool {
        match &self.scope {
            DeletionScope::Row => self.key.as_ref() == Some(key),
            DeletionScope::Partition(partition) => key.as_bytes().starts_with(partition.as_bytes()),
            DeletionScope::Range {
                partition,
                from,
                through,
            } => key
                .as_bytes()
                .strip_prefix(partition.as_bytes())
                .is_some_and(|clustering| {
                    clustering >= from.as_slice()
                        && (clustering <= through.as_slice() || clustering.starts_with(through))
                }),
        }
    }
}

/// What becomes of a chunk's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What may leave; lost cells read as unchanged.
    pub row: Option<RowImage>,
    /// Whether the key is to be read again.
    pub read_again: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CellMemory {
    keys: KeyMap<CellNews>,
    deletions: Vec<Deletion>,
}

impl CellMemory {
    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.deletions.len()
    }

    /// Takes in a log event, the `seen_at`th.
    pub(super) fn record<P>(&mut self, change: &Change<P>, seen_at: u64) {
        match &change.version {
            ChangeVersion::Deletion { scope, at } => {
                self.deletions.push(Deletion {
                    scope: DeletionScope::clone(scope),
                    key: change.key(),
                    at: *at,
                    seen_at,
                });
            }
            ChangeVersion::Cells(times) => {
                if let Some(key) = change.key() {
                    self.record_cells(key, times, seen_at);
                }
            }
            // Without a write time it cannot be compared: it wins over any chunk.
            ChangeVersion::InOrder | ChangeVersion::At(_) => {
                if let Some(key) = change.key() {
                    let times = vec![Some(i64::MAX); change.schema.columns.len()];
                    self.record_cells(key, &times, seen_at);
                }
            }
        }
    }

    fn record_cells(&mut self, key: Key, times: &[Option<i64>], seen_at: u64) {
        let news = self.keys.entry(key).or_insert_with(|| CellNews {
            times: Vec::new(),
            seen_at,
        });
        news.seen_at = seen_at;
        if news.times.len() < times.len() {
            news.times.resize(times.len(), None);
        }
        for (known, time) in news.times.iter_mut().zip(times) {
            *known = (*known).max(*time);
        }
    }

    /// Judges a chunk's row. `since`: what the log said up to then does not count against cells without a write time.
    pub(super) fn judge(
        &self,
        schema: &TableSchema,
        key: &Key,
        row: &RowImage,
        versions: Option<&Arc<[Option<i64>]>>,
        since: u64,
    ) -> Verdict {
        let news = self.keys.get(key);
        let covering: Vec<&Deletion> = self.deletions.iter().filter(|deletion| deletion.covers(key)).collect();
        if news.is_none() && covering.is_empty() {
            return Verdict {
                row: Some(row.clone()),
                read_again: false,
            };
        }
        let deleted_at = covering.iter().map(|deletion| deletion.at).max();
        let deleted_since = covering.iter().any(|deletion| deletion.seen_at > since);
        let touched_since = news.is_some_and(|news| news.seen_at > since);
        let mut lost = vec![false; row.len()];
        let mut read_again = false;
        for (at, lost) in lost.iter_mut().enumerate() {
            if schema.key.contains(&at) {
                continue;
            }
            let logged = news.and_then(|news| news.times.get(at).copied().flatten());
            match versions.and_then(|versions| versions.get(at).copied().flatten()) {
                Some(time) => {
                    *lost = logged.is_some_and(|logged| logged > time) || deleted_at.is_some_and(|at| at >= time)
                }
                None => {
                    *lost = (logged.is_some() && touched_since) || deleted_since;
                    read_again |= *lost;
                }
            }
        }
        // The row itself may be gone: nothing in it is proven to be newer than the deletion.
        let key_alive = schema.key.iter().any(|&at| {
            let time = versions.and_then(|versions| versions.get(at).copied().flatten());
            time.is_some_and(|time| deleted_at.is_none_or(|deleted| time > deleted))
        });
        let values = |at: &usize| !schema.key.contains(at);
        let alive = (0..row.len())
            .filter(values)
            .any(|at| !lost[at] && !matches!(row.cell(at), CellRef::Null));
        if !alive && deleted_at.is_some() && !key_alive {
            return Verdict {
                row: None,
                read_again: read_again || deleted_since,
            };
        }
        if read_again {
            return Verdict { row: None, read_again };
        }
        Verdict {
            row: Some(without(row, &lost)),
            read_again,
        }
    }
}

fn without(row: &RowImage, lost: &[bool]) -> RowImage {
    if !lost.contains(&true) {
        return row.clone();
    }
    let mut builder = RowImageBuilder::default();
    for (cell, lost) in row.iter().zip(lost) {
        match cell {
            _ if *lost => builder.cell(Cell::UNCHANGED),
            CellRef::Value(value) => builder.value(value),
            CellRef::Null => builder.cell(Cell::NULL),
            CellRef::Unchanged => builder.cell(Cell::UNCHANGED),
            CellRef::Absent => builder.cell(Cell::ABSENT),
        }
    }
    builder.build()
}
