// SPDX-License-Identifier: Apache-2.0
//! The `source` block of events, in the words that consumers of Debezium's Postgres connector know.

use crate::position::{NO_TRANSACTION, PgPosition};
use highwater_core::change::{Capture, Change, Op};
use highwater_core::source_block::{SourceBlock, SourceField};
use highwater_core::value::{ValueType, ValueWriter};

const fn field(name: &'static str, value_type: ValueType, optional: bool) -> SourceField {
    SourceField {
        name,
        value_type,
        optional,
    }
}

/// In the order in which they are written.
static FIELDS: [SourceField; 7] = [
    field("schema", ValueType::String, false),
    field("table", ValueType::String, false),
    field("txId", ValueType::Int64, true),
    field("lsn", ValueType::Int64, true),
    field("xmin", ValueType::Int64, true),
    field("origin", ValueType::String, true),
    field("origin_lsn", ValueType::Int64, true),
];

/// The block of one database.
#[derive(Debug, Clone)]
pub struct PgSourceBlock {
    database: String,
}

impl PgSourceBlock {
    /// The block of events from `database`.
    pub fn new(database: impl Into<String>) -> Self {
        Self {
            database: database.into(),
        }
    }
}

/// Appends a number in decimal. Each event of the log has two: the machinery of `write!` would cost as much as a column.
fn push_decimal(number: u64, out: &mut String) {
    let mut digits = [0; 20];
    let mut rest = number;
    let mut first = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        first = place;
        if rest == 0 {
            break;
        }
    }
    let text = digits.get(first..).and_then(|digits| std::str::from_utf8(digits).ok());
    out.push_str(text.unwrap_or_default());
}

impl SourceBlock<PgPosition> for PgSourceBlock {
    fn connector(&self) -> &'static str {
        "postgresql"
    }

    fn record_name(&self) -> &'static str {
        "io.debezium.connector.postgresql.Source"
    }

    fn database<'a>(&'a self, _: &'a Change<PgPosition>) -> &'a str {
        &self.database
    }

    /// Commit position and the change's own, as decimal numbers: ascending as a pair, which the change's own is not.
    fn sequence(&self, change: &Change<PgPosition>, out: &mut String) -> bool {
        if change.capture != Capture::Log {
            return false;
        }
        out.push_str("[\"");
        push_decimal(change.commit.0.0, out);
        out.push_str("\",\"");
        push_decimal(change.position.0.0, out);
        out.push_str("\"]");
        true
    }

    fn fields(&self) -> &[SourceField] {
        &FIELDS
    }

    fn write(&self, change: &Change<PgPosition>, out: &mut dyn ValueWriter) {
        out.string(&change.schema.name.schema);
        // A message is of no table.
        out.string(match change.op {
            Op::Message => "",
            _ => &change.schema.name.table,
        });
        if change.capture == Capture::Log {
            // Both fit: the server's counters are far from 63 bits.
            match change.transaction {
                NO_TRANSACTION => out.null(),
                transaction => out.long(transaction.0 as i64),
            }
            out.long(change.position.0.0 as i64);
        } else {
            // A row that was read belongs to no transaction of the log.
            out.null();
            out.null();
        }
        // Of rows as the log has them, no snapshot's horizon is known.
        out.null();
        match &change.origin {
            Some(origin) => {
                out.string(&origin.name);
                match origin.position {
                    Some(position) => out.long(position.0.0 as i64),
                    None => out.null(),
                }
            }
            None => {
                out.null();
                out.null();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::Calls;
    use crate::protocol::Lsn;
    use highwater_core::change::{ChangeOrigin, ChangeVersion, ChunkId};
    use highwater_core::position::TransactionId;
    use highwater_core::schema::{TableId, TableName, TableSchema};
    use std::sync::Arc;

    fn change(capture: Capture) -> Change<PgPosition> {
        Change {
            schema: Arc::new(TableSchema::new(
                TableId(1),
                TableName::new("public", "movies"),
                Vec::new(),
                Vec::new(),
            )),
            op: Op::Create,
            before: None,
            after: None,
            position: PgPosition(Lsn(17)),
            commit: PgPosition(Lsn(40)),
            transaction: TransactionId(9),
            ordinal: 1,
            source_time_us: 0,
            version: ChangeVersion::InOrder,
            capture,
            origin: None,
        }
    }

    #[test]
    fn every_field_is_written_once_whatever_the_capture() {
        let block = PgSourceBlock::new("catalogue");
        for capture in [Capture::Log, Capture::Chunk(ChunkId(1)), Capture::Repair(ChunkId(1))] {
            let mut calls = Calls::default();
            block.write(&change(capture), &mut calls);
            assert_eq!(calls.count(), block.fields().len());
        }
        for position in [None, Some(PgPosition(Lsn(7)))] {
            let name = "upstream".into();
            let mut of_elsewhere = change(Capture::Log);
            of_elsewhere.origin = Some(Arc::new(ChangeOrigin { name, position }));
            let mut calls = Calls::default();
            block.write(&of_elsewhere, &mut calls);
            assert_eq!(calls.count(), block.fields().len());
        }
    }

    #[test]
    fn only_changes_of_the_log_have_a_sequence() {
        let block = PgSourceBlock::new("catalogue");
        let mut text = String::new();
        assert!(block.sequence(&change(Capture::Log), &mut text));
        assert_eq!(text, "[\"40\",\"17\"]");
        assert!(!block.sequence(&change(Capture::Chunk(ChunkId(1))), &mut text));
        assert_eq!(block.database(&change(Capture::Log)), "catalogue");
    }
    #[test]
    fn numbers_of_every_length_are_written_as_the_standard_library_does() {
        for number in (0..64)
            .flat_map(|shift| [(1_u64 << shift) - 1, 1 << shift])
            .chain([u64::MAX])
        {
            let mut text = String::new();
            push_decimal(number, &mut text);
            assert_eq!(text, number.to_string());
        }
    }
}
