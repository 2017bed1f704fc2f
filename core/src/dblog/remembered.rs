// SPDX-License-Identifier: Apache-2.0
//! What an `AsOf` engine remembers of the log: per key, when it last changed.
//!
//! Complete for every change that was delivered and committed after `floor`. A chunk read at T may be judged by it if
//! T >= `floor`: a key remembered with a later commit than T has left newer than the chunk's row. Commits at or before
//! the log's proven progress need no memory to be told from repeats. Held in memory only, up to a cap; past it the floor
//! rises to the log's proven progress, and chunks that were read below it are read again.

use crate::dblog::window::{KeyMap, Touch};
use crate::schema::Key;

#[derive(Debug)]
struct TableMemory<P> {
    keys: KeyMap<(P, Touch)>,
    truncated: Option<P>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Remembered<P> {
    tables: Vec<TableMemory<P>>,
    floor: P,
    len: usize,
    keys_max: usize,
    prune_at: usize,
}

const PRUNE_FIRST_AT: usize = 1_024;

impl<P: Clone + Ord> Remembered<P> {
    pub(super) fn new(floor: P, keys_max: u32) -> Self {
        Remembered {
            tables: Vec::new(),
            floor,
            len: 0,
            keys_max: keys_max as usize,
            prune_at: PRUNE_FIRST_AT,
        }
    }

    pub(super) fn floor(&self) -> &P {
        &self.floor
    }

    fn table(&mut self, slot: usize) -> &mut TableMemory<P> {
        while self.tables.len() <= slot {
            self.tables.push(TableMemory {
                keys: KeyMap::default(),
                truncated: None,
            });
        }
        &mut self.tables[slot]
    }

    /// When the key last changed, and whether its whole row left since the floor.
    pub(super) fn last(&self, slot: usize, key: &Key) -> Option<(&P, Touch)> {
        let (commit, touch) = self.tables.get(slot)?.keys.get(key)?;
        Some((commit, *touch))
    }

    pub(super) fn truncated(&self, slot: usize) -> Option<&P> {
        self.tables.get(slot)?.truncated.as_ref()
    }

    pub(super) fn record(&mut self, slot: usize, key: Key, commit: &P, touch: Touch) {
        let mut added = 0;
        let known = self.table(slot).keys.entry(key).or_insert_with(|| {
            added = 1;
            (commit.clone(), touch)
        });
        if known.0 < *commit {
            known.0 = commit.clone();
        }
        if touch == Touch::Whole {
            known.1 = Touch::Whole;
        }
        self.len += added;
    }

    pub(super) fn record_truncate(&mut self, slot: usize, commit: &P) {
        let truncated = &mut self.table(slot).truncated;
        if truncated.as_ref().is_none_or(|known| known < commit) {
            *truncated = Some(commit.clone());
        }
    }

    /// No chunk will be judged below `floor` any more.
    pub(super) fn raise(&mut self, floor: P) {
        if self.floor < floor {
            self.floor = floor;
        }
        if self.len >= self.prune_at {
            self.prune();
        }
    }

    /// Whether the cap is passed by what is remembered for chunks; then `delivered` becomes the floor. What changed after
    /// `delivered` is kept in any case, or repeats could not be told from news: the source bounds it by how often it says
    /// how far it is complete.
    pub(super) fn overflows(&mut self, delivered: &P) -> bool {
        if self.len <= self.keys_max || self.floor >= *delivered {
            return false;
        }
        self.floor = delivered.clone();
        self.prune();
        true
    }

    fn prune(&mut self) {
        self.len = 0;
        for table in &mut self.tables {
            table.keys.retain(|_, (commit, _)| *commit > self.floor);
            if table.truncated.as_ref().is_some_and(|at| *at <= self.floor) {
                table.truncated = None;
            }
            self.len += table.keys.len();
        }
        self.prune_at = (self.len * 2).max(PRUNE_FIRST_AT);
    }

    /// Keys by table that changed after `position`, in an order that depends on nothing but the set.
    pub(super) fn after(&self, position: &P) -> Vec<(usize, &Key, &P, Touch)> {
        let mut entries: Vec<(usize, &Key, &P, Touch)> = Vec::new();
        for (slot, table) in self.tables.iter().enumerate() {
            let later = table.keys.iter().filter(|(_, (commit, _))| commit > position);
            entries.extend(later.map(|(key, (commit, touch))| (slot, key, commit, *touch)));
        }
        entries.sort_by(|a, b| (a.0, a.1.as_bytes()).cmp(&(b.0, b.1.as_bytes())));
        entries
    }
}
