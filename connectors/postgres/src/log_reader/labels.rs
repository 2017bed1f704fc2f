// SPDX-License-Identifier: Apache-2.0
//! Labels of enumerations. One that is added does not make the server announce the tables again that use it, so it shows
//! with the first row that has it; then the table is looked up once more, before the row leaves.

use super::relation::CapturedRelation;
use crate::protocol::pgoutput::Relation;
use highwater_core::image::{CellRef, RowImage};
use highwater_core::schema::TableSchema;
use highwater_core::value::ValueType;
use std::collections::HashSet;
use std::sync::Arc;

/// Labels that are remembered as looked up.
const LOOKED_UP_MAX: usize = 1_024;

/// The columns of enumerations of a relation.
#[derive(Debug)]
pub(super) struct Enumerated {
    /// As it was announced, to be looked up again.
    relation: Arc<Relation>,
    /// By column, the labels that its schema lists.
    listed: Vec<(usize, HashSet<Box<[u8]>>)>,
}

impl Enumerated {
    /// `None` where the relation has no such column.
    pub(super) fn new(relation: &Relation, schema: &TableSchema) -> Option<Box<Self>> {
        let columns = schema.columns.iter().enumerate();
        let listed: Vec<(usize, HashSet<Box<[u8]>>)> = columns
            .filter_map(|(index, column)| match &column.value_type {
                ValueType::Enum { allowed } => {
                    Some((index, allowed.iter().map(|label| label.as_bytes().into()).collect()))
                }
                _ => None,
            })
            .collect();
        (!listed.is_empty()).then(|| {
            Box::new(Enumerated {
                relation: Arc::new(relation.clone()),
                listed,
            })
        })
    }
}

/// What was looked up: a label that the catalogue no longer lists is not asked for again.
#[derive(Debug, Default)]
pub(super) struct LookedUp(HashSet<(u32, Box<[u8]>)>);

impl LookedUp {
    /// The relation, if it must be looked up again before `row` leaves: it has a label that the schema does not list.
    #[inline]
    pub(super) fn due(&mut self, captured: &CapturedRelation, row: &RowImage) -> Option<Arc<Relation>> {
        let enumerated = captured.enumerated()?;
        let mut is_due = false;
        for (index, listed) in &enumerated.listed {
            if let CellRef::Value(label) = row.cell(*index)
                && !listed.contains(label)
            {
                is_due |= self.note(enumerated.relation.oid, label);
            }
        }
        is_due.then(|| enumerated.relation.clone())
    }

    fn note(&mut self, relation: u32, label: &[u8]) -> bool {
        if self.0.len() >= LOOKED_UP_MAX {
            self.0.clear();
        }
        self.0.insert((relation, label.into()))
    }
}
