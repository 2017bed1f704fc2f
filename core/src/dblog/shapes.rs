// SPDX-License-Identifier: Apache-2.0
//! Shapes of tables: which one events that leave follow, and whether a chunk may leave in its own.
//!
//! Between marks the last shape that the log announced decides. A chunk as of a moment T is older than what has left if an
//! event of another shape that committed after T did, and else at least as new. With write times nothing is ordered, shapes
//! neither: a chunk leaves in the shape that it was read in. Where the log may go back to an earlier shape, each change of
//! shape is told when it leaves, not when it is announced.

use std::sync::Arc;

use crate::change::Change;
use crate::connector::{ChunkRows, Reconcile};
use crate::dblog::action::Action;
use crate::dblog::engine::Engine;
use crate::dblog::mutation::Mutation;
use crate::dblog::window::{Held, Part, Window};
use crate::position::Position;
use crate::schema::{Key, SchemaFingerprint, TableId, TableName, TableSchema};

/// Which table in which shape. Another table may have taken the name of the first, in the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShapeId(TableId, SchemaFingerprint);

impl ShapeId {
    pub(super) fn of(schema: &TableSchema) -> Self {
        ShapeId(schema.id, schema.fingerprint())
    }
}

/// What a copy's keys mean: the table, and names and types of its key columns. The places by which a table without a key is
/// read say it in their first part.
pub(super) fn basis_of(schema: &TableSchema, place: Option<&Key>) -> u64 {
    if schema.key.is_empty() {
        let first = place.and_then(|place| place.columns()?.first().copied().flatten().map(<[u8]>::to_vec));
        let of_places = TableName::new(String::from_utf8_lossy(&first.unwrap_or_default()), "");
        return schema.id.0.rotate_left(32)
            ^ TableSchema::new(schema.id, of_places, Vec::new(), Vec::new())
                .fingerprint()
                .0;
    }
    let columns = schema.key.iter().filter_map(|&at| schema.columns.get(at)).cloned();
    let columns: Vec<_> = columns.collect();
    let key = (0..columns.len()).collect();
    let keys_only = TableSchema::new(schema.id, schema.name.clone(), columns, key);
    schema.id.0.rotate_left(32) ^ keys_only.fingerprint().0
}

impl<P: Position> Engine<P> {
    pub(super) fn announced(&mut self, schema: Arc<TableSchema>, actions: &mut Vec<Action<P>>) {
        let slot = self.slot_of(&schema);
        let of_table = |(at, table): (usize, &crate::dblog::engine::Table<P>)| {
            // A table that was renamed: windows under its old names learn that its shape is another now.
            (at == slot || table.id == Some(schema.id)).then_some(at)
        };
        let slots: Vec<usize> = self.tables.iter().enumerate().filter_map(of_table).collect();
        for at in slots {
            self.windows
                .iter_mut()
                .filter(|window| window.slot == at)
                .for_each(|window| window.note_shape(ShapeId::of(&schema)));
            if self.reconcile == Reconcile::Window || at != slot {
                self.tables[at].shape = Some(ShapeId::of(&schema));
                self.tables[at].shape_at = None;
            }
        }
        match self.reconcile {
            Reconcile::Window => actions.push(Action::Schema(schema)),
            Reconcile::AsOf => self.tables[slot].announced = Some(schema),
            Reconcile::Version => {}
        }
    }

    /// From here on shapes are told when the log announces them: so are those whose changes have not come yet.
    pub(super) fn tell_announced(&mut self, actions: &mut Vec<Action<P>>) {
        for table in &mut self.tables {
            let Some(schema) = table.announced.take() else { continue };
            if table.shape.replace(ShapeId::of(&schema)) != Some(ShapeId::of(&schema)) {
                table.shape_at = None;
                actions.push(Action::Schema(schema));
            }
        }
    }

    /// A change leaves: its shape is told if it is another than that of the event before.
    pub(super) fn tell_shape(&mut self, slot: usize, change: &Change<P>, actions: &mut Vec<Action<P>>) {
        let (table, shape) = (&mut self.tables[slot], ShapeId::of(&change.schema));
        if table.shape != Some(shape) {
            table.shape = Some(shape);
            table.shape_at = Some(change.commit.clone());
            actions.push(Action::Schema(change.schema.clone()));
        }
    }

    /// Whether rows of `schema`, of the window at `at`, would leave behind events of another, newer shape.
    pub(super) fn shape_is_outdated(&self, at: usize, schema: &TableSchema, moment: Option<&P>) -> bool {
        if self.mutated.breaks(Mutation::ShapeCheck) {
            return false;
        }
        let window = &self.windows[at];
        match window.way {
            Reconcile::Window => window.shape_differs(schema),
            Reconcile::AsOf => {
                let table = &self.tables[window.slot];
                let since = |moment: &P| table.shape_at.as_ref().is_none_or(|shape_at| shape_at > moment);
                table.shape.is_some_and(|shape| shape != ShapeId::of(schema)) && moment.is_some_and(since)
            }
            Reconcile::Version => false,
        }
    }

    /// The chunk at `at` is read again for its shape. One fixed moment would give the same shape again.
    pub(super) fn read_for_shape(&mut self, at: usize, actions: &mut Vec<Action<P>>) {
        if self.windows[at].way == Reconcile::AsOf && self.has_one_moment() {
            self.snapshot_gone("a table has changed its shape since the copy's moment", actions);
        } else {
            self.restart(at, false);
        }
    }

    /// The chunk's shape is newer than the log's if they differ: the log has said nothing else since before the read.
    pub(super) fn adopt_shape(&mut self, window: &Window<P>, held: &Held<P>, actions: &mut Vec<Action<P>>) {
        let (schema, slot) = (&held.rows.schema, window.slot);
        let (survives, shape) = (
            held.rows_dropped < held.rows.rows.len() as u64,
            ShapeId::of(&held.rows.schema),
        );
        if !survives || self.tables[slot].shape == Some(shape) {
            return;
        }
        self.tables[slot].shape = Some(shape);
        self.tables[slot].shape_at = held.at.clone();
        if window.way == Reconcile::Window {
            // Newer than what the log announced before.
            self.tables[slot].announced = None;
            let others = self.windows.iter_mut().filter(|other| other.slot == slot);
            others.for_each(|other| other.note_shape(shape));
        }
        actions.push(Action::Schema(schema.clone()));
    }

    /// Whether the copy's stretches still mean what they meant when it began; else it is begun anew, or fails where a
    /// person chose the keys. `false`: the window is gone.
    pub(super) fn keeps_its_basis(&mut self, at: usize, rows: &ChunkRows<P>, actions: &mut Vec<Action<P>>) -> bool {
        let (snapshot, slot) = (self.windows[at].snapshot, self.windows[at].slot);
        let basis = basis_of(&rows.schema, rows.last_key.as_ref());
        let of_it = |copy: &&mut crate::dblog::copy::TableCopy| copy.snapshot == snapshot && copy.slot == slot;
        let Some(copy) = self.copies.iter_mut().find(of_it) else {
            return true;
        };
        if matches!(self.windows[at].part, Part::Keys(_)) || *copy.basis.get_or_insert(basis) == basis {
            return true;
        }
        let (code, what) = (
            "table_replaced",
            "another table has its name now, its key is another, or the rows of a table without one were written anew",
        );
        if copy.begin_anew(basis) {
            self.drop_windows(snapshot, slot);
            self.dirty = true;
            self.report(slot, code, &format!("{what}; its copy begins anew"), actions);
        } else {
            let message = format!("{what}; ask for the range again");
            self.fail_copy(snapshot, slot, None, code, &message, actions);
        }
        false
    }
}
