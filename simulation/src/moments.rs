// SPDX-License-Identifier: Apache-2.0
//! A log without order: changes come in any order, some more than once, and only `Progress` says what is complete.
//! Either a changefeed (per transaction and key only the last state) or a log of cells with their write times.

use highwater_core::change::{Change, ChangeVersion, LogItem};
use highwater_core::schema::SchemaFingerprint;
use highwater_testkit::model::log::LoggedOp;
use highwater_testkit::model::write_times::with_write_times;
use highwater_testkit::model::{Database, LogRecord, ModelPosition};
use rand::Rng;
use rand::rngs::SmallRng;

/// Delivers the model's log without order.
#[derive(Debug)]
pub struct UnorderedCursor {
    /// Records below this index are taken over into `pending`.
    taken: usize,
    /// Not delivered yet.
    pending: Vec<Change<ModelPosition>>,
    /// Delivered, may come again.
    delivered: Vec<Change<ModelPosition>>,
    /// Per table, the shape that was announced last.
    announced: Vec<Option<SchemaFingerprint>>,
    resolved: u64,
    write_times: bool,
}

impl UnorderedCursor {
    /// Opens the log after `from`.
    pub fn open(database: &Database, from: u64, write_times: bool) -> Self {
        UnorderedCursor {
            taken: from as usize,
            pending: Vec::new(),
            delivered: Vec::new(),
            announced: vec![None; database.tables.len()],
            resolved: from,
            write_times,
        }
    }

    /// Everything up to here was delivered at least once, and the reader knows.
    pub fn resolved(&self) -> u64 {
        self.resolved
    }

    /// Whether nothing is left but repeats.
    pub fn is_at_end(&self, database: &Database) -> bool {
        self.taken == database.log.len() && self.pending.is_empty() && self.resolved == database.end()
    }

    fn take(&mut self, database: &Database) {
        while let Some(record) = database.log.get(self.taken) {
            self.taken += 1;
            let LogRecord::Transaction { xid, changes } = record else {
                continue;
            };
            let commit = self.taken as u64;
            let mut last: Vec<Change<ModelPosition>> = Vec::new();
            for (at, change) in changes.iter().enumerate() {
                if matches!(change.op, LoggedOp::Elsewhere) {
                    continue;
                }
                let Some(mut delivered) = change.deliver(*xid, commit, at as u64 + 1) else {
                    continue;
                };
                if self.write_times {
                    last.push(with_write_times(delivered, Some(&change.op)));
                    continue;
                }
                delivered.version = ChangeVersion::At(u128::from(commit));
                last.retain(|earlier| earlier.key() != delivered.key() || earlier.table() != delivered.table());
                last.push(delivered);
            }
            self.pending.extend(last);
        }
    }

    /// A changefeed delivers a table's new shape once everything before it is complete. Cells with write times come as they
    /// come.
    fn is_held_back(&self, database: &Database, at: usize) -> bool {
        let change = &self.pending[at];
        if self.write_times {
            return false;
        }
        let table = database.tables.iter().find(|table| table.shape().id == change.table());
        let shaped_at = table.and_then(|table| {
            let mut shapes = table.shapes.iter().zip(&table.shaped_at);
            shapes.find(|(shape, _)| shape.fingerprint() == change.schema.fingerprint())
        });
        shaped_at.is_some_and(|(_, at)| self.resolved + 1 < *at)
    }

    /// Appends a change, with its shape if another was announced last.
    fn push(&mut self, database: &Database, change: Change<ModelPosition>, items: &mut Vec<LogItem<ModelPosition>>) {
        let shape = Some(change.schema.fingerprint());
        let number = database
            .tables
            .iter()
            .position(|table| table.shape().id == change.table());
        if let Some(announced) = number.and_then(|number| self.announced.get_mut(number))
            && std::mem::replace(announced, shape) != shape
        {
            items.push(LogItem::Schema(change.schema.clone()));
        }
        items.push(LogItem::Change(change));
    }

    /// Delivers up to `items_max` changes in any order, now and then one again, now and then progress.
    pub fn deliver(
        &mut self,
        database: &Database,
        items_max: usize,
        rng: &mut SmallRng,
        items: &mut Vec<LogItem<ModelPosition>>,
    ) {
        self.take(database);
        for _ in 0..items_max {
            if !self.delivered.is_empty() && rng.random_range(0..6) == 0 {
                let again = self.delivered[rng.random_range(0..self.delivered.len())].clone();
                self.push(database, again, items);
                continue;
            }
            if self.pending.is_empty() {
                break;
            }
            let at = rng.random_range(0..self.pending.len());
            if self.is_held_back(database, at) {
                continue;
            }
            let change = self.pending.swap_remove(at);
            self.delivered.push(change.clone());
            self.push(database, change, items);
        }
        let complete = self
            .pending
            .iter()
            .map(|change| change.commit.0 - 1)
            .min()
            .unwrap_or(self.taken as u64);
        if self.pending.is_empty() || rng.random_range(0..3) == 0 {
            self.resolved = self.resolved.max(complete);
            items.push(LogItem::Progress(ModelPosition(self.resolved)));
        }
    }
}
