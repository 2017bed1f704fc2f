// SPDX-License-Identifier: Apache-2.0
//! Debezium on Kafka Connect, on the same server and the same broker: measured as our own captures are.
//!
//! One worker process per case and variant. Its processor time (start included, as ours) and its peak memory are the
//! kernel's books of that process. Its rate is that of the records from the first one seen in its topic to the last, so
//! that its start does not count. Records are counted by offsets while it runs, and read back when it is done.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use highwater_testbed::postgres::SUPERUSER;
use highwater_testbed::{Connect, Postgres};
use rdkafka::consumer::BaseConsumer;
use tokio::time::{Instant, sleep};

use crate::case::{Case, Drain, Kind, Target};
use crate::clock::{monotonic_us, seconds_between};
use crate::dataset::{self, ITEMS, TICKS, Table};
use crate::failure::{Failure, Result};
use crate::latency::{Latency, latency};
use crate::measure::TICKS_MAX;
use crate::peer_report::PeerFigures;
use crate::read_back::{self, Watcher};
use crate::record_key::id_of_json;
use crate::suite::{Suite, exactly};
use crate::topics::Topics;
use crate::{pipeline_file, usage};

/// The longest that no record may come before a case fails: the worker starts within it.
const STALL_MAX: Duration = Duration::from_secs(300);
/// How often the offsets are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Debezium on Kafka Connect, with its defaults and tuned.
    Debezium,
}

/// How the peer is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As it comes.
    Default,
    /// With larger batches and without statistics; for single commits with a shorter poll.
    Tuned,
}

impl Variant {
    /// Both, in the order in which they run.
    pub(crate) const ALL: [Variant; 2] = [Variant::Default, Variant::Tuned];

    /// The variant's name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Variant::Default => "default",
            Variant::Tuned => "tuned",
        }
    }

    fn options(self, kind: Kind) -> &'static [(&'static str, &'static str)] {
        match (self, kind) {
            (Variant::Default, _) => &[],
            (Variant::Tuned, Kind::StreamLatency) => {
                &[("statistics.metrics.enabled", "false"), ("poll.interval.ms", "5")]
            }
            (Variant::Tuned, _) => &[
                ("statistics.metrics.enabled", "false"),
                ("max.batch.size", "8192"),
                ("max.queue.size", "32768"),
                ("snapshot.fetch.size", "10000"),
                ("producer.override.batch.size", "262144"),
                ("producer.override.linger.ms", "20"),
                ("producer.override.compression.type", "lz4"),
            ],
        }
    }
}

/// The table of a case that the peer can do too.
pub(crate) fn counterpart(case: Case) -> Option<Table> {
    match (case.kind, case.target) {
        (_, Target::Nothing) => None,
        (Kind::Snapshot, _) => Some(ITEMS),
        (Kind::StreamLatency, _) => Some(TICKS),
        (Kind::StreamDrain(drain @ (Drain::Inserts | Drain::Updates | Drain::Deletes | Drain::HugeTransaction)), _) => {
            Some(dataset::table_of(drain))
        }
        _ => None,
    }
}

/// The name of the peer's slot, publication, connector and topics.
pub(crate) fn slot(case: Case, variant: Variant) -> String {
    format!("peer_{}_{}", variant.name(), case.name())
}

fn options(case: Case, variant: Variant, server: &Postgres, table: Table) -> BTreeMap<String, String> {
    let (name, port) = (slot(case, variant), server.port().to_string());
    let mode = if case.begins_with_a_copy() {
        "initial"
    } else {
        "no_data"
    };
    let mut options: BTreeMap<String, String> = variant
        .options(case.kind)
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    for (option, value) in [
        ("database.hostname", server.host()),
        ("database.port", &port),
        ("database.user", SUPERUSER),
        ("database.password", "trusted"),
        ("database.dbname", "postgres"),
        ("database.sslmode", "disable"),
        ("topic.prefix", &name),
        ("plugin.name", "pgoutput"),
        ("slot.name", &name),
        ("publication.name", &name),
        ("publication.autocreate.mode", "disabled"),
        ("table.include.list", &table.name()),
        ("snapshot.mode", mode),
        ("topic.creation.default.partitions", "1"),
        ("topic.creation.default.replication.factor", "1"),
    ] {
        options.insert(option.to_owned(), value.to_owned());
    }
    options
}

/// A worker under measurement.
struct Running {
    connect: Connect,
    pid: u32,
    name: String,
    topics: Topics,
    brokers: String,
}

/// When records came.
#[derive(Debug, Clone, Copy)]
struct Seen {
    records: u64,
    at_us: u64,
}

impl Suite {
    /// Runs the peer's counterpart of a case.
    pub(crate) async fn peer(&self, case: Case, table: Table, variant: Variant) -> Result<PeerFigures> {
        let name = slot(case, variant);
        let brokers = self.brokers(case).ok_or_else(|| Failure::new("the peer needs Kafka"))?;
        if !matches!(case.kind, Kind::StreamDrain(_)) {
            dataset::create_slot(&self.postgres, &name, table).await?;
        }
        let connect = Connect::start(&brokers).await?;
        let pid = connect.pid().ok_or_else(|| Failure::new("kafka connect has ended"))?;
        connect
            .capture(&name, &options(case, variant, &self.postgres, table))
            .await?;
        let topics = pipeline_file::topics(&name, table);
        let running = Running {
            connect,
            pid,
            name,
            topics,
            brokers,
        };
        let figures = self.peer_figures(case, variant, &running).await;
        if figures.is_err() {
            running.connect.keep_dir();
            eprintln!("bench: the worker's log: {}", running.connect.log_path().display());
        }
        let stopped = running.connect.stop().await;
        let figures = figures?;
        stopped?;
        dataset::drop_slot(&self.postgres, &running.name).await?;
        Ok(figures)
    }

    async fn peer_figures(&self, case: Case, variant: Variant, running: &Running) -> Result<PeerFigures> {
        let is_deletes = case.kind == Kind::StreamDrain(Drain::Deletes);
        let events = case.rows(self.rows);
        let tombstones = if is_deletes { events } else { 0 };
        let watched = match case.kind {
            Kind::StreamLatency => Some(self.peer_latency(running).await?),
            _ => None,
        };
        let (first, last) = running.wait_for(events + tombstones).await?;
        let cpu_s = usage::cpu_seconds_of(running.pid)?;
        let rss_peak_mb = usage::rss_peak_mb_of(running.pid)?;
        running.read_back(events, tombstones).await?;
        let share = (last.records - first.records) as f64 / (events + tombstones) as f64;
        Ok(PeerFigures {
            case: case.name(),
            variant: variant.name(),
            events_per_s: (case.kind != Kind::StreamLatency)
                .then(|| events as f64 * share / seconds_between(first.at_us, last.at_us)),
            cpu_s_per_million: cpu_s / (events as f64 / 1e6),
            rss_peak_mb,
            p50_ms: watched.map(|latency| latency.p50_ms),
            p99_ms: watched.map(|latency| latency.p99_ms),
        })
    }

    async fn peer_latency(&self, running: &Running) -> Result<Latency> {
        let client = self.postgres.connect().await?;
        client.batch_execute(&format!("TRUNCATE {}", TICKS.name())).await?;
        self.insert_ticks(1, 1).await?;
        running.wait_for(1).await?;
        let watcher = Watcher::start(&running.brokers, &running.topics, id_of_json)?;
        let commits = self.insert_judged_ticks().await?;
        running.wait_for(TICKS_MAX).await?;
        let arrivals = watcher.finish()?;
        exactly("records seen as they came", arrivals.len() as u64, TICKS_MAX)?;
        latency(&commits, &arrivals)
    }
}

impl Running {
    /// Waits until so many records lie in the topic; when the first were seen, and the last.
    async fn wait_for(&self, records: u64) -> Result<(Seen, Seen)> {
        let consumer = read_back::consumer(&self.brokers)?;
        let (mut first, mut last, mut moved) = (None, 0, Instant::now());
        loop {
            let seen = self.look(&consumer)?;
            if seen.records > last {
                first.get_or_insert(seen);
                (last, moved) = (seen.records, Instant::now());
            }
            if seen.records >= records {
                return Ok((first.unwrap_or(seen), seen));
            }
            self.connect.check(&self.name).await?;
            if moved.elapsed() > STALL_MAX {
                return Err(Failure::new(format!(
                    "debezium stands still at {last} records of {records}"
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn look(&self, consumer: &BaseConsumer) -> Result<Seen> {
        let records = tokio::task::block_in_place(|| read_back::count(consumer, &self.topics))?;
        Ok(Seen {
            records,
            at_us: monotonic_us(),
        })
    }

    async fn read_back(&self, events: u64, tombstones: u64) -> Result<()> {
        let (brokers, topics) = (self.brokers.clone(), self.topics.clone());
        let reading = move || read_back::read_all(&brokers, &topics, id_of_json, events + 1);
        let contents = tokio::task::spawn_blocking(reading)
            .await
            .map_err(|error| Failure::during("reading back", error))??;
        exactly("the peer's events", contents.events, events)?;
        exactly("the peer's tombstones", contents.tombstones, tombstones)?;
        exactly("the peer's keys", contents.keys, events)?;
        exactly("the peer's records with a key of another kind", contents.strangers, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_into_nothing_and_cases_of_ours_alone_have_no_counterpart() {
        let case = |kind, target| Case { kind, target };
        assert_eq!(counterpart(case(Kind::Snapshot, Target::Kafka)), Some(ITEMS));
        assert_eq!(counterpart(case(Kind::Snapshot, Target::Nothing)), None);
        assert_eq!(counterpart(case(Kind::IncrementalSnapshot, Target::Kafka)), None);
        let names: Vec<String> = Case::usual()
            .into_iter()
            .filter(|case| counterpart(*case).is_some())
            .map(Case::name)
            .collect();
        let expected = [
            "snapshot",
            "stream_drain",
            "stream_updates",
            "stream_deletes",
            "stream_huge_transaction",
            "stream_latency_1000tps",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_slot_has_a_name_that_the_server_takes() {
        for case in Case::usual() {
            let name = slot(case, Variant::Default);
            assert!(
                name.len() <= 63
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
        }
    }
}
