// SPDX-License-Identifier: Apache-2.0
//! How a chunk ends: the last judgement of its rows, their leaving, and the evidence.

use std::mem;

use crate::change::{Change, ChangeVersion, Op};
use crate::connector::{ChunkRows, Reconcile};
use crate::dblog::action::{Action, Certificate};
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
            Reconcile::AsOf => held.at.as_ref().is_none_or(|moment| *moment <= self.delivered),
            Reconcile::Version => true,
        }
    }

    fn close(&mut self, at: usize, actions: &mut Vec<Action<P>>) {
        let unproven = self.windows[at].way == Reconcile::Window && self.windows[at].low.seen_at.is_none();
        let held = self.windows[at].held.as_ref();
        if unproven || held.is_none_or(|held| self.windows[at].shape_differs(&held.rows.schema)) {
            return self.restart(at, false);
        }
        let mut window = self.windows.remove(at);
        let Some(mut held) = window.held.take() else { return };
        let mut repairs: Vec<Key> = Vec::new();
        match window.way {
            Reconcile::Window => {}
            Reconcile::AsOf => self.judge_as_of(&window, &mut held),
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
            copy.counts.chunks_done += 1;
            copy.counts.rows_read += certificate.rows_read;
            copy.counts.rows_dropped += certificate.rows_dropped;
            copy.counts.rows_emitted += certificate.rows_emitted;
        }
        for key in repairs {
            self.queue_repair(window.snapshot, window.slot, key, actions);
        }
        self.emit_rows(&window, held, actions);
        actions.push(Action::Certificate(certificate));
    }

    /// The chunk's shape is newer than the log's if they differ: the log has said nothing else since before the read.
    fn adopt_shape(&mut self, window: &Window<P>, held: &Held<P>, actions: &mut Vec<Action<P>>) {
        let schema = &held.rows.schema;
        let survives = held.rows_dropped < held.rows.rows.len() as u64;
        if survives && self.tables[window.slot].shape != Some(schema.fingerprint()) {
            self.take_shape(window.slot, schema);
            actions.push(Action::Schema(schema.clone()));
        }
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

    /// Drops the rows whose key the log delivered with a commit after the chunk's moment.
    fn judge_as_of(&self, window: &Window<P>, held: &mut Held<P>) {
        let Some(moment) = held.at.clone() else { return };
        if self.mutated.breaks(Mutation::WindowRule) {
            return;
        }
        if self
            .remembered
            .truncated(window.slot)
            .is_some_and(|truncated| *truncated > moment)
        {
            return held.drop_all();
        }
        let mut gone = Vec::new();
        for (at, key, _) in held.keyed_rows() {
            let Some(key) = key else { continue };
            if let Some((commit, touch)) = self.remembered.last(window.slot, &key)
                && *commit > moment
            {
                gone.push((at, key, touch));
            }
        }
        for (at, key, touch) in gone {
            held.drop_row(at);
            if touch == Touch::Partial {
                held.repairs.insert(key.as_bytes().to_vec());
            }
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
        let mut judged: Vec<(usize, Option<RowImage>)> = Vec::new();
        for (at, key, row) in held.keyed_rows() {
            let Some(key) = key else { continue };
            let versions = held.rows.versions.as_ref().and_then(|versions| versions.get(at));
            let verdict = memory.judge(&held.rows.schema, &key, row, versions, since);
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
        for other in self.windows.iter_mut().filter(|other| other.slot == window.slot) {
            let disjoint = other.snapshot == window.snapshot && !by_key(other) && !by_key(window);
            if disjoint {
                continue;
            }
            for key in held.keyed_rows().filter_map(|(_, key, _)| key) {
                other.touch(&key, Touch::Partial, usize::MAX);
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
            }));
        }
    }
}
