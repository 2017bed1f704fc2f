// SPDX-License-Identifier: Apache-2.0
//! A relation that the log announced, and how its tuples become row images.

use crate::protocol::ProtocolError;
use crate::protocol::pgoutput::{OldTuple, Relation, Tuple};
use bytes::Bytes;
use highwater_core::image::{Cell, RowImage};
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::{Error, ErrorKind, Scope};
use std::sync::Arc;

use super::DecodeFailure;
use super::labels::Enumerated;
use super::text_rows::ColumnTypes;

/// A captured table as its last relation message showed it.
#[derive(Debug)]
pub(super) struct CapturedRelation {
    pub(super) schema: Arc<TableSchema>,
    /// Per column, whether it is part of the replica identity.
    identity: Box<[bool]>,
    /// The columns that come as text, because the server has no binary form of their types.
    text_columns: Box<[u16]>,
    enumerated: Option<Box<Enumerated>>,
    /// Where values come as text: the types that read it.
    text: Option<ColumnTypes>,
}

impl CapturedRelation {
    pub(super) fn new(relation: &Relation, schema: Arc<TableSchema>, text_columns: Box<[u16]>) -> Self {
        Self {
            enumerated: Enumerated::new(relation, &schema),
            schema,
            text_columns,
            identity: relation.columns.iter().map(|column| column.identity).collect(),
            text: None,
        }
    }

    /// Its columns of enumerations, where it has any.
    #[inline]
    pub(super) fn enumerated(&self) -> Option<&Enumerated> {
        self.enumerated.as_deref()
    }

    /// The same relation from a server that sends every value as text.
    pub(super) fn with_text(mut self, types: ColumnTypes) -> Self {
        self.text = Some(types);
        self
    }

    /// The types that read its values' text.
    pub(super) fn text_types(&self) -> ColumnTypes {
        self.text.clone().unwrap_or_default()
    }

    pub(super) fn name_of(relation: &Relation) -> TableName {
        TableName::new(relation.schema.clone(), relation.name.clone())
    }

    /// The image of a tuple, over the payload that it came in.
    pub(super) fn image(&self, tuple: Tuple, payload: Bytes) -> Result<RowImage, DecodeFailure> {
        self.check(&tuple)?;
        Ok(RowImage::new(payload, tuple.cells))
    }

    /// The image of a tuple before a change. An old key comes with nulls in the other columns, which are not values but
    /// absent.
    pub(super) fn old_image(&self, old: OldTuple, payload: Bytes) -> Result<RowImage, DecodeFailure> {
        self.check(&old.tuple)?;
        let mut cells = old.tuple.cells;
        if !old.whole {
            for (cell, _) in cells.iter_mut().zip(&self.identity).filter(|(_, identity)| !**identity) {
                *cell = Cell::ABSENT;
            }
        }
        Ok(RowImage::new(payload, cells))
    }

    /// The images of an update: before, where the log tells it, and after.
    pub(super) fn update(
        &self,
        old: Option<OldTuple>,
        mut new: Tuple,
        payload: Bytes,
    ) -> Result<(Option<RowImage>, Option<RowImage>), DecodeFailure> {
        let Some(old) = old else {
            return Ok((None, Some(self.image(new, payload)?)));
        };
        Self::complete(&mut new, &old);
        let after = self.image(new, payload.clone())?;
        Ok((Some(self.old_image(old, payload)?), Some(after)))
    }

    /// Fills what the log left out as unchanged from the whole row before, which is exact: both are of one change, and
    /// both lie in one payload.
    fn complete(new: &mut Tuple, old: &OldTuple) {
        if old.whole {
            for (cell, before) in new.cells.iter_mut().zip(&old.tuple.cells) {
                if *cell == Cell::UNCHANGED {
                    *cell = *before;
                }
            }
        }
    }

    fn check(&self, tuple: &Tuple) -> Result<(), DecodeFailure> {
        if tuple.cells.len() != self.schema.columns.len() {
            let what = "a tuple has another number of columns than its relation";
            return Err(ProtocolError::Malformed {
                message: "pgoutput",
                what,
            }
            .into());
        }
        if self.text.is_some() || (tuple.text_columns.is_empty() && self.text_columns.is_empty()) {
            return Ok(());
        }
        self.check_formats(tuple)
    }

    /// Each column must have come in the format that its decoder reads.
    fn check_formats(&self, tuple: &Tuple) -> Result<(), DecodeFailure> {
        let columns = (0..=u16::MAX).zip(&tuple.cells);
        for (column, _) in columns.filter(|(_, cell)| !matches!(**cell, Cell::NULL | Cell::UNCHANGED)) {
            let (came, expected) = (
                tuple.text_columns.contains(&column),
                self.text_columns.contains(&column),
            );
            if came != expected {
                return Err(DecodeFailure::Core(self.format_refused(usize::from(column))));
            }
        }
        Ok(())
    }

    fn format_refused(&self, index: usize) -> Error {
        let column = self.schema.columns.get(index);
        let name = column.map_or("?", |column| column.name.as_str());
        let what = format!(
            "column \"{name}\" of table {} came in another format than its type has: was the type altered?",
            self.schema.name
        );
        Error::new(ErrorKind::UnsupportedValue, what)
            .with_scope(Scope::Table)
            .with_fix("start again; if it stays, leave the column out with a column list in the publication")
    }
}
