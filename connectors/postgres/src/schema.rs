// SPDX-License-Identifier: Apache-2.0
//! From the catalogue's and the log's descriptions to core's [`TableSchema`].
//!
//! The log's relation message says which columns there are and of which type: it alone decides how rows are read. The
//! catalogue, which may be ahead of the log, adds what the message lacks: the order of key columns, type names and
//! nullability. Both a relation message and a chunk's own snapshot go through [`build`], so that an unchanged table has
//! one fingerprint whichever way it was seen.

use crate::protocol::pgoutput::{Relation, ReplicaIdentity};
use crate::values::{self, Carried, PgType, ValueForms};
use highwater_core::schema::{Column, TableId, TableName, TableSchema};
use highwater_core::{Error, ErrorKind, Result, Scope};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A published table as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// The relation's object id.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// How rows are identified in the log.
    pub replica_identity: ReplicaIdentity,
    /// The publication's row filter, as SQL.
    pub row_filter: Option<String>,
    /// Published columns, in the table's order.
    pub columns: Vec<ShapeColumn>,
    /// How many columns the primary key has, published or not.
    pub primary_key_columns: usize,
    /// How many columns the replica identity's index has, published or not.
    pub identity_columns: usize,
    /// Whether its rows lie in partitions.
    pub partitioned: bool,
}

/// A published column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeColumn {
    /// Its name.
    pub name: String,
    /// The type's object id.
    pub type_oid: u32,
    /// The type modifier, -1 for none.
    pub type_modifier: i32,
    /// Whether NULL may occur.
    pub nullable: bool,
    /// The type as SQL writes it: `numeric(12,2)`.
    pub database_type: String,
    /// Its place in the primary key, from 0.
    pub primary_key_place: Option<usize>,
    /// Its place in the replica identity's index, from 0.
    pub identity_place: Option<usize>,
    /// Whether the server has no binary form of its type and sends text; false until [`note_text_columns`].
    pub sent_as_text: bool,
}

/// Notes which columns come as text.
pub fn note_text_columns(columns: &mut [ShapeColumn], types: &BTreeMap<u32, PgType>) {
    for column in columns {
        let of = types.get(&column.type_oid);
        column.sent_as_text = of.is_some_and(|of| of.sent_as_text().is_some());
    }
}

impl TableShape {
    /// The columns (by index) that are the key: the replica identity's index where one is chosen, else the primary key.
    /// Empty where there is none or where the publication leaves out a part of it.
    pub fn key(&self) -> Vec<usize> {
        let (count, place): (usize, fn(&ShapeColumn) -> Option<usize>) = match self.replica_identity {
            ReplicaIdentity::Index => (self.identity_columns, |column| column.identity_place),
            _ => (self.primary_key_columns, |column| column.primary_key_place),
        };
        let mut key: Vec<(usize, usize)> = self
            .columns
            .iter()
            .enumerate()
            .filter_map(|(index, column)| Some((place(column)?, index)))
            .filter(|(place, _)| *place < count)
            .collect();
        key.sort_unstable();
        if key.len() == count {
            key.into_iter().map(|(_, index)| index).collect()
        } else {
            Vec::new()
        }
    }

    /// The core schema, if every column's type is carried.
    pub fn schema(&self, types: &BTreeMap<u32, PgType>, forms: &ValueForms) -> Result<Arc<TableSchema>> {
        build(self.oid, &self.name, &self.columns, self.key(), types, forms)
    }

    /// The shape that a relation message gives, with what the catalogue (`self`) adds to it.
    pub fn of_relation(relation: &Relation, catalogued: Option<&Self>) -> (Vec<ShapeColumn>, Vec<usize>) {
        let columns = relation.columns.iter().map(|column| {
            let known = catalogued.and_then(|shape| {
                let same = |known: &&ShapeColumn| {
                    known.name == column.name
                        && known.type_oid == column.type_oid
                        && known.type_modifier == column.type_modifier
                };
                shape.columns.iter().find(same)
            });
            known.cloned().unwrap_or_else(|| ShapeColumn {
                name: column.name.clone(),
                type_oid: column.type_oid,
                type_modifier: column.type_modifier,
                nullable: true,
                database_type: String::new(),
                primary_key_place: None,
                identity_place: None,
                sent_as_text: false,
            })
        });
        let columns = columns.collect();
        (columns, relation_key(relation, catalogued))
    }
}

/// The key of a relation message: the columns that it flags, in the order that the catalogue's key has if it is made of
/// the same columns. With REPLICA IDENTITY FULL every column is flagged, so there the catalogue's key counts.
fn relation_key(relation: &Relation, catalogued: Option<&TableShape>) -> Vec<usize> {
    let place_of = |name: &str| relation.columns.iter().position(|column| column.name == name);
    let catalogued_key: Option<Vec<usize>> = catalogued.map(|shape| {
        let names = shape.key().into_iter().filter_map(|index| shape.columns.get(index));
        let places: Option<Vec<usize>> = names.map(|column| place_of(&column.name)).collect();
        places.unwrap_or_default()
    });
    match relation.replica_identity {
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => catalogued_key.unwrap_or_default(),
        ReplicaIdentity::Default | ReplicaIdentity::Index => {
            let flagged = relation
                .columns
                .iter()
                .enumerate()
                .filter(|(_, column)| column.identity);
            let flagged: Vec<usize> = flagged.map(|(index, _)| index).collect();
            let mut sorted = catalogued_key.clone().unwrap_or_default();
            sorted.sort_unstable();
            match catalogued_key {
                Some(key) if sorted == flagged => key,
                _ => flagged,
            }
        }
    }
}

/// Builds the core schema. A type that is not carried is an error that names table, column and type.
pub fn build(
    oid: u32,
    name: &TableName,
    columns: &[ShapeColumn],
    key: Vec<usize>,
    types: &BTreeMap<u32, PgType>,
    forms: &ValueForms,
) -> Result<Arc<TableSchema>> {
    let columns = columns.iter().enumerate().map(|(index, column)| {
        let carried = carried(name, column, types, forms).map_err(|reason| refused(name, column, &reason))?;
        Ok(Column {
            name: column.name.clone(),
            database_type: column.database_type.clone(),
            value_type: carried.value_type,
            // A key's columns are never NULL; a catalogue that is ahead of the log must not say otherwise.
            nullable: column.nullable && !key.contains(&index),
            decoder: carried.decoder,
        })
    });
    let columns: Vec<Column> = columns.collect::<Result<_>>()?;
    Ok(Arc::new(TableSchema::new(
        TableId(u64::from(oid)),
        name.clone(),
        columns,
        key,
    )))
}

/// How a column's values are carried; else the reason why they are not.
pub(crate) fn carried(
    table: &TableName,
    column: &ShapeColumn,
    types: &BTreeMap<u32, PgType>,
    forms: &ValueForms,
) -> std::result::Result<Carried, String> {
    let Some(of) = types.get(&column.type_oid) else {
        return Err(format!("the type with object id {} no longer exists", column.type_oid));
    };
    let carried = if forms.column_as_text(table, &column.name) {
        values::resolve_text(of)
    } else {
        values::resolve(of, column.type_modifier, forms)
    };
    carried.map_err(|refused| refused.reason)
}

fn refused(table: &TableName, column: &ShapeColumn, reason: &str) -> Error {
    let what = format!(
        "column \"{}\" of table {table} has type {}: {reason}",
        column.name, column.database_type
    );
    Error::new(ErrorKind::UnsupportedValue, what)
        .with_scope(Scope::Table)
        .with_fix(
            "leave the column out with a column list in the publication, or exclude the table in `tables.exclude`",
        )
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
