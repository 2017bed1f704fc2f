// SPDX-License-Identifier: Apache-2.0
//! The process that is measured: a pipeline as the product runs it, its transport wrapped in a tally.
//!
//! It reads one question a line from its standard input and answers each with one line of JSON.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highwater_core::change::Op;
use highwater_core::dblog::copy::CopyState;
use highwater_postgres::PostgresConnector;
use highwater_runtime::clock::SystemClock;
use highwater_runtime::connector::TaskParts;
use highwater_runtime::shutdown::{self, ShutdownSender};
use highwater_runtime::source_task::{COMMANDS_MAX, Command, Order, SnapshotRequest, SnapshotRequestRows};
use highwater_runtime::telemetry::logging::{self, LogFormat};
use highwater_runtime::telemetry::metrics::Metrics;
use highwater_runtime::telemetry::status::{State, StatusBoard};
use highwater_runtime::{Connector, PipelineFile, components, connector};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::child::{Question, Task};
use crate::failure::{Failure, Result};
use crate::tallied::TalliedTransport;
use crate::tally::{Status, Tally};

/// The longest that a snapshot's request may wait for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Runs the task in the file until it is told to stop.
pub(crate) fn run(file: &Path) -> Result<()> {
    logging::init(LogFormat::Text);
    let named =
        |what: &str, error: &dyn std::fmt::Display| Failure::during(format!("{what} {}", file.display()), error);
    let text = std::fs::read_to_string(file).map_err(|error| named("cannot read", &error))?;
    let task: Task = serde_json::from_str(&text).map_err(|error| named("cannot understand", &error))?;
    let folder = file.parent().unwrap_or(Path::new("."));
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::during("cannot start a runtime", error))?
        .block_on(async { Running::start(task, folder).await?.answer().await })
}

/// A pipeline that runs, and what is asked about it.
struct Running {
    tally: Arc<Tally>,
    board: Arc<StatusBoard>,
    metrics: Arc<Metrics>,
    commands: mpsc::Sender<Command>,
    stop: ShutdownSender,
    table: String,
    task: JoinHandle<highwater_core::Result<()>>,
}

impl Running {
    async fn start(task: Task, folder: &Path) -> Result<Self> {
        let file = PipelineFile::from_text(&task.pipeline, folder)?;
        let postgres: Arc<dyn Connector> = connector("postgres", PostgresConnector::new);
        let tally = Arc::new(Tally::new(task.topics, task.id_max, task.keeps_arrivals));
        let name = &file.pipeline.name;
        let (board, metrics) = (
            Arc::new(StatusBoard::new(name, "postgres")),
            Arc::new(Metrics::new(name)),
        );
        let inner = components::transport(&file.pipeline, &file.folder).await?;
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (stop, shutdown) = shutdown::channel();
        let parts = TaskParts {
            transport: Arc::new(TalliedTransport::new(inner, Arc::clone(&tally))),
            registry: components::registry(&file.pipeline, &file.folder).await?,
            clock: Arc::new(SystemClock::default()),
            settings: components::task_settings(&file.pipeline, &file.folder),
            board: Arc::clone(&board),
            metrics: Arc::clone(&metrics),
            commands: received,
            shutdown,
        };
        let settings = file.connector_settings()?;
        let task_future = postgres.run(Arc::new(move || Ok(settings.clone())), parts);
        Ok(Self {
            tally,
            board,
            metrics,
            commands,
            stop,
            table: task.table,
            task: tokio::spawn(task_future),
        })
    }

    /// Answers until the pipeline ends, by wish or by an error.
    async fn answer(mut self) -> Result<()> {
        let mut questions = BufReader::new(tokio::io::stdin()).lines();
        loop {
            let line = tokio::select! {
                line = questions.next_line() => line.map_err(|error| Failure::during("cannot read a question", error))?,
                ended = &mut self.task => {
                    ended.map_err(|error| Failure::during("the pipeline", error))??;
                    return Err(Failure::new("the pipeline ended before it was told to"));
                }
            };
            // Whoever asked is gone.
            let Some(line) = line else { return Ok(()) };
            match serde_json::from_str(&line).map_err(|error| Failure::during("a question", error))? {
                Question::Status => say(&self.status(false)?)?,
                Question::Snapshot => {
                    let asked = self.status(false)?;
                    self.snapshot().await?;
                    say(&asked)?;
                }
                Question::Stop => {
                    self.stop.request();
                    let ended = (&mut self.task).await;
                    ended.map_err(|error| Failure::during("the pipeline", error))??;
                    return say(&self.status(true)?);
                }
            }
        }
    }

    async fn snapshot(&self) -> Result<()> {
        let request = SnapshotRequest {
            table: self.table.clone(),
            rows: SnapshotRequestRows::All,
        };
        let (reply, answer) = oneshot::channel();
        let order = Order::Snapshot(vec![request]);
        let asked = self.commands.send(Command { order, reply }).await;
        asked.map_err(|error| Failure::during("asking for a snapshot", error))?;
        let answer = timeout(ANSWER_MAX, answer)
            .await
            .map_err(|_| Failure::new(format!("asking for a snapshot: no answer for {ANSWER_MAX:?}")))?;
        answer.map_err(|error| Failure::during("asking for a snapshot", error))??;
        Ok(())
    }

    fn status(&self, last: bool) -> Result<Status> {
        let mut status = self.tally.status(last)?;
        let board = self.board.read();
        status.captures = board.state == State::Running;
        let completed = board.snapshots.iter().filter(|copy| copy.state == CopyState::Completed);
        status.snapshots_done = completed.count() as u64;
        status.reads = self.metrics.events(Op::Read).get();
        status.log_events = self.metrics.events_total() - status.reads;
        status.rows_dropped = self.metrics.snapshot_rows_dropped.get();
        Ok(status)
    }
}

fn say(status: &Status) -> Result<()> {
    let line = serde_json::to_string(status).map_err(|error| Failure::during("an answer", error))?;
    println!("{line}");
    Ok(())
}
