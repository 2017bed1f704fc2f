// SPDX-License-Identifier: Apache-2.0
//! The engine: its state, its door, and the path that a log event takes when no window is open.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::change::{Change, ChunkId, LogItem, Op};
use crate::checkpoint::{Checkpoint, CheckpointId};
use crate::connector::Reconcile;
use crate::dblog::action::Action;
use crate::dblog::cell_memory::CellMemory;
use crate::dblog::checkpoint_codec;
use crate::dblog::copy::{SnapshotProgress, TableCopy};
use crate::dblog::forwarded::Forwarded;
use crate::dblog::input::Input;
use crate::dblog::mutation::{Mutated, Mutation};
use crate::dblog::remembered::Remembered;
use crate::dblog::renewal::Renewal;
use crate::dblog::settings::{AsOfFallback, EngineSettings};
use crate::dblog::shapes::ShapeId;
use crate::dblog::spilled::Spilled;
use crate::dblog::window::Window;
use crate::error::{Error, Result};
use crate::position::{InsideTransaction, Lineage, Position, ResumePoint, TransactionId};
use crate::schema::{TableId, TableName, TableSchema};

/// Finished copies that [`Engine::progress`] still tells of.
pub const FINISHED_COPIES_SHOWN_MAX: usize = 64;

/// A table that the engine has met.
#[derive(Debug)]
pub(super) struct Table<P> {
    pub name: TableName,
    pub id: Option<TableId>,
    /// The shape that its events follow now.
    pub shape: Option<ShapeId>,
    /// When an event of that shape committed (`AsOf`); `None`: after every moment.
    pub shape_at: Option<P>,
    /// The shape that the log announced last, while shapes are told with the changes that follow them (`AsOf`).
    pub announced: Option<Arc<TableSchema>>,
}

/// What the engine did, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineCounters {
    /// Marks that are not, or no longer, of any window.
    pub marks_ignored: u64,
    /// Log events that were delivered before and were passed over.
    pub repeats_dropped: u64,
    /// Reads that missed a forwarded transaction.
    pub reads_repeated: u64,
    /// Chunks begun anew: touched too much, another shape, a failed read or mark.
    pub chunks_restarted: u64,
    /// Keys that were queued for a read of their own.
    pub repairs_queued: u64,
    /// Runs of remembered keys that were sent outside memory.
    pub runs_spilled: u64,
    /// Times that what an `AsOf` copy remembers was given up: at the cap, or because it could not be kept outside memory.
    pub memory_overflows: u64,
}

/// Snapshot plus log as a state machine; see [`crate::dblog`] for the rules and why they hold.
#[derive(Debug)]
pub struct Engine<P> {
    pub(super) settings: EngineSettings,
    pub(super) kind: String,
    pub(super) reconcile: Reconcile,
    pub(super) mutated: Mutated,
    // The log.
    pub(super) resume: ResumePoint<P>,
    pub(super) delivered: P,
    pub(super) open: Option<TransactionId>,
    pub(super) skip: Option<InsideTransaction<P>>,
    pub(super) skipping: bool,
    pub(super) events: u64,
    pub(super) forwarded: Forwarded,
    // Tables.
    pub(super) tables: Vec<Table<P>>,
    pub(super) slots: HashMap<TableName, usize>,
    pub(super) last_slot: Option<(Arc<TableSchema>, usize)>,
    pub(super) known: BTreeSet<TableName>,
    // Snapshots.
    pub(super) copies: Vec<TableCopy>,
    pub(super) windows: Vec<Window<P>>,
    pub(super) orphans: HashSet<ChunkId>,
    pub(super) finished: VecDeque<SnapshotProgress>,
    pub(super) turn: usize,
    /// The source has enough to do: no window begins.
    pub(super) spared: bool,
    pub(super) quiet: bool,
    pub(super) renewals: Vec<Renewal>,
    // The other two ways.
    pub(super) remembered: Remembered<P>,
    pub(super) spilled: Spilled<P>,
    /// The newest commit of which a change has left (`AsOf`).
    pub(super) newest_commit: P,
    /// The log says of each change when it was, and neither orders them nor delivers them once.
    pub(super) unordered: bool,
    /// No chunk is read as of a moment any more.
    pub(super) moments_over: bool,
    pub(super) newest_moment: Option<P>,
    pub(super) cells: HashMap<usize, CellMemory>,
    // Numbers.
    pub(super) next_chunk: u64,
    pub(super) next_mark: u64,
    pub(super) next_snapshot: u64,
    // Checkpoints.
    pub(super) next_checkpoint: u64,
    pub(super) unsaved: VecDeque<(CheckpointId, P)>,
    pub(super) acknowledged: Option<P>,
    pub(super) dirty: bool,
    pub(super) counters: EngineCounters,
}

impl<P: Position> Engine<P> {
    /// An engine without history. `start` is where the log was opened; `connector_kind` names the database in checkpoints.
    pub fn new(settings: EngineSettings, connector_kind: &str, reconcile: Reconcile, start: ResumePoint<P>) -> Self {
        let position = start.position.clone();
        Engine {
            kind: connector_kind.to_owned(),
            reconcile,
            mutated: Mutated::default(),
            skip: start.inside.clone(),
            resume: start,
            delivered: position.clone(),
            open: None,
            skipping: false,
            events: 0,
            forwarded: Forwarded::new(settings.forwarded_runs_max),
            tables: Vec::new(),
            slots: HashMap::new(),
            last_slot: None,
            known: BTreeSet::new(),
            copies: Vec::new(),
            windows: Vec::new(),
            orphans: HashSet::new(),
            finished: VecDeque::new(),
            turn: 0,
            spared: false,
            quiet: reconcile == Reconcile::Window,
            renewals: Vec::new(),
            remembered: Remembered::new(position.clone(), settings.remembered_keys_max),
            spilled: Spilled::new(),
            newest_commit: position,
            unordered: false,
            moments_over: false,
            newest_moment: None,
            cells: HashMap::new(),
            next_chunk: 1,
            next_mark: 1,
            next_snapshot: 1,
            next_checkpoint: 1,
            unsaved: VecDeque::new(),
            acknowledged: None,
            // The point that the log was opened at is worth keeping, also if nothing follows.
            dirty: true,
            counters: EngineCounters::default(),
            settings,
        }
    }

    /// The same where a snapshot was taken at the log's start: first copies are read from it, as of `moment`, which lies
    /// before every commit that the log delivers. Past what can be remembered, and where the snapshot goes, they go on as
    /// ordinary windows: the log is ordered, does not repeat, and has marks.
    pub fn with_snapshot(mut settings: EngineSettings, connector_kind: &str, moment: P, start: ResumePoint<P>) -> Self {
        settings.as_of_fallback = AsOfFallback::Windows;
        let mut engine = Engine::new(settings, connector_kind, Reconcile::AsOf, start);
        engine.remembered = Remembered::new(moment.clone(), engine.settings.remembered_keys_max);
        engine.newest_commit = moment;
        engine
    }

    /// The engine that saved `checkpoint`, in a new run. Open the log at [`Engine::resume_point`] and give it
    /// [`Input::Retry`] to set unfinished chunks going again. Fails if the checkpoint is of another kind of connector, of
    /// a version that this program does not know, or damaged.
    pub fn restore(
        settings: EngineSettings,
        reconcile: Reconcile,
        connector_kind: &str,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        checkpoint_codec::restore(settings, reconcile, connector_kind, checkpoint)
    }

    /// Where the log is to be opened so that nothing is missed.
    pub fn resume_point(&self) -> &ResumePoint<P> {
        &self.resume
    }

    /// Tells which history the log is of that was opened: checkpoints from now on say so.
    pub fn reads_history(&mut self, lineage: Lineage) {
        self.dirty |= self.resume.lineage != lineage;
        self.resume.lineage = lineage;
    }

    /// Tables of which a whole copy was ever asked for, and has not failed: they need no first copy.
    pub fn known_tables(&self) -> &BTreeSet<TableName> {
        &self.known
    }

    /// Copies that run, then the last [`FINISHED_COPIES_SHOWN_MAX`] that ended. The engine's own repairs
    /// ([`crate::dblog::input::SnapshotId::REPAIRS`]) are among them while there are any.
    pub fn progress(&self) -> Vec<SnapshotProgress> {
        let open = |copy: &TableCopy| {
            self.windows
                .iter()
                .filter(|w| w.snapshot == copy.snapshot && w.slot == copy.slot)
                .count() as u32
        };
        let running = self.copies.iter().map(|copy| copy.progress(open(copy)));
        running.chain(self.finished.iter().cloned()).collect()
    }

    /// Whether a copy still reads from the snapshot that was taken where the log began.
    pub fn reads_start_snapshot(&self) -> bool {
        let unread = |copy: &TableCopy| !(copy.is_over() || copy.todo.is_empty() && copy.waiting.is_empty());
        let mut copies = self.copies.iter().filter(|copy| copy.way == Reconcile::AsOf);
        let mut windows = self.windows.iter();
        self.has_one_moment() && (copies.any(unread) || windows.any(|window| window.way == Reconcile::AsOf))
    }

    /// What was done so far in this run.
    pub fn counters(&self) -> EngineCounters {
        self.counters
    }

    /// Everything at or before this position was delivered to the engine.
    pub fn delivered(&self) -> &P {
        &self.delivered
    }

    /// Whether a checkpoint would say something that the last one did not.
    pub fn has_news(&self) -> bool {
        self.dirty
    }

    /// Breaks one rule from here on; `None`: none.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, rule: Option<Mutation>) {
        self.mutated.rule = rule;
    }

    /// Takes one input and appends what is to be done, in order. An error is a bug or a limit; the engine is not to be
    /// used after it (restore it from the last checkpoint).
    pub fn step(&mut self, input: Input<P>, actions: &mut Vec<Action<P>>) -> Result<()> {
        match input {
            Input::Log(mut items) => return self.step_log(&mut items, actions),
            Input::MarkWritten { mark, place } => self.mark_written(mark, place, actions),
            Input::ChunkRead { chunk, rows } => self.chunk_read(chunk, rows, actions),
            Input::ChunkFailed { chunk, class, message } => self.chunk_failed(chunk, class, &message, actions),
            Input::Retry => self.retry(actions),
            Input::Snapshot(scopes) => self.snapshot_requested(scopes, false, actions),
            Input::FirstCopies(scopes) => self.snapshot_requested(scopes, true, actions),
            Input::SnapshotGone { why } => self.snapshot_gone(&why, actions),
            Input::Control(control) => self.control(control, actions),
            Input::VisibilityHorizon(horizon) => self.forwarded.forget_below(horizon),
            Input::Spilled(run) => self.spilled(run),
            Input::Recalled { chunk, entries } => self.recalled(chunk, &entries, actions),
            Input::SpillFailed { message } => self.spill_failed(&message, actions),
            Input::Compared { table, last } => self.compared(&table, last, actions),
            Input::CompareFailed(table) => self.compare_failed(&table),
            Input::CompareAgain(table) => self.compare_again(&table),
            Input::CheckpointDue => self.checkpoint_due(actions)?,
            Input::CheckpointSaved(id) => self.checkpoint_saved(id, actions)?,
        }
        self.settle(actions);
        Ok(())
    }

    /// [`Input::Log`] by reference: drains `items` and leaves its memory for the next batch. While no window is open a
    /// change passes through with one move: its key is not looked at, nothing is allocated.
    pub fn step_log(&mut self, items: &mut Vec<LogItem<P>>, actions: &mut Vec<Action<P>>) -> Result<()> {
        actions.reserve(items.len());
        let last = last_inside(items);
        for item in items.drain(..) {
            match item {
                LogItem::Change(change) if self.quiet => {
                    if change.before.is_some() && change.is_partial() {
                        self.repair_moved_row(&change, actions);
                    }
                    actions.push(Action::Emit(change));
                    self.dirty = true;
                }
                LogItem::Change(change) => self.change(change, actions),
                other => self.landmark(other, actions),
            }
        }
        self.note_inside(last);
        if !self.copies.is_empty() {
            self.settle(actions);
        }
        Ok(())
    }

    /// Remembers how far the transaction that is open was delivered.
    fn note_inside(&mut self, last: Option<(P, u64)>) {
        let (Some(transaction), Some((change, ordinal))) = (self.open, last) else {
            return;
        };
        let already = match &self.skip {
            Some(skip) if self.skipping => ordinal <= skip.ordinal,
            _ => false,
        };
        if !already {
            self.resume.inside = Some(InsideTransaction {
                transaction,
                change,
                ordinal,
            });
            self.dirty = true;
        }
    }

    /// Starts what may start, ends what is over, and decides how log events travel from here on.
    pub(super) fn settle(&mut self, actions: &mut Vec<Action<P>>) {
        self.schedule(actions);
        self.end_copies(actions);
        self.update_quiet();
    }

    pub(super) fn update_quiet(&mut self) {
        self.quiet = self.reconcile == Reconcile::Window && !self.skipping && !self.windows.iter().any(Window::listens);
    }

    fn checkpoint_due(&mut self, actions: &mut Vec<Action<P>>) -> Result<()> {
        if !self.dirty {
            return Ok(());
        }
        let id = CheckpointId(self.next_checkpoint);
        self.next_checkpoint += 1;
        self.watch(id, actions);
        actions.push(Action::SaveCheckpoint {
            id,
            checkpoint: checkpoint_codec::save(self),
        });
        self.unsaved.push_back((id, self.resume.position.clone()));
        self.dirty = false;
        if self.mutated.breaks(Mutation::CheckpointBeforeAcknowledge) {
            actions.push(Action::Acknowledge(self.resume.position.clone()));
        }
        Ok(())
    }

    fn checkpoint_saved(&mut self, id: CheckpointId, actions: &mut Vec<Action<P>>) -> Result<()> {
        let mut position = None;
        while self.unsaved.front().is_some_and(|(unsaved, _)| *unsaved <= id) {
            position = self.unsaved.pop_front().map(|(_, position)| position);
        }
        let Some(position) = position else {
            return Err(Error::bug("a checkpoint was saved that the engine did not ask for").with("checkpoint", id.0));
        };
        if self
            .acknowledged
            .as_ref()
            .is_none_or(|acknowledged| *acknowledged < position)
        {
            self.acknowledged = Some(position.clone());
            actions.push(Action::Acknowledge(position));
        }
        self.compare(id, actions);
        Ok(())
    }

    /// The place of a table in the engine's list.
    pub(super) fn slot(&mut self, name: &TableName) -> usize {
        if let Some(&slot) = self.slots.get(name) {
            return slot;
        }
        self.tables.push(Table {
            name: name.clone(),
            id: None,
            shape: None,
            shape_at: None,
            announced: None,
        });
        self.slots.insert(name.clone(), self.tables.len() - 1);
        self.tables.len() - 1
    }

    /// The same, for a row: consecutive changes of a table share their schema.
    pub(super) fn slot_of(&mut self, schema: &Arc<TableSchema>) -> usize {
        if let Some((last, slot)) = &self.last_slot
            && Arc::ptr_eq(last, schema)
        {
            return *slot;
        }
        let slot = self.slot(&schema.name);
        self.tables[slot].id = Some(schema.id);
        self.last_slot = Some((schema.clone(), slot));
        slot
    }

    /// A row that moved to another key and left columns behind: nothing downstream has them under the new key.
    pub(super) fn repair_moved_row(&mut self, change: &Change<P>, actions: &mut Vec<Action<P>>) {
        if change.op == Op::Update
            && self.reconcile != Reconcile::Version
            && change.old_key().is_some()
            && let Some(key) = change.key()
        {
            let slot = self.slot_of(&change.schema);
            self.queue_own_repair(slot, key, actions);
        }
    }
}

/// Position and ordinal of the last change of the transaction that is open at the end of `items`, if it has any there.
fn last_inside<P: Position>(items: &[LogItem<P>]) -> Option<(P, u64)> {
    for item in items.iter().rev() {
        match item {
            LogItem::Change(change) => return Some((change.position.clone(), change.ordinal)),
            LogItem::Commit { .. } | LogItem::Begin { .. } => return None,
            LogItem::Schema(_) | LogItem::Watermark { .. } | LogItem::Progress(_) => {}
        }
    }
    None
}
