// SPDX-License-Identifier: Apache-2.0
//! Runs the cases one after the other on one Postgres and one Kafka.

use std::path::PathBuf;

use clap::Args;
use highwater_testbed::{Kafka, KafkaOptions, PgOptions, Postgres};
use tempfile::TempDir;

use crate::case::{Case, Drain, Kind, Target};
use crate::child::{CaptureProcess, Question, Task};
use crate::clock::seconds_between;
use crate::dataset::{self, ITEMS, TICKS, Table};
use crate::failure::{Failure, Result};
use crate::latency::{Latency, latency};
use crate::limits::{self, Limit};
use crate::load::{Commit, Load, Work};
use crate::pipeline_file;
use crate::read_back::{self, Watcher};
use crate::report::{Figures, Report};
use crate::tally::Status;
use crate::usage;

/// Updates a second while a table is copied.
const LOAD_PER_SECOND: u64 = 1_000;
/// Commits a second while lateness is measured.
const TICKS_PER_SECOND: u64 = 1_000;
/// Seconds of commits that are not judged: connections, caches and the broker's compiler warm up.
const WARM_UP_SECONDS: u64 = 3;
/// Seconds of commits that are.
const MEASURED_SECONDS: u64 = 20;
/// The slot of the stream's limit.
const LIMIT_SLOT: &str = "bench_limit";

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct SuiteArguments {
    /// Rows of the tables; fewer for a quick look.
    #[arg(long, env = "ROWS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    rows: u64,
    /// Only the cases of these names.
    #[arg(long, env = "CASES", value_delimiter = ',')]
    cases: Vec<String>,
    /// The file to write.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench/postgres.json"))]
    output: PathBuf,
}

/// Runs the suite, prints the figures and writes the file.
pub(crate) fn run(arguments: &SuiteArguments) -> Result<()> {
    let cases = chosen(&arguments.cases)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::during("cannot start a runtime", error))?;
    let results = runtime.block_on(async { Suite::start(arguments.rows, &cases).await?.run(&cases).await })?;
    let report = Report {
        suite: "postgres",
        rows: arguments.rows,
        results,
    };
    report.write(&arguments.output)?;
    println!("\n{}", report.table());
    let over = report.results.iter().filter(|figures| figures.is_over()).count();
    println!("{over} of {} cases cost more than they may", report.results.len());
    println!("written: {}", arguments.output.display());
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Case>> {
    let all = Case::all();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|case| case.name() == **name)) {
        let known: Vec<String> = all.into_iter().map(Case::name).collect();
        return Err(Failure::new(format!(
            "case \"{unknown}\" is not known; there are {}",
            known.join(", ")
        )));
    }
    let wanted = |case: &Case| names.is_empty() || names.contains(&case.name());
    Ok(all.into_iter().filter(wanted).collect())
}

/// The servers of a suite.
struct Suite {
    rows: u64,
    postgres: Postgres,
    kafka: Option<Kafka>,
    dir: TempDir,
    copy: Limit,
    receive: Option<Limit>,
}

/// What a case hands on to its line.
struct Outcome {
    status: Status,
    limit: Option<Limit>,
    latency: Option<Latency>,
}

impl Suite {
    async fn start(rows: u64, cases: &[Case]) -> Result<Self> {
        // A machine that crashes would lose nothing either: figures without fsync would flatter the server.
        let options = PgOptions::major(0)
            .with("fsync", "on")
            .with("shared_buffers", "512MB")
            .with("max_wal_size", "8GB")
            .with("checkpoint_timeout", "30min");
        let postgres = Postgres::start(options).await?;
        let needs_kafka = cases.iter().any(|case| case.target == Target::Kafka);
        let kafka = if needs_kafka {
            Some(Kafka::start(kafka_options()).await?)
        } else {
            None
        };
        let dir = tempfile::tempdir().map_err(|error| Failure::during("cannot make a folder", error))?;
        eprintln!("bench: writing {rows} rows");
        dataset::create(&postgres, rows).await?;
        // The first copy fills the server's cache, the second is the limit.
        limits::copy_out(&postgres, ITEMS, rows).await?;
        let copy = limits::copy_out(&postgres, ITEMS, rows).await?;
        eprintln!("bench: {}: {:.0} rows/s", copy.name, copy.rows_per_s);
        Ok(Self {
            rows,
            postgres,
            kafka,
            dir,
            copy,
            receive: None,
        })
    }

    async fn run(mut self, cases: &[Case]) -> Result<Vec<Figures>> {
        let mut prepared = None;
        let mut results = Vec::new();
        for case in cases {
            if let Kind::StreamDrain(drain) = case.kind
                && prepared != Some(drain)
            {
                self.prepare_drains(drain, cases).await?;
                prepared = Some(drain);
            }
            eprintln!("bench: {}", case.name());
            let figures = self
                .case(*case)
                .await
                .map_err(|error| Failure::during(case.name(), error))?;
            eprintln!(
                "bench: {}: {:.0} events/s, {:.2} CPU-s per million, {:.0} MB",
                figures.name, figures.events_per_s, figures.cpu_s_per_million, figures.rss_peak_mb
            );
            results.push(figures);
        }
        Ok(results)
    }

    /// Makes a slot for each of the cases that read this log and for the limit, then fills the log for all of them.
    async fn prepare_drains(&mut self, drain: Drain, cases: &[Case]) -> Result<()> {
        let table = dataset::table_of(drain);
        dataset::prepare_log(&self.postgres, drain, self.rows).await?;
        dataset::create_slot(&self.postgres, LIMIT_SLOT, table).await?;
        for case in cases.iter().filter(|case| case.kind == Kind::StreamDrain(drain)) {
            dataset::create_slot(&self.postgres, &case.name(), table).await?;
        }
        eprintln!("bench: writing {} changes while slots wait", self.rows);
        dataset::fill_log(&self.postgres, drain, self.rows).await?;
        let limit = limits::receive_log(&self.postgres, LIMIT_SLOT, self.rows).await?;
        eprintln!("bench: {}: {:.0} rows/s", limit.name, limit.rows_per_s);
        self.receive = Some(limit);
        Ok(())
    }

    async fn case(&self, case: Case) -> Result<Figures> {
        let outcome = match case.kind {
            Kind::Snapshot => self.snapshot(case).await?,
            Kind::SnapshotUnderLoad => self.snapshot_under_load(case).await?,
            Kind::IncrementalSnapshot => self.incremental_snapshot(case).await?,
            Kind::StreamDrain(drain) => self.stream_drain(case, dataset::table_of(drain)).await?,
            Kind::StreamLatency => self.stream_latency(case).await?,
        };
        dataset::drop_slot(&self.postgres, &case.name()).await?;
        let Outcome { status, limit, latency } = outcome;
        let events_per_s = status.events as f64 / seconds_between(status.ready_us, status.last_commit_us);
        Ok(Figures {
            name: case.name(),
            events_per_s,
            cpu_s_per_million: status.cpu_s / (status.events as f64 / 1e6),
            rss_peak_mb: status.rss_peak_mb,
            limit_events_per_s: limit.as_ref().map(|limit| limit.rows_per_s),
            ratio_to_limit: limit.as_ref().map(|limit| events_per_s / limit.rows_per_s),
            limit_name: limit.map(|limit| limit.name.to_owned()),
            p50_ms: latency.map(|latency| latency.p50_ms),
            p99_ms: latency.map(|latency| latency.p99_ms),
            case,
        })
    }

    async fn snapshot(&self, case: Case) -> Result<Outcome> {
        let mut capture = self.capture(case, ITEMS, true, self.rows).await?;
        let rows = self.rows;
        capture.wait_until("every row", |status| status.keys >= rows).await?;
        let status = self.ended(case, capture, ITEMS, rows).await?;
        exactly("rows read by chunks", status.reads, rows)?;
        Ok(Outcome {
            status,
            limit: Some(self.copy.clone()),
            latency: None,
        })
    }

    /// Each update must come through the log, and each row once more unless an update within its window replaced it.
    async fn snapshot_under_load(&self, case: Case) -> Result<Outcome> {
        // An insert after the last update: when its key arrives, everything before it has.
        let last = self.rows + 1;
        let mut capture = self.capture(case, ITEMS, true, last).await?;
        capture.wait_until("the start", |status| status.ready_us > 0).await?;
        let work = Work::Update { rows: self.rows };
        let load = Load::start(&self.postgres, ITEMS, work, LOAD_PER_SECOND).await?;
        let rows = self.rows;
        capture
            .wait_until("every row", |status| status.keys >= rows && status.snapshots_done > 0)
            .await?;
        load.stop();
        let updates = load.finish().await?.len() as u64;
        let insert = Work::Insert {
            from: last,
            through: last,
        };
        Load::start(&self.postgres, ITEMS, insert, LOAD_PER_SECOND)
            .await?
            .finish()
            .await?;
        let status = capture
            .wait_until("the last insert", |status| status.keys > rows)
            .await?;
        let expected = updates + 1 + rows - status.rows_dropped;
        let status = self.ended(case, capture, ITEMS, expected).await;
        let client = self.postgres.connect().await?;
        client
            .execute(
                &format!("DELETE FROM {} WHERE id = $1", ITEMS.name()),
                &[&(last as i64)],
            )
            .await?;
        let status = status?;
        exactly("updates and inserts from the log", status.log_events, updates + 1)?;
        exactly(
            "rows read by chunks and not replaced",
            status.reads,
            rows - status.rows_dropped,
        )?;
        Ok(Outcome {
            status,
            limit: Some(self.copy.clone()),
            latency: None,
        })
    }

    async fn incremental_snapshot(&self, case: Case) -> Result<Outcome> {
        let mut capture = self.capture(case, ITEMS, false, self.rows).await?;
        capture.wait_until("the log", |status| status.captures).await?;
        let asked_us = capture.ask(Question::Snapshot).await?.now_us;
        let rows = self.rows;
        capture.wait_until("every row", |status| status.keys >= rows).await?;
        let mut status = self.ended(case, capture, ITEMS, rows).await?;
        exactly("rows read by chunks", status.reads, rows)?;
        status.ready_us = asked_us;
        Ok(Outcome {
            status,
            limit: Some(self.copy.clone()),
            latency: None,
        })
    }

    async fn stream_drain(&self, case: Case, table: Table) -> Result<Outcome> {
        let mut capture = self.capture(case, table, false, self.rows).await?;
        let rows = self.rows;
        capture.wait_until("every row", |status| status.keys >= rows).await?;
        self.print_walsender().await?;
        let status = self.ended(case, capture, table, rows).await?;
        exactly("changes from the log", status.log_events, rows)?;
        Ok(Outcome {
            status,
            limit: self.receive.clone(),
            latency: None,
        })
    }

    async fn stream_latency(&self, case: Case) -> Result<Outcome> {
        let client = self.postgres.connect().await?;
        client.batch_execute(&format!("TRUNCATE {}", TICKS.name())).await?;
        let all = (WARM_UP_SECONDS + MEASURED_SECONDS) * TICKS_PER_SECOND;
        let mut capture = self.capture(case, TICKS, false, all).await?;
        capture.wait_until("the log", |status| status.captures).await?;
        self.insert_ticks(1, 1).await?;
        capture.wait_until("the first row", |status| status.events > 0).await?;
        let topic = pipeline_file::topic(&case.name(), TICKS);
        let watcher = match self.brokers(case) {
            Some(brokers) => Some(Watcher::start(&brokers, &topic)?),
            None => None,
        };
        let warm_up = WARM_UP_SECONDS * TICKS_PER_SECOND;
        self.insert_ticks(2, warm_up).await?;
        let began = crate::clock::monotonic_us();
        let commits = self.insert_ticks(warm_up + 1, all).await?;
        let took = seconds_between(began, crate::clock::monotonic_us());
        let rate = commits.len() as f64 / took;
        if rate < 0.95 * TICKS_PER_SECOND as f64 {
            return Err(Failure::new(format!(
                "the server took {rate:.0} commits/s only: the machine is busy"
            )));
        }
        capture.wait_until("every row", |status| status.keys >= all).await?;
        let status = self.ended(case, capture, TICKS, all).await?;
        let arrivals = match watcher {
            Some(watcher) => watcher.finish()?,
            None => status.arrivals.clone(),
        };
        exactly("records seen as they came", arrivals.len() as u64, all)?;
        Ok(Outcome {
            latency: Some(latency(&commits, &arrivals)?),
            status,
            limit: None,
        })
    }

    async fn insert_ticks(&self, from: u64, through: u64) -> Result<Vec<Commit>> {
        let work = Work::Insert { from, through };
        Load::start(&self.postgres, TICKS, work, TICKS_PER_SECOND)
            .await?
            .finish()
            .await
    }

    /// Starts the capture of a case, on a slot of the case's name.
    async fn capture(&self, case: Case, table: Table, snapshot: bool, id_max: u64) -> Result<CaptureProcess> {
        let name = case.name();
        if !matches!(case.kind, Kind::StreamDrain(_)) {
            dataset::create_slot(&self.postgres, &name, table).await?;
        }
        let brokers = self.brokers(case);
        let task = Task {
            pipeline: pipeline_file::text(&name, &self.postgres, table, snapshot, brokers.as_deref()),
            table: table.name(),
            topic: pipeline_file::topic(&name, table),
            id_max,
            keeps_arrivals: case.kind == Kind::StreamLatency && case.target == Target::Nothing,
        };
        let folder = self.dir.path().join(&name);
        std::fs::create_dir_all(&folder).map_err(|error| Failure::during("cannot make a folder", error))?;
        CaptureProcess::start(&task, &folder.join("task.json")).await
    }

    /// Ends a capture and compares what it committed with what must be there, by its own count and by reading back.
    async fn ended(&self, case: Case, capture: CaptureProcess, table: Table, expected: u64) -> Result<Status> {
        let status = capture.stop().await?;
        exactly("events committed", status.events, expected)?;
        exactly("records with a key of another kind", status.strangers, 0)?;
        if let Some(brokers) = self.brokers(case) {
            let topic = pipeline_file::topic(&case.name(), table);
            let id_max = self.rows.max(status.keys) + 1;
            let reading = move || read_back::read_all(&brokers, &topic, id_max);
            let contents = tokio::task::spawn_blocking(reading)
                .await
                .map_err(|error| Failure::during("reading back", error))??;
            exactly("events read back", contents.events, expected)?;
            exactly("keys read back", contents.keys, status.keys)?;
            exactly("records read back with a key of another kind", contents.strangers, 0)?;
        }
        Ok(status)
    }

    fn brokers(&self, case: Case) -> Option<String> {
        let kafka = self.kafka.as_ref().filter(|_| case.target == Target::Kafka)?;
        Some(kafka.bootstrap())
    }

    /// Prints what the server spent on sending its log.
    async fn print_walsender(&self) -> Result<()> {
        let client = self.postgres.connect().await?;
        for row in client.query("SELECT pid FROM pg_stat_replication", &[]).await? {
            let used = usage::cpu_seconds_of(row.get::<_, i32>(0) as u32)?;
            eprintln!("bench: the server's walsender used {used:.2} CPU-s");
        }
        Ok(())
    }
}

/// Brokers run at their real speed here.
fn kafka_options() -> KafkaOptions {
    KafkaOptions {
        heap_mb: 1024,
        full_speed: true,
        ..KafkaOptions::default()
    }
}

fn exactly(what: &str, found: u64, expected: u64) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Failure::new(format!("{what}: {found}, and it must be {expected}")))
    }
}
