// SPDX-License-Identifier: Apache-2.0
//! Positions, rows and tables of the model database.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use highwater_core::image::{Cell, RowImage, RowImageBuilder};
use highwater_core::position::Position;
use highwater_core::schema::{Column, Key, TableId, TableName, TableSchema};
use highwater_core::value::{ColumnDecoder, ValueError, ValueType, ValueWriter};
use highwater_core::{Error, ErrorKind, Result};

use crate::model::database::Version;

/// A position in the model's log: the number of the record that ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelPosition(pub u64);

impl fmt::Display for ModelPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Position for ModelPosition {
    fn encode(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes
            .try_into()
            .map_err(|_| Error::new(ErrorKind::CorruptMessage, "a position has 8 bytes"))?;
        Ok(ModelPosition(u64::from_be_bytes(bytes)))
    }
}

/// A row without its key: `a` is another number with each write, `big` is left out of the log where it did not change,
/// and the rest are columns added later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRow {
    /// Cells behind the key, in the order of the columns; missing ones are NULL.
    pub cells: Vec<Option<u64>>,
}

/// Reads a cell of the model: a number as decimal text.
#[derive(Debug)]
struct NumberDecoder;

impl ColumnDecoder for NumberDecoder {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ValueError::new("a number is not text"))?;
        out.long(text.parse().map_err(|_| ValueError::new("a number is not decimal"))?);
        Ok(())
    }
}

/// The key of the row `id`.
pub fn key_of_id(id: u64) -> Key {
    Key::from_columns(&[Some(id.to_string())])
}

/// The row that a key names.
pub fn id_of_key(key: &Key) -> Option<u64> {
    let columns = key.columns()?;
    std::str::from_utf8((*columns.first()?)?).ok()?.parse().ok()
}

/// A table with all its shapes and every version of its rows.
#[derive(Debug, Clone)]
pub struct ModelTable {
    /// Its shapes, oldest first.
    pub shapes: Vec<Arc<TableSchema>>,
    /// Per row, its versions in commit order.
    pub rows: BTreeMap<u64, Vec<Version>>,
    /// Whether it still exists.
    pub dropped: bool,
}

impl ModelTable {
    /// An empty table of columns `id`, `a` and `big`.
    pub fn new(id: u64, name: TableName) -> Self {
        let shape = shape(id, &name, 0);
        ModelTable {
            shapes: vec![shape],
            rows: BTreeMap::new(),
            dropped: false,
        }
    }

    /// Its shape now.
    pub fn shape(&self) -> &Arc<TableSchema> {
        self.shapes.last().expect("invariant: a table has a shape")
    }

    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.shape().name
    }

    /// Adds a nullable column.
    pub fn add_column(&mut self) {
        let added = self.shapes.len();
        let next = shape(self.shape().id.0, self.name(), added);
        self.shapes.push(next);
    }
}

fn shape(id: u64, name: &TableName, added: usize) -> Arc<TableSchema> {
    let column = |name: String, nullable| Column {
        name,
        database_type: "bigint".to_owned(),
        value_type: ValueType::Int64,
        nullable,
        decoder: Arc::new(NumberDecoder),
    };
    let mut columns = vec![
        column("id".into(), false),
        column("a".into(), false),
        column("big".into(), false),
    ];
    columns.extend((1..=added).map(|number| column(format!("c{number}"), true)));
    Arc::new(TableSchema::new(TableId(id), name.clone(), columns, vec![0]))
}

/// A row's image in a shape; `big_unchanged` leaves that column out.
pub fn image(shape: &TableSchema, id: u64, row: &ModelRow, big_unchanged: bool) -> RowImage {
    let mut builder = RowImageBuilder::default();
    number(&mut builder, id);
    for at in 0..shape.columns.len().saturating_sub(1) {
        match row.cells.get(at).copied().flatten() {
            Some(_) if at == 1 && big_unchanged => builder.cell(Cell::UNCHANGED),
            Some(value) => number(&mut builder, value),
            None => builder.cell(Cell::NULL),
        }
    }
    builder.build()
}

/// An image of the key only.
pub fn key_image(shape: &TableSchema, id: u64) -> RowImage {
    let mut builder = RowImageBuilder::default();
    number(&mut builder, id);
    (1..shape.columns.len()).for_each(|_| builder.cell(Cell::ABSENT));
    builder.build()
}

fn number(builder: &mut RowImageBuilder, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    builder.value(&digits[at..]);
}

/// The number in a cell's bytes.
pub fn number_of(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
