// SPDX-License-Identifier: Apache-2.0
//! What the log's items do to the engine while there is more to do than to pass them on.

use std::sync::Arc;

use crate::change::{Change, ChangeVersion, LogItem, Op};
use crate::connector::Reconcile;
use crate::dblog::action::Action;
use crate::dblog::engine::Engine;
use crate::dblog::mutation::Mutation;
use crate::dblog::window::{Stage, Touch};
use crate::position::{MarkId, Position, TransactionId};
use crate::schema::TableSchema;

impl<P: Position> Engine<P> {
    /// Everything in the log but changes.
    pub(super) fn landmark(&mut self, item: LogItem<P>, actions: &mut Vec<Action<P>>) {
        match item {
            LogItem::Begin { transaction, commit } => self.begin(transaction, &commit, actions),
            LogItem::Commit {
                transaction: _,
                position,
            } => {
                self.open = None;
                if self.skipping {
                    self.skip = None;
                    self.skipping = false;
                }
                self.advance(position, actions);
            }
            LogItem::Progress(position) => self.advance(position, actions),
            LogItem::Schema(schema) => self.announced(schema, actions),
            LogItem::Watermark { mark, position } => self.mark_seen(mark, position, actions),
            LogItem::Change(change) => self.change(change, actions),
        }
        self.update_quiet();
    }

    fn begin(&mut self, transaction: TransactionId, commit: &P, actions: &mut Vec<Action<P>>) {
        // Everything before this transaction is delivered: marks at positions in between are reached.
        self.reach(Some(commit), actions);
        self.forwarded.insert(transaction.0);
        self.leaves_before_low_marks(transaction);
        self.open = Some(transaction);
        if let Some(skip) = &mut self.skip
            && skip.transaction == transaction
        {
            self.skipping = true;
            if self.mutated.breaks(Mutation::SplitOrdinal) {
                skip.ordinal += 1;
            }
        }
    }

    /// A transaction stands before the low marks that were not seen yet: their reads have to see it, also those that are
    /// done already (a log that is behind its marks delivers it after the rows came).
    fn leaves_before_low_marks(&mut self, transaction: TransactionId) {
        let unchecked = self.mutated.breaks(Mutation::ReadViewCheck);
        for window in &mut self.windows {
            if window.way != Reconcile::Window || window.recording {
                continue;
            }
            if window.stage != Stage::MarkingLow {
                window.must_see.insert(transaction.0);
            }
            if window.view.as_ref().is_some_and(|view| !view.sees(transaction)) && !unchecked {
                window.let_go();
                self.counters.reads_repeated += 1;
            }
        }
    }

    /// Everything at or before `position` is delivered, and no transaction is open.
    fn advance(&mut self, position: P, actions: &mut Vec<Action<P>>) {
        if self.delivered < position {
            self.delivered = position.clone();
        }
        if self.resume.position < position {
            self.resume.position = position;
            self.dirty = true;
        }
        self.resume.inside = self.skip.clone();
        if self.reconcile == Reconcile::AsOf {
            self.raise_floor();
        }
        if !self.windows.is_empty() {
            self.reach(None, actions);
        }
    }

    /// Marks at positions that are behind now count as seen; what waited for them, or for the end of a transaction, leaves.
    fn reach(&mut self, next_commit: Option<&P>, actions: &mut Vec<Action<P>>) {
        if self.windows.is_empty() {
            return;
        }
        let delivered = &self.delivered;
        for window in &mut self.windows {
            window.reach(|bracket| bracket <= delivered || next_commit.is_some_and(|commit| bracket < commit));
        }
        self.close_due(actions);
    }

    fn mark_seen(&mut self, mark: MarkId, position: P, actions: &mut Vec<Action<P>>) {
        let mut known = false;
        for window in &mut self.windows {
            if window.low.id == Some(mark) && window.low.seen_at.is_none() {
                window.low.seen_at = Some(position.clone());
                window.record();
                known = true;
            } else if window.high.id == Some(mark) && window.high.seen_at.is_none() {
                window.high.seen_at = Some(position.clone());
                known = true;
            }
        }
        if known {
            self.close_due(actions);
        } else {
            self.counters.marks_ignored += 1;
        }
    }

    fn announced(&mut self, schema: Arc<TableSchema>, actions: &mut Vec<Action<P>>) {
        let slot = self.slot_of(&schema);
        // A table that was renamed: windows under its old name learn that its shape is another now.
        let renamed = self
            .tables
            .iter()
            .position(|table| table.id == Some(schema.id) && table.name != schema.name);
        for slot in [Some(slot), renamed].into_iter().flatten() {
            self.take_shape(slot, &schema);
        }
        actions.push(Action::Schema(schema));
    }

    /// The table's events follow this shape from here on.
    pub(super) fn take_shape(&mut self, slot: usize, schema: &TableSchema) {
        self.tables[slot].shape = Some(schema.fingerprint());
        for window in self.windows.iter_mut().filter(|window| window.slot == slot) {
            window.note_shape(schema.fingerprint());
        }
    }

    /// A change while windows are open, a split transaction is skipped to, or the way is not `Window`.
    pub(super) fn change(&mut self, change: Change<P>, actions: &mut Vec<Action<P>>) {
        self.events += 1;
        if self.skipping && self.skip.as_ref().is_some_and(|skip| change.ordinal <= skip.ordinal) {
            self.counters.repeats_dropped += 1;
            return;
        }
        let slot = self.slot_of(&change.schema);
        match self.reconcile {
            Reconcile::Window => {}
            Reconcile::AsOf => {
                if !self.remember(slot, &change) {
                    self.counters.repeats_dropped += 1;
                    return;
                }
            }
            Reconcile::Version => {
                if let Some(memory) = self.cells.get_mut(&slot) {
                    memory.record(&change, self.events);
                    self.bound_cells(slot);
                }
            }
        }
        if self
            .windows
            .iter()
            .any(|window| window.slot == slot && window.listens())
        {
            self.touch_windows(slot, &change, actions);
        }
        if change.before.is_some() && change.is_partial() {
            self.repair_moved_row(&change, actions);
        }
        actions.push(Action::Emit(change));
        self.dirty = true;
    }

    /// Inside every open window of its table, the change wins over the chunk's rows of its keys.
    fn touch_windows(&mut self, slot: usize, change: &Change<P>, actions: &mut Vec<Action<P>>) {
        if self.mutated.breaks(Mutation::WindowRule) {
            return;
        }
        let concerned = |window: &crate::dblog::window::Window<P>| {
            window.slot == slot && window.way == Reconcile::Window && window.listens()
        };
        if change.op == Op::Truncate {
            self.windows
                .iter_mut()
                .filter(|window| concerned(window))
                .for_each(|window| window.truncate());
            return;
        }
        let Some(key) = change.key() else {
            self.fail_table(
                slot,
                "change_without_key",
                "the log has a change without a key column",
                actions,
            );
            return;
        };
        let old_key = change.old_key();
        let touch = if change.is_partial() {
            Touch::Partial
        } else {
            Touch::Whole
        };
        let touched_keys_max = self.settings.touched_keys_max as usize;
        let mut overrun = Vec::new();
        for window in self.windows.iter_mut().filter(|window| concerned(window)) {
            let mut fits = window.touch(&key, touch, touched_keys_max);
            if let Some(old_key) = &old_key {
                fits &= window.touch(old_key, Touch::Whole, touched_keys_max);
            }
            if !fits {
                overrun.push(window.chunk);
            }
        }
        for chunk in overrun {
            self.shrink_chunk(chunk);
        }
    }

    /// Remembers a change for chunks read as of an earlier moment; `false` if it is a repeat.
    fn remember(&mut self, slot: usize, change: &Change<P>) -> bool {
        let unordered = matches!(change.version, ChangeVersion::At(_));
        let commit = &change.commit;
        if unordered && *commit <= self.delivered {
            return false;
        }
        if change.op == Op::Truncate {
            self.remembered.record_truncate(slot, commit);
        }
        if let Some(key) = change.key() {
            let known = self.remembered.last(slot, &key);
            if unordered && known.is_some_and(|(known, _)| known >= commit) {
                return false;
            }
            let touch = if change.is_partial() {
                Touch::Partial
            } else {
                Touch::Whole
            };
            self.remembered.record(slot, key, commit, touch);
        }
        if let Some(old_key) = change.old_key() {
            self.remembered.record(slot, old_key, commit, Touch::Whole);
        }
        if self.remembered.overflows(&self.delivered) {
            self.memory_overflowed();
        }
        true
    }

    /// No read under way, and none to come, can be older than this: what lies before needs no memory.
    pub(super) fn raise_floor(&mut self) {
        let mut floor = if self.copies.iter().all(|copy| !copy.has_reads_to_come()) && self.windows.is_empty() {
            Some(self.delivered.clone())
        } else {
            self.newest_moment.clone()
        };
        for window in self.windows.iter().filter(|window| window.way == Reconcile::AsOf) {
            let oldest = match &window.held {
                Some(held) => held.at.clone(),
                None => window.moment_floor.clone(),
            };
            floor = floor.min(oldest);
        }
        if let Some(floor) = floor {
            self.remembered.raise(floor.min(self.delivered.clone()));
        }
    }
}
