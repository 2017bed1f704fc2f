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

/// The cell of column `big`.
pub const BIG: usize = 1;

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

/// Rows of a partition, in tables that have partitions.
pub const PARTITION_ROWS: u64 = 3;

/// The key of the row `id` of a table without partitions.
pub fn key_of_id(id: u64) -> Key {
    Key::from_columns(&[Some(id.to_string())])
}

/// The row that a key names: by its number, or by partition and place.
pub fn id_of_key(key: &Key) -> Option<u64> {
    let columns = key.columns()?;
    let number = |at: usize| number_of((*columns.get(at)?)?);
    match columns.len() {
        1 => number(0),
        _ => Some(number(0)? * PARTITION_ROWS + number(1)?),
    }
}

/// A table with all its shapes and every version of its rows.
#[derive(Debug, Clone)]
pub struct ModelTable {
    /// Its shapes, oldest first.
    pub shapes: Vec<Arc<TableSchema>>,
    /// Where in the log each of them came to be.
    pub shaped_at: Vec<u64>,
    /// Per row, its versions in commit order.
    pub rows: BTreeMap<u64, Vec<Version>>,
    /// Whether it still exists.
    pub dropped: bool,
}

impl ModelTable {
    /// An empty table of columns `id`, `a` and `big`.
    pub fn new(id: u64, name: TableName) -> Self {
        Self::of(shape(id, &name, 0))
    }

    /// An empty table whose key is partition `p` and place `c`, behind the columns: with each column that is added, all
    /// others are at other places.
    pub fn partitioned(id: u64, name: TableName) -> Self {
        Self::of(behind_its_cells(&shape(id, &name, 0)))
    }

    fn of(shape: Arc<TableSchema>) -> Self {
        ModelTable {
            shapes: vec![shape],
            shaped_at: vec![0],
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

    /// Its shape at a position of the log.
    pub fn shape_at(&self, position: u64) -> &Arc<TableSchema> {
        let later = self.shaped_at.partition_point(|at| *at <= position);
        self.shapes.get(later.saturating_sub(1)).unwrap_or(self.shape())
    }

    /// Adds a nullable column, by the log's record that ends at `position`.
    pub fn add_column(&mut self, position: u64) {
        let added = self.shapes.len();
        let next = shape(self.shape().id.0, self.name(), added);
        let is_partitioned = self.shape().key.len() > 1;
        self.shapes
            .push(if is_partitioned { behind_its_cells(&next) } else { next });
        self.shaped_at.push(position);
    }

    /// The key of a row.
    pub fn key_of(&self, id: u64) -> Key {
        if self.shape().key.len() == 1 {
            key_of_id(id)
        } else {
            let (partition, place) = (id / PARTITION_ROWS, id % PARTITION_ROWS);
            Key::from_columns(&[Some(partition.to_string()), Some(place.to_string())])
        }
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

/// The same table with its cells in reverse and the key, partition and place, behind them.
fn behind_its_cells(plain: &TableSchema) -> Arc<TableSchema> {
    let key = plain.columns.first().into_iter();
    let named = |name: &str| {
        let mut column = key.clone().cloned().collect::<Vec<Column>>();
        column.iter_mut().for_each(|column| name.clone_into(&mut column.name));
        column
    };
    let cells = plain.columns.iter().skip(1).rev().cloned();
    let columns: Vec<Column> = cells.chain(named("p")).chain(named("c")).collect();
    let count = columns.len();
    Arc::new(TableSchema::new(
        plain.id,
        plain.name.clone(),
        columns,
        vec![count - 2, count - 1],
    ))
}

/// Which cell of a row a column holds; `None` for the key's.
pub fn cell_of_column(shape: &TableSchema, column: usize) -> Option<usize> {
    match shape.key.len() {
        1 => column.checked_sub(1),
        key => (shape.columns.len() - key).checked_sub(column + 1),
    }
}

/// A row's image in a shape; `big_unchanged` leaves that column out.
pub fn image(shape: &TableSchema, id: u64, row: &ModelRow, big_unchanged: bool) -> RowImage {
    image_of(shape, id, |builder, at| match row.cells.get(at).copied().flatten() {
        Some(_) if at == BIG && big_unchanged => builder.cell(Cell::UNCHANGED),
        Some(value) => number(builder, value),
        None => builder.cell(Cell::NULL),
    })
}

/// An image of the key only.
pub fn key_image(shape: &TableSchema, id: u64) -> RowImage {
    image_of(shape, id, |builder, _| builder.cell(Cell::ABSENT))
}

fn image_of(shape: &TableSchema, id: u64, cell: impl Fn(&mut RowImageBuilder, usize)) -> RowImage {
    let mut builder = RowImageBuilder::default();
    let cells = shape.columns.len() - shape.key.len();
    if shape.key.len() == 1 {
        number(&mut builder, id);
        (0..cells).for_each(|at| cell(&mut builder, at));
    } else {
        (0..cells).rev().for_each(|at| cell(&mut builder, at));
        number(&mut builder, id / PARTITION_ROWS);
        number(&mut builder, id % PARTITION_ROWS);
    }
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
