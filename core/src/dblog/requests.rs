// SPDX-License-Identifier: Apache-2.0
//! Requests for copies, their steering, which chunk comes next, and how a copy ends.

use std::collections::VecDeque;

use crate::change::ChunkId;
use crate::connector::Reconcile;
use crate::dblog::action::{Action, Outcome, Report};
use crate::dblog::chunk_sizer::ChunkSizer;
use crate::dblog::copy::{CopyCounts, CopyState, KeyQueue, TableCopy};
use crate::dblog::engine::{Engine, FINISHED_COPIES_SHOWN_MAX};
use crate::dblog::input::{Control, SnapshotId, SnapshotRows, SnapshotScope};
use crate::dblog::window::{Part, Segment, Stage, Window};
use crate::position::{MarkId, Position};
use crate::schema::{Key, TableName};

impl TableCopy {
    /// Whether it may still ask for reads.
    pub(super) fn has_reads_to_come(&self) -> bool {
        !self.is_over() && !self.is_drained()
    }
}

impl<P: Position> Engine<P> {
    pub(super) fn copy_mut(&mut self, window: &Window<P>) -> Option<&mut TableCopy> {
        self.copies
            .iter_mut()
            .find(|copy| copy.snapshot == window.snapshot && copy.slot == window.slot)
    }

    fn new_copy(&mut self, snapshot: SnapshotId, slot: usize, first: bool) -> TableCopy {
        if self.reconcile == Reconcile::Version {
            self.cells.entry(slot).or_default();
        }
        TableCopy {
            snapshot,
            slot,
            table: self.tables[slot].name.clone(),
            condition: None,
            whole: false,
            way: self.way_of_new_copies(first),
            again: false,
            basis: None,
            state: CopyState::Running,
            todo: VecDeque::new(),
            keys: KeyQueue::default(),
            waiting: Vec::new(),
            sizer: ChunkSizer::new(&self.settings),
            counts: CopyCounts::default(),
        }
    }

    pub(super) fn snapshot_requested(&mut self, scopes: Vec<SnapshotScope>, first: bool, actions: &mut Vec<Action<P>>) {
        if scopes.is_empty() {
            return;
        }
        let mut snapshot = SnapshotId(self.next_snapshot);
        self.next_snapshot += 1;
        let mut tables: Vec<TableName> = Vec::new();
        let mut later: Vec<SnapshotScope> = Vec::new();
        for scope in scopes {
            // One copy per table and snapshot: a second scope of the same table becomes a snapshot of its own.
            if tables.contains(&scope.table) {
                later.push(scope);
                continue;
            }
            tables.push(scope.table.clone());
            self.add_copy(snapshot, scope, first);
        }
        self.dirty = true;
        actions.push(Action::Started { snapshot, tables });
        for scope in later {
            snapshot = SnapshotId(self.next_snapshot);
            self.next_snapshot += 1;
            actions.push(Action::Started {
                snapshot,
                tables: vec![scope.table.clone()],
            });
            self.add_copy(snapshot, scope, first);
        }
    }

    pub(super) fn add_copy(&mut self, snapshot: SnapshotId, scope: SnapshotScope, first: bool) {
        let slot = self.slot(&scope.table);
        let mut copy = self.new_copy(snapshot, slot, first);
        match scope.rows {
            SnapshotRows::All { starts } => {
                copy.whole = true;
                self.known.insert(scope.table);
                let ends = starts.iter().cloned().map(Some).chain([None]);
                let starts = [None].into_iter().chain(starts.iter().cloned().map(Some));
                copy.todo = starts
                    .zip(ends)
                    .map(|(after, through)| Segment { after, through })
                    .collect();
            }
            SnapshotRows::Range { after, through } => copy.todo.push_back(Segment { after, through }),
            SnapshotRows::Keys(keys) => keys.into_iter().for_each(|key| copy.keys.push(key)),
            SnapshotRows::Condition(condition) => {
                copy.condition = Some(condition);
                copy.todo.push_back(Segment::default());
            }
        }
        self.copies.push(copy);
    }

    pub(super) fn control(&mut self, control: Control, actions: &mut Vec<Action<P>>) {
        self.dirty = true;
        match control {
            // Nobody asked for the engine's own repairs, and without them rows would stay partial.
            Control::Pause(SnapshotId::REPAIRS) | Control::Cancel(SnapshotId::REPAIRS) => {}
            Control::Pause(snapshot) => self.hold_back(snapshot, CopyState::Running, CopyState::Paused),
            Control::Resume(snapshot) => self.hold_back(snapshot, CopyState::Paused, CopyState::Running),
            Control::Cancel(snapshot) => {
                while let Some(at) = self.windows.iter().position(|window| window.snapshot == snapshot) {
                    self.restart(at, false);
                }
                let mut tables = Vec::new();
                for copy in self
                    .copies
                    .iter_mut()
                    .filter(|copy| copy.snapshot == snapshot && !copy.is_over())
                {
                    copy.end(CopyState::Cancelled);
                    tables.push(copy.table.clone());
                }
                self.cancelled(&tables, actions);
                self.end_copies(actions);
            }
            Control::Throttle { windows_max } => self.settings.windows_max = windows_max,
            Control::Spare(spared) => self.spared = spared,
        }
    }

    fn hold_back(&mut self, snapshot: SnapshotId, from: CopyState, to: CopyState) {
        for copy in self
            .copies
            .iter_mut()
            .filter(|copy| copy.snapshot == snapshot && copy.state == from)
        {
            copy.state = to;
        }
    }

    /// Opens windows while there is room for them.
    pub(super) fn schedule(&mut self, actions: &mut Vec<Action<P>>) {
        while self.has_room() {
            let Some(at) = self.next_copy() else { return };
            self.turn = at + 1;
            if let Some(part) = self.copies[at].take(self.settings.repair_keys_max as usize) {
                self.open_window(at, part, actions);
            }
        }
    }

    fn has_room(&self) -> bool {
        if self.spared {
            return false;
        }
        let reads = self.windows.iter().filter(|window| window.is_reading()).count() + self.orphans.len();
        self.windows.len() < self.settings.windows_max as usize && reads < self.settings.reads_max.max(1) as usize
    }

    /// Copies take turns; one with keys to repair goes first.
    fn next_copy(&self) -> Option<usize> {
        let count = self.copies.len();
        let in_turn = || (0..count).map(|step| (self.turn + step) % count);
        let repairs = in_turn().find(|&at| self.copies[at].has_work() && self.copies[at].keys.len() > 0);
        repairs.or_else(|| in_turn().find(|&at| self.copies[at].has_work()))
    }

    fn open_window(&mut self, at: usize, part: Part, actions: &mut Vec<Action<P>>) {
        let copy = &self.copies[at];
        // A reader that sees one fixed moment would read a key's old row again and again.
        let way = if copy.way == Reconcile::AsOf && self.has_one_moment() && matches!(part, Part::Keys(_)) {
            Reconcile::Window
        } else {
            copy.way
        };
        let chunk = ChunkId(self.next_chunk);
        self.next_chunk += 1;
        let mut window = Window::new(chunk, copy, part, way, self.settings.forwarded_runs_max);
        if matches!(window.part, Part::Keys(_)) {
            window.must_see_at = Some(self.newest_commit.clone());
        }
        if window.way == Reconcile::Window {
            let mark = MarkId(self.next_mark);
            self.next_mark += 1;
            window.low.id = Some(mark);
            self.windows.push(window);
            actions.push(Action::WriteMark { mark, chunk });
        } else {
            self.windows.push(window);
            self.ask(self.windows.len() - 1, actions);
        }
    }

    /// A key of a snapshot's table is to be read on its own.
    pub(super) fn queue_repair(&mut self, snapshot: SnapshotId, slot: usize, key: Key, actions: &mut Vec<Action<P>>) {
        self.counters.repairs_queued += 1;
        let queue_max = self.settings.repair_queue_max as usize;
        let one_moment = self.has_one_moment();
        let Some(copy) = self
            .copies
            .iter_mut()
            .find(|copy| copy.snapshot == snapshot && copy.slot == slot)
        else {
            return;
        };
        copy.keys.push(key);
        if copy.keys.len() > queue_max {
            copy.keys.clear();
            copy.again = true;
            if one_moment {
                copy.way = Reconcile::Window;
            }
            copy.todo
                .retain(|segment| segment.after.is_some() || segment.through.is_some());
            copy.todo.push_back(Segment::default());
            actions.push(Action::Report(Report {
                table: copy.table.clone(),
                chunk: None,
                code: "repair_queue_full".to_owned(),
                message: format!("more than {queue_max} rows wait to be read again; the whole table is read instead"),
            }));
        }
    }

    /// The same outside any snapshot.
    pub(super) fn queue_own_repair(&mut self, slot: usize, key: Key, actions: &mut Vec<Action<P>>) {
        let own = |copy: &TableCopy| copy.snapshot == SnapshotId::REPAIRS && copy.slot == slot;
        if !self.copies.iter().any(own) {
            let copy = self.new_copy(SnapshotId::REPAIRS, slot, false);
            self.copies.push(copy);
        }
        self.queue_repair(SnapshotId::REPAIRS, slot, key, actions);
    }

    /// Every copy of the table fails.
    pub(super) fn fail_table(&mut self, slot: usize, code: &str, message: &str, actions: &mut Vec<Action<P>>) {
        let snapshots: Vec<SnapshotId> = self
            .copies
            .iter()
            .filter(|copy| copy.slot == slot && !copy.is_over())
            .map(|copy| copy.snapshot)
            .collect();
        for snapshot in snapshots {
            self.fail_copy(snapshot, slot, None, code, message, actions);
        }
    }

    pub(super) fn fail_copy(
        &mut self,
        snapshot: SnapshotId,
        slot: usize,
        chunk: Option<ChunkId>,
        code: &str,
        message: &str,
        actions: &mut Vec<Action<P>>,
    ) {
        self.drop_windows(snapshot, slot);
        let Some(copy) = self
            .copies
            .iter_mut()
            .find(|copy| copy.snapshot == snapshot && copy.slot == slot)
        else {
            return;
        };
        copy.end(CopyState::Failed);
        if copy.whole {
            self.known.remove(&copy.table);
        }
        self.dirty = true;
        actions.push(Action::Report(Report {
            table: copy.table.clone(),
            chunk,
            code: code.to_owned(),
            message: message.to_owned(),
        }));
    }

    /// Gives up the windows of a copy, and what they were to read.
    pub(super) fn drop_windows(&mut self, snapshot: SnapshotId, slot: usize) {
        let is_of_it = |window: &mut Window<P>| window.snapshot == snapshot && window.slot == slot;
        for window in self.windows.extract_if(.., is_of_it) {
            if window.stage == Stage::Reading {
                self.orphans.insert(window.chunk);
            }
        }
    }

    /// Copies that have nothing left are over; a snapshot is done when all of its copies are.
    pub(super) fn end_copies(&mut self, actions: &mut Vec<Action<P>>) {
        let mut copied = Vec::new();
        for copy in &mut self.copies {
            let open = self
                .windows
                .iter()
                .any(|w| w.snapshot == copy.snapshot && w.slot == copy.slot);
            if !copy.is_over() && copy.is_drained() && !open {
                copy.state = CopyState::Completed;
                copied.extend(copy.whole.then(|| copy.table.clone()));
            }
        }
        copied.iter().for_each(|table| self.copied_whole(table));
        let mut at = 0;
        // Copies of one snapshot lie together: it is looked at once, not once for each of a thousand tables.
        let mut runs = SnapshotId::REPAIRS;
        while let Some(copy) = self.copies.get(at) {
            let snapshot = copy.snapshot;
            if snapshot == runs {
                at += 1;
                continue;
            }
            let of_it = |copy: &&TableCopy| copy.snapshot == snapshot;
            if snapshot != SnapshotId::REPAIRS && self.copies.iter().filter(of_it).all(TableCopy::is_over) {
                self.end_snapshot(snapshot, actions);
                at = 0;
            } else {
                runs = snapshot;
                at += 1;
            }
        }
        self.copies
            .retain(|copy| copy.snapshot != SnapshotId::REPAIRS || !copy.is_over());
        self.cells
            .retain(|slot, _| self.copies.iter().any(|copy| copy.slot == *slot));
    }

    fn end_snapshot(&mut self, snapshot: SnapshotId, actions: &mut Vec<Action<P>>) {
        let (ended, running) = self.copies.drain(..).partition(|copy| copy.snapshot == snapshot);
        self.copies = running;
        let ended: Vec<TableCopy> = ended;
        let is = |state: CopyState| ended.iter().any(|copy| copy.state == state);
        let outcome = if is(CopyState::Failed) {
            Outcome::Failed
        } else if is(CopyState::Cancelled) {
            Outcome::Cancelled
        } else {
            Outcome::Completed
        };
        for copy in &ended {
            self.finished.push_front(copy.progress(0));
        }
        self.finished.truncate(FINISHED_COPIES_SHOWN_MAX);
        self.dirty = true;
        actions.push(Action::Done { snapshot, outcome });
    }
}
