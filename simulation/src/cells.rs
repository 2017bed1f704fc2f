// SPDX-License-Identifier: Apache-2.0
//! The verdict where cells carry write times: a consumer that merges by them has at the end what the database has, and
//! no row that was read is older, in any cell, than what left before.

use std::collections::BTreeMap;

use highwater_core::change::{Capture, Change, ChangeVersion};
use highwater_core::image::{CellRef, RowImage};
use highwater_testkit::model::rows::number_of;
use highwater_testkit::model::write_times::write_time;
use highwater_testkit::model::{Database, ModelPosition};

use crate::outlet::Sent;

/// A row as the consumer has it.
#[derive(Debug, Clone, Default)]
struct Merged {
    cells: BTreeMap<usize, (i64, u64)>,
    deleted_at: Option<i64>,
}

impl Merged {
    fn put(&mut self, column: usize, time: i64, value: u64) {
        let newer = self.cells.get(&column).is_none_or(|(known, _)| *known < time);
        if newer && self.deleted_at.is_none_or(|deleted| deleted < time) {
            self.cells.insert(column, (time, value));
        }
    }

    fn delete(&mut self, at: i64) {
        self.deleted_at = self.deleted_at.max(Some(at));
        self.cells.retain(|_, (time, _)| *time > at);
    }

    fn newest(&self, column: usize) -> Option<i64> {
        self.cells.get(&column).map(|(time, _)| *time).max(self.deleted_at)
    }
}

fn id_of(image: &RowImage) -> Option<u64> {
    match image.cell(0) {
        CellRef::Value(bytes) => number_of(bytes),
        _ => None,
    }
}

/// Judges what was committed.
pub fn judge(database: &Database, log_start: u64, committed: &[Sent]) -> Result<(), String> {
    let mut rows: BTreeMap<(usize, u64), Merged> = BTreeMap::new();
    for (at, sent) in committed.iter().enumerate() {
        let change = &sent.change;
        let table = database
            .tables
            .iter()
            .position(|table| table.shape().id == change.table());
        let image = change.after.as_ref().or(change.before.as_ref());
        let (Some(table), Some(id)) = (table, image.and_then(id_of)) else {
            return Err(format!("event {at}: no table or key"));
        };
        let merged = rows.entry((table, id)).or_default();
        apply(merged, change).map_err(|what| format!("event {at} of row {id} ({:?}): {what}", change.capture))?;
    }
    for (number, table) in database.tables.iter().enumerate() {
        for (&id, versions) in &table.rows {
            let merged = rows.remove(&(number, id)).unwrap_or_default();
            let last = versions.last().and_then(|version| version.row.as_ref());
            let expected: Vec<Option<u64>> = last.map_or_else(Vec::new, |row| row.cells.clone());
            let seen: Vec<Option<u64>> = (1..=expected.len().max(2))
                .map(|column| merged.cells.get(&column).map(|(_, value)| *value))
                .collect();
            let untouched = versions.iter().all(|version| version.commit <= log_start);
            if last.is_some() && seen != expected || last.is_none() && seen.iter().any(Option::is_some) {
                return Err(format!(
                    "row {id} ends as {seen:?} instead of {expected:?}, written before the log: {untouched}"
                ));
            }
        }
    }
    Ok(())
}

fn apply(merged: &mut Merged, change: &Change<ModelPosition>) -> Result<(), String> {
    let ChangeVersion::Cells(times) = &change.version else {
        if let ChangeVersion::Deletion { at, .. } = &change.version {
            merged.delete(*at);
        }
        return Ok(());
    };
    let Some(image) = &change.after else { return Ok(()) };
    let read = change.capture != Capture::Log;
    // A cell without a write time is as new as the read that brought it.
    let read_at = write_time(change.source_time_us as u64, 63);
    for column in 1..image.len() {
        let CellRef::Value(bytes) = image.cell(column) else {
            continue;
        };
        let value = number_of(bytes).ok_or("a cell that is no number")?;
        let time = times.get(column).copied().flatten();
        let newest = merged.newest(column);
        if read && time.is_some_and(|time| newest > Some(time)) {
            return Err(format!("column {column} was read older than what left before"));
        }
        if read && time.is_none() && newest > Some(read_at) {
            return Err(format!(
                "column {column}, without a write time, was read before what left already"
            ));
        }
        merged.put(column, time.unwrap_or(read_at), value);
    }
    Ok(())
}
