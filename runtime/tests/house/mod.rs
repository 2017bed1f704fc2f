// SPDX-License-Identifier: Apache-2.0
//! What the tests of the loop share: a fake database, a transport that can fail, and what must be true of the topics.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::connector::SourceConnector;
use highwater_core::dblog::settings::EngineSettings;
use highwater_core::transport::{
    Cleanup, GroupId, Offsets, Reader, RecordBatch, StartAt, TopicInfo, TopicSpec, Transport, Txn, Writer, WriterId,
};
use highwater_core::{Error, ErrorKind, Result};
use highwater_formats::registry::embedded::EmbeddedRegistry;
use highwater_formats::{EncoderSettings, Format, SchemaRegistry};
use highwater_runtime::clock::SystemClock;
use highwater_runtime::shutdown::{self, ShutdownSender};
use highwater_runtime::source_task::{
    COMMANDS_MAX, Command, Order, PaceSettings, RenewalLimits, RetrySettings, SourceTask, TaskSettings, TopicSettings,
};
use highwater_runtime::tail::{Tail, TailRequest};
use highwater_runtime::telemetry::metrics::Metrics;
use highwater_runtime::telemetry::status::{Status, StatusBoard};
use highwater_testkit::fake::FakeServer;
use highwater_testkit::model::Write;
use highwater_transport::memory::MemoryTransport;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn put(table: usize, id: u64) -> Write {
    Write::Put { table, id, big: true }
}

/// Two tables with rows.
pub fn filled(rows: u64) -> FakeServer {
    let server = FakeServer::new(2);
    (1..=rows).for_each(|id| server.write(vec![put(0, id), put(1, id)]));
    server
}

/// Writes to both tables, as many times as they have rows.
#[allow(dead_code, reason = "not every test of the loop writes so")]
pub fn churn(server: &FakeServer, rows: u64) {
    for n in 0..rows {
        let (id, other) = (1 + n * 7 % rows, 1 + n * 11 % rows);
        server.write(vec![put(0, id), Write::Delete { table: 1, id: other }, put(1, id)]);
    }
}

/// A place where the transport can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    OpenWriter,
    /// A reader of a table's topic is opened.
    OpenReader,
    Append,
    CommitBefore,
    /// The commit takes effect and its answer is lost.
    CommitAfter,
    /// The append never returns.
    AppendForEver,
}

/// What happens each time before readers of topics are opened.
type Meanwhile = Arc<dyn Fn(Vec<String>) -> BoxFuture<'static, ()> + Send + Sync>;

type Plan = Arc<Mutex<VecDeque<(Spot, ErrorKind)>>>;

/// A transport in memory whose next calls fail as planned.
#[derive(Clone)]
pub struct Flaky {
    pub inner: Arc<MemoryTransport>,
    plan: Plan,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
    readers: Arc<AtomicUsize>,
}

fn strike(plan: &Plan, spot: Spot) -> Result<()> {
    let mut plan = plan.lock().unwrap();
    match plan.front() {
        Some((planned, kind)) if *planned == spot => {
            let kind = *kind;
            plan.pop_front();
            Err(Error::new(kind, format!("injected fault at {spot:?}")).with_fix("wait"))
        }
        _ => Ok(()),
    }
}

impl Flaky {
    pub fn new() -> Self {
        Flaky {
            inner: Arc::new(MemoryTransport::new()),
            plan: Plan::default(),
            meanwhile: Arc::default(),
            readers: Arc::default(),
        }
    }

    /// Does this before each reader is opened, or nothing any more.
    pub fn meanwhile(&self, act: Option<Meanwhile>) {
        *self.meanwhile.lock().unwrap() = act;
    }

    /// Readers that were opened so far.
    pub fn readers_opened(&self) -> usize {
        self.readers.load(Ordering::SeqCst)
    }

    pub fn fail(&self, spot: Spot, kind: ErrorKind, times: usize) {
        self.plan
            .lock()
            .unwrap()
            .extend(std::iter::repeat_n((spot, kind), times));
    }

    /// What was to fail and did not yet does not.
    pub fn forget_faults(&self) {
        self.plan.lock().unwrap().clear();
    }

    pub fn faults_left(&self) -> usize {
        self.plan.lock().unwrap().len()
    }
}

#[async_trait]
impl Transport for Flaky {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        self.inner.ensure_topics(topics).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.inner.topics().await
    }

    async fn open_writer(&self, id: &WriterId) -> Result<Box<dyn Writer>> {
        strike(&self.plan, Spot::OpenWriter)?;
        Ok(Box::new(FlakyWriter {
            inner: self.inner.open_writer(id).await?,
            plan: self.plan.clone(),
        }))
    }

    async fn open_reader(&self, topics: &[String], group: Option<&GroupId>, start: StartAt) -> Result<Box<dyn Reader>> {
        strike(&self.plan, Spot::OpenReader)?;
        self.readers.fetch_add(1, Ordering::SeqCst);
        let act = self.meanwhile.lock().unwrap().clone();
        if let Some(act) = act {
            act(topics.to_vec()).await;
        }
        self.inner.open_reader(topics, group, start).await
    }
}

struct FlakyWriter {
    inner: Box<dyn Writer>,
    plan: Plan,
}

#[async_trait]
impl Writer for FlakyWriter {
    async fn checkpoint(&mut self) -> Result<Option<Checkpoint>> {
        self.inner.checkpoint().await
    }

    async fn begin(&mut self) -> Result<Box<dyn Txn + '_>> {
        let plan = self.plan.clone();
        Ok(Box::new(FlakyTxn {
            inner: self.inner.begin().await?,
            plan,
        }))
    }
}

struct FlakyTxn<'a> {
    inner: Box<dyn Txn + 'a>,
    plan: Plan,
}

#[async_trait]
impl Txn for FlakyTxn<'_> {
    async fn announce(&mut self, topics: &[&str]) -> Result<()> {
        self.inner.announce(topics).await
    }

    async fn append(&mut self, topic: &str, batch: &RecordBatch) -> Result<()> {
        strike(&self.plan, Spot::Append)?;
        if strike(&self.plan, Spot::AppendForEver).is_err() {
            std::future::pending::<()>().await;
        }
        self.inner.append(topic, batch).await
    }

    async fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.inner.put_checkpoint(checkpoint).await
    }

    async fn commit_offsets(&mut self, group: &GroupId, offsets: &Offsets) -> Result<()> {
        self.inner.commit_offsets(group, offsets).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        strike(&self.plan, Spot::CommitBefore)?;
        self.inner.commit().await?;
        strike(&self.plan, Spot::CommitAfter)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}

/// Quick settings: small commits, short waits.
pub fn settings() -> TaskSettings {
    let ms = Duration::from_millis;
    let mut encoder = EncoderSettings::new("shop");
    encoder.format = Format::Avro;
    TaskSettings {
        writer: WriterId("shop".to_owned()),
        encoder,
        topics: TopicSettings {
            partitions: 3,
            cleanup: Cleanup::Delete,
            retention: None,
        },
        engine: EngineSettings {
            chunk_rows_start: 7,
            chunk_rows_min: 1,
            chunk_rows_max: 7,
            ..EngineSettings::default()
        },
        initial_snapshot: true,
        start_snapshot_max: None,
        renewal: RenewalLimits::default(),
        pace: PaceSettings {
            linger: ms(1),
            events_max: 20,
            bytes_max: 1 << 20,
            idle: ms(10),
        },
        retry: RetrySettings {
            first: ms(5),
            longest: ms(20),
            give_up_after: ms(20_000),
        },
        drain_max: ms(5_000),
        spill_folder: None,
    }
}

/// A task that has not begun, and how it is told something.
pub fn task<C: SourceConnector>(
    make: impl Fn() -> C + Send + Sync + 'static,
    transport: &Flaky,
    registry: &Arc<dyn SchemaRegistry>,
    settings: TaskSettings,
) -> (SourceTask<C>, ShutdownSender, mpsc::Sender<Command>) {
    let (stop, shutdown) = shutdown::channel();
    let (commands, received) = mpsc::channel(COMMANDS_MAX);
    let task = SourceTask {
        connector: Arc::new(make()),
        make: Arc::new(move || Ok(make())),
        transport: Arc::new(transport.clone()),
        registry: registry.clone(),
        clock: Arc::new(SystemClock::default()),
        settings,
        board: Arc::new(StatusBoard::new("shop", "fake")),
        metrics: Arc::new(Metrics::new("shop")),
        commands: received,
        shutdown,
    };
    (task, stop, commands)
}

/// A running task.
pub struct Running {
    pub board: Arc<StatusBoard>,
    pub metrics: Arc<Metrics>,
    pub stop: ShutdownSender,
    commands: mpsc::Sender<Command>,
    pub task: JoinHandle<Result<()>>,
}

impl Running {
    pub fn start<C: SourceConnector>(
        make: impl Fn() -> C + Send + Sync + 'static,
        transport: &Flaky,
        registry: &Arc<dyn SchemaRegistry>,
        settings: TaskSettings,
    ) -> Self {
        let (mut task, stop, commands) = task(make, transport, registry, settings);
        let (board, metrics) = (task.board.clone(), task.metrics.clone());
        Running {
            board,
            metrics,
            stop,
            commands,
            task: tokio::spawn(async move { task.run().await }),
        }
    }

    pub async fn order(&self, order: Order) -> Result<Value> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command { order, reply }).await;
        assert!(sent.is_ok(), "the task listens");
        answer.await.expect("the task answers")
    }

    /// Waits until the status is as wanted.
    pub async fn shows(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.board.read();
            if wanted(&status) {
                return status;
            }
            assert!(!self.task.is_finished(), "the task ended before {what}: {status:#?}");
            assert!(tokio::time::Instant::now() < until, "no {what}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn copied(&self, tables: usize) {
        self.shows("finished copies", |status| {
            status.tables.len() >= tables && status.tables.values().all(|table| table.copied)
        })
        .await;
    }

    /// Asks it to stop and waits for its end.
    pub async fn drain(self) -> Result<()> {
        self.stop.request();
        self.ended().await
    }

    pub async fn ended(self) -> Result<()> {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("an end in time")
            .expect("no panic")
    }
}

pub fn registry() -> Arc<dyn SchemaRegistry> {
    Arc::new(EmbeddedRegistry::in_memory())
}

/// Replays the topics and requires: what is replayed is what the database holds; no change of the log is there twice; no
/// key ever goes back in time. Gives the number of events.
pub async fn assert_faithful(
    server: &FakeServer,
    transport: &dyn Transport,
    registry: &Arc<dyn SchemaRegistry>,
) -> usize {
    let tables = server.with(|database| database.tables.len());
    let mut count = 0;
    for table in 0..tables {
        let request = TailRequest {
            topic: format!("shop.public.t{table}"),
            from_beginning: true,
            max: None,
            until_end: true,
        };
        let mut tail = Tail::open(transport, registry.clone(), Format::Avro, &request)
            .await
            .expect("a topic");
        let mut rows: HashMap<u64, u64> = HashMap::new();
        let mut newest: HashMap<u64, u64> = HashMap::new();
        while let Some(event) = tail.next().await.expect("an event that reads back") {
            count += 1;
            let id = event.key.as_ref().and_then(|key| key["id"].as_u64()).expect("a key");
            let Some(value) = event.value else { continue };
            let Some(after) = value.get("after").filter(|after| !after.is_null()) else {
                rows.remove(&id);
                continue;
            };
            let a = after["a"].as_u64().expect("column a");
            let last = newest.insert(id, a).unwrap_or(0);
            if value["op"] == "r" {
                assert!(a >= last, "t{table} {id}: a copy went back from {last} to {a}");
            } else {
                assert!(
                    a > last,
                    "t{table} {id}: {a} after {last} is a repetition or out of order"
                );
            }
            rows.insert(id, a);
        }
        let held: HashMap<u64, u64> = server.with(|database| {
            let ids: Vec<u64> = database.tables[table].rows.keys().copied().collect();
            ids.into_iter()
                .filter_map(|id| Some((id, database.last(table, id)?.cells[0]?)))
                .collect()
        });
        assert_eq!(rows, held, "table t{table}");
    }
    count
}
