// SPDX-License-Identifier: Apache-2.0
//! The verdict where cells carry write times: a consumer that merges by them has at the end what the database has, and
//! no row that was read is older, in any cell, than what left before.

use std::collections::BTreeMap;

use highwater_core::change::{Capture, Change, ChangeVersion};
use highwater_core::image::CellRef;
use highwater_testkit::model::rows::{cell_of_column, number_of};
use highwater_testkit::model::write_times::{rows_of, write_time};
use highwater_testkit::model::{Database, ModelPosition, ModelTable, id_of_key};

use crate::outlet::Sent;

/// A row as the consumer has it.
#[derive(Debug, Clone, Default)]
struct Merged {
    cells: BTreeMap<usize, (i64, u64)>,
    deleted_at: Option<i64>,
}

impl Merged {
    fn put(&mut self, cell: usize, time: i64, value: u64) {
        let newer = self.cells.get(&cell).is_none_or(|(known, _)| *known < time);
        if newer && self.deleted_at.is_none_or(|deleted| deleted < time) {
            self.cells.insert(cell, (time, value));
        }
    }

    fn delete(&mut self, at: i64) {
        self.deleted_at = self.deleted_at.max(Some(at));
        self.cells.retain(|_, (time, _)| *time > at);
    }

    fn newest(&self, cell: usize) -> Option<i64> {
        self.cells.get(&cell).map(|(time, _)| *time).max(self.deleted_at)
    }
}

/// A table as the consumer has it, with the deletions of many rows: they hold for rows that come later too.
#[derive(Debug, Clone, Default)]
struct MergedTable {
    rows: BTreeMap<u64, Merged>,
    deletions: Vec<(u64, u64, i64)>,
}

impl MergedTable {
    fn row(&mut self, id: u64) -> &mut Merged {
        let covering = self
            .deletions
            .iter()
            .filter(|(from, through, _)| (*from..=*through).contains(&id));
        let deleted_at = covering.map(|(_, _, at)| *at).max();
        self.rows.entry(id).or_insert_with(|| Merged {
            cells: BTreeMap::new(),
            deleted_at,
        })
    }

    fn apply(&mut self, change: &Change<ModelPosition>) -> Result<(), String> {
        let id = change.key().as_ref().and_then(id_of_key);
        if let ChangeVersion::Deletion { scope, at } = &change.version {
            let (from, through) = match (rows_of(scope), id) {
                (Some(rows), _) => rows,
                (None, Some(id)) => (id, id),
                (None, None) => return Err("a deletion of nothing".to_owned()),
            };
            self.deletions.push((from, through, *at));
            let rows = self.rows.range_mut(from..=through);
            rows.for_each(|(_, row)| row.delete(*at));
            return Ok(());
        }
        let id = id.ok_or("no key")?;
        put_cells(self.row(id), change).map_err(|what| format!("row {id}: {what}"))
    }
}

/// Judges what was committed.
pub fn judge(database: &Database, log_start: u64, committed: &[Sent]) -> Result<(), String> {
    let mut tables = vec![MergedTable::default(); database.tables.len()];
    for (at, sent) in committed.iter().enumerate() {
        let change = &sent.change;
        let is_its = |table: &ModelTable| table.shape().id == change.table();
        let number = database.tables.iter().position(is_its);
        let merged = number.and_then(|number| tables.get_mut(number));
        let merged = merged.ok_or_else(|| format!("event {at}: an unknown table"))?;
        merged
            .apply(change)
            .map_err(|what| format!("event {at} ({:?}): {what}", change.capture))?;
    }
    let pairs = database.tables.iter().zip(&mut tables);
    // Nobody could copy a table that is gone.
    pairs
        .filter(|(table, _)| !table.dropped)
        .try_for_each(|(table, merged)| compare(table, merged, log_start))
}

/// At the end the consumer has what the database has.
fn compare(table: &ModelTable, merged: &mut MergedTable, log_start: u64) -> Result<(), String> {
    for (&id, versions) in &table.rows {
        let last = versions.last().and_then(|version| version.row.as_ref());
        let expected: Vec<Option<u64>> = last.map_or_else(Vec::new, |row| row.cells.clone());
        let merged = merged.row(id);
        let seen: Vec<Option<u64>> = (0..expected.len().max(table.shape().columns.len()))
            .map(|cell| merged.cells.get(&cell).map(|(_, value)| *value))
            .collect();
        let is_as_expected = seen
            .iter()
            .enumerate()
            .all(|(cell, seen)| *seen == expected.get(cell).copied().flatten());
        let untouched = versions.iter().all(|version| version.commit <= log_start);
        if !is_as_expected {
            return Err(format!(
                "row {id} ends as {seen:?} instead of {expected:?}, written before the log: {untouched}"
            ));
        }
    }
    Ok(())
}

fn put_cells(merged: &mut Merged, change: &Change<ModelPosition>) -> Result<(), String> {
    let (ChangeVersion::Cells(times), Some(image)) = (&change.version, &change.after) else {
        return Ok(());
    };
    let read = change.capture != Capture::Log;
    // A cell without a write time is as new as the read that brought it.
    let read_at = write_time(change.source_time_us as u64, 63);
    for column in 0..image.len() {
        let (CellRef::Value(bytes), Some(cell)) = (image.cell(column), cell_of_column(&change.schema, column)) else {
            continue;
        };
        let value = number_of(bytes).ok_or("a cell that is no number")?;
        let time = times.get(column).copied().flatten();
        let newest = merged.newest(cell);
        if read && time.is_some_and(|time| newest > Some(time)) {
            return Err(format!("cell {cell} was read older than what left before"));
        }
        if read && time.is_none() && newest > Some(read_at) {
            return Err(format!(
                "cell {cell}, without a write time, was read before what left already"
            ));
        }
        merged.put(cell, time.unwrap_or(read_at), value);
    }
    Ok(())
}
