// SPDX-License-Identifier: Apache-2.0
//! What becomes of a chunk's row where cells carry write times.
//!
//! A chunk's cell leaves only if nothing newer of it has left already. Ties go to the deletion, as in the database. A
//! cell without a write time cannot be compared: it loses to whatever the log said of it, and its key is read again; in
//! that second read only what the log said *after* the read was asked for counts, or no such key would ever settle.

use std::sync::Arc;

use crate::dblog::cell_memory::{CellMemory, Deleted, KeyCells};
use crate::image::{Cell, CellRef, RowImage, RowImageBuilder};
use crate::schema::{Key, TableSchema};

/// What becomes of a chunk's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What may leave; lost cells read as unchanged.
    pub row: Option<RowImage>,
    /// Whether the key is to be read again.
    pub read_again: bool,
}

/// Judges the rows of one chunk.
#[derive(Debug)]
pub(super) struct CellJudge<'a> {
    memory: &'a CellMemory,
    schema: &'a TableSchema,
    numbers: Vec<Option<usize>>,
    since: u64,
}

type Times<'a> = Option<&'a Arc<[Option<i64>]>>;

fn time_of(times: Times<'_>, column: usize) -> Option<i64> {
    times.and_then(|times| times.get(column).copied().flatten())
}

impl<'a> CellJudge<'a> {
    /// A judge of rows of `schema`. `since`: what the log said up to then does not count against cells without a write
    /// time.
    pub(super) fn new(memory: &'a CellMemory, schema: &'a TableSchema, since: u64) -> Self {
        CellJudge {
            memory,
            schema,
            numbers: memory.numbers(schema),
            since,
        }
    }

    /// Judges a row with the write times of its cells.
    pub(super) fn judge(&self, key: &Key, row: &RowImage, times: Times<'_>) -> Verdict {
        let (cells, deleted) = (self.memory.cells(key), self.memory.deleted(key));
        if cells.is_none() && deleted.is_none() {
            return Verdict {
                row: Some(row.clone()),
                read_again: false,
            };
        }
        let lost = self.lost(row, times, cells, deleted);
        let deleted_since = deleted.is_some_and(|deleted| deleted.seen_at > self.since);
        let read_again = (0..row.len()).any(|at| lost[at] && time_of(times, at).is_none());
        if deleted.is_some() && !self.is_alive(row, times, &lost, deleted) {
            return Verdict {
                row: None,
                read_again: read_again || deleted_since,
            };
        }
        Verdict {
            row: (!read_again).then(|| without(row, &lost)),
            read_again,
        }
    }

    /// Which cells lose to what the log said.
    fn lost(&self, row: &RowImage, times: Times<'_>, cells: Option<&KeyCells>, deleted: Option<Deleted>) -> Vec<bool> {
        let touched_since = cells.is_some_and(|cells| cells.seen_at > self.since);
        let deleted_since = deleted.is_some_and(|deleted| deleted.seen_at > self.since);
        let is_lost = |at: usize| {
            if self.schema.key.contains(&at) {
                return false;
            }
            let number = self.numbers.get(at).copied().flatten();
            let logged = number.and_then(|number| cells?.times.get(number).copied().flatten());
            match time_of(times, at) {
                Some(time) => {
                    logged.is_some_and(|logged| logged > time) || deleted.is_some_and(|deleted| deleted.at >= time)
                }
                None => (logged.is_some() && touched_since) || deleted_since,
            }
        };
        (0..row.len()).map(is_lost).collect()
    }

    /// Whether something in the row is proven to be newer than its deletion.
    fn is_alive(&self, row: &RowImage, times: Times<'_>, lost: &[bool], deleted: Option<Deleted>) -> bool {
        let newer = |time: i64| deleted.is_none_or(|deleted| time > deleted.at);
        let is_key = |at: &usize| self.schema.key.contains(at);
        let key_is_newer = self.schema.key.iter().any(|&at| time_of(times, at).is_some_and(newer));
        let holds = |at: usize| !lost[at] && !matches!(row.cell(at), CellRef::Null);
        key_is_newer || (0..row.len()).filter(|at| !is_key(at)).any(holds)
    }
}

fn without(row: &RowImage, lost: &[bool]) -> RowImage {
    if !lost.contains(&true) {
        return row.clone();
    }
    let mut builder = RowImageBuilder::default();
    for (cell, lost) in row.iter().zip(lost) {
        match cell {
            _ if *lost => builder.cell(Cell::UNCHANGED),
            CellRef::Value(value) => builder.value(value),
            CellRef::Null => builder.cell(Cell::NULL),
            CellRef::Unchanged => builder.cell(Cell::UNCHANGED),
            CellRef::Absent => builder.cell(Cell::ABSENT),
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::change::{Capture, Change, ChangeVersion, DeletionScope, Op};
    use crate::position::TransactionId;
    use crate::schema::{Column, TableId, TableName};
    use crate::value::{ColumnDecoder, ValueError, ValueType, ValueWriter};

    #[derive(Debug)]
    struct NoDecoder;

    impl ColumnDecoder for NoDecoder {
        fn decode(&self, _: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
            out.null();
            Ok(())
        }
    }

    /// Partition `p`, clustering `c`, cells `a` and `b`.
    fn schema() -> Arc<TableSchema> {
        let column = |name: &str| Column {
            name: name.to_owned(),
            database_type: "text".to_owned(),
            value_type: ValueType::String,
            nullable: true,
            decoder: Arc::new(NoDecoder),
        };
        let columns = ["p", "c", "a", "b"].map(column).to_vec();
        Arc::new(TableSchema::new(
            TableId(1),
            TableName::new("k", "t"),
            columns,
            vec![0, 1],
        ))
    }

    fn row(partition: &str, clustering: &str) -> RowImage {
        RowImage::from_values(&[Some(partition), Some(clustering), Some("a"), Some("b")])
    }

    fn deletion(scope: DeletionScope, at: i64) -> Change<u64> {
        Change {
            schema: schema(),
            op: Op::Delete,
            before: None,
            after: None,
            position: 0,
            commit: 0,
            transaction: TransactionId(0),
            ordinal: 1,
            source_time_us: 0,
            version: ChangeVersion::Deletion {
                scope: scope.into(),
                at,
            },
            capture: Capture::Log,
            origin: None,
        }
    }

    /// What is left of a row whose cells were written at 10 and 30.
    fn left(memory: &CellMemory, partition: &str, clustering: &str) -> Option<String> {
        let (schema, row) = (schema(), row(partition, clustering));
        let times: Arc<[Option<i64>]> = vec![None, None, Some(10), Some(30)].into();
        let key = schema.key_of(&row).unwrap();
        let verdict = CellJudge::new(memory, &schema, 0).judge(&key, &row, Some(&times));
        // A row that is gone is read once more: whether its key was written after the deletion has no write time.
        assert_eq!(verdict.read_again, verdict.row.is_none());
        verdict.row.map(|row| format!("{row:?}"))
    }

    fn memory(scope: DeletionScope, at: i64) -> CellMemory {
        let mut memory = CellMemory::default();
        memory.record(&deletion(scope, at), 1);
        memory
    }

    const WHOLE: &str = "RowImage(vvvv, 4 bytes)";
    const NEWER_CELL: &str = "RowImage(vvuv, 3 bytes)";

    #[test]
    fn a_partitions_deletion_takes_older_cells_of_its_rows_and_no_others() {
        let partition = || DeletionScope::Partition(Key::from_columns(&[Some("p")]));
        let memory_at_20 = memory(partition(), 20);
        assert_eq!(left(&memory_at_20, "p", "1").as_deref(), Some(NEWER_CELL));
        assert_eq!(left(&memory_at_20, "q", "1").as_deref(), Some(WHOLE));
        assert_eq!(left(&memory(partition(), 5), "p", "1").as_deref(), Some(WHOLE));
        // A tie goes to the deletion.
        assert_eq!(left(&memory(partition(), 30), "p", "1"), None);
    }

    #[test]
    fn a_ranges_deletion_takes_the_rows_between_its_ends_both_inclusive() {
        let clustering = |value: &str| Key::from_columns(&[Some(value)]).as_bytes().to_vec();
        let scope = DeletionScope::Range {
            partition: Key::from_columns(&[Some("p")]),
            from: clustering("3"),
            through: clustering("5"),
        };
        let memory = memory(scope, 40);
        let gone: Vec<&str> = ["2", "3", "4", "5", "6"]
            .into_iter()
            .filter(|c| left(&memory, "p", c).is_none())
            .collect();
        assert_eq!(gone, ["3", "4", "5"]);
        assert_eq!(left(&memory, "q", "4").as_deref(), Some(WHOLE));
    }

    #[test]
    fn a_cell_without_a_write_time_loses_and_is_read_again_until_the_log_is_silent_about_it() {
        let schema = schema();
        let image = row("p", "1");
        let key = schema.key_of(&image).unwrap();
        let mut memory = CellMemory::default();
        let mut change = deletion(DeletionScope::Row, 0);
        change.after = Some(image.clone());
        change.version = ChangeVersion::Cells(vec![None, None, None, Some(20)].into());
        memory.record(&change, 7);
        let times: Arc<[Option<i64>]> = vec![None, None, Some(10), None].into();
        let judge = |since| CellJudge::new(&memory, &schema, since).judge(&key, &image, Some(&times));
        assert_eq!(
            judge(0),
            Verdict {
                row: None,
                read_again: true
            }
        );
        assert_eq!(
            judge(7),
            Verdict {
                row: Some(image.clone()),
                read_again: false
            }
        );
    }

    #[test]
    fn repeats_take_no_room_and_deletions_of_one_scope_become_one() {
        let clustering = |value: &str| Key::from_columns(&[Some(value)]).as_bytes().to_vec();
        let partition = || Key::from_columns(&[Some("p")]);
        let range = || DeletionScope::Range {
            partition: partition(),
            from: clustering("3"),
            through: clustering("5"),
        };
        let mut memory = CellMemory::default();
        for (at, seen_at) in [(20, 1), (10, 2), (20, 3)] {
            memory.record(&deletion(DeletionScope::Partition(partition()), at), seen_at);
            memory.record(&deletion(range(), at), seen_at);
        }
        assert_eq!(memory.len(), 2);
        let key = schema().key_of(&row("p", "4")).unwrap();
        assert_eq!(memory.deleted(&key), Some(Deleted { at: 20, seen_at: 3 }));
    }

    #[test]
    fn cells_are_told_apart_by_their_columns_names_whatever_the_shape() {
        let wide = schema();
        let mut columns = wide.columns.clone();
        columns.remove(2);
        let narrow = Arc::new(TableSchema::new(wide.id, wide.name.clone(), columns, vec![0, 1]));
        let mut change = deletion(DeletionScope::Row, 0);
        change.schema = narrow;
        change.after = Some(RowImage::from_values(&[Some("p"), Some("1"), Some("b")]));
        change.version = ChangeVersion::Cells(vec![None, None, Some(20)].into());
        let mut memory = CellMemory::default();
        memory.record(&change, 1);
        let image = row("p", "1");
        let times: Arc<[Option<i64>]> = vec![None, None, Some(10), Some(10)].into();
        let key = wide.key_of(&image).unwrap();
        let verdict = CellJudge::new(&memory, &wide, 0).judge(&key, &image, Some(&times));
        assert_eq!(format!("{:?}", verdict.row.unwrap()), "RowImage(vvvu, 3 bytes)");
    }

    #[test]
    fn bytes_are_shared_where_nothing_is_lost() {
        let image = RowImage::new(Bytes::from_static(b"x"), Box::new([Cell::value(0, 1)]));
        assert_eq!(without(&image, &[false]), image);
    }
}
