// SPDX-License-Identifier: Apache-2.0
//! Tables, columns and keys.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::image::{CellRef, RowImage};
use crate::value::{ColumnDecoder, ValueType};

/// The connector's own number for a table, stable for a run and across restarts (Postgres: the relation's oid).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId(pub u64);

/// The table's part of the name of a source's messages, whose schema is empty: see [`TableSchema::messages`].
pub const MESSAGES: &str = "message";

/// A table's qualified name, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// Schema (Postgres), database (MySQL), keyspace (Cassandra).
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// A name from its parts.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        TableName {
            schema: schema.into(),
            table: table.into(),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema.is_empty() {
            return f.write_str(&self.table);
        }
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// What the events of a [`TableSchema`] are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    /// Rows of a table.
    Table,
    /// Messages that programs write into the source's log.
    Messages,
}

/// Identifies a table's shape: equal fingerprints mean that rows are read and written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SchemaFingerprint(pub u64);

/// One column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Name, unquoted.
    pub name: String,
    /// The database's own type name with its modifiers, for people: `numeric(12,2)`.
    pub database_type: String,
    /// What the decoder writes.
    pub value_type: ValueType,
    /// Whether NULL may occur, as far as the catalogue knows.
    pub nullable: bool,
    /// Reads the column's bytes.
    pub decoder: Arc<dyn ColumnDecoder>,
}

/// A table's shape at one point of its log. Row images have their cells in the order of `columns`.
#[derive(Debug, Clone)]
pub struct TableSchema {
    /// The connector's number for the table.
    pub id: TableId,
    /// The table's name.
    pub name: TableName,
    /// Columns in the log's order.
    pub columns: Vec<Column>,
    /// Indices into `columns` of the primary key (or of the index that stands in for it), in key order. Empty: no key.
    pub key: Vec<usize>,
    /// What its events are about.
    pub kind: SchemaKind,
    fingerprint: SchemaFingerprint,
}

impl TableSchema {
    /// A schema; its fingerprint covers name, key, and each column's name, database type, meaning and nullability.
    pub fn new(id: TableId, name: TableName, columns: Vec<Column>, key: Vec<usize>) -> Self {
        let mut hash = Fnv::default();
        hash.text(&name.schema);
        hash.text(&name.table);
        for column in &columns {
            hash.text(&column.name);
            hash.text(&column.database_type);
            hash.text(&format!("{:?}", column.value_type));
            hash.octets(&[u8::from(column.nullable)]);
        }
        for index in &key {
            hash.octets(&(*index as u64).to_be_bytes());
        }
        TableSchema {
            id,
            name,
            columns,
            key,
            kind: SchemaKind::Table,
            fingerprint: SchemaFingerprint(hash.0),
        }
    }

    /// The shape of the messages in a source's log: a prefix, which says whose they are and is their key, and a content.
    /// A source has one stream of them, of no table.
    pub fn messages(prefix: Arc<dyn ColumnDecoder>, content: Arc<dyn ColumnDecoder>) -> Self {
        let column = |name: &str, value_type, decoder| Column {
            name: name.to_owned(),
            database_type: String::new(),
            value_type,
            nullable: true,
            decoder,
        };
        let columns = vec![
            column("prefix", ValueType::String, prefix),
            column("content", ValueType::Bytes, content),
        ];
        TableSchema {
            kind: SchemaKind::Messages,
            ..TableSchema::new(TableId(u64::MAX), TableName::new("", MESSAGES), columns, vec![0])
        }
    }

    /// The shape's fingerprint.
    pub fn fingerprint(&self) -> SchemaFingerprint {
        self.fingerprint
    }

    /// The key of a row, or `None` when the table has no key or the image lacks a key column.
    pub fn key_of(&self, image: &RowImage) -> Option<Key> {
        if self.key.is_empty() {
            return None;
        }
        let mut bytes = BytesMut::with_capacity(self.key.len() * 12);
        for &index in &self.key {
            match image.cell(index) {
                CellRef::Value(value) => {
                    bytes.put_u32(value.len() as u32);
                    bytes.put_slice(value);
                }
                CellRef::Null => bytes.put_u32(u32::MAX),
                CellRef::Absent | CellRef::Unchanged => return None,
            }
        }
        Some(Key(bytes.freeze()))
    }

    /// What tells a row of a table without a key from others: all of it, in the form of a key. Rows that are equal are not
    /// told apart. `None` where the image lacks a column.
    pub fn whole_of(&self, image: &RowImage) -> Option<Key> {
        let mut values = Vec::with_capacity(self.columns.len());
        for index in 0..self.columns.len() {
            match image.cell(index) {
                CellRef::Value(value) => values.push(Some(value)),
                CellRef::Null => values.push(None),
                CellRef::Absent | CellRef::Unchanged => return None,
            }
        }
        Some(Key::from_columns(&values))
    }

    /// What a row is known by: its key, or the whole of it in a table without one.
    pub fn identity_of(&self, image: &RowImage) -> Option<Key> {
        if self.key.is_empty() {
            self.whole_of(image)
        } else {
            self.key_of(image)
        }
    }
}

/// A primary key as canonical bytes: per key column its length (big-endian u32, `u32::MAX` for NULL) and its bytes.
/// Compared for equality only: the server's collations order differently.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(Bytes);

impl Key {
    /// A key from its columns' database bytes.
    pub fn from_columns<V: AsRef<[u8]>>(values: &[Option<V>]) -> Self {
        let mut bytes = BytesMut::new();
        for value in values {
            match value {
                Some(value) => {
                    bytes.put_u32(value.as_ref().len() as u32);
                    bytes.put_slice(value.as_ref());
                }
                None => bytes.put_u32(u32::MAX),
            }
        }
        Key(bytes.freeze())
    }

    /// A key from bytes that [`Key::as_bytes`] gave.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Key(bytes)
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The columns' database bytes; `None` (the whole) when the bytes are not a key.
    pub fn columns(&self) -> Option<Vec<Option<&[u8]>>> {
        let mut rest: &[u8] = &self.0;
        let mut columns = Vec::new();
        while !rest.is_empty() {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            match u32::from_be_bytes(*length) {
                u32::MAX => {
                    columns.push(None);
                    rest = tail;
                }
                length => {
                    let (value, tail) = tail.split_at_checked(length as usize)?;
                    columns.push(Some(value));
                    rest = tail;
                }
            }
        }
        Some(columns)
    }
}

impl fmt::Debug for Key {
    /// Length only: keys never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// FNV-1a, 64 bits: stable across releases and platforms, which `std`'s hasher does not promise.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn octets(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = (self.0 ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn text(&mut self, text: &str) {
        self.octets(&(text.len() as u64).to_be_bytes());
        self.octets(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn key_columns_read_back_what_was_put_in(values: Vec<Option<Vec<u8>>>) {
            let key = Key::from_columns(&values);
            let read: Vec<Option<Vec<u8>>> =
                key.columns().expect("a key").into_iter().map(|value| value.map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = Key::from_bytes(bytes.into()).columns();
        }
    }
}
