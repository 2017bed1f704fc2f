// SPDX-License-Identifier: Apache-2.0
//! What an `AsOf` engine remembers of the log: per key, when it last changed.
//!
//! Complete for every change that was delivered and committed after `floor`: the newest part here, older parts in runs of
//! a [`crate::spill::Spill`] (`spilled.rs`). A chunk read at T may be judged by it if T >= `floor`: a key remembered with a
//! later commit than T has left newer than the chunk's row. Commits at or before the log's proven progress need no memory
//! to be told from repeats, so those may leave memory for a run. Past the cap the floor rises to the log's proven progress,
//! and chunks that were read below it are read again.

use std::hash::{DefaultHasher, Hasher};

use crate::dblog::window::{KeyMap, Touch};
use crate::schema::Key;

/// When a key last changed, and what of its row left since it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyNews<P> {
    pub commit: P,
    pub touch: Touch,
}

impl<P: Clone + Ord> KeyNews<P> {
    /// Takes in what the log said of the key later.
    pub(super) fn merge(&mut self, commit: &P, touch: Touch) {
        if self.commit < *commit {
            self.commit = commit.clone();
        }
        self.touch = self.touch.then(touch);
    }
}

/// Keys of several tables with what is remembered of each.
#[derive(Debug)]
pub(super) struct KeyTables<P> {
    tables: Vec<KeyMap<KeyNews<P>>>,
    len: usize,
}

impl<P> Default for KeyTables<P> {
    fn default() -> Self {
        KeyTables {
            tables: Vec::new(),
            len: 0,
        }
    }
}

impl<P: Clone + Ord> KeyTables<P> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, slot: usize, key: &Key) -> Option<&KeyNews<P>> {
        self.tables.get(slot)?.get(key)
    }

    fn record(&mut self, slot: usize, key: Key, commit: &P, touch: Touch) -> Touch {
        if self.tables.len() <= slot {
            self.tables.resize_with(slot + 1, KeyMap::default);
        }
        let mut added = 0;
        let known = self.tables[slot].entry(key).or_insert_with(|| {
            added = 1;
            KeyNews {
                commit: commit.clone(),
                touch,
            }
        });
        known.merge(commit, touch);
        self.len += added;
        known.touch
    }

    /// Keeps what `keep` says; gives the rest.
    fn part(&mut self, keep: impl Fn(&KeyNews<P>) -> bool) -> KeyTables<P> {
        let mut gone = KeyTables::default();
        for (slot, table) in self.tables.iter_mut().enumerate() {
            let leaves: KeyMap<KeyNews<P>> = table.extract_if(|_, news| !keep(news)).collect();
            gone.len += leaves.len();
            gone.tables.resize_with(slot, KeyMap::default);
            gone.tables.push(leaves);
        }
        self.len -= gone.len;
        gone
    }

    fn retain(&mut self, keep: impl Fn(&KeyNews<P>) -> bool) {
        self.len = 0;
        for table in &mut self.tables {
            table.retain(|_, news| keep(news));
            self.len += table.len();
        }
    }

    /// All of it, in an order that depends on nothing but the set.
    pub(super) fn sorted(&self) -> Vec<(usize, &Key, &KeyNews<P>)> {
        let all = self.tables.iter().enumerate();
        let mut entries: Vec<_> = all
            .flat_map(|(slot, table)| table.iter().map(move |(key, news)| (slot, key, news)))
            .collect();
        entries.sort_by(|a, b| (a.0, a.1.as_bytes()).cmp(&(b.0, b.1.as_bytes())));
        entries
    }
}

/// What a key is found by in a run. Only this run of the program reads it.
pub(super) fn digest(slot: usize, key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&(slot as u64).to_be_bytes());
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// See the module.
#[derive(Debug)]
pub(super) struct Remembered<P> {
    keys: KeyTables<P>,
    truncated: Vec<Option<P>>,
    floor: P,
    keys_max: usize,
    prune_at: usize,
    /// At this many keys it is worth a look whether enough may leave for a run.
    part_at: usize,
}

const PRUNE_FIRST_AT: usize = 1_024;

impl<P: Clone + Ord> Remembered<P> {
    pub(super) fn new(floor: P, keys_max: u32) -> Self {
        let keys_max = keys_max as usize;
        Remembered {
            keys: KeyTables::default(),
            truncated: Vec::new(),
            floor,
            keys_max,
            prune_at: PRUNE_FIRST_AT,
            part_at: keys_max / 2,
        }
    }

    pub(super) fn floor(&self) -> &P {
        &self.floor
    }

    /// What memory has of the key.
    pub(super) fn last(&self, slot: usize, key: &Key) -> Option<&KeyNews<P>> {
        self.keys.get(slot, key)
    }

    pub(super) fn truncated(&self, slot: usize) -> Option<&P> {
        self.truncated.get(slot)?.as_ref()
    }

    /// Takes in a change of a key; what of its row left since it is remembered.
    pub(super) fn record(&mut self, slot: usize, key: Key, commit: &P, touch: Touch) -> Touch {
        self.keys.record(slot, key, commit, touch)
    }

    pub(super) fn record_truncate(&mut self, slot: usize, commit: &P) {
        if self.truncated.len() <= slot {
            self.truncated.resize(slot + 1, None);
        }
        if let Some(truncated) = self.truncated.get_mut(slot)
            && truncated.as_ref().is_none_or(|known| known < commit)
        {
            *truncated = Some(commit.clone());
        }
    }

    /// No chunk will be judged below `floor` any more.
    pub(super) fn raise(&mut self, floor: P) {
        if self.floor < floor {
            self.floor = floor;
        }
        // The log is complete further than before: more may leave.
        self.part_at = self.keys_max / 2;
        if self.keys.len() >= self.prune_at {
            self.prune();
        }
    }

    /// Whether memory, with the `leaving` keys that are on their way to a run, passes the cap. What changed after the log's
    /// proven progress may have to stay in any case, or repeats could not be told from news: the source bounds it by how
    /// often it says how far it is complete.
    pub(super) fn is_full(&self, leaving: usize) -> bool {
        self.keys.len() + leaving > self.keys_max
    }

    /// Keys that may leave memory for a run, once there are enough: those that changed at or before `delivered`, or all
    /// where repeats need not be told from news.
    pub(super) fn part_for_run(&mut self, delivered: Option<&P>) -> Option<KeyTables<P>> {
        if self.keys.len() <= self.part_at {
            return None;
        }
        let may_leave = |news: &KeyNews<P>| delivered.is_none_or(|delivered| news.commit <= *delivered);
        let step = (self.keys_max / 8).max(1);
        let leaving = self.keys.tables.iter().flat_map(KeyMap::values);
        if leaving.filter(|news| may_leave(news)).count() < step {
            self.part_at = self.keys.len() + step;
            return None;
        }
        self.part_at = self.keys_max / 2;
        let floor = self.floor.clone();
        let mut leaving = self.keys.part(|news| !may_leave(news));
        leaving.retain(|news| news.commit > floor);
        (leaving.len() > 0).then_some(leaving)
    }

    /// Nothing is known any more of what changed at or before `floor`.
    pub(super) fn lose(&mut self, floor: P) {
        if self.floor < floor {
            self.floor = floor;
        }
        self.part_at = self.keys_max / 2;
        self.prune();
    }

    /// The same, and nothing of what changed later.
    pub(super) fn clear(&mut self, floor: P) {
        self.keys = KeyTables::default();
        self.truncated.clear();
        self.lose(floor);
    }

    fn prune(&mut self) {
        let floor = &self.floor;
        self.keys.retain(|news| news.commit > *floor);
        for truncated in &mut self.truncated {
            if truncated.as_ref().is_some_and(|at| at <= floor) {
                *truncated = None;
            }
        }
        self.prune_at = (self.keys.len() * 2).max(PRUNE_FIRST_AT);
    }

    /// Keys by table that changed after `position`, in an order that depends on nothing but the set.
    pub(super) fn after(&self, position: &P) -> Vec<(usize, &Key, &KeyNews<P>)> {
        let mut entries = self.keys.sorted();
        entries.retain(|(_, _, news)| news.commit > *position);
        entries
    }
}
