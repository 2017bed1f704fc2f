// SPDX-License-Identifier: Apache-2.0
//! `highwater demo`: a Postgres of its own, three tables, a writer that keeps changing them, capture, and the proof.
//!
//! ```text
//!   writer ──▶ Postgres ──▶ pipeline (in this process) ──▶ topics ──replay──▶ compare key by key with the tables
//! ```

mod catalogue;
mod changes;
mod screen;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highwater_core::{Error, ErrorKind, Result};
use highwater_postgres::protocol::Lsn;
use highwater_runtime::control::Live;
use highwater_runtime::shutdown::{self, Shutdown};
use highwater_runtime::tail::{Tail, TailRequest};
use highwater_runtime::telemetry::logging::{self, LogFormat};
use highwater_runtime::telemetry::status::StatusBoard;
use highwater_runtime::{PipelineFile, PipelineHost};
use highwater_testbed::postgres::SUPERUSER;
use highwater_testbed::{Kafka, KafkaOptions, PgOptions, Postgres, Registry};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::args::{DemoArgs, DemoTransport};
use crate::connectors::connectors;
use crate::tail::text;
use changes::Changes;
use screen::Screen;

/// The demo's pipeline, slot, publication and prefix.
const NAME: &str = "demo";
/// How long changes are watched after the copies, before the first proof.
const WATCH: Duration = Duration::from_secs(4);
/// Decoded events that are shown.
const EVENTS_SHOWN: u64 = 6;
/// The longest that anything in the demo may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often something is looked at that tells nothing by itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the demo. An error when topics and tables differ.
pub async fn demo(args: DemoArgs) -> Result<()> {
    logging::init_showing(LogFormat::Text, "warn");
    let (sender, interrupted) = shutdown::channel();
    shutdown::on_signals(sender)?;
    let folder = tempfile::tempdir().map_err(|error| failed("a temporary folder", error))?;
    let servers = Servers::start(args.transport).await?;
    println!(
        "postgres {} at port {}",
        servers.postgres.version(),
        servers.postgres.port()
    );
    let client = servers
        .postgres
        .connect()
        .await
        .map_err(|error| failed("postgres", error))?;
    let filled = catalogue::fill(&client, args.rows).await?;
    println!("filled movies, people and cast with {} rows", screen::grouped(filled));
    let running = Running::start(&servers, folder.path())?;
    let writer = servers
        .postgres
        .connect()
        .await
        .map_err(|error| failed("postgres", error))?;
    let mut changes = Changes::start(writer);
    let shown = show(&running, &client, &mut changes, &interrupted, args.once).await;
    // The pipeline ends before its database does, also after an error.
    let ended = running.stop().await;
    let stopped = changes.stop().await;
    // A writer that failed is the cause of what follows from it.
    stopped.and(ended).and(shown)
}

async fn show(
    running: &Running,
    client: &Client,
    changes: &mut Changes,
    interrupted: &Shutdown,
    once: bool,
) -> Result<()> {
    let live = running.live().await?;
    let mut screen = Screen::new();
    screen.copies(&running.board, interrupted, PATIENCE).await?;
    if !interrupted.is_requested() {
        events(&live, changes, interrupted).await?;
        screen.stream(&running.board, changes, interrupted, Some(WATCH)).await;
        prove(running, &live, client, changes).await?;
    }
    if once {
        return Ok(());
    }
    if !interrupted.is_requested() {
        println!("changes go on; Ctrl-C ends with a last proof");
        changes.resume();
        screen.stream(&running.board, changes, interrupted, None).await;
    }
    prove(running, &live, client, changes).await
}

/// A few events as they come.
async fn events(live: &Live, changes: &Changes, interrupted: &Shutdown) -> Result<()> {
    println!("some events of {NAME}.public.movies:");
    let request = TailRequest {
        topic: format!("{NAME}.public.movies"),
        from_beginning: false,
        max: Some(EVENTS_SHOWN),
        until_end: false,
    };
    let mut tail = Tail::open(&*live.transport, live.registry.clone(), live.format, &request).await?;
    loop {
        tokio::select! {
            event = tail.next() => match event? {
                Some(event) => println!("  {}", text(&event)),
                None => return Ok(()),
            },
            () = interrupted.requested() => return Ok(()),
            // What stopped it is told when it is joined.
            () = changes.gone() => return Ok(()),
        }
    }
}

/// Stops the writer, waits until everything is in the topics, and compares.
async fn prove(running: &Running, live: &Live, client: &Client, changes: &mut Changes) -> Result<()> {
    changes.pause().await?;
    running.caught_up(client).await?;
    let proof = verify::verify(live, client, NAME).await?;
    println!("{proof}");
    if proof.differences() == 0 {
        return Ok(());
    }
    Err(
        Error::bug(format!("topics and tables differ in {} keys", proof.differences()))
            .with_fix("report it, with what the demo printed"),
    )
}

struct Servers {
    postgres: Postgres,
    kafka: Option<(Kafka, Registry)>,
}

impl Servers {
    async fn start(transport: DemoTransport) -> Result<Self> {
        let postgres = Postgres::start(PgOptions::default())
            .await
            .map_err(|error| failed("postgres", error))?;
        let kafka = match transport {
            DemoTransport::Embedded => None,
            DemoTransport::Kafka => {
                let kafka = Kafka::start(KafkaOptions::default())
                    .await
                    .map_err(|error| failed("kafka", error))?;
                let registry = Registry::start().await.map_err(|error| failed("the registry", error))?;
                println!("kafka at {}, registry at {}", kafka.bootstrap(), registry.url());
                Some((kafka, registry))
            }
        };
        Ok(Servers { postgres, kafka })
    }

    /// The pipeline as a person would write it. Small chunks, so that there is something to watch.
    fn pipeline(&self) -> String {
        let transport = match &self.kafka {
            None => "transport: embedded\n".to_owned(),
            Some((kafka, registry)) => format!(
                "transport: {{ kafka: {{ brokers: [\"{}\"] }} }}\nregistry: {{ confluent: {{ url: \"{}\" }} }}\n",
                kafka.bootstrap(),
                registry.url()
            ),
        };
        format!(
            "version: 1
name: {NAME}
source:
  connector: postgres
  settings:
    host: {host}
    port: {port}
    user: {SUPERUSER}
    database: postgres
    tables: {{ include: [\"public.*\"] }}
    heartbeat: {{ interval_ms: 200 }}
snapshot: {{ readers: 2, windows_max: 4, chunk_rows_max: 512 }}
checkpoint: {{ idle_ms: 100 }}
{transport}",
            host = self.postgres.host(),
            port = self.postgres.port(),
        )
    }
}

/// The pipeline in this process.
struct Running {
    host: Arc<PipelineHost>,
    board: Arc<StatusBoard>,
    stop: shutdown::ShutdownSender,
    task: JoinHandle<Result<()>>,
}

impl Running {
    fn start(servers: &Servers, folder: &Path) -> Result<Self> {
        let file = PipelineFile::from_text(&servers.pipeline(), folder)?;
        let host = Arc::new(PipelineHost::new(file, &connectors())?);
        let (stop, shutdown) = shutdown::channel();
        let runs = host.clone();
        Ok(Running {
            board: host.board(),
            host,
            stop,
            task: tokio::spawn(async move { runs.run(&shutdown).await }),
        })
    }

    async fn live(&self) -> Result<Live> {
        let mut live = self.host.live();
        let opened = tokio::time::timeout(PATIENCE, live.wait_for(Option::is_some)).await;
        match opened {
            Ok(Ok(live)) => live.clone().ok_or_else(|| self.why_not()),
            _ => Err(self.why_not()),
        }
    }

    /// Waits until everything that the database has written is durable in the topics.
    async fn caught_up(&self, client: &Client) -> Result<()> {
        let row = client
            .query_one("SELECT pg_current_wal_flush_lsn()::text", &[])
            .await
            .map_err(|error| failed("postgres", error))?;
        let target = lsn(row.get(0));
        let caught_up = async {
            while self.board.read().acknowledged_position.as_deref().and_then(lsn) < target {
                if self.task.is_finished() {
                    return Err(self.why_not());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        match tokio::time::timeout(PATIENCE, caught_up).await {
            Ok(done) => done,
            Err(_) => Err(self.why_not()),
        }
    }

    fn why_not(&self) -> Error {
        match self.board.read().last_error {
            Some(failure) => Error::new(ErrorKind::Unreachable, failure.message),
            None => Error::new(ErrorKind::Unreachable, "the pipeline did not get there in time"),
        }
    }

    async fn stop(self) -> Result<()> {
        self.stop.request();
        let ended = self.task.await;
        ended.map_err(|error| Error::bug("the pipeline panicked").with_source(error))?
    }
}

fn lsn(text: &str) -> Option<Lsn> {
    text.parse().ok()
}

fn failed(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unreachable, format!("the demo's work with {what} failed")).with_source(error)
}
