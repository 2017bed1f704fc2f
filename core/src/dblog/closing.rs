// SPDX-License-Identifier: Apache-2.0
//! How a chunk ends: the last judgement of its rows, their leaving, and the evidence.

use std::mem;

use crate::change::{Change, ChangeVersion, Op};
use crate::connector::{ChunkRows, Reconcile};
use crate::dblog::action::{Action, Certificate};
use crate::dblog::cell_verdict::CellJudge;
use crate::dblog::copy::TableCopy;
use crate::dblog::engine::Engine;
use crate::dblog::mutation::Mutation;
use crate::dblog::window::{Held, Part, Touch, Window};
use crate::image::RowImage;
use crate::position::{Position, TransactionId};
use crate::schema::Key;

impl<P: Position> Engine<P> {
    /// Lets every chunk go whose moment has come. Only between transactions.
    pub(super) fn close_due(&mut self, actions: &mut Vec<Action<P>>) {
        if self.open.is_some() {
            return;
        }
        while let Some(at) = self.windows.iter().position(|window| self.is_due(window)) {
            self.close(at, actions);
        }
    }

    fn is_due(&self, window: &Window<P>) -> bool {
        let Some(held) = &window.held else { return false };
        match window.way {
            Reconcile::Window => window.high.seen_at.is_some(),
            Reconcile::AsOf => !window.recalling && held.at.as_ref().is_none_or(|moment| *moment <= self.delivered),
            Reconcile::Version => true,
        }
    }

    fn close(&mut self, at: usize, actions: &mut Vec<Action<P>>) {
        let unproven = self.windows[at].way == Reconcile::Window && self.windows[at].low.seen_at.is_none();
        let held = self.windows[at].held.as_ref();
        if unproven {
            return self.restart(at, false);
        }
        if held.is_none_or(|held| self.shape_is_outdated(at, &held.rows.schema, held.at.as_ref())) {
            return self.read_for_shape(at, actions);
        }
        let mut window = self.windows.remove(at);
        let Some(mut held) = window.held.take() else { return };
        let mut repairs: Vec<Key> = Vec::new();
        match window.way {
            // Judged when the rows came, and by the log ever since.
            Reconcile::Window | Reconcile::AsOf => {}
            Reconcile::Version => {
                self.judge_cells(&window, &mut held, &mut repairs);
                self.outdate_others(&window, &held);
            }
        }
        repairs.extend(
            mem::take(&mut held.repairs)
                .into_iter()
                .map(|key| Key::from_bytes(key.into())),
        );
        if self.mutated.breaks(Mutation::RereadAfterPartial) {
            repairs.clear();
        }
        self.dirty = true;
        self.adopt_shape(&window, &held, actions);
        let certificate = self.certify(&window, &held);
        if let Some(copy) = self.copy_mut(&window) {
            copy.counts.add(&certificate);
        }
        for key in repairs {
            self.queue_repair(window.snapshot, window.slot, key, actions);
        }
        self.emit_rows(&window, held, actions);
        actions.push(Action::Certificate(certificate));
    }

    fn certify(&self, window: &Window<P>, held: &Held<P>) -> Certificate {
        let copy = self
            .copies
            .iter()
            .find(|copy| copy.snapshot == window.snapshot && copy.slot == window.slot);
        let low = window
            .low
            .seen_at
            .as_ref()
            .or(held.at.as_ref())
            .unwrap_or(&self.delivered);
        let high = window.high.seen_at.as_ref().unwrap_or(&self.delivered);
        let rows_read = held.rows.rows.len() as u64;
        Certificate {
            snapshot: window.snapshot,
            chunk: window.chunk,
            table: self.tables[window.slot].name.clone(),
            scope: window.part.scope(copy.and_then(|copy| copy.condition.as_ref())),
            low: low.to_string(),
            high: high.to_string(),
            schema: held.rows.schema.fingerprint(),
            rows_read,
            rows_dropped: held.rows_dropped,
            rows_emitted: rows_read - held.rows_dropped,
            reads_repeated: window.reads_repeated,
        }
    }

    /// Drops the cells (and rows) that the log delivered newer.
    fn judge_cells(&self, window: &Window<P>, held: &mut Held<P>, repairs: &mut Vec<Key>) {
        let Some(memory) = self.cells.get(&window.slot) else {
            return;
        };
        if self.mutated.breaks(Mutation::WindowRule) {
            return;
        }
        let is_own = |copy: &&TableCopy| copy.snapshot == window.snapshot && copy.slot == window.slot;
        let again = self.copies.iter().find(is_own).is_some_and(|copy| copy.again);
        let since = match window.part {
            Part::Segment(_) if !again => 0,
            _ => window.asked_at,
        };
        let judge = CellJudge::new(memory, &held.rows.schema, since);
        let mut judged: Vec<(usize, Option<RowImage>)> = Vec::new();
        for (at, key, row) in held.keyed_rows() {
            let Some(key) = key else { continue };
            let versions = held.rows.versions.as_ref().and_then(|versions| versions.get(at));
            let verdict = judge.judge(&key, row, versions);
            if verdict.read_again {
                repairs.push(key);
            }
            judged.push((at, verdict.row));
        }
        for (at, row) in judged {
            match row {
                Some(row) => held.rows.rows[at] = row,
                None => held.drop_row(at),
            }
        }
    }

    /// Without an order between reads, another read of the same rows that was asked for earlier may be older than this
    /// one: its rows do not leave, and are read again.
    fn outdate_others(&mut self, window: &Window<P>, held: &Held<P>) {
        let by_key = |window: &Window<P>| matches!(window.part, Part::Keys(_));
        // Segments of a copy do not overlap, unless the table is being read a second time.
        let again = self.copy_mut(window).is_some_and(|copy| copy.again);
        for other in self.windows.iter_mut().filter(|other| other.slot == window.slot) {
            let disjoint = other.snapshot == window.snapshot && !again && !by_key(other) && !by_key(window);
            if disjoint {
                continue;
            }
            for key in held.keyed_rows().filter_map(|(_, key, _)| key) {
                other.touch(&key, Touch::Partial);
            }
        }
    }

    fn emit_rows(&self, window: &Window<P>, held: Held<P>, actions: &mut Vec<Action<P>>) {
        let capture = window.capture();
        let position = window
            .high
            .seen_at
            .as_ref()
            .or(held.at.as_ref())
            .unwrap_or(&self.delivered);
        let dropped = held.dropped;
        let ChunkRows {
            schema,
            rows,
            versions,
            read_time_us,
            ..
        } = held.rows;
        actions.reserve(rows.len());
        for (at, row) in rows.into_iter().enumerate() {
            if dropped.get(at).copied().unwrap_or(false) {
                continue;
            }
            let version = match versions.as_ref().and_then(|versions| versions.get(at)) {
                Some(cells) => ChangeVersion::Cells(cells.clone()),
                None => ChangeVersion::InOrder,
            };
            actions.push(Action::Emit(Change {
                schema: schema.clone(),
                op: Op::Read,
                before: None,
                after: Some(row),
                position: position.clone(),
                commit: position.clone(),
                transaction: TransactionId(0),
                ordinal: at as u64 + 1,
                source_time_us: read_time_us,
                version,
                capture,
                origin: None,
            }));
        }
    }
}
