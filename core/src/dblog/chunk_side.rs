// SPDX-License-Identifier: Apache-2.0
//! What the replies to marks and reads do to the engine.

use crate::change::ChunkId;
use crate::connector::{ChunkRequest, ChunkRows, Reconcile};
use crate::dblog::action::{Action, Report};
use crate::dblog::engine::Engine;
use crate::dblog::mutation::Mutation;
use crate::dblog::window::{Part, Segment, Stage};
use crate::error::Class;
use crate::position::{MarkId, MarkPlace, Position, ReadView};

/// What a read's view proves.
enum Proof<P> {
    /// Enough; for a view of one moment, that moment.
    Enough(Option<P>),
    /// It may miss what has left already.
    Behind,
}

impl<P: Position> Engine<P> {
    /// Where a chunk's window stands in the list.
    fn window_at(&self, chunk: ChunkId) -> Option<usize> {
        self.windows.iter().position(|window| window.chunk == chunk)
    }

    pub(super) fn mark_written(&mut self, mark: MarkId, place: MarkPlace<P>, actions: &mut Vec<Action<P>>) {
        let in_transaction = self.open.is_some();
        let Some(at) = self
            .windows
            .iter()
            .position(|w| w.low.id == Some(mark) || w.high.id == Some(mark))
        else {
            return;
        };
        let delivered = self.delivered.clone();
        let window = &mut self.windows[at];
        let is_low = window.low.id == Some(mark);
        if let MarkPlace::AtPosition(position) = place {
            let mark = if is_low { &mut window.low } else { &mut window.high };
            mark.bracket = Some(position);
            // Inside a transaction `delivered` lags behind what that proves; the next commit catches up.
            window.reach(|bracket| *bracket <= delivered);
        }
        if is_low && window.stage == Stage::MarkingLow {
            window.must_see = self.forwarded.clone();
            self.ask(at, actions);
        }
        if !in_transaction {
            self.close_due(actions);
        }
    }

    /// Asks for a window's rows.
    pub(super) fn ask(&mut self, at: usize, actions: &mut Vec<Action<P>>) {
        let (events, moment) = (self.events, self.newest_moment.clone());
        let one_moment = self.has_one_moment();
        let window = &mut self.windows[at];
        let at_start = one_moment && window.way == Reconcile::AsOf;
        window.stage = Stage::Reading;
        window.asked_at = events;
        window.moment_floor = moment;
        let copy = self
            .copies
            .iter()
            .find(|copy| copy.snapshot == window.snapshot && copy.slot == window.slot);
        let rows_max = match &window.part {
            Part::Keys(keys) => keys.len() as u32,
            Part::Segment(_) => window.rows_max,
        };
        actions.push(Action::ReadChunk(ChunkRequest {
            chunk: window.chunk,
            table: self.tables[window.slot].name.clone(),
            scope: window.part.scope(copy.and_then(|copy| copy.condition.as_ref())),
            rows_max,
            bytes_max: match &window.part {
                Part::Keys(_) => u64::MAX,
                Part::Segment(_) => self.settings.chunk_bytes_max,
            },
            at_start,
        }));
    }

    pub(super) fn chunk_read(&mut self, chunk: ChunkId, rows: ChunkRows<P>, actions: &mut Vec<Action<P>>) {
        let Some(at) = self.window_at(chunk) else {
            self.orphans.remove(&chunk);
            return;
        };
        if self.windows[at].stage != Stage::Reading {
            return;
        }
        // The reader is free again, whatever becomes of its rows.
        self.windows[at].stage = Stage::Stale;
        let moment = match self.judge_view(at, &rows.view) {
            Proof::Enough(moment) => moment,
            Proof::Behind => return self.read_too_early(at, actions),
        };
        if let ReadView::Transactions(view) = &rows.view {
            self.forwarded.forget_visible(view);
        }
        if let Some(trouble) = unusable(&rows, &self.windows[at].part) {
            let slot = self.windows[at].slot;
            return self.fail_table(slot, trouble.0, trouble.1, actions);
        }
        if self.shape_is_outdated(at, &rows.schema, moment.as_ref()) {
            return self.read_for_shape(at, actions);
        }
        if self.keeps_its_basis(at, &rows, actions) {
            self.take_rows(at, rows, moment, actions);
        }
    }

    /// The rows prove what they must: they wait for their moment.
    fn take_rows(&mut self, at: usize, rows: ChunkRows<P>, moment: Option<P>, actions: &mut Vec<Action<P>>) {
        self.narrow(at, &rows);
        if let ReadView::Transactions(view) = &rows.view
            && !self.windows[at].recording
        {
            self.windows[at].view = Some(view.clone());
        }
        self.windows[at].hold(rows, moment);
        if self.windows[at].way == Reconcile::AsOf {
            self.judge_as_of(at, actions);
        }
        self.ask_high(at, actions);
        if self.open.is_none() {
            self.close_due(actions);
        }
    }

    fn judge_view(&mut self, at: usize, view: &ReadView<P>) -> Proof<P> {
        let window = &self.windows[at];
        if let ReadView::At(moment) = view {
            if self.newest_moment.as_ref().is_none_or(|newest| newest < moment) {
                self.newest_moment = Some(moment.clone());
            }
            let enough = match window.way {
                Reconcile::AsOf => {
                    moment >= self.remembered.floor() && window.must_see_at.as_ref().is_none_or(|at| at <= moment)
                }
                Reconcile::Window => window
                    .low
                    .bracket
                    .as_ref()
                    .or(window.low.seen_at.as_ref())
                    .is_some_and(|low| low <= moment),
                Reconcile::Version => true,
            };
            return if enough {
                Proof::Enough(Some(moment.clone()))
            } else {
                Proof::Behind
            };
        }
        match (window.way, view) {
            (Reconcile::Window, ReadView::Transactions(view)) => {
                if window.must_see.seen_by(view) || self.mutated.breaks(Mutation::ReadViewCheck) {
                    Proof::Enough(None)
                } else {
                    Proof::Behind
                }
            }
            // Without a moment an `AsOf` chunk proves nothing.
            (Reconcile::AsOf, _) => Proof::Behind,
            _ => Proof::Enough(None),
        }
    }

    /// The read may miss what has left already: it is done again, and a person hears of it if that goes on.
    fn read_too_early(&mut self, at: usize, actions: &mut Vec<Action<P>>) {
        self.counters.reads_repeated += 1;
        let one_moment = self.has_one_moment();
        let window = &mut self.windows[at];
        window.reads_repeated += 1;
        if window.way == Reconcile::AsOf && one_moment {
            let why = "the moment that the reader sees is behind what is remembered, and will stay so";
            return self.snapshot_gone(why, actions);
        }
        if window.reads_repeated == self.settings.reads_repeated_max.max(1) {
            let message = format!(
                "{} reads of a chunk did not see a transaction that the log has delivered; is a commit waiting for a \
                 synchronous standby? it is read again until it does",
                window.reads_repeated
            );
            let report = Report {
                table: self.tables[window.slot].name.clone(),
                chunk: Some(window.chunk),
                code: "view_behind_log".to_owned(),
                message,
            };
            actions.push(Action::Report(report));
        }
    }

    /// The rows say where the chunk ends; what lies behind goes back to the copy at once, so that the next chunk of the
    /// stretch is asked for while this one still waits for its high mark.
    fn narrow(&mut self, at: usize, rows: &ChunkRows<P>) {
        let window = &mut self.windows[at];
        let bytes: u64 = rows.rows.iter().map(|row| row.value_bytes() as u64).sum();
        let copy = self
            .copies
            .iter_mut()
            .find(|copy| copy.snapshot == window.snapshot && copy.slot == window.slot);
        let (Part::Segment(segment), Some(copy)) = (&mut window.part, copy) else {
            return;
        };
        copy.sizer.observe(rows.rows.len() as u32, bytes, rows.took_us);
        if !rows.exhausted {
            let rest = Segment {
                after: rows.last_key.clone(),
                through: segment.through.take(),
            };
            segment.through = rows.last_key.clone();
            copy.todo.push_front(rest);
        }
    }

    fn ask_high(&mut self, at: usize, actions: &mut Vec<Action<P>>) {
        if self.windows[at].way == Reconcile::Window {
            let mark = MarkId(self.next_mark);
            self.next_mark += 1;
            self.windows[at].high.id = Some(mark);
            actions.push(Action::WriteMark {
                mark,
                chunk: self.windows[at].chunk,
            });
        }
    }

    pub(super) fn chunk_failed(&mut self, chunk: ChunkId, class: Class, message: &str, actions: &mut Vec<Action<P>>) {
        let Some(at) = self.window_at(chunk) else {
            self.orphans.remove(&chunk);
            return;
        };
        self.windows[at].stage = Stage::Stale;
        if class != Class::Retryable {
            let slot = self.windows[at].slot;
            let snapshot = self.windows[at].snapshot;
            return self.fail_copy(snapshot, slot, Some(chunk), "chunk_failed", message, actions);
        }
        self.counters.chunks_restarted += 1;
        let window = self.windows.remove(at);
        if let Some(copy) = self.copy_mut(&window) {
            copy.waiting.push(window.part);
        }
    }

    pub(super) fn retry(&mut self, actions: &mut Vec<Action<P>>) {
        for copy in &mut self.copies {
            copy.retry();
        }
        for at in 0..self.windows.len() {
            if self.windows[at].stage == Stage::Stale {
                self.ask(at, actions);
            }
        }
    }

    /// Gives a chunk up and its part back to be read anew.
    pub(super) fn restart(&mut self, at: usize, smaller: bool) {
        self.counters.chunks_restarted += 1;
        let window = self.windows.remove(at);
        if window.stage == Stage::Reading && window.held.is_none() {
            self.orphans.insert(window.chunk);
        }
        if let Some(copy) = self.copy_mut(&window) {
            if smaller {
                copy.sizer.shrink();
            }
            copy.give_back(window.part);
        }
    }

    /// The log touched more than the cap before the chunk's rows were here.
    pub(super) fn shrink_chunk(&mut self, chunk: ChunkId) {
        if let Some(at) = self.window_at(chunk) {
            self.restart(at, true);
        }
    }

    pub(super) fn bound_cells(&mut self, slot: usize) {
        let remembered_keys_max = self.settings.remembered_keys_max as usize;
        let full = self
            .cells
            .get_mut(&slot)
            .filter(|memory| memory.len() > remembered_keys_max);
        if let Some(memory) = full {
            *memory = Default::default();
            while let Some(at) = self.windows.iter().position(|window| window.slot == slot) {
                self.restart(at, true);
            }
        }
    }
}

/// Why rows cannot be merged with a log, if they cannot.
fn unusable<P>(rows: &ChunkRows<P>, part: &Part) -> Option<(&'static str, &'static str)> {
    if rows.schema.key.is_empty() && rows.last_key.is_none() {
        return Some((
            "table_without_key",
            "the table has no key, and the source has no other places to read it by",
        ));
    }
    let stuck = matches!(part, Part::Segment(segment) if !rows.exhausted
        && (rows.last_key.is_none() || rows.last_key == segment.after));
    stuck.then_some((
        "chunk_without_progress",
        "a read found no row and says that there are more",
    ))
}
