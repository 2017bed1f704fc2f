// SPDX-License-Identifier: Apache-2.0
//! Why a record could not be written, for people.

use highwater_core::schema::TableSchema;
use highwater_core::{Error, ErrorKind, Scope};

use super::plan::Fail;

/// Names the table and the column, and what mends it.
pub(super) fn explain(schema: &TableSchema, fail: Fail) -> Error {
    let table = &schema.name;
    let column = |index: usize| schema.columns.get(index).map_or("?", |column| column.name.as_str());
    let unsupported = |message: String| Error::new(ErrorKind::UnsupportedValue, message).with_scope(Scope::Table);
    match fail {
        Fail::Value(index, error) => unsupported(format!(
            "table {table}: a value of column {:?} cannot be carried: {}",
            column(index),
            error.reason
        ))
        .with(
            "type",
            schema
                .columns
                .get(index)
                .map_or("?", |column| column.database_type.as_str()),
        )
        .with_fix("correct the value in the database, or leave the column out of the capture"),
        Fail::KeyLacks(index) => unsupported(format!(
            "table {table}: a change lacks column {:?} of the key",
            column(index)
        ))
        .with_fix("let the log carry the key: on Postgres, ALTER TABLE … REPLICA IDENTITY FULL"),
        Fail::KeyNull(index) | Fail::Null(index) => unsupported(format!(
            "table {table}: column {:?} of the key holds NULL",
            column(index)
        ))
        .with_fix("give the table a key whose columns are NOT NULL"),
        Fail::BeforeMissing => unsupported(format!("table {table}: a delete does not say which row it deleted"))
            .with_fix("let the log carry the key: on Postgres, ALTER TABLE … REPLICA IDENTITY FULL"),
        Fail::DeletionScope => unsupported(format!(
            "table {table}: a deletion of a partition or range has no form in the Debezium envelope"
        ))
        .with_fix("delete row by row, or leave the table out of the capture"),
        Fail::Kind => Error::bug(format!(
            "{table}: a message and the change of a row were taken for each other"
        )),
        Fail::AfterMissing => Error::bug(format!("table {table}: a change that is no delete has no row after it")),
        Fail::Decoder(index) => Error::bug(format!(
            "table {table}: the decoder of column {:?} did not write one value of its type",
            column(index)
        )),
        Fail::Source => Error::bug(format!("table {table}: the source block did not write its fields")),
    }
}
