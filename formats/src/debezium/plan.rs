// SPDX-License-Identifier: Apache-2.0
//! A table's compiled plan: which bytes are constant, and where values go between them.
//!
//! ```text
//! key    ▏open│ column … │close▕
//! value  ▏open│ before │between│ after │source: version, connector, name│ts_ms│snapshot│db│sequence│ts_us│ts_ns│ fields…
//!        │close, transaction, op│ts_ms│ts_us│ts_ns│close▕
//! ```
//!
//! A message has a shorter one:
//!
//! ```text
//! value  ▏open, op│ts_ms│source: version, … fields…│between: transaction, message│ column … │close▕
//! ```
//!
//! Everything between two bars that is not a value is one constant slice here, made once by
//! [`compile`](super::compile).

use std::sync::Arc;

use highwater_core::change::Op;
use highwater_core::image::{CellRef, RowImage};
use highwater_core::schema::SchemaKind;
use highwater_core::value::{ColumnDecoder, ValueError};

use super::slot::{Filled, Slot, SlotWriter};

/// Everything needed to write the changes of one shape of one table.
pub(crate) struct Plan {
    pub(crate) topic: Arc<str>,
    pub(crate) kind: SchemaKind,
    pub(crate) key: Option<ImagePlan>,
    pub(crate) row: ImagePlan,
    pub(crate) envelope: EnvelopePlan,
    /// Names of the columns in events.
    pub(crate) names: Vec<String>,
}

/// How a row, or its key, is written.
pub(crate) struct ImagePlan {
    pub(crate) open: Box<[u8]>,
    pub(crate) columns: Box<[ColumnPlan]>,
    pub(crate) close: Box<[u8]>,
}

/// How a column is written.
pub(crate) struct ColumnPlan {
    /// Its place in the table.
    pub(crate) index: usize,
    pub(crate) slot: Slot,
    pub(crate) decoder: Arc<dyn ColumnDecoder>,
    /// What stands for a value that the image does not have: null, or the type's zero.
    pub(crate) absent: Box<[u8]>,
    /// What stands for a value that the log left out as unchanged.
    pub(crate) unavailable: Box<[u8]>,
}

/// The constant parts of the envelope.
pub(crate) struct EnvelopePlan {
    pub(crate) open: Box<[u8]>,
    pub(crate) no_image: Box<[u8]>,
    pub(crate) between: Box<[u8]>,
    pub(crate) source: Box<[u8]>,
    pub(crate) source_ts_ms: Slot,
    pub(crate) snapshot_log: Box<[u8]>,
    pub(crate) snapshot_read: Box<[u8]>,
    pub(crate) db: Slot,
    pub(crate) sequence: Slot,
    pub(crate) source_ts_us: Slot,
    pub(crate) source_ts_ns: Slot,
    pub(crate) source_fields: Box<[Slot]>,
    /// The source's end, the transaction and the op, by [`op_index`].
    pub(crate) ops: [Box<[u8]>; 5],
    pub(crate) ts_ms: Slot,
    pub(crate) ts_us: Slot,
    pub(crate) ts_ns: Slot,
    pub(crate) close: Box<[u8]>,
}

/// The code of an operation.
pub(crate) fn op_code(op: Op) -> &'static str {
    match op {
        Op::Create => "c",
        Op::Update => "u",
        Op::Delete => "d",
        Op::Truncate => "t",
        Op::Read => "r",
        Op::Message => "m",
    }
}

/// The operations of tables in the order of [`op_index`].
pub(crate) const OPS: [Op; 5] = [Op::Create, Op::Update, Op::Delete, Op::Truncate, Op::Read];

/// An operation's place in [`EnvelopePlan::ops`].
pub(crate) fn op_index(op: Op) -> usize {
    match op {
        Op::Create => 0,
        Op::Update => 1,
        Op::Delete => 2,
        Op::Truncate => 3,
        Op::Read => 4,
        // None of a table: the code of messages is part of the constant bytes.
        Op::Message => OPS.len(),
    }
}

/// Why a record could not be written.
#[derive(Debug)]
pub(crate) enum Fail {
    /// NULL in this column, whose schema does not allow it.
    Null(usize),
    /// The decoder refused the bytes of this column.
    Value(usize, ValueError),
    /// The key lacks this column.
    KeyLacks(usize),
    /// The key holds NULL in this column, whose schema does not allow it.
    KeyNull(usize),
    /// The decoder of this column broke its contract.
    Decoder(usize),
    /// The source block broke its contract.
    Source,
    /// A delete without the row before.
    BeforeMissing,
    /// Another change without the row after.
    AfterMissing,
    /// A deletion of more than one row.
    DeletionScope,
    /// A message of a table, or a row among messages.
    Kind,
}

impl ImagePlan {
    /// Writes the row before a change.
    pub(crate) fn write_before<'a, W: SlotWriter<'a>>(&self, image: &RowImage, writer: &mut W) -> Result<(), Fail> {
        writer.raw(&self.open);
        for column in &self.columns {
            match image.cell(column.index) {
                CellRef::Absent => column.write_ready(&column.absent, writer),
                CellRef::Unchanged => column.write_ready(&column.unavailable, writer),
                cell => column.write(cell, writer)?,
            }
        }
        writer.raw(&self.close);
        Ok(())
    }

    /// Writes the row after a change. What the log left out is taken from the row before, where that has it.
    pub(crate) fn write_after<'a, W: SlotWriter<'a>>(
        &self,
        image: &RowImage,
        before: Option<&RowImage>,
        writer: &mut W,
    ) -> Result<(), Fail> {
        writer.raw(&self.open);
        for column in &self.columns {
            match cell_or_before(image, before, column.index) {
                CellRef::Absent | CellRef::Unchanged => column.write_ready(&column.unavailable, writer),
                cell => column.write(cell, writer)?,
            }
        }
        writer.raw(&self.close);
        Ok(())
    }

    /// Writes a key, which must be whole.
    pub(crate) fn write_key<'a, W: SlotWriter<'a>>(
        &self,
        image: &RowImage,
        before: Option<&RowImage>,
        writer: &mut W,
    ) -> Result<(), Fail> {
        writer.raw(&self.open);
        for column in &self.columns {
            match cell_or_before(image, before, column.index) {
                CellRef::Absent | CellRef::Unchanged => return Err(Fail::KeyLacks(column.index)),
                cell => column.write(cell, writer).map_err(|fail| match fail {
                    Fail::Null(index) => Fail::KeyNull(index),
                    other => other,
                })?,
            }
        }
        writer.raw(&self.close);
        Ok(())
    }
}

impl ColumnPlan {
    #[inline]
    fn write<'a, W: SlotWriter<'a>>(&self, cell: CellRef<'_>, writer: &mut W) -> Result<(), Fail> {
        writer.open(&self.slot);
        match cell {
            CellRef::Value(bytes) => self
                .decoder
                .decode(bytes, writer)
                .map_err(|error| Fail::Value(self.index, error))?,
            _ => writer.null(),
        }
        match writer.filled() {
            Filled::Done => Ok(()),
            Filled::UnexpectedNull => Err(Fail::Null(self.index)),
            Filled::Empty | Filled::Mismatch => Err(Fail::Decoder(self.index)),
        }
    }

    fn write_ready<'a, W: SlotWriter<'a>>(&self, value: &[u8], writer: &mut W) {
        writer.raw(&self.slot.lead);
        writer.raw(value);
    }
}

/// The cell of the row after a change, or that of the row before where the log did not repeat it.
#[inline]
pub(crate) fn cell_or_before<'a>(after: &'a RowImage, before: Option<&'a RowImage>, index: usize) -> CellRef<'a> {
    match (after.cell(index), before) {
        (missing @ (CellRef::Absent | CellRef::Unchanged), Some(before)) => match before.cell(index) {
            CellRef::Absent | CellRef::Unchanged => missing,
            cell => cell,
        },
        (cell, _) => cell,
    }
}
