// SPDX-License-Identifier: Apache-2.0
//! Row events: which rows came, changed or went. They are split into cells over the event's own bytes, nothing is copied.
//!
//! ```text
//! table:6 flags:2 [extra length:2 extra] columns:packed present before [present after] rows…
//! row     nulls fields                                 WRITE, DELETE
//!         nulls fields, nulls fields                   UPDATE
//!         nulls fields, options [partial] nulls fields PARTIAL_UPDATE
//! ```

use bytes::Bytes;
use highwater_core::image::{Cell, CellRef, RowImage};

use super::compressed::inflate;
use super::json_diff::JsonDiffs;
use super::row_plan::Present;
use super::table_map::{COLUMNS_MAX, bit};
use super::{FieldReader, ProtocolError, RowPlan, ValueBytes, event_type};

const FLAG_STATEMENT_END: u16 = 0x1;
/// The value option of a partial image: JSON documents may be given by their differences.
const OPTION_PARTIAL_JSON: u64 = 1;

/// What happened to the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    /// They came.
    Insert,
    /// They changed.
    Update,
    /// They changed, and JSON documents may be given by their differences.
    PartialUpdate,
    /// They went.
    Delete,
}

impl RowsKind {
    /// What an event of this type says, and how it says it.
    pub(super) fn of(code: u8) -> Option<(Self, RowsForm)> {
        let (plain, extended, compressed) = (RowsForm::V1, RowsForm::V2, RowsForm::CompressedV1);
        Some(match code {
            event_type::WRITE_ROWS_V1 => (Self::Insert, plain),
            event_type::UPDATE_ROWS_V1 => (Self::Update, plain),
            event_type::DELETE_ROWS_V1 => (Self::Delete, plain),
            event_type::WRITE_ROWS => (Self::Insert, extended),
            event_type::UPDATE_ROWS => (Self::Update, extended),
            event_type::DELETE_ROWS => (Self::Delete, extended),
            event_type::PARTIAL_UPDATE_ROWS => (Self::PartialUpdate, extended),
            event_type::WRITE_ROWS_COMPRESSED_V1 => (Self::Insert, compressed),
            event_type::UPDATE_ROWS_COMPRESSED_V1 => (Self::Update, compressed),
            event_type::DELETE_ROWS_COMPRESSED_V1 => (Self::Delete, compressed),
            _ => return None,
        })
    }

    fn is_update(self) -> bool {
        matches!(self, Self::Update | Self::PartialUpdate)
    }
}

/// The forms that row events have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowsForm {
    /// MariaDB, and MySQL before 5.6.
    V1,
    /// With data of the server's own before the columns.
    V2,
    /// Rows compressed.
    CompressedV1,
}

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsEvent {
    event: &'static str,
    /// What happened to them.
    pub kind: RowsKind,
    /// The number that the last TABLE_MAP of the table gave it.
    pub table_id: u64,
    /// Whether the statement ends here, and with it what numbers of tables stand for.
    pub ends_statement: bool,
    columns: usize,
    present: Bytes,
    present_after: Bytes,
    rows: ValueBytes,
}

/// What happened to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The row before, or what the server keeps of it (`binlog_row_image`); `None` for a row that came.
    pub before: Option<RowImage>,
    /// The row after; `None` for a row that went. A document given by its differences is
    /// [`CellRef::Unchanged`](highwater_core::image::CellRef::Unchanged) here.
    pub after: Option<RowImage>,
    /// The differences of the documents that are given by them.
    pub json_diffs: Vec<JsonDiffs>,
}

impl RowsEvent {
    /// Reads all but the rows.
    pub(super) fn parse(
        event: &'static str,
        kind: RowsKind,
        form: RowsForm,
        body: &Bytes,
    ) -> Result<Self, ProtocolError> {
        let mut fields = FieldReader::new(event, body);
        let (table_id, flags) = read_head(&mut fields, form)?;
        let columns = fields.packed_length("number of columns")?;
        if columns > COLUMNS_MAX {
            return Err(fields.malformed("number of columns"));
        }
        let mut bitmap = || {
            let start = fields.offset();
            fields.bytes(columns.div_ceil(8), "which columns there are")?;
            Ok(body.slice(start..fields.offset()))
        };
        let present = bitmap()?;
        let present_after = if kind.is_update() { bitmap()? } else { Bytes::new() };
        let rows = body.slice(fields.offset()..);
        let rows = match form {
            RowsForm::CompressedV1 => inflate(event, &rows)?,
            RowsForm::V1 | RowsForm::V2 => rows,
        };
        Ok(Self {
            event,
            kind,
            table_id,
            ends_statement: flags & FLAG_STATEMENT_END != 0,
            columns,
            present,
            present_after,
            rows: rows.into(),
        })
    }

    /// Splits the rows by the plan of their table.
    pub fn rows<'a>(&'a self, plan: &'a RowPlan) -> Result<Rows<'a>, ProtocolError> {
        let fields = FieldReader::new(self.event, &self.rows);
        if plan.columns() != self.columns {
            return Err(fields.malformed("another number of columns than the table's"));
        }
        let present = Present::new(&self.present, self.columns);
        // A new row of which no column is logged has no bytes, and then there is one.
        let bare = self.rows.is_empty() && present.count() == 0 && self.kind == RowsKind::Insert;
        Ok(Rows {
            rows: self,
            plan,
            fields,
            present,
            present_after: Present::new(&self.present_after, self.columns),
            bare,
        })
    }
}

/// The number of the table and the flags, and what the second form has after them.
fn read_head(fields: &mut FieldReader<'_>, form: RowsForm) -> Result<(u64, u16), ProtocolError> {
    let table_id = fields.integer(6, "number of the table")?;
    let flags = fields.u16("flags")?;
    if form == RowsForm::V2 {
        // The length counts itself.
        let extra = usize::from(fields.u16("length of the extra data")?).checked_sub(2);
        let extra = extra.ok_or_else(|| fields.malformed("length of the extra data"))?;
        fields.bytes(extra, "extra data")?;
    }
    Ok((table_id, flags))
}

/// The rows of an event, one after the other. Ends after an error.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    rows: &'a RowsEvent,
    plan: &'a RowPlan,
    fields: FieldReader<'a>,
    present: Present<'a>,
    present_after: Present<'a>,
    bare: bool,
}

impl Rows<'_> {
    fn image(&self, cells: Box<[Cell]>) -> RowImage {
        RowImage::new(Bytes::clone(&self.rows.rows), cells)
    }

    fn next_row(&mut self) -> Result<RowChange, ProtocolError> {
        let start = self.fields.offset();
        let cells = self.plan.split(&mut self.fields, 0, &self.present)?;
        let first = self.image(cells);
        let change = match self.rows.kind {
            RowsKind::Insert => RowChange {
                before: None,
                after: Some(first),
                json_diffs: Vec::new(),
            },
            RowsKind::Delete => RowChange {
                before: Some(first),
                after: None,
                json_diffs: Vec::new(),
            },
            RowsKind::Update => {
                let cells = self.plan.split(&mut self.fields, 0, &self.present_after)?;
                RowChange {
                    before: Some(first),
                    after: Some(self.image(cells)),
                    json_diffs: Vec::new(),
                }
            }
            RowsKind::PartialUpdate => self.partial(first)?,
        };
        if self.fields.offset() == start && !self.bare {
            return Err(self.fields.malformed("a row without bytes"));
        }
        Ok(change)
    }

    /// Reads the image after a partial update: the options, a bit for each JSON column of the table that says whether it
    /// is given by its differences, and the image.
    fn partial(&mut self, before: RowImage) -> Result<RowChange, ProtocolError> {
        let options = self.fields.packed("options of values")?;
        if options & !OPTION_PARTIAL_JSON != 0 {
            return Err(self.fields.malformed("options of values"));
        }
        let json = self.plan.json_columns();
        let partial = match options {
            0 => &[],
            _ => self
                .fields
                .bytes(json.len().div_ceil(8), "which documents are partial")?,
        };
        let mut cells = self.plan.split(&mut self.fields, 0, &self.present_after)?;
        let image = self.image(cells.clone());
        let mut json_diffs = Vec::new();
        for (_, &column) in json.iter().enumerate().filter(|(place, _)| bit(partial, *place)) {
            // A bit may be set for a column that is NULL or not there, and then says nothing.
            let CellRef::Value(bytes) = image.cell(column) else {
                continue;
            };
            let bytes = self.rows.rows.slice_ref(bytes).into();
            json_diffs.push(JsonDiffs { column, bytes });
            if let Some(cell) = cells.get_mut(column) {
                *cell = Cell::UNCHANGED;
            }
        }
        Ok(RowChange {
            before: Some(before),
            after: Some(self.image(cells)),
            json_diffs,
        })
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<RowChange, ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.fields.is_at_end() && !self.bare {
            return None;
        }
        let next = self.next_row();
        self.bare = false;
        if next.is_err() {
            self.fields.take_rest();
        }
        Some(next)
    }
}
