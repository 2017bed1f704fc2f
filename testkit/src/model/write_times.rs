// SPDX-License-Identifier: Apache-2.0
//! The model as a database without order, where every cell carries its write time (Cassandra). The large column stands
//! for what has none when it is read back (a collection).

use std::sync::Arc;

use highwater_core::change::{Change, ChangeVersion, DeletionScope, Op};
use highwater_core::connector::{ChunkRequest, ChunkRows};
use highwater_core::image::CellRef;
use highwater_core::schema::{Key, TableSchema};

use crate::model::database::{Database, Version};
use crate::model::log::LoggedOp;
use crate::model::read::See;
use crate::model::rows::{BIG, ModelPosition, PARTITION_ROWS, cell_of_column, id_of_key};

/// The write time of a transaction's change: later changes have later ones.
pub fn write_time(commit: u64, ordinal: u64) -> i64 {
    (commit * 64 + ordinal) as i64
}

/// The change as such a database logs it: only what was written, with its time; a deletion of many rows (`op`) as one.
pub fn with_write_times(mut change: Change<ModelPosition>, op: Option<&LoggedOp>) -> Change<ModelPosition> {
    let at = write_time(change.commit.0, change.ordinal);
    change.version = match (&change.after, change.op) {
        (Some(after), Op::Create | Op::Update | Op::Read) => {
            let is_key = |column: usize| change.schema.key.contains(&column);
            let time = |(column, cell)| (!is_key(column) && cell != CellRef::Unchanged).then_some(at);
            ChangeVersion::Cells(after.iter().enumerate().map(time).collect())
        }
        _ => ChangeVersion::Deletion {
            scope: Box::new(op.map_or(DeletionScope::Row, scope_of)),
            at,
        },
    };
    change
}

fn scope_of(op: &LoggedOp) -> DeletionScope {
    let LoggedOp::DeleteRange { from, through } = op else {
        return DeletionScope::Row;
    };
    let column = |number: u64| Key::from_columns(&[Some(number.to_string())]);
    let partition = column(from / PARTITION_ROWS);
    let (first, last) = (from % PARTITION_ROWS, through % PARTITION_ROWS);
    if (first, last) == (0, PARTITION_ROWS - 1) {
        return DeletionScope::Partition(partition);
    }
    DeletionScope::Range {
        partition,
        from: column(first).as_bytes().to_vec(),
        through: column(last).as_bytes().to_vec(),
    }
}

/// The rows that a deletion of a partition or range covers: the first and the last.
pub fn rows_of(scope: &DeletionScope) -> Option<(u64, u64)> {
    let id = |partition: &Key, clustering: &[u8]| {
        let mut key = partition.as_bytes().to_vec();
        key.extend_from_slice(clustering);
        id_of_key(&Key::from_bytes(key.into()))
    };
    match scope {
        DeletionScope::Row => None,
        DeletionScope::Partition(partition) => {
            let first = Key::from_columns(&[Some("0")]);
            let first = id(partition, first.as_bytes())?;
            Some((first, first + PARTITION_ROWS - 1))
        }
        DeletionScope::Range {
            partition,
            from,
            through,
        } => Some((id(partition, from)?, id(partition, through)?)),
    }
}

impl Database {
    /// Reads a chunk with the write times of its cells.
    pub fn read_with_write_times(&self, request: &ChunkRequest) -> Option<ChunkRows<ModelPosition>> {
        let mut rows = self.read(request, See::Ordered)?;
        let table = &self.tables[self.table_number(&request.table)?];
        let schema: &TableSchema = &rows.schema;
        let cells: Vec<Option<usize>> = (0..schema.columns.len())
            .map(|column| cell_of_column(schema, column).filter(|cell| *cell != BIG))
            .collect();
        let times = |row| {
            let key = schema.key_of(row);
            let versions = key.as_ref().and_then(id_of_key).and_then(|id| table.rows.get(&id));
            let time = |cell: &Option<usize>| last_write(versions?, (*cell)?);
            cells.iter().map(time).collect::<Arc<[Option<i64>]>>()
        };
        rows.versions = Some(rows.rows.iter().map(times).collect());
        Some(rows)
    }
}

/// When the cell got the value that it has.
fn last_write(versions: &[Version], cell: usize) -> Option<i64> {
    let value = |version: &Version| {
        version
            .row
            .as_ref()
            .and_then(|row| row.cells.get(cell).copied().flatten())
    };
    let now = value(versions.last()?)?;
    let since = versions
        .iter()
        .rev()
        .take_while(|version| value(version) == Some(now))
        .last()?;
    Some(write_time(since.commit, since.ordinal))
}
