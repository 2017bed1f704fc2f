// SPDX-License-Identifier: Apache-2.0
//! Metrics with stable names, in Prometheus' text form.
//!
//! | name | kind | unit | meaning |
//! |---|---|---|---|
//! | `highwater_events_total` | counter | events | events encoded, by `op`: `create`, `update`, `delete`, `truncate`, `read` |
//! | `highwater_records_total` | counter | records | records committed, tombstones included |
//! | `highwater_bytes_total` | counter | bytes | bytes of keys and values committed |
//! | `highwater_commits_total` | counter | commits | transactions committed |
//! | `highwater_commit_seconds` | histogram | seconds | from the first append of a transaction to its commit |
//! | `highwater_lag_bytes` | gauge | bytes | how far the source's log is ahead of what was read |
//! | `highwater_source_kept_bytes` | gauge | bytes | log that the source keeps until it was acknowledged |
//! | `highwater_source_left_hours` | gauge | hours | until the source throws that away, at the pace of late; infinite where it does not |
//! | `highwater_source_overloaded` | gauge | | 1 while the source is spared further chunks: a limit of its settings is passed |
//! | `highwater_source_lag_seconds` | gauge | seconds | age of the newest event at the moment it was encoded |
//! | `highwater_checkpoint_age_seconds` | gauge | seconds | time since the last commit of a checkpoint |
//! | `highwater_queue_bytes` | gauge | bytes | encoded and not yet taken by the transport |
//! | `highwater_windows_open` | gauge | windows | chunks whose low mark was asked for and whose high mark was not passed |
//! | `highwater_chunk_rows_total` | counter | rows | rows that chunks read |
//! | `highwater_chunk_seconds` | histogram | seconds | how long a chunk's read took |
//! | `highwater_snapshot_rows_read_total` | counter | rows | rows of finished chunks |
//! | `highwater_snapshot_rows_emitted_total` | counter | rows | of these, rows that left as events |
//! | `highwater_snapshot_rows_dropped_total` | counter | rows | of these, rows that the log had newer news of |
//! | `highwater_snapshots_running` | gauge | snapshots | copies that are not finished |
//! | `highwater_view_rereads_total` | counter | reads | chunk reads thrown away because their view missed a forwarded transaction |
//! | `highwater_chunk_failures_total` | counter | reads | marks and reads that failed and were told to the engine |
//! | `highwater_foreign_marks_total` | counter | marks | marks in the log that were not of this run |
//! | `highwater_retries_total` | counter | retries | times the pipeline fell back to its checkpoint |
//! | `highwater_leader` | gauge | | 1 while this copy leads, 0 while it stands by |
//! | `highwater_up` | gauge | | 1 while the pipeline captures, 0 while it waits to try again |

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use highwater_core::change::Op;
use highwater_core::connector::Retention;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A gauge of seconds.
pub type Seconds = Gauge<f64, AtomicU64>;

/// The metrics of one pipeline. Clones are cheap and share their values.
#[derive(Debug)]
#[allow(missing_docs)] // The table above says what each is.
pub struct Metrics {
    registry: Registry,
    events: [Counter; OPS.len()],
    pub records: Counter,
    pub bytes: Counter,
    pub commits: Counter,
    pub commit_seconds: Histogram,
    pub lag_bytes: Gauge,
    pub source_kept_bytes: Gauge,
    pub source_left_hours: Gauge<f64, AtomicU64>,
    pub source_overloaded: Gauge,
    pub source_lag_seconds: Seconds,
    pub checkpoint_age_seconds: Seconds,
    pub queue_bytes: Gauge,
    pub windows_open: Gauge,
    pub chunk_rows: Counter,
    pub chunk_seconds: Histogram,
    pub snapshot_rows_read: Counter,
    pub snapshot_rows_emitted: Counter,
    pub snapshot_rows_dropped: Counter,
    pub snapshots_running: Gauge,
    pub view_rereads: Counter,
    pub chunk_failures: Counter,
    pub foreign_marks: Counter,
    pub retries: Counter,
    pub leader: Gauge,
    pub up: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabel {
    op: OpName,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OpName(&'static str);

impl EncodeLabelValue for OpName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

const OPS: [(Op, &str); 6] = [
    (Op::Create, "create"),
    (Op::Update, "update"),
    (Op::Delete, "delete"),
    (Op::Truncate, "truncate"),
    (Op::Read, "read"),
    (Op::Message, "message"),
];

impl Metrics {
    /// Metrics of the pipeline `name`, all zero; each carries the label `pipeline`.
    pub fn new(name: &str) -> Self {
        let labels = [("pipeline".into(), name.to_owned().into())];
        let mut registry = Registry::with_prefix_and_labels("highwater", labels.into_iter());
        let family = Family::<OpLabel, Counter>::default();
        let events = OPS.map(|(_, op)| family.get_or_create(&OpLabel { op: OpName(op) }).clone());
        registry.register("events", "Events encoded", family);
        let metrics = Metrics {
            registry: Registry::default(),
            events,
            records: Counter::default(),
            bytes: Counter::default(),
            commits: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            lag_bytes: Gauge::default(),
            source_kept_bytes: Gauge::default(),
            source_left_hours: Gauge::default(),
            source_overloaded: Gauge::default(),
            source_lag_seconds: Seconds::default(),
            checkpoint_age_seconds: Seconds::default(),
            queue_bytes: Gauge::default(),
            windows_open: Gauge::default(),
            chunk_rows: Counter::default(),
            chunk_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            snapshot_rows_read: Counter::default(),
            snapshot_rows_emitted: Counter::default(),
            snapshot_rows_dropped: Counter::default(),
            snapshots_running: Gauge::default(),
            view_rereads: Counter::default(),
            chunk_failures: Counter::default(),
            foreign_marks: Counter::default(),
            retries: Counter::default(),
            leader: Gauge::default(),
            up: Gauge::default(),
        };
        metrics.set_retention(None);
        metrics.register(&mut registry);
        Metrics { registry, ..metrics }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("records", "Records committed", self.records.clone());
        registry.register("bytes", "Bytes committed", self.bytes.clone());
        registry.register("commits", "Transactions committed", self.commits.clone());
        registry.register("commit_seconds", "Duration of a commit", self.commit_seconds.clone());
        registry.register("lag_bytes", "Source log ahead of the reader", self.lag_bytes.clone());
        let kept = self.source_kept_bytes.clone();
        registry.register("source_kept_bytes", "Source log kept for us", kept);
        let left = self.source_left_hours.clone();
        registry.register("source_left_hours", "Until the source throws it away", left);
        let overloaded = self.source_overloaded.clone();
        registry.register("source_overloaded", "Source spared further chunks", overloaded);
        registry.register(
            "source_lag_seconds",
            "Age of the newest event",
            self.source_lag_seconds.clone(),
        );
        registry.register(
            "checkpoint_age_seconds",
            "Since the last checkpoint",
            self.checkpoint_age_seconds.clone(),
        );
        registry.register("queue_bytes", "Encoded, not yet taken", self.queue_bytes.clone());
        registry.register("windows_open", "Windows open", self.windows_open.clone());
        registry.register("chunk_rows", "Rows read by chunks", self.chunk_rows.clone());
        registry.register(
            "chunk_seconds",
            "Duration of a chunk's read",
            self.chunk_seconds.clone(),
        );
        registry.register(
            "snapshot_rows_read",
            "Rows of finished chunks",
            self.snapshot_rows_read.clone(),
        );
        registry.register(
            "snapshot_rows_emitted",
            "Rows that left",
            self.snapshot_rows_emitted.clone(),
        );
        registry.register(
            "snapshot_rows_dropped",
            "Rows the log had news of",
            self.snapshot_rows_dropped.clone(),
        );
        registry.register(
            "snapshots_running",
            "Copies not finished",
            self.snapshots_running.clone(),
        );
        registry.register(
            "view_rereads",
            "Chunk reads repeated for their view",
            self.view_rereads.clone(),
        );
        registry.register(
            "chunk_failures",
            "Marks and reads that failed",
            self.chunk_failures.clone(),
        );
        registry.register("foreign_marks", "Marks of others", self.foreign_marks.clone());
        registry.register("retries", "Falls back to the checkpoint", self.retries.clone());
        registry.register("leader", "Whether this copy leads", self.leader.clone());
        registry.register("up", "Whether the pipeline captures", self.up.clone());
    }

    /// The counter of events of one kind.
    pub fn events(&self, op: Op) -> &Counter {
        &self.events[op as usize]
    }

    /// What the source keeps of its log; of one that does not say, nothing is kept and nothing is thrown away.
    pub(crate) fn set_retention(&self, retention: Option<Retention>) {
        let kept = retention.map_or(0, |of| of.kept_bytes);
        let left = retention.and_then(|of| of.left);
        self.source_kept_bytes.set(i64::try_from(kept).unwrap_or(i64::MAX));
        self.source_left_hours
            .set(left.map_or(f64::INFINITY, |left| left.as_secs_f64() / 3_600.0));
    }

    /// Events of every kind so far.
    pub fn events_total(&self) -> u64 {
        self.events.iter().map(Counter::get).sum()
    }

    /// The text that a Prometheus server scrapes.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# metrics could not be encoded");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names in the table at the head of this file, as they are exposed.
    fn documented() -> BTreeSet<String> {
        include_str!("metrics.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `"))
            .filter_map(|line| line.split('`').next())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_table_names_exactly_the_metrics_that_are_exposed() {
        let text = Metrics::new("shop").encode();
        let exposed: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split_once(' '))
            .map(|(name, kind)| match kind {
                "counter" => format!("{name}_total"),
                _ => name.to_owned(),
            })
            .collect();
        assert_eq!(exposed, documented());
    }

    #[test]
    fn what_the_source_keeps_is_told_in_bytes_and_hours() {
        let metrics = Metrics::new("shop");
        let told = |name: &str, value: &str| {
            let line = format!("highwater_source_{name}{{pipeline=\"shop\"}} {value}\n");
            assert!(metrics.encode().contains(&line), "{line}\n{}", metrics.encode());
        };
        told("left_hours", "inf");
        metrics.set_retention(Some(Retention {
            kept_bytes: 7,
            left_bytes: Some(9),
            left: Some(std::time::Duration::from_secs(5_400)),
        }));
        told("kept_bytes", "7");
        told("left_hours", "1.5");
    }

    #[test]
    fn events_are_counted_by_what_happened() {
        let metrics = Metrics::new("shop");
        for (op, name) in OPS {
            metrics.events(op).inc();
            let line = format!("highwater_events_total{{pipeline=\"shop\",op=\"{name}\"}} 1");
            assert!(metrics.encode().contains(&line), "{line}\n{}", metrics.encode());
        }
        assert_eq!(metrics.events_total(), 6);
    }
}
