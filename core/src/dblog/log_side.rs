// SPDX-License-Identifier: Apache-2.0
//! What the log's items do to the engine while there is more to do than to pass them on.

use crate::change::{Change, ChangeVersion, DeletionScope, LogItem, Op};
use crate::connector::Reconcile;
use crate::dblog::action::Action;
use crate::dblog::engine::Engine;
use crate::dblog::mutation::Mutation;
use crate::dblog::window::{Stage, Touch, Window};
use crate::position::{MarkId, Position, TransactionId};

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
        if !self.renewals.is_empty() {
            self.remove_due(actions);
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
            self.raise_floor(actions);
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

    /// A change while windows are open, a split transaction is skipped to, or the way is not `Window`.
    pub(super) fn change(&mut self, change: Change<P>, actions: &mut Vec<Action<P>>) {
        self.events += 1;
        if self.skipping && self.skip.as_ref().is_some_and(|skip| change.ordinal <= skip.ordinal) {
            self.counters.repeats_dropped += 1;
            return;
        }
        let slot = self.slot_of(&change.schema);
        if self.reconcile != Reconcile::Window {
            if !self.is_news(slot, &change, actions) {
                self.counters.repeats_dropped += 1;
                return;
            }
            self.tell_shape(slot, &change, actions);
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

    /// Remembers a change where marks do not tell what a chunk saw; `false` if it left already.
    fn is_news(&mut self, slot: usize, change: &Change<P>, actions: &mut Vec<Action<P>>) -> bool {
        if change.op == Op::Message {
            return true;
        }
        if self.reconcile == Reconcile::AsOf {
            return self.remember(slot, change, actions);
        }
        let of_many = matches!(&change.version, ChangeVersion::Deletion { scope, .. } if **scope != DeletionScope::Row);
        let forgotten = of_many && self.mutated.breaks(Mutation::DeletionOfMany);
        if let Some(memory) = self.cells.get_mut(&slot).filter(|_| !forgotten) {
            memory.record(change, self.events);
            self.bound_cells(slot);
        }
        true
    }

    /// Inside every open window of its table, the change wins over the chunk's rows of its keys.
    fn touch_windows(&mut self, slot: usize, change: &Change<P>, actions: &mut Vec<Action<P>>) {
        if self.mutated.breaks(Mutation::WindowRule) {
            return;
        }
        let concerned = |window: &Window<P>| window.slot == slot && window.way == Reconcile::Window && window.listens();
        if change.op == Op::Truncate {
            self.windows
                .iter_mut()
                .filter(|window| concerned(window))
                .for_each(|window| window.truncate());
            return;
        }
        if change.schema.key.is_empty() {
            return self.lose_row(slot, change);
        }
        let Some(key) = change.key() else {
            let what = "the log has a change without a key column";
            return self.fail_table(slot, "change_without_key", what, actions);
        };
        let old_key = change.old_key().filter(|_| !self.mutated.breaks(Mutation::OldKey));
        let touch = Touch::of(change);
        self.tell_windows(concerned, |window| {
            window.touch(&key, touch);
            if let Some(old_key) = &old_key {
                window.touch(old_key, Touch::Whole);
            }
        });
    }

    /// In a table without a key the row before a change is known by all of its columns, and goes from the chunk. What
    /// comes into being needs no look: a chunk may have it besides, if the reader does not leave it out.
    fn lose_row(&mut self, slot: usize, change: &Change<P>) {
        let Some(row) = change.before.as_ref().and_then(|before| change.schema.whole_of(before)) else {
            return;
        };
        let concerned = |window: &Window<P>| window.slot == slot && window.listens();
        self.tell_windows(concerned, |window| window.lose(&row, change.transaction));
    }

    /// Tells windows of a change. Those that hold too much of the log by then, for their rows are not here, are read again.
    fn tell_windows(&mut self, concerned: impl Fn(&Window<P>) -> bool, tell: impl Fn(&mut Window<P>)) {
        let settings = &self.settings;
        let mut overrun = Vec::new();
        for window in self.windows.iter_mut().filter(|window| concerned(window)) {
            tell(window);
            if !window.touched.fits(settings) {
                overrun.push(window.chunk);
            }
        }
        for chunk in overrun {
            self.shrink_chunk(chunk);
        }
    }
}
