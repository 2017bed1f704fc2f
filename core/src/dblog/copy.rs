// SPDX-License-Identifier: Apache-2.0
//! The copy of one table within a snapshot: what is left to read, and how it went so far.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

use serde::{Deserialize, Serialize};

use crate::connector::Reconcile;
use crate::dblog::action::Certificate;
use crate::dblog::chunk_sizer::ChunkSizer;
use crate::dblog::input::SnapshotId;
use crate::dblog::window::{Part, Segment};
use crate::schema::{Key, TableName};

/// Where a table's copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyState {
    /// Chunks are read.
    Running,
    /// Held back by request.
    Paused,
    /// Every row of its scope was read and reconciled.
    Completed,
    /// Given up by request.
    Cancelled,
    /// A chunk failed for good.
    Failed,
}

/// How far the copy of a table is; for progress bars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// The request.
    pub snapshot: SnapshotId,
    /// The table.
    pub table: TableName,
    /// Where it stands.
    pub state: CopyState,
    /// Chunks that are finished, repairs included.
    pub chunks_done: u64,
    /// Rows that finished chunks read.
    pub rows_read: u64,
    /// Rows that the log had newer news of.
    pub rows_dropped: u64,
    /// Rows that left as events.
    pub rows_emitted: u64,
    /// Chunks under way.
    pub windows_open: u32,
    /// Stretches of the table of which nothing is being read yet; 0 with no window open means the end is near.
    pub segments_waiting: u32,
    /// Keys that wait for a read of their own.
    pub repairs_waiting: u32,
}

/// Counts that a checkpoint keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CopyCounts {
    pub chunks_done: u64,
    pub rows_read: u64,
    pub rows_dropped: u64,
    pub rows_emitted: u64,
}

impl CopyCounts {
    pub(super) fn add(&mut self, certificate: &Certificate) {
        self.chunks_done += 1;
        self.rows_read += certificate.rows_read;
        self.rows_dropped += certificate.rows_dropped;
        self.rows_emitted += certificate.rows_emitted;
    }
}

/// Keys in order of arrival, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyQueue {
    order: VecDeque<Key>,
    members: HashSet<Key, BuildHasherDefault<DefaultHasher>>,
}

impl KeyQueue {
    pub(super) fn push(&mut self, key: Key) {
        if self.members.insert(key.clone()) {
            self.order.push_back(key);
        }
    }

    pub(super) fn take(&mut self, keys_max: usize) -> Vec<Key> {
        let taken: Vec<Key> = self.order.drain(..keys_max.min(self.order.len())).collect();
        for key in &taken {
            self.members.remove(key);
        }
        taken
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.order.iter()
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.members.clear();
    }
}

/// The copy of one table within a snapshot.
#[derive(Debug)]
pub(super) struct TableCopy {
    pub snapshot: SnapshotId,
    pub slot: usize,
    pub table: TableName,
    pub condition: Option<String>,
    /// Whether it covers the whole table.
    pub whole: bool,
    pub way: Reconcile,
    /// Whether its segments are being read a second time, because too many keys had to be.
    pub again: bool,
    /// What its keys mean ([`crate::dblog::shapes::basis_of`]), once something was read.
    pub basis: Option<u64>,
    pub state: CopyState,
    pub todo: VecDeque<Segment>,
    pub keys: KeyQueue,
    /// What failed and waits for the next retry.
    pub waiting: Vec<Part>,
    pub sizer: ChunkSizer,
    pub counts: CopyCounts,
}

impl TableCopy {
    pub(super) fn is_over(&self) -> bool {
        matches!(
            self.state,
            CopyState::Completed | CopyState::Cancelled | CopyState::Failed
        )
    }

    /// Whether nothing is left but the windows that are open.
    pub(super) fn is_drained(&self) -> bool {
        self.todo.is_empty() && self.keys.len() == 0 && self.waiting.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        self.state == CopyState::Running && (!self.todo.is_empty() || self.keys.len() > 0)
    }

    /// The next chunk's part: keys first, so that their queue stays short.
    pub(super) fn take(&mut self, repair_keys_max: usize) -> Option<Part> {
        if self.keys.len() > 0 {
            return Some(Part::Keys(self.keys.take(repair_keys_max.max(1))));
        }
        self.todo.pop_front().map(Part::Segment)
    }

    /// What was not finished is to be read again.
    pub(super) fn give_back(&mut self, part: Part) {
        match part {
            Part::Segment(segment) => self.todo.push_front(segment),
            Part::Keys(keys) => keys.into_iter().for_each(|key| self.keys.push(key)),
        }
    }

    pub(super) fn retry(&mut self) {
        for part in std::mem::take(&mut self.waiting) {
            self.give_back(part);
        }
    }

    /// Begins again at the table's first row, with keys that mean something else; not if a person chose a range.
    pub(super) fn begin_anew(&mut self, basis: u64) -> bool {
        let may = self.whole || self.condition.is_some();
        if may {
            self.basis = Some(basis);
            self.keys.clear();
            self.waiting.clear();
            self.todo = VecDeque::from([Segment::default()]);
        }
        may
    }

    pub(super) fn end(&mut self, state: CopyState) {
        self.state = state;
        self.todo.clear();
        self.keys.clear();
        self.waiting.clear();
    }

    pub(super) fn progress(&self, windows_open: u32) -> SnapshotProgress {
        let waiting_keys = self.waiting.iter().map(|part| match part {
            Part::Keys(keys) => keys.len(),
            Part::Segment(_) => 0,
        });
        let waiting_segments = self
            .waiting
            .iter()
            .filter(|part| matches!(part, Part::Segment(_)))
            .count();
        SnapshotProgress {
            snapshot: self.snapshot,
            table: self.table.clone(),
            state: self.state,
            chunks_done: self.counts.chunks_done,
            rows_read: self.counts.rows_read,
            rows_dropped: self.counts.rows_dropped,
            rows_emitted: self.counts.rows_emitted,
            windows_open,
            segments_waiting: (self.todo.len() + waiting_segments) as u32,
            repairs_waiting: (self.keys.len() + waiting_keys.sum::<usize>()) as u32,
        }
    }
}
