// SPDX-License-Identifier: Apache-2.0
//! What a life's driver does about tables whose log was lost: notes what leaves, compares keys, sends deletes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use highwater_core::change::{Capture, Change, ChangeVersion, Op};
use highwater_core::image::{Cell, RowImage, RowImageBuilder};
use highwater_core::position::TransactionId;
use highwater_core::schema::{Key, TableName, TableSchema};
use highwater_testkit::model::ModelPosition;

use crate::outlet::Sent;

/// See the module.
#[derive(Debug, Default)]
pub struct Renewals {
    /// Keys that left since a table was watched.
    left: BTreeMap<TableName, BTreeSet<Vec<u8>>>,
    asked: VecDeque<(TableName, u64)>,
    /// Of a table, what was found: pieces that the engine is not told of yet.
    found: Option<(TableName, VecDeque<Vec<Key>>)>,
    due: Vec<Key>,
    /// The table of which the engine was told, while it waits for the end of a transaction.
    waits: Option<TableName>,
    /// Tables that are to be compared again.
    failed: VecDeque<TableName>,
}

impl Renewals {
    /// A table is watched from here on.
    pub fn watch(&mut self, table: TableName) {
        self.found = None;
        self.left.insert(table, BTreeSet::new());
    }

    /// Keys of a table are to be compared.
    pub fn ask(&mut self, table: TableName, end: u64) {
        self.asked.push_back((table, end));
    }

    /// Whether there is something to do.
    pub fn is_asked(&self) -> bool {
        !self.asked.is_empty() || self.found.is_some() || !self.failed.is_empty()
    }

    /// A table that failed and may be tried again.
    pub fn again(&mut self) -> Option<TableName> {
        self.failed.pop_front()
    }

    /// An event leaves.
    pub fn note(&mut self, change: &Change<ModelPosition>) {
        if let Some(left) = self.left.get_mut(&change.schema.name) {
            let keys = [change.key(), change.old_key()];
            left.extend(keys.into_iter().flatten().map(|key| key.as_bytes().to_vec()));
        }
    }

    /// Compares, or goes on with what was found; what the engine is to hear: of which table, and whether it is the last.
    pub fn act(&mut self, committed: &[Sent], fails: bool) -> Option<(TableName, Result<bool, ()>)> {
        if fails {
            let found = self.found.take().map(|(table, _)| table);
            let table = self
                .waits
                .take()
                .or(found)
                .or_else(|| Some(self.asked.pop_front()?.0))?;
            self.failed.push_back(table.clone());
            return Some((table, Err(())));
        }
        if self.waits.is_some() {
            return None;
        }
        if self.found.is_none() {
            let (table, end) = self.asked.pop_front()?;
            let gone = gone(committed, &table, end as usize);
            let pieces = gone.chunks(2).map(<[Key]>::to_vec).collect();
            self.found = Some((table, pieces));
        }
        let (table, pieces) = self.found.as_mut()?;
        self.due = pieces.pop_front().unwrap_or_default();
        self.waits = Some(table.clone());
        let told = (table.clone(), Ok(pieces.is_empty()));
        if pieces.is_empty() {
            self.found = None;
        }
        Some(told)
    }

    /// The deletes of what is due.
    pub fn remove(&mut self, schema: &TableSchema, position: ModelPosition) -> Vec<Change<ModelPosition>> {
        self.waits = None;
        let left = self.left.get(&schema.name);
        let is_gone = |key: &Key| left.is_none_or(|left| !left.contains(key.as_bytes()));
        let gone = std::mem::take(&mut self.due).into_iter().filter(is_gone);
        gone.map(|key| delete(schema, &key, position)).collect()
    }
}

fn delete(schema: &TableSchema, key: &Key, position: ModelPosition) -> Change<ModelPosition> {
    Change {
        schema: std::sync::Arc::new(schema.clone()),
        op: Op::Delete,
        before: Some(key_image(schema, key)),
        after: None,
        position,
        commit: position,
        transaction: TransactionId(0),
        ordinal: 1,
        source_time_us: 0,
        version: ChangeVersion::InOrder,
        capture: Capture::Renewal,
        origin: None,
    }
}

fn key_image(schema: &TableSchema, key: &Key) -> RowImage {
    let values = key.columns().unwrap_or_default();
    let mut builder = RowImageBuilder::default();
    for column in 0..schema.columns.len() {
        match schema
            .key
            .iter()
            .position(|of_key| *of_key == column)
            .and_then(|at| values.get(at))
        {
            Some(Some(value)) => builder.value(value),
            _ => builder.cell(Cell::ABSENT),
        }
    }
    builder.build()
}

/// Keys that were alive before `end` and have no event since. A truncation names no key.
fn gone(committed: &[Sent], table: &TableName, end: usize) -> Vec<Key> {
    let mut alive: BTreeMap<Vec<u8>, Key> = BTreeMap::new();
    let of_table = |(_, sent): &(usize, &Sent)| sent.change.schema.name == *table;
    for (at, sent) in committed.iter().enumerate().filter(of_table) {
        let change = &sent.change;
        for key in [change.old_key(), change.key()].into_iter().flatten() {
            alive.remove(key.as_bytes());
        }
        if at < end
            && change.op != Op::Delete
            && let Some(key) = change.key()
        {
            alive.insert(key.as_bytes().to_vec(), key);
        }
    }
    alive.into_values().collect()
}

/// Of each table, the keys of which a reader of all events has a row.
pub fn alive(committed: &[Sent]) -> BTreeMap<TableName, BTreeSet<Vec<u8>>> {
    let mut alive: BTreeMap<TableName, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for Sent { change, .. } in committed {
        let keys = alive.entry(change.schema.name.clone()).or_default();
        if change.op == Op::Truncate {
            keys.clear();
        }
        for key in [change.old_key(), change.key()].into_iter().flatten() {
            keys.remove(key.as_bytes());
        }
        if let Some(key) = change.key().filter(|_| change.after.is_some()) {
            keys.insert(key.as_bytes().to_vec());
        }
    }
    alive
}
