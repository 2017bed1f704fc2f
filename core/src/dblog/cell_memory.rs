// SPDX-License-Identifier: Apache-2.0
//! What a `Version` engine remembers of the log while a table is copied: per key and cell the newest write time, and
//! deletions with theirs.
//!
//! A chunk's cell leaves only if nothing newer of it has left already. Ties go to the deletion, as in the database. A
//! cell without a write time cannot be compared: it loses to whatever the log said of it, and its key is read again; in
//! that second read only what the log said *after* the read was asked for counts, or no such key would ever settle.

use std::sync::Arc;

use crate::change::{Change, ChangeVersion, DeletionScope};
use crate::dblog::window::KeyMap;
use crate::image::{Cell, CellRef, RowImage, RowImageBuilder};
use crate::schema::{Key, TableSchema};

#[derive(Debug, Clone)]
struct CellNews {
    times: Vec<Option<i64>>,
    seen_at: u64,
}

#[derive(Debug, Clone)]
struct Deletion {
    scope: DeletionScope,
    key: Option<Key>,
    at: i64,
    seen_at: u64,
}

impl Deletion {
    fn covers(&self, key: &Key) -> bool {
        match &self.scope {
            DeletionScope::Row => self.key.as_ref() == Some(key),
            DeletionScope::Partition(partition) => key.as_bytes().starts_with(partition.as_bytes()),
            DeletionScope::Range {
                partition,
                from,
                through,
            } => key
                .as_bytes()
                .strip_prefix(partition.as_bytes())
                .is_some_and(|clustering| {
                    clustering >= from.as_slice()
                        && (clustering <= through.as_slice() || clustering.starts_with(through))
                }),
        }
    }
}

/// What becomes of a chunk's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What may leave; lost cells read as unchanged.
    pub row: Option<RowImage>,
    /// Whether the key is to be read again.
    pub read_again: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CellMemory {
    keys: KeyMap<CellNews>,
    deletions: Vec<Deletion>,
}

impl CellMemory {
    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.deletions.len()
    }

    /// Takes in a log event, the `seen_at`th.
    pub(super) fn record<P>(&mut self, change: &Change<P>, seen_at: u64) {
        match &change.version {
            ChangeVersion::Deletion { scope, at } => {
                self.deletions.push(Deletion {
                    scope: DeletionScope::clone(scope),
                    key: change.key(),
                    at: *at,
                    seen_at,
                });
            }
            ChangeVersion::Cells(times) => {
                if let Some(key) = change.key() {
                    self.record_cells(key, times, seen_at);
                }
            }
            // Without a write time it cannot be compared: it wins over any chunk.
            ChangeVersion::InOrder | ChangeVersion::At(_) => {
                if let Some(key) = change.key() {
                    let times = vec![Some(i64::MAX); change.schema.columns.len()];
                    self.record_cells(key, &times, seen_at);
                }
            }
        }
    }

    fn record_cells(&mut self, key: Key, times: &[Option<i64>], seen_at: u64) {
        let news = self.keys.entry(key).or_insert_with(|| CellNews {
            times: Vec::new(),
            seen_at,
        });
        news.seen_at = seen_at;
        if news.times.len() < times.len() {
            news.times.resize(times.len(), None);
        }
        for (known, time) in news.times.iter_mut().zip(times) {
            *known = (*known).max(*time);
        }
    }

    /// Judges a chunk's row. `since`: what the log said up to then does not count against cells without a write time.
    pub(super) fn judge(
        &self,
        schema: &TableSchema,
        key: &Key,
        row: &RowImage,
        versions: Option<&Arc<[Option<i64>]>>,
        since: u64,
    ) -> Verdict {
        let news = self.keys.get(key);
        let covering: Vec<&Deletion> = self.deletions.iter().filter(|deletion| deletion.covers(key)).collect();
        if news.is_none() && covering.is_empty() {
            return Verdict {
                row: Some(row.clone()),
                read_again: false,
            };
        }
        let deleted_at = covering.iter().map(|deletion| deletion.at).max();
        let deleted_since = covering.iter().any(|deletion| deletion.seen_at > since);
        let touched_since = news.is_some_and(|news| news.seen_at > since);
        let mut lost = vec![false; row.len()];
        let mut read_again = false;
        for (at, lost) in lost.iter_mut().enumerate() {
            if schema.key.contains(&at) {
                continue;
            }
            let logged = news.and_then(|news| news.times.get(at).copied().flatten());
            match versions.and_then(|versions| versions.get(at).copied().flatten()) {
                Some(time) => {
                    *lost = logged.is_some_and(|logged| logged > time) || deleted_at.is_some_and(|at| at >= time)
                }
                None => {
                    *lost = (logged.is_some() && touched_since) || deleted_since;
                    read_again |= *lost;
                }
            }
        }
        // The row itself may be gone: nothing in it is proven to be newer than the deletion.
        let key_alive = schema.key.iter().any(|&at| {
            let time = versions.and_then(|versions| versions.get(at).copied().flatten());
            time.is_some_and(|time| deleted_at.is_none_or(|deleted| time > deleted))
        });
        let values = |at: &usize| !schema.key.contains(at);
        let alive = (0..row.len())
            .filter(values)
            .any(|at| !lost[at] && !matches!(row.cell(at), CellRef::Null));
        if !alive && deleted_at.is_some() && !key_alive {
            return Verdict {
                row: None,
                read_again: read_again || deleted_since,
            };
        }
        if read_again {
            return Verdict { row: None, read_again };
        }
        Verdict {
            row: Some(without(row, &lost)),
            read_again,
        }
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
    use crate::change::{Capture, Op};
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
        }
    }

    /// What is left of a row whose cells were written at 10 and 30.
    fn left(memory: &CellMemory, partition: &str, clustering: &str) -> Option<String> {
        let (schema, row) = (schema(), row(partition, clustering));
        let times: Arc<[Option<i64>]> = vec![None, None, Some(10), Some(30)].into();
        let key = schema.key_of(&row).unwrap();
        let verdict = memory.judge(&schema, &key, &row, Some(&times), 0);
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
        let judge = |since| memory.judge(&schema, &key, &image, Some(&times), since);
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
    fn bytes_are_shared_where_nothing_is_lost() {
        let image = RowImage::new(Bytes::from_static(b"x"), Box::new([Cell::value(0, 1)]));
        assert_eq!(without(&image, &[false]), image);
    }
}
