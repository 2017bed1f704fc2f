// SPDX-License-Identifier: Apache-2.0
//! One life: a database that is written to, an engine between its log and a transport, and a scheduler that decides by a
//! seed what happens next, crashes included.

use std::collections::{BTreeSet, HashMap};

use highwater_core::change::{ChunkId, LogItem};
use highwater_core::connector::{ChunkRequest, ChunkRows};
use highwater_core::dblog::action::{Action, Outcome};
use highwater_core::dblog::input::{Control, Input, SnapshotId, SnapshotRows, SnapshotScope};
use highwater_core::dblog::{CopyState, Engine, Renewal};
use highwater_core::error::Class;
use highwater_core::position::{MarkId, MarkPlace, ResumePoint};
use highwater_core::schema::{SchemaFingerprint, TableId};
use highwater_testkit::model::{Database, LogCursor, ModelPosition, Write};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::cells;
use crate::judge;
use crate::moments::UnorderedCursor;
use crate::outlet::Outlet;
use crate::renewals::{Renewals, alive};
use crate::scenario::{Scenario, Source};
use crate::store::Store;
use crate::trace::{self, Trace};

/// Changes every engine of a life when it is made: how a test breaks a rule.
pub type Hook<'a> = &'a (dyn Fn(&mut Engine<ModelPosition>) + Sync);

/// Steps that a life may take to come to rest.
pub const REST_STEPS_MAX: u32 = 20_000;
const KIND: &str = "model";

/// What a life leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Fingerprint of everything that happened.
    pub trace: u64,
    /// Events that were committed.
    pub events: u64,
    /// Crashes.
    pub crashes: u32,
    /// Reads that missed a forwarded transaction.
    pub reads_repeated: u64,
    /// Keys that were read on their own.
    pub repairs: u64,
    /// Runs of remembered keys that left memory.
    pub runs_spilled: u64,
    /// Times that what was remembered was given up.
    pub memory_overflows: u64,
    /// Deletes of keys that were gone when the log had been lost.
    pub removed: u64,
}

#[derive(Debug)]
pub(crate) enum Cursor {
    Ordered(LogCursor),
    Unordered(UnorderedCursor),
}

#[derive(Debug)]
pub(crate) enum Asked {
    Mark(MarkId, ChunkId),
    Read(ChunkRequest),
}

#[derive(Debug)]
pub(crate) enum Reply {
    Marked(MarkId, MarkPlace<ModelPosition>),
    Read(ChunkId, ChunkRows<ModelPosition>),
    Failed(ChunkId, Class),
    Stored(Input<ModelPosition>),
}

/// The state of a life.
pub(crate) struct Life<'a> {
    pub scenario: Scenario,
    pub rng: SmallRng,
    pub database: Database,
    pub log_start: u64,
    pub engine: Engine<ModelPosition>,
    pub cursor: Cursor,
    pub outlet: Outlet,
    pub asked: Vec<Asked>,
    pub store: Store,
    pub renewals: Renewals,
    /// Where the log was lost: what had left by then, and where it had begun.
    pub lost: Option<(usize, u64)>,
    /// Rows that come back yet while keys are compared.
    pub come_back: u32,
    pub replies: Vec<Reply>,
    pub acknowledge: Option<u64>,
    pub shapes: HashMap<TableId, SchemaFingerprint>,
    pub running: BTreeSet<SnapshotId>,
    pub run: u128,
    pub calm: bool,
    pub incomplete: BTreeSet<usize>,
    pub trace: Trace,
    pub summary: Summary,
    hook: Hook<'a>,
    actions: Vec<Action<ModelPosition>>,
    items: Vec<LogItem<ModelPosition>>,
}

/// Lives the life of a seed; `Err` says what went wrong.
pub fn live(seed: u64, hook: Hook<'_>) -> Result<Summary, String> {
    let (scenario, rng) = Scenario::draw(seed);
    let source = scenario.source;
    let mut life = Life::begin(scenario, rng, hook);
    let loses_after = life.scenario.loses_after;
    let lived = (0..life.scenario.steps)
        .try_for_each(|step| {
            if Some(step) == loses_after {
                life.lose_the_log()?;
            }
            life.unrest()
        })
        .and_then(|()| life.rest());
    lived
        .and_then(|()| life.end())
        .map_err(|what| format!("{source:?}: {what}"))
}

impl<'a> Life<'a> {
    fn begin(scenario: Scenario, mut rng: SmallRng, hook: Hook<'a>) -> Self {
        let mut database = filled(&scenario, &mut rng);
        let log_start = database.end();
        database.acknowledged = log_start;
        let start = ResumePoint::at(ModelPosition(log_start));
        let mut engine = new_engine(&scenario, log_start);
        hook(&mut engine);
        let cursor = open_cursor(&scenario, &database, &start, 1);
        Life {
            rng,
            log_start,
            engine,
            cursor,
            database,
            outlet: Outlet::default(),
            asked: Vec::new(),
            store: Store::new(scenario.settings.spill_bytes_max),
            renewals: Renewals::default(),
            lost: None,
            come_back: 4,
            replies: Vec::new(),
            acknowledge: None,
            shapes: HashMap::new(),
            running: BTreeSet::new(),
            run: 1,
            calm: false,
            incomplete: BTreeSet::new(),
            trace: Trace::default(),
            summary: Summary::default(),
            hook,
            actions: Vec::new(),
            items: Vec::new(),
            scenario,
        }
    }

    /// Gives the engine an input and does what can be done at once.
    pub fn step(&mut self, input: Input<ModelPosition>) -> Result<(), String> {
        trace::tell(|| format!("{input:?}"));
        let mut actions = std::mem::take(&mut self.actions);
        self.engine
            .step(input, &mut actions)
            .map_err(|error| format!("the engine failed: {error}"))?;
        let done = actions.drain(..).try_for_each(|action| self.act(action));
        self.actions = actions;
        done
    }

    fn act(&mut self, action: Action<ModelPosition>) -> Result<(), String> {
        self.trace.action(&action);
        trace::tell(|| format!("  -> {action:?}"));
        match action {
            Action::Emit(change) => {
                if self.shapes.get(&change.table()) != Some(&change.schema.fingerprint()) {
                    return Err(format!(
                        "an event of a shape that was not announced at {}",
                        change.commit
                    ));
                }
                self.renewals.note(&change);
                self.outlet.emit(change);
            }
            Action::Schema(schema) => {
                self.shapes.insert(schema.id, schema.fingerprint());
            }
            Action::WriteMark { mark, chunk } => {
                self.asked.push(Asked::Mark(mark, chunk));
            }
            Action::ReadChunk(request) => self.asked.push(Asked::Read(request)),
            Action::Spill { run, entries } => self.store.write(run, entries),
            Action::Recall { chunk, runs, digests } => self.store.recall(chunk, runs, digests),
            Action::Forget(run) => self.store.forget(run),
            Action::SaveCheckpoint { id, checkpoint } => self.outlet.ask(id, checkpoint),
            Action::Acknowledge(position) => self.acknowledge = Some(position.0),
            Action::Started { snapshot, .. } => {
                self.running.insert(snapshot);
            }
            Action::Certificate(certificate) => self.outlet.attribute(certificate.chunk, certificate.snapshot),
            Action::Done { snapshot, outcome } => {
                self.running.remove(&snapshot);
                if outcome == Outcome::Failed && self.database.tables.iter().all(|table| !table.dropped) {
                    return Err(format!("snapshot {} failed although no table was dropped", snapshot.0));
                }
            }
            Action::Report(_) => {}
            Action::Watch(table) => self.renewals.watch(table),
            Action::Compare { table, ends } => self.renewals.ask(table, ends.first().copied().unwrap_or(0)),
            Action::Remove { table, position, .. } => {
                // It may have been dropped since its keys were compared.
                let number = self.database.tables.iter().rposition(|known| *known.name() == table);
                let number = number.ok_or("an unknown table")?;
                let schema = self.database.tables[number].shape().clone();
                for delete in self.renewals.remove(&schema, position) {
                    self.summary.removed += 1;
                    self.outlet.emit(delete);
                }
            }
        }
        Ok(())
    }

    /// Delivers some of the log.
    pub fn deliver(&mut self, items_max: usize) -> Result<(), String> {
        let mut items = std::mem::take(&mut self.items);
        match &mut self.cursor {
            Cursor::Ordered(cursor) => cursor.deliver(&self.database, items_max, &mut items),
            Cursor::Unordered(cursor) => cursor.deliver(&self.database, items_max, &mut self.rng, &mut items),
        }
        items.iter().for_each(|item| trace::tell(|| format!("{item:?}")));
        let mut actions = std::mem::take(&mut self.actions);
        let stepped = self
            .engine
            .step_log(&mut items, &mut actions)
            .map_err(|error| format!("the engine failed: {error}"));
        let done = stepped.and_then(|()| actions.drain(..).try_for_each(|action| self.act(action)));
        (self.items, self.actions) = (items, actions);
        done
    }

    /// The process dies; another starts from what was committed.
    pub fn crash(&mut self) -> Result<(), String> {
        self.summary.crashes += 1;
        self.count();
        self.outlet.crash();
        self.asked.clear();
        self.store = Store::new(self.scenario.settings.spill_bytes_max);
        self.renewals = Renewals::default();
        self.replies.clear();
        self.acknowledge = None;
        self.shapes.clear();
        self.run += 1;
        let reconcile = self.scenario.source.reconcile();
        let settings = self.scenario.settings.clone();
        self.engine = match &self.outlet.checkpoint {
            Some(checkpoint) => Engine::restore(settings, reconcile, KIND, checkpoint)
                .map_err(|error| format!("the checkpoint was refused: {error}"))?,
            None => new_engine(&self.scenario, self.log_start),
        };
        (self.hook)(&mut self.engine);
        self.cursor = open_cursor(&self.scenario, &self.database, self.engine.resume_point(), self.run);
        let running = |progress: &highwater_core::dblog::SnapshotProgress| {
            matches!(progress.state, CopyState::Running | CopyState::Paused) && progress.snapshot != SnapshotId::REPAIRS
        };
        self.running = self
            .engine
            .progress()
            .iter()
            .filter(|p| running(p))
            .map(|p| p.snapshot)
            .collect();
        self.step(Input::Retry)
    }

    /// The process dies, and the source forgets its log. The database goes on; then a person decides to begin anew.
    fn lose_the_log(&mut self) -> Result<(), String> {
        if self.outlet.checkpoint.is_none() {
            return Ok(());
        }
        self.crash()?;
        for _ in 0..self.rng.random_range(0..12) {
            self.live_unwatched();
        }
        self.settle_transactions();
        let (ends, start) = (self.outlet.committed.len(), self.database.end());
        self.lost = Some((ends, self.log_start));
        self.log_start = start;
        self.database.acknowledged = start;
        let tables = self.database.tables.iter().filter(|table| !table.dropped);
        let renewals = tables.map(|table| Renewal::new(table.name().clone(), vec![ends as u64]));
        let renewals = renewals.collect();
        // What the engine did since the crash never happened.
        self.outlet.crash();
        self.crash()?;
        self.outlet.crash();
        self.engine.begin_anew(ResumePoint::at(ModelPosition(start)), renewals);
        self.step(Input::CheckpointDue)?;
        self.outlet.commit();
        self.crash()
    }

    /// Adds up what the engine that ends did.
    fn count(&mut self) {
        let counters = self.engine.counters();
        self.summary.reads_repeated += counters.reads_repeated;
        self.summary.repairs += counters.repairs_queued;
        self.summary.runs_spilled += counters.runs_spilled;
        self.summary.memory_overflows += counters.memory_overflows;
    }

    /// Asks for copies of the tables that none was asked for.
    pub fn request_missing(&mut self) -> Result<(), String> {
        let mut scopes = Vec::new();
        for number in 0..self.database.tables.len() {
            let table = self.database.tables[number].name().clone();
            if self.database.tables[number].dropped || self.engine.known_tables().contains(&table) {
                continue;
            }
            let middle = self.database.tables[number].key_of(self.scenario.ids / 2);
            let starts = if self.rng.random() { vec![middle] } else { Vec::new() };
            scopes.push(SnapshotScope {
                table,
                rows: SnapshotRows::All { starts },
            });
        }
        if scopes.is_empty() {
            Ok(())
        } else {
            self.step(Input::FirstCopies(scopes))
        }
    }

    fn is_at_rest(&self) -> bool {
        let delivered = match &self.cursor {
            Cursor::Ordered(cursor) => cursor.is_at_end(&self.database),
            Cursor::Unordered(cursor) => cursor.is_at_end(&self.database),
        };
        let copying = self
            .engine
            .progress()
            .iter()
            .any(|p| matches!(p.state, CopyState::Running | CopyState::Paused));
        let is_there = |renewal: &Renewal| {
            let number = self.database.table_number(&renewal.table);
            number.is_some_and(|number| !self.database.tables[number].dropped)
        };
        let waiting = !self.asked.is_empty()
            || self.renewals.is_asked()
            || self.engine.renewals().iter().any(is_there)
            || self.store.is_asked()
            || !self.replies.is_empty()
            || self.outlet.is_asked()
            || self.outlet.has_reply();
        delivered && !copying && !waiting && !self.outlet.has_uncommitted() && !self.engine.has_news()
    }

    /// Writers stop, everything becomes visible, nothing fails any more: all must come to an end.
    fn rest(&mut self) -> Result<(), String> {
        self.calm = true;
        self.settle_transactions();
        for snapshot in self.running.clone() {
            self.step(Input::Control(Control::Resume(snapshot)))?;
        }
        self.step(Input::Control(Control::Throttle { windows_max: 4 }))?;
        self.step(Input::Control(Control::Spare(false)))?;
        let again: Vec<usize> = std::mem::take(&mut self.incomplete).into_iter().collect();
        for number in again {
            let table = self.database.tables[number].name().clone();
            if !self.database.tables[number].dropped {
                let rows = SnapshotRows::All { starts: Vec::new() };
                self.step(Input::Snapshot(vec![SnapshotScope { table, rows }]))?;
            }
        }
        for _ in 0..REST_STEPS_MAX {
            self.request_missing()?;
            self.calm_step()?;
            if self.is_at_rest() {
                return Ok(());
            }
        }
        Err(format!("it does not come to rest: {:?}", self.engine.progress()))
    }

    fn end(mut self) -> Result<Summary, String> {
        let tables = &self.database.tables;
        let copied = |table: usize| !tables[table].dropped;
        if self.scenario.source == Source::WriteTimes {
            cells::judge(&self.database, self.log_start, &self.outlet.committed)?;
        } else {
            let committed = &self.outlet.committed;
            let (ends, log_start) = self.lost.unwrap_or((0, self.log_start));
            let (before, since) = committed.split_at(ends);
            judge::judge_part(&self.database, &self.scenario, log_start, before)?;
            judge::judge(&self.database, &self.scenario, self.log_start, since, copied)?;
            self.nothing_is_left()?;
        }
        self.count();
        self.trace.number(self.database.end());
        Ok(Summary {
            trace: self.trace.0,
            events: self.outlet.committed.len() as u64,
            ..self.summary
        })
    }
}

impl Life<'_> {
    /// Of a key that is gone no reader has a row, wherever the log was lost.
    fn nothing_is_left(&self) -> Result<(), String> {
        if self.lost.is_none() {
            return Ok(());
        }
        let alive = alive(&self.outlet.committed);
        for table in self.database.tables.iter().filter(|table| !table.dropped) {
            let have = alive.get(table.name()).map_or(0, std::collections::BTreeSet::len);
            let last = table.rows.values().filter_map(|versions| versions.last());
            let rows = last.filter(|version| version.row.is_some()).count();
            if have != rows {
                return Err(format!(
                    "readers have {have} rows of {}, the table has {rows}",
                    table.name()
                ));
            }
        }
        Ok(())
    }
}

/// The database before the life: some of its rows are there.
fn filled(scenario: &Scenario, rng: &mut SmallRng) -> Database {
    let first_xid = rng.random_range(3..50);
    let mut database = match scenario.source {
        Source::WriteTimes => Database::partitioned(scenario.tables, first_xid),
        _ => Database::new(scenario.tables, first_xid),
    };
    for table in 0..scenario.tables {
        for id in 0..scenario.ids {
            if rng.random_range(0..3) > 0 {
                let xid = database.begin(vec![Write::Put { table, id, big: true }]);
                database.commit(xid, true);
            }
        }
    }
    database
}

/// An engine without history.
fn new_engine(scenario: &Scenario, log_start: u64) -> Engine<ModelPosition> {
    let start = ResumePoint::at(ModelPosition(log_start));
    let settings = scenario.settings.clone();
    match scenario.source {
        Source::ExportedSnapshot => Engine::with_snapshot(settings, KIND, start.position, start),
        source => Engine::new(settings, KIND, source.reconcile(), start),
    }
}

fn open_cursor(scenario: &Scenario, database: &Database, from: &ResumePoint<ModelPosition>, run: u128) -> Cursor {
    match scenario.source {
        source if source.is_unordered() => {
            let from = from.position.0.max(database.acknowledged);
            Cursor::Unordered(UnorderedCursor::open(database, from, source == Source::WriteTimes))
        }
        _ => Cursor::Ordered(LogCursor::open(database, from, run)),
    }
}
