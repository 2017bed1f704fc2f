// SPDX-License-Identifier: Apache-2.0
//! How to split rows of one table into fields: compiled once for its TABLE_MAP, used for each row.

use highwater_core::image::Cell;

use super::column_type::{ColumnType, FieldLength};
use super::table_map::{Column, bit};
use super::{FieldReader, ProtocolError};

/// Where fields end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPlan {
    fields: Box<[FieldLength]>,
    /// The places of the JSON columns.
    json: Box<[usize]>,
}

impl RowPlan {
    /// The plan for rows of a table with these columns.
    pub fn compile(columns: &[Column]) -> Self {
        let is_json = |column: &Column| matches!(column.column_type, ColumnType::Json { .. });
        let json = columns.iter().enumerate().filter(|(_, column)| is_json(column));
        Self {
            fields: columns.iter().map(|column| column.column_type.field_length()).collect(),
            json: json.map(|(place, _)| place).collect(),
        }
    }

    /// How many columns rows have.
    pub fn columns(&self) -> usize {
        self.fields.len()
    }

    /// The places of the JSON columns, for which a partial image has a bit each.
    pub fn json_columns(&self) -> &[usize] {
        &self.json
    }

    /// Splits the next row image: a bit for each of the `present` columns that is NULL, and the fields of the others.
    /// `base` is where the reader began in the block that the cells refer to.
    #[inline]
    pub fn split(
        &self,
        fields: &mut FieldReader<'_>,
        base: usize,
        present: &Present<'_>,
    ) -> Result<Box<[Cell]>, ProtocolError> {
        let nulls = fields.bytes(present.count.div_ceil(8), "which columns are NULL")?;
        let mut cells = Vec::with_capacity(self.fields.len());
        let mut place = 0;
        for (column, length) in self.fields.iter().enumerate() {
            if !present.has(column) {
                cells.push(Cell::ABSENT);
                continue;
            }
            let null = bit(nulls, place);
            place += 1;
            cells.push(if null {
                Cell::NULL
            } else {
                read_cell(fields, base, *length)?
            });
        }
        Ok(cells.into_boxed_slice())
    }
}

/// Reads one field.
#[inline]
fn read_cell(fields: &mut FieldReader<'_>, base: usize, length: FieldLength) -> Result<Cell, ProtocolError> {
    let length = match length {
        FieldLength::Fixed(length) => length,
        FieldLength::Prefixed(bytes) => fields.length(bytes, "length of a value")?,
    };
    let start = base + fields.offset();
    fields.bytes(length, "value")?;
    match (u32::try_from(start), u32::try_from(length)) {
        (Ok(start), Ok(length)) => Ok(Cell::value(start, length)),
        _ => Err(fields.malformed("value past 4 GiB")),
    }
}

/// Which columns a row image has.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    bitmap: &'a [u8],
    count: usize,
    all: bool,
}

impl<'a> Present<'a> {
    /// The columns whose bit is set, out of `columns`.
    pub fn new(bitmap: &'a [u8], columns: usize) -> Self {
        let count = (0..columns).filter(|&column| bit(bitmap, column)).count();
        let all = count == columns;
        Self { bitmap, count, all }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether `column` is one of them.
    #[inline]
    pub fn has(&self, column: usize) -> bool {
        self.all || bit(self.bitmap, column)
    }
}
