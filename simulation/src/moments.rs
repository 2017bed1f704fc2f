// SPDX-License-Identifier: Apache-2.0
//! A log without order: changes come in any order, some more than once, and only `Progress` says what is complete.
//! Either a changefeed (per transaction and key only the last state) or a log of cells with their write times.

use highwater_core::change::{Change, ChangeVersion, LogItem};
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
    announced: Vec<bool>,
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
            announced: vec![false; database.tables.len()],
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
                    last.push(with_write_times(delivered));
                    continue;
                }
                delivered.version = ChangeVersion::At(u128::from(commit));
                last.retain(|earlier| earlier.key() != delivered.key() || earlier.table() != delivered.table());
                last.push(delivered);
            }
            self.pending.extend(last);
        }
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
                items.push(LogItem::Change(again));
            } else if !self.pending.is_empty() {
                let change = self.pending.swap_remove(rng.random_range(0..self.pending.len()));
                if let Some(number) = database.table_number(&change.schema.name)
                    && !std::mem::replace(&mut self.announced[number], true)
                {
                    items.push(LogItem::Schema(change.schema.clone()));
                }
                self.delivered.push(change.clone());
                items.push(LogItem::Change(change));
            } else {
                break;
            }
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
