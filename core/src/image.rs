// SPDX-License-Identifier: Apache-2.0
//! A row as the database sent it: the database's bytes plus presence bits.
//!
//! One shared buffer and one small array per row; nothing is decoded here. Eight bytes a cell.

use bytes::{BufMut, Bytes, BytesMut};

const ABSENT: u32 = u32::MAX;
const UNCHANGED: u32 = u32::MAX - 1;
const NULL: u32 = u32::MAX - 2;
/// The longest value a cell can hold, in bytes.
pub const CELL_BYTES_MAX: u32 = u32::MAX - 3;

/// Where one column's value lies in the row's buffer, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    start: u32,
    length: u32,
}

impl Cell {
    /// The column is not part of this image (a key-only image, for example).
    pub const ABSENT: Cell = Cell {
        start: 0,
        length: ABSENT,
    };
    /// The log says that the column did not change and does not carry it (Postgres: unchanged TOAST).
    pub const UNCHANGED: Cell = Cell {
        start: 0,
        length: UNCHANGED,
    };
    /// SQL NULL.
    pub const NULL: Cell = Cell { start: 0, length: NULL };

    /// A value of `length` bytes at `start` of the row's buffer; `length` at most [`CELL_BYTES_MAX`].
    pub fn value(start: u32, length: u32) -> Cell {
        debug_assert!(length <= CELL_BYTES_MAX);
        Cell { start, length }
    }
}

/// One column of a row image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellRef<'a> {
    /// Not part of this image.
    Absent,
    /// Present in the database, not carried by the log because it did not change.
    Unchanged,
    /// SQL NULL.
    Null,
    /// The database's bytes, in the format that the column's decoder reads.
    Value(&'a [u8]),
}

/// One row, cells in the order of the columns of its [`crate::schema::TableSchema`].
#[derive(Clone)]
pub struct RowImage {
    data: Bytes,
    cells: Box<[Cell]>,
}

impl RowImage {
    /// A row over `data`. A cell that reaches past `data` reads as [`CellRef::Absent`].
    pub fn new(data: Bytes, cells: Box<[Cell]>) -> Self {
        RowImage { data, cells }
    }

    /// A row copied from separate values; `None` is NULL. For tests and sources off the hot path.
    pub fn from_values<V: AsRef<[u8]>>(values: &[Option<V>]) -> Self {
        let mut builder = RowImageBuilder::default();
        for value in values {
            match value {
                Some(value) => builder.value(value.as_ref()),
                None => builder.cell(Cell::NULL),
            }
        }
        builder.build()
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether the row has no cell.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The cell of column `index`; absent past the end.
    #[inline]
    pub fn cell(&self, index: usize) -> CellRef<'_> {
        let Some(cell) = self.cells.get(index) else {
            return CellRef::Absent;
        };
        match cell.length {
            ABSENT => CellRef::Absent,
            UNCHANGED => CellRef::Unchanged,
            NULL => CellRef::Null,
            length => {
                let start = cell.start as usize;
                self.data
                    .get(start..start + length as usize)
                    .map_or(CellRef::Absent, CellRef::Value)
            }
        }
    }

    /// All cells in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = CellRef<'_>> + '_ {
        (0..self.cells.len()).map(|index| self.cell(index))
    }

    /// Whether the log left out a column because it did not change.
    #[inline]
    pub fn is_partial(&self) -> bool {
        self.cells.iter().any(|cell| cell.length == UNCHANGED)
    }

    /// Whether every column is here, with a value or NULL.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.cells.iter().all(|cell| !matches!(cell.length, ABSENT | UNCHANGED))
    }

    /// Bytes of the values, without presence bits.
    pub fn value_bytes(&self) -> usize {
        self.cells
            .iter()
            .filter(|cell| cell.length <= CELL_BYTES_MAX)
            .map(|cell| cell.length as usize)
            .sum()
    }
}

impl PartialEq for RowImage {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for RowImage {}

impl std::fmt::Debug for RowImage {
    /// Shape only: values never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape: String = self
            .iter()
            .map(|cell| match cell {
                CellRef::Absent => '-',
                CellRef::Unchanged => 'u',
                CellRef::Null => 'n',
                CellRef::Value(_) => 'v',
            })
            .collect();
        write!(f, "RowImage({shape}, {} bytes)", self.value_bytes())
    }
}

/// Builds a [`RowImage`] by copying values into a buffer of its own.
#[derive(Debug, Default)]
pub struct RowImageBuilder {
    data: BytesMut,
    cells: Vec<Cell>,
}

impl RowImageBuilder {
    /// Appends a cell without a value, or one that refers to bytes already appended.
    pub fn cell(&mut self, cell: Cell) {
        self.cells.push(cell);
    }

    /// Appends a value.
    ///
    /// # Panics
    /// When the row's values pass 4 GiB: no supported database has such rows.
    pub fn value(&mut self, value: &[u8]) {
        let start = u32::try_from(self.data.len()).expect("invariant: a row is smaller than 4 GiB");
        let length = u32::try_from(value.len()).expect("invariant: a value is smaller than 4 GiB");
        self.data.put_slice(value);
        self.cells.push(Cell::value(start, length));
    }

    /// The finished row.
    pub fn build(self) -> RowImage {
        RowImage::new(self.data.freeze(), self.cells.into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_unchanged_and_empty_are_four_different_things() {
        let row = RowImage::new(
            Bytes::from_static(b"abc"),
            Box::new([
                Cell::ABSENT,
                Cell::NULL,
                Cell::UNCHANGED,
                Cell::value(3, 0),
                Cell::value(1, 2),
            ]),
        );
        let cells: Vec<_> = row.iter().collect();
        assert_eq!(
            cells,
            [
                CellRef::Absent,
                CellRef::Null,
                CellRef::Unchanged,
                CellRef::Value(b""),
                CellRef::Value(b"bc")
            ]
        );
        assert!(row.is_partial() && !row.is_whole());
        assert!(RowImage::from_values(&[Some("a"), None]).is_whole());
        assert_eq!(row.value_bytes(), 2);
    }

    #[test]
    fn a_cell_past_the_buffer_is_absent_instead_of_a_panic() {
        let row = RowImage::new(Bytes::from_static(b"abc"), Box::new([Cell::value(2, 9)]));
        assert_eq!(row.cell(0), CellRef::Absent);
        assert_eq!(row.cell(7), CellRef::Absent);
    }

    #[test]
    fn debug_shows_the_shape_and_never_the_values() {
        let row = RowImage::from_values(&[Some("secret"), None]);
        assert_eq!(format!("{row:?}"), "RowImage(vn, 6 bytes)");
    }
}
