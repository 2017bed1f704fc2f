// SPDX-License-Identifier: Apache-2.0
//! What is measured.

use crate::measure::TICKS_MAX;

/// What a case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A table is copied, nothing else happens.
    Snapshot,
    /// The same, read from the snapshot where the log begins (`first_load: one_snapshot`).
    SnapshotAtStart,
    /// A copy over TLS.
    SnapshotOverTls,
    /// A table of wide rows is copied.
    SnapshotWide,
    /// A table is copied while its rows change.
    SnapshotUnderLoad,
    /// A running capture that has caught up is asked for a copy.
    IncrementalSnapshot,
    /// A log full of changes is read to its end.
    StreamDrain(Drain),
    /// Commits come one by one; how late are they?
    StreamLatency,
}

/// What a log is full of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Inserts, 1,000 a transaction.
    Inserts,
    /// The same, read over TLS.
    OverTls,
    /// Updates, 1,000 a transaction.
    Updates,
    /// Deletes, 1,000 a transaction.
    Deletes,
    /// Updates of wide rows, of which every other leaves the value stored out of line as it is.
    WideUpdates,
    /// Inserts into 1,000 tables, 10 rows of each of 100 tables a transaction.
    ManyTables,
    /// Inserts, all in one transaction.
    HugeTransaction,
    /// The same, ten times as many.
    TenfoldTransaction,
}

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Kafka: Avro, transactions, lz4.
    Kafka,
    /// Nowhere: events are encoded, counted and dropped.
    Nothing,
}

/// One line of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    /// What it does.
    pub(crate) kind: Kind,
    /// Where events go.
    pub(crate) target: Target,
}

/// Every kind of the usual run, in the order in which they run.
const KINDS: [Kind; 14] = [
    Kind::Snapshot,
    Kind::SnapshotAtStart,
    Kind::SnapshotOverTls,
    Kind::SnapshotWide,
    Kind::SnapshotUnderLoad,
    Kind::IncrementalSnapshot,
    Kind::StreamDrain(Drain::Inserts),
    Kind::StreamDrain(Drain::OverTls),
    Kind::StreamDrain(Drain::Updates),
    Kind::StreamDrain(Drain::Deletes),
    Kind::StreamDrain(Drain::WideUpdates),
    Kind::StreamDrain(Drain::ManyTables),
    Kind::StreamDrain(Drain::HugeTransaction),
    Kind::StreamLatency,
];

impl Case {
    /// The cases of the usual run, in the order in which they run.
    pub(crate) fn usual() -> Vec<Case> {
        let both = |kind| [Target::Kafka, Target::Nothing].map(|target| Case { kind, target });
        KINDS.into_iter().flat_map(both).collect()
    }

    /// The cases that run only where they are named: they take minutes.
    pub(crate) fn on_request() -> Vec<Case> {
        let kind = Kind::StreamDrain(Drain::TenfoldTransaction);
        [Target::Kafka, Target::Nothing]
            .map(|target| Case { kind, target })
            .into()
    }

    /// The case's name in the results.
    pub(crate) fn name(self) -> String {
        let kind = match self.kind {
            Kind::Snapshot => "snapshot",
            Kind::SnapshotAtStart => "snapshot_at_start",
            Kind::SnapshotOverTls => "snapshot_tls",
            Kind::SnapshotWide => "snapshot_wide",
            Kind::SnapshotUnderLoad => "snapshot_under_load",
            Kind::IncrementalSnapshot => "incremental_snapshot",
            Kind::StreamDrain(Drain::Inserts) => "stream_drain",
            Kind::StreamDrain(Drain::OverTls) => "stream_tls",
            Kind::StreamDrain(Drain::Updates) => "stream_updates",
            Kind::StreamDrain(Drain::Deletes) => "stream_deletes",
            Kind::StreamDrain(Drain::WideUpdates) => "stream_wide",
            Kind::StreamDrain(Drain::ManyTables) => "stream_1000_tables",
            Kind::StreamDrain(Drain::HugeTransaction) => "stream_huge_transaction",
            Kind::StreamDrain(Drain::TenfoldTransaction) => "stream_tenfold_transaction",
            Kind::StreamLatency => "stream_latency_1000tps",
        };
        match self.target {
            Target::Kafka => kind.to_owned(),
            Target::Nothing => format!("{kind}_null"),
        }
    }

    /// Whether the server is read over TLS.
    pub(crate) fn is_encrypted(self) -> bool {
        matches!(self.kind, Kind::SnapshotOverTls | Kind::StreamDrain(Drain::OverTls))
    }

    /// Whether the capture copies its table when it starts.
    pub(crate) fn begins_with_a_copy(self) -> bool {
        matches!(
            self.kind,
            Kind::Snapshot
                | Kind::SnapshotAtStart
                | Kind::SnapshotOverTls
                | Kind::SnapshotWide
                | Kind::SnapshotUnderLoad
        )
    }

    /// The rows of this case, where the everyday cases have `rows`.
    pub(crate) fn rows(self, rows: u64) -> u64 {
        match self.kind {
            Kind::SnapshotWide => wide_rows(rows),
            Kind::StreamDrain(drain) => drain.rows(rows),
            Kind::StreamLatency => TICKS_MAX,
            _ => rows,
        }
    }
}

impl Drain {
    /// The changes of this log, where the everyday ones have `rows`.
    pub(crate) fn rows(self, rows: u64) -> u64 {
        match self {
            Drain::WideUpdates => wide_rows(rows),
            Drain::ManyTables => many_tables_rows(rows),
            Drain::TenfoldTransaction => 10 * rows,
            _ => rows,
        }
    }
}

/// Wide rows have forty times the bytes of everyday ones.
fn wide_rows(rows: u64) -> u64 {
    rows.div_ceil(40)
}

/// A quarter of the rows, and every table with at least one.
fn many_tables_rows(rows: u64) -> u64 {
    let per_table = rows / 4 / crate::many_tables::TABLES;
    per_table.max(1) * crate::many_tables::TABLES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_runs_into_kafka_and_into_nothing_under_its_own_name() {
        let mut names: Vec<String> = Case::usual().into_iter().map(Case::name).collect();
        assert_eq!(names.len(), 28);
        for kind in [
            "snapshot",
            "snapshot_at_start",
            "snapshot_tls",
            "snapshot_wide",
            "snapshot_under_load",
            "incremental_snapshot",
            "stream_drain",
            "stream_tls",
            "stream_updates",
            "stream_deletes",
            "stream_wide",
            "stream_1000_tables",
            "stream_huge_transaction",
            "stream_latency_1000tps",
        ] {
            assert!(
                names.contains(&kind.to_owned()) && names.contains(&format!("{kind}_null")),
                "{kind}"
            );
        }
        names.extend(Case::on_request().into_iter().map(Case::name));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 30);
    }

    #[test]
    fn a_case_says_how_many_rows_it_has() {
        let of = |kind| {
            let target = Target::Nothing;
            Case { kind, target }.rows(1_000_000)
        };
        assert_eq!(of(Kind::Snapshot), 1_000_000);
        assert_eq!(of(Kind::SnapshotWide), 25_000);
        assert_eq!(of(Kind::StreamDrain(Drain::WideUpdates)), 25_000);
        assert_eq!(of(Kind::StreamDrain(Drain::ManyTables)), 250_000);
        assert_eq!(of(Kind::StreamDrain(Drain::TenfoldTransaction)), 10_000_000);
        assert_eq!(Drain::ManyTables.rows(1_000), 1_000);
    }
}
