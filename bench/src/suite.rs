// SPDX-License-Identifier: Apache-2.0
//! Runs the cases one after the other on one Postgres and one Kafka.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use highwater_testbed::versions::DEBEZIUM;
use highwater_testbed::{Kafka, KafkaOptions, PgOptions, Postgres};
use tempfile::TempDir;

use crate::case::{Case, Drain, Kind, Target};
use crate::child::{CaptureProcess, Task};
use crate::clock::seconds_between;
use crate::dataset::{self, ITEMS, Table, WIDE};
use crate::failure::{Failure, Result};
use crate::goals::Goals;
use crate::limits::{self, Limit, Over};
use crate::measure::Outcome;
use crate::peer::{Peer, Variant};
use crate::peer_report::{Comparison, PeerReport};
use crate::record_key::id_of;
use crate::report::{Figures, LimitFigures, Report};
use crate::tally::Status;
use crate::{peer, pipeline_file, read_back, readme, table, writer_limit};

/// The slot of the stream's limit.
const LIMIT_SLOT: &str = "bench_limit";

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct SuiteArguments {
    /// Rows of the tables; fewer for a quick look.
    #[arg(long, env = "ROWS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    rows: u64,
    /// Only the cases of these names; some run only when they are named.
    #[arg(long, env = "CASES", value_delimiter = ',')]
    cases: Vec<String>,
    /// The file to write.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench/postgres.json"))]
    output: PathBuf,
    /// Runs this peer in turn with the cases that it can do too; without `--cases` with these alone.
    #[arg(long, env = "PEER", value_enum)]
    peer: Option<Peer>,
    /// A Markdown file whose tables of figures are replaced by these.
    #[arg(long, env = "README")]
    readme: Option<PathBuf>,
}

/// Runs the suite, prints the figures and writes the files.
pub(crate) fn run(arguments: &SuiteArguments) -> Result<()> {
    let cases = chosen(&arguments.cases, arguments.peer.is_some())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::during("cannot start a runtime", error))?;
    let (results, comparisons) = runtime.block_on(async {
        let suite = Suite::start(arguments.rows, &cases, arguments.peer).await?;
        suite.run(&cases).await
    })?;
    let report = Report {
        suite: "postgres",
        rows: arguments.rows,
        results,
        peer: arguments.peer.map(|Peer::Debezium| PeerReport {
            name: "debezium",
            version: DEBEZIUM.to_owned(),
            results: comparisons,
        }),
    };
    report.write(&arguments.output)?;
    finish(arguments, &report)
}

/// Shows the figures to people.
fn finish(arguments: &SuiteArguments, report: &Report) -> Result<()> {
    println!("\n{}", table::plain(&report.results));
    if let Some(peer) = &report.peer {
        println!("ours : theirs, {} {}\n{}", peer.name, peer.version, peer.plain());
    }
    let over = report.results.iter().filter(|figures| figures.is_over()).count();
    println!("{over} of {} cases cost more than they may", report.results.len());
    println!("written: {}", arguments.output.display());
    if let Some(path) = &arguments.readme {
        let table = match &report.peer {
            Some(peer) => ("peer", peer.markdown()),
            None => ("figures", table::markdown(&report.results)),
        };
        readme::fill(path, &[table])?;
        println!("written: {}", path.display());
    }
    Ok(())
}

fn chosen(names: &[String], has_peer: bool) -> Result<Vec<Case>> {
    if names.is_empty() {
        let is_wanted = |case: &Case| !has_peer || peer::counterpart(*case).is_some();
        return Ok(Case::usual().into_iter().filter(is_wanted).collect());
    }
    let mut all = Case::usual();
    all.extend(Case::on_request());
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|case| case.name() == **name)) {
        let known: Vec<String> = all.into_iter().map(Case::name).collect();
        return Err(Failure::new(format!(
            "case \"{unknown}\" is not known; there are {}",
            known.join(", ")
        )));
    }
    Ok(all.into_iter().filter(|case| names.contains(&case.name())).collect())
}

/// The servers of a suite, and what they can do.
pub(crate) struct Suite {
    pub(crate) rows: u64,
    pub(crate) postgres: Postgres,
    pub(crate) kafka: Option<Kafka>,
    dir: TempDir,
    variants: &'static [Variant],
    /// What the server delivers of a table or of a log, by the table.
    limits: HashMap<(Table, Over), Limit>,
    /// What the broker takes of a table's records.
    writer_limits: HashMap<Table, Limit>,
}

impl Suite {
    async fn start(rows: u64, cases: &[Case], peer: Option<Peer>) -> Result<Self> {
        // A machine that crashes would lose nothing either: figures without fsync would flatter the server.
        let options = PgOptions::major(0)
            .with("fsync", "on")
            .with("shared_buffers", "512MB")
            .with("max_wal_size", "8GB")
            .with("checkpoint_timeout", "30min")
            .with_tls();
        let postgres = Postgres::start(options).await?;
        let needs_kafka = cases.iter().any(|case| case.target == Target::Kafka);
        let kafka = if needs_kafka {
            Some(Kafka::start(kafka_options()).await?)
        } else {
            None
        };
        let dir = tempfile::tempdir().map_err(|error| Failure::during("cannot make a folder", error))?;
        let has_copies = cases.iter().any(|case| copied_table(case.kind) == Some(ITEMS));
        dataset::create(&postgres).await?;
        if has_copies {
            eprintln!("bench: writing {rows} rows");
            dataset::fill_items(&postgres, rows).await?;
        }
        Ok(Self {
            rows,
            postgres,
            kafka,
            dir,
            variants: peer.map_or(&[], |Peer::Debezium| &Variant::ALL),
            limits: HashMap::new(),
            writer_limits: HashMap::new(),
        })
    }

    async fn run(mut self, cases: &[Case]) -> Result<(Vec<Figures>, Vec<Comparison>)> {
        let mut prepared = None;
        let (mut results, mut comparisons) = (Vec::new(), Vec::new());
        for case in cases {
            if prepared != Some(case.kind) {
                self.prepare(case.kind, cases).await?;
                prepared = Some(case.kind);
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
            comparisons.extend(self.peers(*case, &figures).await?);
            results.push(figures);
        }
        Ok((results, comparisons))
    }

    /// Runs the peer's counterparts of a case that is done.
    async fn peers(&self, case: Case, ours: &Figures) -> Result<Vec<Comparison>> {
        let Some(table) = peer::counterpart(case) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for variant in self.variants {
            let name = peer::slot(case, *variant);
            eprintln!("bench: {name}");
            let theirs = self.peer(case, table, *variant).await;
            let theirs = theirs.map_err(|error| Failure::during(&name, error))?;
            eprintln!(
                "bench: {name}: {:.2} CPU-s per million, {:.0} MB",
                theirs.cpu_s_per_million, theirs.rss_peak_mb
            );
            all.push(Comparison::new(ours, theirs));
        }
        Ok(all)
    }

    /// Makes what the cases of this kind read, and measures what the server can deliver of it.
    async fn prepare(&mut self, kind: Kind, cases: &[Case]) -> Result<()> {
        if let Kind::StreamDrain(drain) = kind {
            return self.prepare_drains(drain, cases).await;
        }
        let Some(table) = copied_table(kind) else { return Ok(()) };
        let rows = Case {
            kind,
            target: Target::Nothing,
        }
        .rows(self.rows);
        if table == WIDE {
            dataset::fill_wide(&self.postgres, rows).await?;
        }
        let over = over(kind);
        if !self.limits.contains_key(&(table, over)) {
            // The first copy fills the server's cache, the second is the limit.
            limits::copy_out(&self.postgres, table, over, rows).await?;
            let limit = limits::copy_out(&self.postgres, table, over, rows).await?;
            self.note_limit((table, over), limit);
        }
        Ok(())
    }

    /// Makes a slot for each of the cases that read this log and for the limit, then fills the log for all of them.
    async fn prepare_drains(&mut self, drain: Drain, cases: &[Case]) -> Result<()> {
        let (table, rows) = (dataset::table_of(drain), drain.rows(self.rows));
        let is_limited = drain != Drain::TenfoldTransaction;
        dataset::prepare_log(&self.postgres, drain, rows).await?;
        if is_limited {
            dataset::create_slot(&self.postgres, LIMIT_SLOT, table).await?;
        }
        for case in cases.iter().filter(|case| case.kind == Kind::StreamDrain(drain)) {
            dataset::create_slot(&self.postgres, &case.name(), table).await?;
            for variant in self.variants.iter().filter(|_| peer::counterpart(*case).is_some()) {
                dataset::create_slot(&self.postgres, &peer::slot(*case, *variant), table).await?;
            }
        }
        eprintln!("bench: writing {rows} changes while slots wait");
        dataset::fill_log(&self.postgres, drain, rows).await?;
        if is_limited {
            let over = over(Kind::StreamDrain(drain));
            let limit = limits::receive_log(&self.postgres, LIMIT_SLOT, over, rows).await?;
            self.note_limit((table, over), limit);
        }
        Ok(())
    }

    fn note_limit(&mut self, place: (Table, Over), limit: Limit) {
        eprintln!("bench: {}: {:.0} rows/s", limit.name, limit.rows_per_s);
        self.limits.insert(place, limit);
    }

    async fn case(&mut self, case: Case) -> Result<Figures> {
        let outcome = self.measure(case).await?;
        dataset::drop_slot(&self.postgres, &case.name()).await?;
        let Outcome { status, latency } = outcome;
        let limits = self.limits_of(case, &status).await?;
        let events_per_s = status.events as f64 / seconds_between(status.ready_us, status.last_commit_us);
        // The narrowest place decides.
        let limit = limits
            .iter()
            .min_by(|one, other| one.events_per_s.total_cmp(&other.events_per_s));
        Ok(Figures {
            name: case.name(),
            events_per_s,
            cpu_s_per_million: status.cpu_s / (status.events as f64 / 1e6),
            rss_peak_mb: status.rss_peak_mb,
            limit_name: limit.map(|limit| limit.name.to_owned()),
            limit_events_per_s: limit.map(|limit| limit.events_per_s),
            ratio_to_limit: limit.map(|limit| events_per_s / limit.events_per_s),
            p50_ms: latency.map(|latency| latency.p50_ms),
            p99_ms: latency.map(|latency| latency.p99_ms),
            rows: case.rows(self.rows),
            limits,
            goals: Goals::of(case),
        })
    }

    /// What the case is compared with: what the server delivers, and of a copy into Kafka what the broker takes.
    async fn limits_of(&mut self, case: Case, status: &Status) -> Result<Vec<LimitFigures>> {
        let source = match case.kind {
            Kind::StreamDrain(drain) => Some(dataset::table_of(drain)),
            kind => copied_table(kind),
        };
        let Some(table) = source else { return Ok(Vec::new()) };
        let delivered = self.limits.get(&(table, over(case.kind))).cloned();
        let mut all: Vec<Limit> = delivered.into_iter().collect();
        if copied_table(case.kind).is_some()
            && let Some(brokers) = self.brokers(case)
        {
            all.push(self.writer_limit(case, table, &brokers, status).await?);
        }
        let figures = all.into_iter().map(|limit| LimitFigures {
            name: limit.name,
            events_per_s: limit.rows_per_s,
        });
        Ok(figures.collect())
    }

    /// What the broker takes of a table's records, measured behind the first case that wrote such.
    async fn writer_limit(&mut self, case: Case, table: Table, brokers: &str, status: &Status) -> Result<Limit> {
        if let Some(known) = self.writer_limits.get(&table) {
            return Ok(known.clone());
        }
        let topics = pipeline_file::topics(&case.name(), table);
        let pipeline = pipeline_file::text(case, &self.postgres, table, Some(brokers))?;
        let per_commit = status.events / status.commits.max(1);
        let limit = writer_limit::write(brokers, &topics.0, &pipeline, per_commit, status.events).await?;
        eprintln!("bench: {}: {:.0} records/s", limit.name, limit.rows_per_s);
        self.writer_limits.insert(table, limit.clone());
        Ok(limit)
    }

    /// Starts the capture of a case, on a slot of the case's name. Where it begins with a copy it makes slot and publication
    /// itself, as the product does at its first start: its copy may begin from the slot's own snapshot.
    pub(crate) async fn capture(&self, case: Case, table: Table, id_max: u64) -> Result<CaptureProcess> {
        let name = case.name();
        if !matches!(case.kind, Kind::StreamDrain(_)) && !case.begins_with_a_copy() {
            dataset::create_slot(&self.postgres, &name, table).await?;
        }
        let brokers = self.brokers(case);
        let task = Task {
            pipeline: pipeline_file::text(case, &self.postgres, table, brokers.as_deref())?,
            table: table.name(),
            topics: pipeline_file::topics(&name, table),
            id_max,
            keeps_arrivals: case.kind == Kind::StreamLatency && case.target == Target::Nothing,
        };
        let folder = self.dir.path().join(&name);
        std::fs::create_dir_all(&folder).map_err(|error| Failure::during("cannot make a folder", error))?;
        CaptureProcess::start(&task, &folder.join("task.json")).await
    }

    /// Ends a capture and compares what it committed with what must be there, by its own count and by reading back.
    pub(crate) async fn ended(
        &self,
        case: Case,
        capture: CaptureProcess,
        table: Table,
        expected: u64,
    ) -> Result<Status> {
        let status = capture.stop().await?;
        let is_deletes = case.kind == Kind::StreamDrain(Drain::Deletes);
        let tombstones = if is_deletes { expected } else { 0 };
        exactly("events committed", status.events, expected)?;
        exactly("tombstones committed", status.tombstones, tombstones)?;
        exactly("records with a key of another kind", status.strangers, 0)?;
        if let Some(brokers) = self.brokers(case) {
            let topics = pipeline_file::topics(&case.name(), table);
            let id_max = case.rows(self.rows).max(status.keys) + 1;
            let reading = move || read_back::read_all(&brokers, &topics, id_of, id_max);
            let contents = tokio::task::spawn_blocking(reading)
                .await
                .map_err(|error| Failure::during("reading back", error))??;
            exactly("events read back", contents.events, expected)?;
            exactly("tombstones read back", contents.tombstones, tombstones)?;
            exactly("keys read back", contents.keys, status.keys)?;
            exactly("records read back with a key of another kind", contents.strangers, 0)?;
        }
        Ok(status)
    }

    pub(crate) fn brokers(&self, case: Case) -> Option<String> {
        let kafka = self.kafka.as_ref().filter(|_| case.target == Target::Kafka)?;
        Some(kafka.bootstrap())
    }
}

fn over(kind: Kind) -> Over {
    let target = Target::Nothing;
    if (Case { kind, target }).is_encrypted() {
        Over::Tls
    } else {
        Over::Plain
    }
}

/// The table of a copy.
fn copied_table(kind: Kind) -> Option<Table> {
    match kind {
        Kind::Snapshot
        | Kind::SnapshotAtStart
        | Kind::SnapshotOverTls
        | Kind::SnapshotUnderLoad
        | Kind::IncrementalSnapshot => Some(ITEMS),
        Kind::SnapshotWide => Some(WIDE),
        Kind::StreamDrain(_) | Kind::StreamLatency => None,
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

/// A figure is worth nothing when the count behind it is wrong.
pub(crate) fn exactly(what: &str, found: u64, expected: u64) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Failure::new(format!("{what}: {found}, and it must be {expected}")))
    }
}
