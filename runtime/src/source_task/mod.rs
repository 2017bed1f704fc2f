// SPDX-License-Identifier: Apache-2.0
//! The loop that drives one source into one transport.
//!
//! ```text
//!   LogReader ─┐                                       ┌─▶ Encoder ─▶ Outbox ══▶ Committer ─▶ Writer (transaction)
//!   chunks  ───┼─▶ Engine::step ─▶ actions ────────────┼─▶ Workers (read chunk, write mark)        │
//!   marks   ───┤                                       └─▶ LogReader::acknowledge                  │
//!   timers  ───┤                                                                                   │
//!   saved   ◀──┴───────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Why nothing is lost and nothing repeated: a run opens its writer, which fences every earlier one; reads the last
//! committed checkpoint; opens the log there. Events leave only in the transaction that holds the checkpoint covering
//! them. The source hears of a position only after the checkpoint that holds it was committed. Whatever fails, the run is
//! thrown away whole and the next one begins at the checkpoint.
//!
//! Memory is bounded: one batch of the log, one chunk for each open window (the engine's settings), [`outbox`]'s queue.
//! What a copy as of a moment remembers beyond that goes to files ([`crate::file_spill`]).

mod act;
mod attempt;
mod begin_anew;
mod capture;
mod committer;
mod compared;
mod comparing;
mod cuts;
mod observe;
mod outbox;
mod pace;
mod renewing;
mod requests;
pub(crate) mod retry;
mod spilling;
mod start_snapshot;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_core::clock::Clock;
use highwater_core::connector::SourceConnector;
use highwater_core::dblog::input::Control;
use highwater_core::dblog::settings::EngineSettings;
use highwater_core::transport::{Cleanup, Transport, WriterId};
use highwater_core::{Class, Error, ErrorKind, Result};
use highwater_formats::{EncoderSettings, SchemaRegistry};
use tokio::sync::{mpsc, oneshot};

use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::{State, StatusBoard};

pub use begin_anew::BegunAnew;
pub use comparing::RenewalLimits;
pub use pace::PaceSettings;
pub use requests::{SnapshotRequest, SnapshotRequestRows};
pub use retry::RetrySettings;

/// Commands that may wait for the capture loop.
pub const COMMANDS_MAX: usize = 16;

/// The topic of certificates of a prefix.
pub fn certificates_topic(prefix: &str) -> Arc<str> {
    format!("{prefix}.__certificates").into()
}

/// Topics that a task creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Partitions of a table's topic.
    pub partitions: u32,
    /// How old records of a table's topic leave.
    pub cleanup: Cleanup,
    /// Age after which they may.
    pub retention: Option<Duration>,
}

/// Settings of a [`SourceTask`].
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// Names the writer over restarts.
    pub writer: WriterId,
    /// How events are written.
    pub encoder: EncoderSettings,
    /// Topics.
    pub topics: TopicSettings,
    /// The engine's limits.
    pub engine: EngineSettings,
    /// Whether tables are copied when they are first captured.
    pub initial_snapshot: bool,
    /// The longest that first copies are read from the snapshot of the log's start; `None`: they are read between marks.
    pub start_snapshot_max: Option<Duration>,
    /// What making tables right again after their log was lost may hold.
    pub renewal: RenewalLimits,
    /// When to commit.
    pub pace: PaceSettings,
    /// What happens while a server is down.
    pub retry: RetrySettings,
    /// The longest that draining may take.
    pub drain_max: Duration,
    /// Where a copy that is read as of a moment may keep what it remembers of the log beyond its memory; memory only where
    /// it is left out. Nobody else may use the folder.
    pub spill_folder: Option<PathBuf>,
}

/// What a person asks of a running task.
#[derive(Debug)]
pub enum Order {
    /// Copy these; the answer has the numbers of the snapshots.
    Snapshot(Vec<SnapshotRequest>),
    /// Steer snapshots.
    Control(Control),
    /// Read the settings again and capture tables that they now name.
    Reload,
}

/// An order and where its answer goes: JSON for people and programs.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub order: Order,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<serde_json::Value>>,
}

/// Makes a connector from settings as they are now, for [`Order::Reload`].
pub type MakeConnector<C> = Arc<dyn Fn() -> Result<C> + Send + Sync>;

/// One source and where it goes.
pub struct SourceTask<C: SourceConnector> {
    /// The database.
    pub connector: Arc<C>,
    /// Reads the settings again.
    pub make: MakeConnector<C>,
    /// Where events go.
    pub transport: Arc<dyn Transport>,
    /// Where schemas are registered.
    pub registry: Arc<dyn SchemaRegistry>,
    /// Time for envelopes and status.
    pub clock: Arc<dyn Clock>,
    /// Its settings.
    pub settings: TaskSettings,
    /// Where its status stands.
    pub board: Arc<StatusBoard>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// What people ask.
    pub commands: mpsc::Receiver<Command>,
    /// The wish to stop.
    pub shutdown: Shutdown,
}

impl<C: SourceConnector> SourceTask<C> {
    /// Captures until the wish to stop; then commits what was captured, tells the source and returns. Retryable errors
    /// are tried again from the checkpoint for as long as the settings say.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] when another copy took over; errors of class user and fatal; the last retryable error when
    /// it gave up.
    pub async fn run(&mut self) -> Result<()> {
        let mut backoff = retry::Backoff::new(self.settings.retry);
        loop {
            self.board.enter(State::Opening);
            let committed = self.metrics.commits.get();
            let ended = self.attempt().await;
            self.metrics.up.set(0);
            let Err(error) = ended else {
                self.board.enter(State::Stopped);
                return Ok(());
            };
            self.board.fail(&error, self.clock.now_us());
            if error.kind() == ErrorKind::Fenced {
                return Err(error);
            }
            if error.class() != Class::Retryable {
                self.board.enter(State::Stopped);
                return Err(error);
            }
            if self.shutdown.is_requested() {
                return self.stop_unreachable(&error);
            }
            if self.metrics.commits.get() > committed {
                backoff.succeeded();
            }
            let Some(wait) = backoff.failed(self.clock.monotonic(), crate::chance::spread()) else {
                self.board.enter(State::Stopped);
                return Err(error);
            };
            self.wait_to_retry(&error, wait).await;
        }
    }

    async fn wait_to_retry(&mut self, error: &Error, wait: Duration) {
        self.metrics.retries.inc();
        self.board.enter(State::Retrying);
        tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "trying again from the checkpoint");
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.shutdown.requested() => return,
                Some(command) = self.commands.recv() => refuse(command, error),
            }
        }
    }

    /// The wish to stop came while something is down. What was not committed is captured again by the next run.
    fn stop_unreachable(&self, error: &Error) -> Result<()> {
        tracing::warn!(%error, "stopped without a last commit; the next run goes on from the checkpoint");
        self.board.enter(State::Stopped);
        Ok(())
    }
}

fn refuse(command: Command, error: &Error) {
    let answer = Error::new(
        ErrorKind::Unreachable,
        format!("the pipeline waits to try again: {}", error.message()),
    );
    let _ = command.reply.send(Err(answer));
}
