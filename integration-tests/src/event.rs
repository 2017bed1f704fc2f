// SPDX-License-Identifier: Apache-2.0
//! An event of a workload's topic, read down to its values and reduced to what the oracle compares.

use std::collections::HashMap;

use highwater_core::transport::Record;
use highwater_formats::DecodedEvent;
use serde_json::Value;

use crate::table::{Revision, Table};

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The log: the row is there at this revision. The revision of the wide column counts only if the event has it.
    Put(Revision),
    /// A chunk or repair read the row at this revision.
    Read(Revision),
    /// The log: the row is gone.
    Delete,
    /// The key's record without a value.
    Tombstone,
    /// The log: the table was emptied.
    Truncate,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The table.
    pub table: Table,
    /// The key's number; `None` for truncations.
    pub key: Option<u64>,
    /// What it says.
    pub kind: Kind,
    /// The transaction, of events of the log.
    pub transaction: Option<u64>,
    /// The revision of the row before, where the event has it whole.
    pub before: Option<i64>,
    /// Whether the log left the wide column out.
    pub partial: bool,
    /// Partition and offset.
    pub place: (u32, u64),
}

/// Turns records into events; knows the keys of the workload.
#[derive(Debug)]
pub struct EventReader {
    keys: HashMap<(Table, String), u64>,
}

impl EventReader {
    /// A reader of events about keys with numbers below `key_space`.
    pub fn new(key_space: u64) -> Self {
        let keys = Table::ALL
            .into_iter()
            .flat_map(|table| (0..key_space).map(move |key| ((table, table.key_json(key).to_string()), key)));
        EventReader { keys: keys.collect() }
    }

    /// Reads an event and compares each of its values with what the row's key and revision demand.
    ///
    /// # Errors
    /// What is wrong with the event, with its place.
    pub fn read(&self, record: &Record, event: &DecodedEvent) -> Result<Event, String> {
        let place = (record.partition, record.offset);
        let fault = |what: String| format!("{} {place:?}: {what}", record.topic);
        let name = record.topic.rsplit('.').next().unwrap_or_default();
        let table = Table::named(name).ok_or_else(|| fault("a topic of no table".to_owned()))?;
        let key = self.key(table, event).map_err(fault)?;
        let kind = kind(table, key, event).map_err(fault)?;
        let before = before(table, key, event).map_err(fault)?;
        let transaction = event
            .source()
            .and_then(|source| source.get("txId"))
            .and_then(Value::as_u64);
        Ok(Event {
            table,
            key,
            kind,
            transaction,
            before,
            partial: !event.unchanged.is_empty(),
            place,
        })
    }

    fn key(&self, table: Table, event: &DecodedEvent) -> Result<Option<u64>, String> {
        let Some(key) = &event.key else { return Ok(None) };
        let number = self.keys.get(&(table, key.to_string()));
        number
            .copied()
            .map(Some)
            .ok_or_else(|| format!("{key} is no key of {table:?}"))
    }
}

fn kind(table: Table, key: Option<u64>, event: &DecodedEvent) -> Result<Kind, String> {
    let key = match (key, event.op()) {
        (None, Some("t")) => return Ok(Kind::Truncate),
        (Some(_), None) => return Ok(Kind::Tombstone),
        (Some(_), Some("d")) => return Ok(Kind::Delete),
        (Some(key), Some("c" | "u" | "r")) => key,
        (key, op) => return Err(format!("op {op:?} with key {key:?}")),
    };
    let after = event.after().ok_or("an event without a row after")?;
    let revision = revision(table, after).ok_or_else(|| format!("no revision in {after}"))?;
    same_row(&table.row_json(key, revision), after, &event.unchanged)?;
    if event.op() == Some("r") {
        if !event.unchanged.is_empty() {
            return Err("a read of a row that lacks a column".to_owned());
        }
        return Ok(Kind::Read(revision));
    }
    Ok(Kind::Put(revision))
}

/// The revision of the row before. Where the log has only its key, that one is compared.
fn before(table: Table, key: Option<u64>, event: &DecodedEvent) -> Result<Option<i64>, String> {
    let (Some(key), Some(before)) = (key, event.before()) else {
        return Ok(None);
    };
    // A renewal knows the key of a row that is gone, and no more.
    let of_log = event
        .source()
        .is_some_and(|source| source.get("txId").is_some_and(Value::is_u64));
    if !table.identity_is_full() || !of_log {
        return Ok(None);
    }
    let revision = revision(table, before).ok_or("no revision in the row before")?;
    same_row(&table.row_json(key, revision), before, &[])?;
    Ok(Some(revision.number))
}

fn revision(table: Table, row: &Value) -> Option<Revision> {
    let number = row.get("rev")?.as_i64()?;
    let wide = if table.has_wide() {
        row.get("wide_rev")?.as_i64()?
    } else {
        number
    };
    Some(Revision { number, wide })
}

fn same_row(expected: &Value, found: &Value, unchanged: &[String]) -> Result<(), String> {
    let fields = expected.as_object().ok_or("a row is an object")?;
    let count = found.as_object().map_or(0, serde_json::Map::len);
    if count != fields.len() {
        return Err(format!("{count} columns instead of {}: {found}", fields.len()));
    }
    for (name, value) in fields {
        if unchanged.iter().any(|column| column == name) {
            continue;
        }
        if found.get(name) != Some(value) {
            let (found, expected) = (short(found.get(name)), short(Some(value)));
            return Err(format!("column {name} is {found} instead of {expected}"));
        }
    }
    Ok(())
}

fn short(value: Option<&Value>) -> String {
    value.map_or("missing".to_owned(), |value| {
        value.to_string().chars().take(80).collect()
    })
}
