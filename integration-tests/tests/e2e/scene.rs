// SPDX-License-Identifier: Apache-2.0
//! A database, a pipeline and where it leads: what most tests begin with.

use std::sync::Arc;
use std::time::Duration;

use highwater_core::transport::Record;
use highwater_formats::DecodedEvent;
use highwater_integration_tests::database::Database;
use highwater_integration_tests::event::EventReader;
use highwater_integration_tests::journal_check::{Extent, Verdict, check};
use highwater_integration_tests::pipeline_file::PipelineFile;
use highwater_integration_tests::process::{Ended, Process};
use highwater_integration_tests::read_back::Destination;
use highwater_integration_tests::table::Table;
use highwater_integration_tests::workload::{Workload, WorkloadSettings};
use highwater_testbed::{Kafka, Postgres, Registry, TestDatabase};
use serde_json::Value;

/// The longest that a pipeline may take to get through what a test gives it, on a machine that also compiles: more than the
/// 180 s that opening a writer of Kafka may take by its own settings (an operation, and another writer's transaction).
pub const LIMIT: Duration = Duration::from_secs(300);

/// A pipeline with its surroundings.
pub struct Scene {
    pub database: Database,
    pub file: PipelineFile,
    pub destination: Destination,
    // Held for as long as the scene lasts; the database goes when it goes.
    _shared: Option<TestDatabase>,
    _kafka: Option<(Arc<Kafka>, Arc<Registry>)>,
}

impl Scene {
    /// A database of its own on the shared Postgres 17, and the tables `sql` makes, into the embedded transport.
    pub async fn new(sql: &str, tables: &[&str]) -> Self {
        Self::of_major(17, sql, tables).await
    }

    /// As [`Scene::new`] on another major.
    pub async fn of_major(major: u16, sql: &str, tables: &[&str]) -> Self {
        let shared = Postgres::shared(major).await.unwrap();
        let mut scene = Self::at(Database::of(&shared), sql, tables).await;
        scene._shared = Some(shared);
        scene
    }

    /// In a database that the test keeps, into the embedded transport.
    pub async fn at(database: Database, sql: &str, tables: &[&str]) -> Self {
        database.run(sql).await;
        let file = PipelineFile::embedded(&database, tables);
        let destination = Destination::Embedded { store: file.store() };
        Scene {
            database,
            file,
            destination,
            _shared: None,
            _kafka: None,
        }
    }

    /// A database of its own into the shared Kafka.
    pub async fn kafka(major: u16, sql: &str, tables: &[&str]) -> Self {
        let shared = Postgres::shared(major).await.unwrap();
        let (kafka, registry) = (Kafka::shared().await.unwrap(), Registry::shared().await.unwrap());
        let mut scene = Self::kafka_at(Database::of(&shared), sql, tables, &kafka.bootstrap(), &registry.url()).await;
        scene._shared = Some(shared);
        scene._kafka = Some((kafka, registry));
        scene
    }

    /// In a database that the test keeps, into a broker and registry that it keeps.
    pub async fn kafka_at(database: Database, sql: &str, tables: &[&str], brokers: &str, registry: &str) -> Self {
        database.run(sql).await;
        let file = PipelineFile::kafka(&database, tables, brokers, registry);
        let (brokers, registry) = (brokers.to_owned(), registry.to_owned());
        Scene {
            database,
            file,
            destination: Destination::Kafka { brokers, registry },
            _shared: None,
            _kafka: None,
        }
    }

    /// Starts the pipeline.
    pub fn run(&self) -> Process {
        self.file.run()
    }

    /// Starts the pipeline and waits for its end with an error.
    pub async fn fails(&self) -> Ended {
        self.run().ended(LIMIT).await
    }

    /// Waits until everything that is committed now was acknowledged, and no row is to be read any more. For a database
    /// that nobody writes to.
    pub async fn caught_up(&self, process: &mut Process) {
        self.copied(process).await;
        self.acknowledged(process).await;
        let now_us = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
        self.status_shows(process, "an idle pipeline", |status| {
            let at_us = status["at_us"].as_i64().unwrap_or_default();
            i128::from(at_us) > now_us as i128 && copies(status).all(|copy| !runs(copy))
        })
        .await;
    }

    /// Waits until everything that is committed now was acknowledged.
    pub async fn acknowledged(&self, process: &mut Process) {
        let acknowledged = self.database.acknowledged(self.file.name(), LIMIT);
        tokio::select! {
            () = acknowledged => {}
            ended = process.ended(LIMIT * 2) => panic!("highwater ended ({:?}) before it caught up:\n{}", ended.code, ended.err),
        }
    }

    /// Waits until the pipeline has made the copies that were asked for; repairs of single rows may go on.
    pub async fn copied(&self, process: &mut Process) {
        self.status_shows(process, "a pipeline that has copied its tables", has_copied)
            .await;
    }

    /// Waits until the status is as wanted.
    pub async fn status_shows(&self, process: &mut Process, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = std::time::Instant::now();
        loop {
            let looked = std::time::Instant::now();
            let status = self.file.status().await;
            if status.as_ref().is_some_and(&wanted) {
                return status.unwrap_or_default();
            }
            assert!(
                process.is_running(),
                "highwater ended before {what}:\n{}",
                process.err_tail()
            );
            assert!(
                begun.elapsed() < LIMIT,
                "no {what} in {LIMIT:?}; status {status:#?}\n{}",
                process.err_tail()
            );
            // The status of many tables is long: most of the time is the pipeline's to work in.
            tokio::time::sleep(Duration::from_millis(20).max(4 * looked.elapsed())).await;
        }
    }

    /// Lets the pipeline catch up, ends it with SIGTERM and requires a good end.
    pub async fn finish(&self, process: &mut Process) {
        self.caught_up(process).await;
        process.terminate().await.with_code(0);
    }

    /// The committed records of a table's topic, decoded. The embedded transport's process must have ended.
    pub async fn read(&self, schema: &str, table: &str) -> Vec<(Record, DecodedEvent)> {
        let topics = [self.file.topic(schema, table)];
        self.destination.settled(&topics).await;
        self.destination.decoded(&topics).await
    }

    /// Reads the workload's topics back and requires that they are the journal, whole.
    pub async fn equals_the_journal(&self, workload: &Workload) {
        self.compared(workload, Extent::Whole).await.assert_right();
    }

    /// Reads the workload's topics back and compares them with the journal.
    pub async fn compared(&self, workload: &Workload, extent: Extent) -> Verdict {
        let topics = self.workload_topics(workload);
        if extent == Extent::Whole {
            self.destination.settled(&topics).await;
        }
        let reader = EventReader::new(workload.settings().key_space());
        let (events, faults) = self.destination.events(&topics, &reader).await;
        let mut verdict = check(&events, &workload.journal().histories(), extent);
        verdict.faults.splice(0..0, faults);
        verdict
    }

    /// The topics of the workload's tables.
    pub fn workload_topics(&self, workload: &Workload) -> Vec<String> {
        let schema = &workload.settings().schema;
        Table::ALL
            .iter()
            .map(|table| self.file.topic(schema, table.name()))
            .collect()
    }

    /// A table's events in short: the op and the key's first column, such as `c 7`; `-` for a tombstone.
    pub async fn ops(&self, table: &str) -> Vec<String> {
        self.read("public", table)
            .await
            .iter()
            .map(|(_, event)| short(event))
            .collect()
    }
}

/// Whether the status is that of a pipeline that runs and has made the copies that were asked for.
pub fn has_copied(status: &Value) -> bool {
    let seen = status["tables"].as_object().is_some_and(|tables| !tables.is_empty());
    status["state"] == "running" && seen && copies(status).all(|copy| copy["snapshot"] == 0 || !runs(copy))
}

pub fn copies(status: &Value) -> impl Iterator<Item = &Value> {
    status["snapshots"].as_array().into_iter().flatten()
}

pub fn runs(copy: &Value) -> bool {
    copy["state"] == "running" || copy["state"] == "paused"
}

/// An event in short, see [`Scene::ops`].
pub fn short(event: &DecodedEvent) -> String {
    let key = event
        .key
        .as_ref()
        .and_then(Value::as_object)
        .and_then(|key| key.values().next());
    let key = match key {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => return event.op().unwrap_or("-").to_owned(),
    };
    format!("{} {key}", event.op().unwrap_or("-"))
}

/// A small and quick load.
pub fn small_load(seed: u64) -> WorkloadSettings {
    WorkloadSettings {
        rows: 400,
        pause_ms_max: 30,
        large_rows_max: 500,
        ..WorkloadSettings::new(seed, "w")
    }
}

/// Sorts the reads at the head of a list: the order within a chunk is the server's, that of chunks is not told.
pub fn reads_sorted(mut ops: Vec<String>) -> Vec<String> {
    let reads = ops.iter().take_while(|op| op.starts_with("r ")).count();
    ops[..reads].sort_by_key(|op| op[2..].parse::<i64>().unwrap_or_default());
    ops
}
