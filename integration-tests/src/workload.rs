// SPDX-License-Identifier: Apache-2.0
//! Writers that keep changing the tables, and a journal of what they committed.
//!
//! Each key belongs to one writer, so that the order of its changes is known; keys of all writers are mixed in every
//! table, so that transactions interleave everywhere. All choices follow from the seed.

use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::database::{Database, text};
use crate::journal::{Change, Journal};
use crate::table::{Revision, Table};
use crate::writer::{Writer, counts};

/// What the writers do.
#[derive(Debug, Clone)]
pub struct WorkloadSettings {
    /// All choices follow from it.
    pub seed: u64,
    /// The schema that the tables lie in; made by the workload.
    pub schema: String,
    /// Sessions that write at once.
    pub writers: u64,
    /// Rows of each table before the writers start.
    pub rows: u64,
    /// Whether one table is truncated now and then: only where its topic has one partition.
    pub truncates: bool,
    /// Of 1,000 transactions, how many are large.
    pub large_per_mille: u32,
    /// Rows of a large transaction at most.
    pub large_rows_max: u64,
    /// The longest pause between two transactions of a writer, in milliseconds.
    pub pause_ms_max: u64,
}

impl WorkloadSettings {
    /// A middling load.
    pub fn new(seed: u64, schema: &str) -> Self {
        WorkloadSettings {
            seed,
            schema: schema.to_owned(),
            writers: 3,
            rows: 2_000,
            truncates: true,
            large_per_mille: 15,
            large_rows_max: 1_500,
            pause_ms_max: 30,
        }
    }

    /// Key numbers of each table: some are free, so that there is something to insert.
    pub fn key_space(&self) -> u64 {
        self.rows + self.rows / 2 + 300
    }
}

/// What the writers are to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    Pause,
    Stop,
}

/// Writers at work. Dropped without [`Workload::stop`], they are cut off in the middle.
#[derive(Debug)]
pub struct Workload {
    settings: WorkloadSettings,
    database: Database,
    journal: Arc<Journal>,
    mode: watch::Sender<Mode>,
    idle: watch::Receiver<u64>,
    tasks: Vec<JoinHandle<()>>,
}

/// The longest that writers may take to finish a transaction.
const QUIET_LIMIT: Duration = Duration::from_secs(60);

impl Workload {
    /// Makes the tables and their first rows, and the writers, who wait for [`Workload::write`].
    pub async fn prepare(database: &Database, settings: WorkloadSettings) -> Self {
        let journal = Arc::new(Journal::default());
        let (mode, heard) = watch::channel(Mode::Pause);
        let (idle_sender, idle) = watch::channel(0);
        let schema = &settings.schema;
        database.run(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await;
        let counts = counts(schema);
        let made = format!(
            "CREATE SCHEMA {schema}_counts; CREATE TABLE {counts} (writer bigint PRIMARY KEY, last bigint NOT NULL); \
             INSERT INTO {counts} SELECT n, 0 FROM generate_series(0, {} - 1) n",
            settings.writers
        );
        database.run(&made).await;
        let client = database.connect().await;
        for table in Table::ALL {
            client
                .batch_execute(&table.ddl(schema))
                .await
                .expect("the table's definition");
            fill(&client, &settings, table, &journal).await;
        }
        client.batch_execute("ANALYZE").await.expect("statistics");
        let tasks = (0..settings.writers)
            .map(|number| {
                let rng = StdRng::seed_from_u64(settings.seed ^ (number << 32));
                let mut writer = Writer::new(number, settings.clone(), database.clone(), Arc::clone(&journal), rng);
                let (mut heard, idle) = (heard.clone(), idle_sender.clone());
                tokio::spawn(async move { writer.run(&mut heard, &idle).await })
            })
            .collect();
        Workload {
            settings,
            database: database.clone(),
            journal,
            mode,
            idle,
            tasks,
        }
    }

    /// The history so far.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The settings.
    pub fn settings(&self) -> &WorkloadSettings {
        &self.settings
    }

    /// Lets the writers write.
    pub fn write(&self) {
        self.mode.send_replace(Mode::Write);
    }

    /// Waits until every writer rests between transactions, and the journal is complete.
    pub async fn pause(&mut self) {
        self.mode.send_replace(Mode::Pause);
        let writers = self.settings.writers;
        let all = self.idle.wait_for(|idle| *idle == writers);
        tokio::time::timeout(QUIET_LIMIT, all)
            .await
            .expect("writers rest in time")
            .expect("a writer has not died");
    }

    /// Waits until the writers have recorded `changes` more changes than now.
    pub async fn wrote(&self, changes: usize) {
        let target = self.journal.len() + changes;
        let journal = &self.journal;
        highwater_testbed::wait::until(QUIET_LIMIT, "further changes of the writers", || async move {
            Ok((journal.len() >= target).then_some(()))
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Ends the writers and waits for them; a writer's panic is the test's.
    pub async fn stop(&mut self) {
        self.pause().await;
        self.mode.send_replace(Mode::Stop);
        for task in self.tasks.drain(..) {
            task.await.expect("a writer ends well");
        }
    }

    /// Compares the tables with the journal: what the oracle itself stands on.
    ///
    /// # Panics
    /// When they differ.
    pub async fn verify_tables(&self) {
        let client = self.database.connect().await;
        let histories = self.journal.histories();
        for table in Table::ALL {
            let alive = histories
                .iter()
                .filter(|((of, _), _)| *of == table)
                .filter_map(|(_, history)| match history.last()?.change {
                    Change::Put(revision) => Some(i128::from(revision.number)),
                    _ => None,
                });
            let (count, sum) = alive.fold((0_u64, 0_i128), |(count, sum), rev| (count + 1, sum + rev));
            let name = format!("{}.{}", self.settings.schema, table.name());
            let found = text(
                &client,
                &format!("SELECT count(*) || ' ' || coalesce(sum(rev), 0) FROM {name}"),
            )
            .await;
            assert_eq!(found, format!("{count} {sum}"), "journal and table {name} differ");
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Puts the first rows of a table, every key below `rows`, in one transaction.
async fn fill(client: &Client, settings: &WorkloadSettings, table: Table, journal: &Journal) {
    client.batch_execute("BEGIN").await.expect("begin");
    let transaction = text(client, "SELECT pg_current_xact_id()")
        .await
        .parse()
        .expect("a transaction's number");
    let columns: Vec<&str> = row(table, 0).into_iter().map(|(name, _)| name).collect();
    let statement = format!(
        "COPY {}.{} ({}) FROM STDIN",
        settings.schema,
        table.name(),
        columns.join(", ")
    );
    let sink = client.copy_in(&statement).await.expect("copy");
    let mut sink = std::pin::pin!(sink);
    let mut changes = Vec::new();
    for key in 0..settings.rows {
        let fields: Vec<String> = row(table, key).into_iter().map(|(_, cell)| cell.copy()).collect();
        sink.send(bytes::Bytes::from(fields.join("\t") + "\n"))
            .await
            .expect("a row");
        changes.push(((table, key), Change::Put(FIRST)));
    }
    sink.close().await.expect("the end of the copy");
    client.batch_execute("COMMIT").await.expect("commit");
    journal.record(transaction, &changes);
}

/// The revision of the first rows.
pub(crate) const FIRST: Revision = Revision { number: 1, wide: 1 };

fn row(table: Table, key: u64) -> Vec<(&'static str, crate::cell::Cell)> {
    table.key(key).into_iter().chain(table.content(key, FIRST)).collect()
}
