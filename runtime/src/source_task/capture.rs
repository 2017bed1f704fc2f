// SPDX-License-Identifier: Apache-2.0
//! The first stage: waits for whatever comes next and tells the engine.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_core::change::LogItem;
use highwater_core::checkpoint::CheckpointId;
use highwater_core::clock::Clock;
use highwater_core::connector::{Catalog, LogReader, SourceConnector};
use highwater_core::dblog::action::Action;
use highwater_core::dblog::engine::Engine;
use highwater_core::dblog::input::{Control, Input};
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::transport::Transport;
use highwater_core::{Class, Error, ErrorKind, Result};
use highwater_formats::Encoder;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::compared::{Compared, Progress};
use super::cuts::Cuts;
use super::observe::Observed;
use super::outbox::Outbox;
use super::pace::Pace;
use super::workers::{Done, Workers};
use super::{Command, MakeConnector, SourceTask, TaskSettings, certificates_topic};
use crate::crash_points::{Phase, reach};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::{State, StatusBoard};

/// How often the loop looks after what has no event of its own: metrics, status, failed chunks.
const TICK: Duration = Duration::from_millis(100);
/// How often the horizon of visibility is asked for while the log goes on.
const HORIZON_EVERY: Duration = Duration::from_secs(1);
/// Longest wait before a failed chunk is tried again.
const CHUNK_RETRY_MAX: Duration = Duration::from_secs(5);

/// What a run opened.
pub(super) struct CaptureParts<C: SourceConnector> {
    pub(super) engine: Engine<C::Position>,
    pub(super) log: C::Log,
    pub(super) encoder: Encoder<C::Position>,
    pub(super) catalog: Catalog,
    pub(super) resumed: bool,
    pub(super) outbox: Outbox,
    pub(super) saved: mpsc::Receiver<CheckpointId>,
    pub(super) workers: Workers<C::Position>,
}

/// The state of a run.
pub(super) struct Capture<C: SourceConnector> {
    pub(super) connector: Arc<C>,
    pub(super) make: MakeConnector<C>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: TaskSettings,
    pub(super) board: Arc<StatusBoard>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) engine: Engine<C::Position>,
    pub(super) log: C::Log,
    pub(super) encoder: Encoder<C::Position>,
    pub(super) catalog: Catalog,
    pub(super) outbox: Outbox,
    pub(super) workers: Workers<C::Position>,
    pub(super) pace: Pace,
    pub(super) items: Vec<LogItem<C::Position>>,
    slice: Vec<LogItem<C::Position>>,
    pub(super) actions: Vec<Action<C::Position>>,
    /// The time that events show as that of their encoding: looked at anew whenever something may have taken time.
    pub(super) encoding_at_us: i64,
    pub(super) topics: HashSet<Arc<str>>,
    pub(super) certificates: Arc<str>,
    pub(super) observed: Observed,
    pub(super) cuts: Cuts,
    /// Tables that were added to the running log.
    pub(super) added: BTreeSet<TableName>,
    /// Until when the snapshot of the log's start may be held, while it is.
    pub(super) snapshot_until: Option<Instant>,
    /// Why a chunk failed for good, until its copy has ended.
    pub(super) refused: Option<Error>,
    /// Snapshots begun since an order came that asks for their numbers.
    pub(super) started: Option<Vec<u64>>,
    /// The table whose keys are compared.
    pub(super) compared: Option<Compared>,
    pub(super) next_comparison: u64,
    /// How far tables are whose keys are compared in this run.
    pub(super) progress: HashMap<TableName, Progress>,
    /// The shapes that events of tables follow now, while any table is to be compared.
    pub(super) shapes: HashMap<TableName, Arc<TableSchema>>,
    saved: mpsc::Receiver<CheckpointId>,
    began: Instant,
    next_tick: Instant,
    next_horizon: Instant,
    pub(super) retry_at: Option<Instant>,
    pub(super) retry_wait: Duration,
    log_moved: bool,
    resumed: bool,
}

enum Woke<P> {
    Saved(Option<CheckpointId>),
    Done(Done<P>),
    Log(Result<()>),
    Command(Command),
    Shutdown,
    Timer,
}

impl<C: SourceConnector> Capture<C> {
    pub(super) fn new(task: &SourceTask<C>, parts: CaptureParts<C>) -> Self {
        let now = Instant::now();
        Capture {
            connector: task.connector.clone(),
            make: task.make.clone(),
            transport: task.transport.clone(),
            clock: task.clock.clone(),
            board: task.board.clone(),
            metrics: task.metrics.clone(),
            engine: parts.engine,
            log: parts.log,
            encoder: parts.encoder,
            catalog: parts.catalog,
            outbox: parts.outbox,
            workers: parts.workers,
            pace: Pace::new(task.settings.pace, Duration::ZERO),
            items: Vec::new(),
            slice: Vec::new(),
            actions: Vec::new(),
            encoding_at_us: 0,
            topics: HashSet::new(),
            certificates: certificates_topic(&task.settings.encoder.topic_prefix),
            observed: Observed::new(now),
            cuts: Cuts::default(),
            added: BTreeSet::new(),
            snapshot_until: task.settings.start_snapshot_max.map(|longest| now + longest),
            refused: None,
            started: None,
            compared: None,
            next_comparison: 1,
            progress: HashMap::new(),
            shapes: HashMap::new(),
            saved: parts.saved,
            began: now,
            next_tick: now + TICK,
            next_horizon: now + HORIZON_EVERY,
            retry_at: None,
            retry_wait: TICK,
            log_moved: false,
            resumed: parts.resumed,
            settings: task.settings.clone(),
        }
    }

    /// Captures until the wish to stop, then drains. Not cancel-safe: a run that is dropped is begun anew from its
    /// checkpoint.
    pub(super) async fn run(&mut self, commands: &mut mpsc::Receiver<Command>, shutdown: &Shutdown) -> Result<()> {
        self.begin().await?;
        self.board.enter(State::Running);
        self.metrics.up.set(1);
        let stop = shutdown.requested();
        tokio::pin!(stop);
        let timer = tokio::time::sleep_until(self.next_tick);
        tokio::pin!(timer);
        loop {
            let wakes_at = self.wakes_at();
            if timer.deadline() != wakes_at {
                timer.as_mut().reset(wakes_at);
            }
            let woke = tokio::select! {
                read = self.log.next(&mut self.items), if self.items.is_empty() => Woke::Log(read),
                () = std::future::ready(()), if !self.items.is_empty() => Woke::Log(Ok(())),
                saved = self.saved.recv() => Woke::Saved(saved),
                done = self.workers.next() => Woke::Done(done),
                Some(command) = commands.recv() => Woke::Command(command),
                () = &mut stop => Woke::Shutdown,
                () = &mut timer => Woke::Timer,
            };
            match woke {
                Woke::Log(read) => {
                    read?;
                    self.log_read().await?;
                }
                Woke::Saved(saved) => self.saved(saved).await?,
                Woke::Done(done) => self.worker_done(done).await?,
                Woke::Command(command) => self.obey(command).await?,
                Woke::Shutdown => return self.drain().await,
                Woke::Timer => {}
            }
            self.keep_house().await?;
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The point that the log was opened at is committed first, before anything can be acknowledged. One that came from a
    /// checkpoint is durable already; the run before may have ended before it could say so.
    async fn begin(&mut self) -> Result<()> {
        if self.resumed {
            let position = self.engine.resume_point().position.clone();
            self.log.acknowledge(&position).await?;
            self.observed.acknowledged = Some(position.to_string());
        }
        self.give_up_renewals();
        self.commit_now().await?;
        self.spare_source().await?;
        self.step(Input::Retry).await?;
        self.request_first_copies().await
    }

    async fn log_read(&mut self) -> Result<()> {
        self.log_moved = true;
        // A checkpoint can only lie between two steps, so a batch larger than a commit is taken in slices.
        let slice = usize::try_from(self.settings.pace.events_max)
            .unwrap_or(usize::MAX)
            .max(1);
        if self.items.len() <= slice {
            self.engine.step_log(&mut self.items, &mut self.actions)?;
        } else {
            self.slice.extend(self.items.drain(..slice));
            self.engine.step_log(&mut self.slice, &mut self.actions)?;
        }
        self.act().await?;
        if self.engine.has_news() {
            self.pace.progressed();
            if self.metrics.windows_open.get() == 0 {
                reach(Phase::Stream);
            }
        }
        Ok(())
    }

    async fn saved(&mut self, saved: Option<CheckpointId>) -> Result<()> {
        let Some(id) = saved else {
            return Err(Error::new(ErrorKind::Cancelled, "the committer has ended"));
        };
        self.pace.committed();
        self.observed.last_saved = Instant::now();
        self.step(Input::CheckpointSaved(id)).await
    }

    async fn worker_done(&mut self, done: Done<C::Position>) -> Result<()> {
        if !matches!(
            done,
            Done::Failed { .. }
                | Done::Horizon(_)
                | Done::Spilled(_)
                | Done::Recalled { .. }
                | Done::SpillFailed(_)
                | Done::NotCompared { .. }
        ) {
            self.retry_wait = TICK;
        }
        match done {
            Done::Mark { mark, place } => self.step(Input::MarkWritten { mark, place }).await,
            Done::Chunk { chunk, rows } => {
                reach(Phase::Snapshot);
                self.metrics.chunk_rows.inc_by(rows.rows.len() as u64);
                self.metrics.chunk_seconds.observe(rows.took_us as f64 / 1e6);
                self.step(Input::ChunkRead { chunk, rows }).await
            }
            Done::Failed { chunk, error } => {
                self.metrics.chunk_failures.inc();
                tracing::warn!(chunk = chunk.0, %error, "a chunk failed");
                self.retry_at.get_or_insert(Instant::now() + self.retry_wait);
                self.retry_wait = (self.retry_wait * 2).min(CHUNK_RETRY_MAX);
                let class = error.class();
                let message = error.to_string();
                if class != Class::Retryable {
                    self.refused = Some(error);
                }
                // Before the chunk is tried again.
                self.watch_start_snapshot().await?;
                self.step(Input::ChunkFailed { chunk, class, message }).await
            }
            Done::Split { table, starts } => self.cut(table, starts).await,
            Done::Spilled(run) => self.step(Input::Spilled(run)).await,
            Done::Recalled { chunk, entries } => self.step(Input::Recalled { chunk, entries }).await,
            Done::SpillFailed(error) => {
                tracing::warn!(%error, "remembered keys cannot be kept outside memory");
                let message = error.to_string();
                self.step(Input::SpillFailed { message }).await
            }
            Done::Compared { number, finding } => self.found(number, finding).await,
            Done::NotCompared { number, table, error } => self.not_compared(number, table, error).await,
            Done::Horizon(horizon) => self.step(Input::VisibilityHorizon(horizon)).await,
        }
    }

    /// Tells the engine one thing and does what it asks for.
    pub(super) async fn step(&mut self, input: Input<C::Position>) -> Result<()> {
        self.engine.step(input, &mut self.actions)?;
        self.act().await?;
        if self.engine.has_news() {
            self.pace.progressed();
        }
        Ok(())
    }

    fn wakes_at(&self) -> Instant {
        let commit = self.pace.wakes_at().map(|at| self.began + at);
        commit.map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    async fn keep_house(&mut self) -> Result<()> {
        self.tell_findings().await?;
        let now = Instant::now();
        if self.pace.is_due(now - self.began) {
            self.commit_now().await?;
        }
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + TICK;
        if self.log_moved && now >= self.next_horizon {
            self.log_moved = false;
            self.next_horizon = now + HORIZON_EVERY;
            self.workers.horizon();
        }
        self.spare_source().await?;
        self.watch_start_snapshot().await?;
        self.copy_unlogged().await?;
        self.observe(now);
        self.begin_comparisons_again(now).await?;
        if self.retry_at.is_none_or(|at| now >= at) {
            self.retry_at = None;
            self.step(Input::Retry).await?;
        }
        Ok(())
    }

    /// Begins or ends to hold back chunks, as the source has enough to do or not.
    async fn spare_source(&mut self) -> Result<()> {
        let overload = self.log.overload();
        let before = std::mem::replace(&mut self.observed.overload, overload.clone());
        if before.is_some() == overload.is_some() {
            return Ok(());
        }
        match overload {
            Some(reason) => tracing::warn!(%reason, "the source has enough to do: copies wait, the log is read on"),
            None => tracing::info!("the source has less to do: copies go on"),
        }
        self.step(Input::Control(Control::Spare(before.is_none()))).await
    }

    /// Asks the engine for a checkpoint of this very moment, which may lie inside a transaction.
    pub(super) async fn commit_now(&mut self) -> Result<()> {
        if self.engine.resume_point().inside.is_some() {
            reach(Phase::InsideSplitTransaction);
        }
        self.engine.step(Input::CheckpointDue, &mut self.actions)?;
        self.act().await
    }

    /// Commits what was captured and tells the source. No further log is read; the caller bounds the time.
    async fn drain(&mut self) -> Result<()> {
        self.board.enter(State::Draining);
        self.commit_now().await?;
        while self.pace.is_committing() {
            let saved = self.saved.recv().await;
            self.saved(saved).await?;
            if self.engine.has_news() && !self.pace.is_committing() {
                self.commit_now().await?;
            }
        }
        self.observe(Instant::now());
        Ok(())
    }
}
