// SPDX-License-Identifier: Apache-2.0
//! The SELECT of a chunk: text and parameters.

use super::split::Sample;
use crate::protocol::quoting::{quote_identifier, quote_qualified};
use crate::schema::{ShapeColumn, TableShape};
use bytes::BytesMut;
use highwater_core::connector::ChunkScope;
use highwater_core::schema::{Key, TableSchema};
use highwater_core::{Error, ErrorKind, Result};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use std::io;
use std::sync::Arc;

/// The most parameters of one statement; the protocol counts them in 16 bits.
const PARAMETERS_MAX: usize = 30_000;
/// The most keys of one statement: longer lists make the server plan for long.
const KEYS_MAX: usize = 500;

/// The object id of `text`.
const TEXT_OID: u32 = 25;

/// A statement with binary parameters and binary results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Select {
    sql: String,
    parameters: Vec<(u32, Vec<u8>)>,
}

impl Select {
    /// Appends Parse and Bind.
    pub(super) fn put(&self, out: &mut BytesMut) -> io::Result<()> {
        frontend::parse("", &self.sql, self.parameters.iter().map(|(oid, _)| *oid), out)?;
        let bound = frontend::bind(
            "",
            "",
            [1],
            &self.parameters,
            |(_, value), buffer| {
                buffer.extend_from_slice(value);
                Ok(IsNull::No)
            },
            [1],
            out,
        );
        bound.map_err(|_| io::Error::other("parameters too long for one message"))
    }

    /// Adds a parameter and returns its place in the text. One of a type without a binary form is sent as text.
    fn parameter(&mut self, column: &ShapeColumn, value: &[u8]) -> String {
        let oid = if column.sent_as_text { TEXT_OID } else { column.type_oid };
        self.parameters.push((oid, value.to_vec()));
        let place = self.parameters.len();
        if column.sent_as_text {
            format!("CAST(${place} AS {})", column.database_type)
        } else {
            format!("${place}")
        }
    }

    /// Adds a key's columns and returns `($1,$2)`.
    fn key(&mut self, shape: &TableShape, schema: &TableSchema, key: &Key) -> Result<String> {
        let values = key
            .columns()
            .filter(|values| values.len() == schema.key.len())
            .ok_or_else(foreign_key)?;
        let mut places = Vec::with_capacity(values.len());
        for (index, value) in schema.key.iter().zip(values) {
            let column = shape.columns.get(*index).ok_or_else(foreign_key)?;
            places.push(self.parameter(column, value.ok_or_else(foreign_key)?));
        }
        Ok(format!("({})", places.join(",")))
    }
}

/// A key that a checkpoint or a request holds and that does not fit the table's key as it is now.
fn foreign_key() -> Error {
    Error::new(
        ErrorKind::Unsuitable,
        "a key does not fit the table's key: was the primary key changed?",
    )
    .with_fix("take a new snapshot of the table")
}

/// The statements of a scope: one for a range, as many as needed for keys.
pub(super) fn of_scope(
    shape: &TableShape,
    schema: &TableSchema,
    scope: &ChunkScope,
    rows_max: u32,
) -> Result<Vec<Select>> {
    match scope {
        ChunkScope::Range {
            after,
            through,
            condition,
        } => {
            let mut select = empty();
            let mut conditions = Vec::new();
            let key = key_list(schema);
            if let Some(after) = after {
                let place = select.key(shape, schema, after)?;
                conditions.push(format!("({key}) > {place}"));
            }
            if let Some(through) = through {
                let place = select.key(shape, schema, through)?;
                conditions.push(format!("({key}) <= {place}"));
            }
            conditions.extend(condition.as_deref().map(parenthesised));
            select.sql = statement(shape, schema, conditions, Some(rows_max));
            Ok(vec![select])
        }
        ChunkScope::Keys(keys) => {
            let per_statement = KEYS_MAX.min(PARAMETERS_MAX / schema.key.len().max(1)).max(1);
            keys.chunks(per_statement)
                .map(|keys| of_keys(shape, schema, keys))
                .collect()
        }
    }
}

/// The statement that reads rows by where they lie.
pub(super) fn of_places(shape: &TableShape, schema: &TableSchema, conditions: Vec<String>) -> Select {
    Select {
        sql: statement(shape, schema, conditions, None),
        parameters: Vec::new(),
    }
}

fn of_keys(shape: &TableShape, schema: &TableSchema, keys: &[Key]) -> Result<Select> {
    let mut select = empty();
    let places: Vec<String> = keys
        .iter()
        .map(|key| select.key(shape, schema, key))
        .collect::<Result<_>>()?;
    let condition = format!("({}) IN ({})", key_list(schema), places.join(","));
    select.sql = statement(shape, schema, vec![condition], None);
    Ok(select)
}

/// A statement that samples keys, and the schema of its rows.
pub(super) fn of_sample(
    shape: &TableShape,
    schema: &TableSchema,
    sample: &Sample,
) -> Result<(Select, Arc<TableSchema>)> {
    let columns: Option<Vec<_>> = schema
        .key
        .iter()
        .map(|index| schema.columns.get(*index).cloned())
        .collect();
    let columns = columns.ok_or_else(foreign_key)?;
    let key = key_list(schema);
    let selected = schema.key.iter().filter_map(|index| shape.columns.get(*index));
    let selected = selected.map(selected_column).collect::<Vec<_>>().join(",");
    let filter = shape
        .row_filter
        .as_deref()
        .map_or(String::new(), |filter| format!(" AND {}", parenthesised(filter)));
    let percent = (sample.pages_share * 100.0).clamp(0.000_1, 100.0);
    let sql = format!(
        "SELECT {selected} FROM {} TABLESAMPLE SYSTEM ({percent:.4}) WHERE random() <= {:.6}{filter} ORDER BY {key} LIMIT {}",
        read_from(shape),
        sample.rows_share,
        sample.rows_max
    );
    let keys = (0..columns.len()).collect();
    let sampled = TableSchema::new(schema.id, schema.name.clone(), columns, keys);
    Ok((
        Select {
            sql,
            parameters: Vec::new(),
        },
        Arc::new(sampled),
    ))
}

fn empty() -> Select {
    Select {
        sql: String::new(),
        parameters: Vec::new(),
    }
}

/// What the log filters, the chunk filters: the published columns, and the publication's row filter.
fn statement(shape: &TableShape, schema: &TableSchema, mut conditions: Vec<String>, limit: Option<u32>) -> String {
    conditions.extend(shape.row_filter.as_deref().map(parenthesised));
    let columns: Vec<String> = shape.columns.iter().map(selected_column).collect();
    let mut sql = format!("SELECT {} FROM {}", columns.join(","), read_from(shape));
    if !conditions.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&conditions.join(" AND "));
    }
    if !schema.key.is_empty() {
        sql.push_str(" ORDER BY ");
        sql.push_str(&key_list(schema));
    }
    if let Some(limit) = limit {
        sql.push_str(&format!(" LIMIT {limit}"));
    }
    sql
}

/// The table, without the tables that inherit from it: their rows are theirs in the log, too.
fn read_from(shape: &TableShape) -> String {
    let name = quote_qualified(&shape.name.schema, &shape.name.table);
    if shape.partitioned {
        name
    } else {
        format!("ONLY {name}")
    }
}

/// The published columns as they are, for a look at what they are now.
pub(super) fn of_columns(shape: &TableShape) -> String {
    let names = shape.columns.iter().map(|column| quote_identifier(&column.name));
    let table = quote_qualified(&shape.name.schema, &shape.name.table);
    format!("SELECT {} FROM {table}", names.collect::<Vec<_>>().join(","))
}

/// A column as it is asked for: its text where its type has no binary form, as the log brings it. The text has a name
/// that no ORDER BY means.
fn selected_column(column: &ShapeColumn) -> String {
    let name = quote_identifier(&column.name);
    if column.sent_as_text {
        format!("CAST({name} AS text) AS \"text of {{column}}\"")
    } else {
        name
    }
}

/// On lines of its own, so that a comment at the end of a condition comments nothing else out.
pub(super) fn parenthesised(condition: &str) -> String {
    format!("(\n{condition}\n)")
}

fn key_list(schema: &TableSchema) -> String {
    let names = schema.key.iter().filter_map(|index| schema.columns.get(*index));
    names
        .map(|column| quote_identifier(&column.name))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
