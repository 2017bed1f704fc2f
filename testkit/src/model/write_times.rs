// SPDX-License-Identifier: Apache-2.0
//! The model as a database without order, where every cell carries its write time (Cassandra). The large column stands
//! for what has none when it is read back (a collection).

use std::sync::Arc;

use highwater_core::change::{Change, ChangeVersion, DeletionScope, Op};
use highwater_core::connector::{ChunkRequest, ChunkRows};
use highwater_core::image::CellRef;

use crate::model::database::{Database, Version};
use crate::model::read::See;
use crate::model::rows::{ModelPosition, id_of_key};

/// Column `big`.
const VERSIONLESS: usize = 2;

/// The write time of a transaction's change: later changes have later ones.
pub fn write_time(commit: u64, ordinal: u64) -> i64 {
    (commit * 64 + ordinal) as i64
}

/// The change as such a database logs it: only what was written, with its time.
pub fn with_write_times(mut change: Change<ModelPosition>) -> Change<ModelPosition> {
    let at = write_time(change.commit.0, change.ordinal);
    change.version = match (&change.after, change.op) {
        (Some(after), Op::Create | Op::Update | Op::Read) => {
            let time = |(column, cell)| (column > 0 && cell != CellRef::Unchanged).then_some(at);
            ChangeVersion::Cells(after.iter().enumerate().map(time).collect())
        }
        _ => ChangeVersion::Deletion {
            scope: Box::new(DeletionScope::Row),
            at,
        },
    };
    change
}

impl Database {
    /// Reads a chunk with the write times of its cells.
    pub fn read_with_write_times(&self, request: &ChunkRequest) -> Option<ChunkRows<ModelPosition>> {
        let mut rows = self.read(request, See::Ordered)?;
        let table = &self.tables[self.table_number(&request.table)?];
        let times = |row| {
            let versions = rows
                .schema
                .key_of(row)
                .as_ref()
                .and_then(id_of_key)
                .and_then(|id| table.rows.get(&id));
            let columns = rows.schema.columns.len();
            let time = |column: usize| {
                (column > 0 && column != VERSIONLESS)
                    .then(|| last_write(versions?, column - 1))
                    .flatten()
            };
            (0..columns).map(time).collect::<Arc<[Option<i64>]>>()
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
