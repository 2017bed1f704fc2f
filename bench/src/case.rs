// SPDX-License-Identifier: Apache-2.0
//! What is measured, and what each case may cost.

/// What a case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A table is copied, nothing else happens.
    Snapshot,
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
    /// Updates, 1,000 a transaction.
    Updates,
    /// Inserts, all in one transaction.
    HugeTransaction,
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

/// The most memory that a capture may ever hold resident, in megabytes.
pub(crate) const RSS_MB_MAX: f64 = 128.0;

impl Case {
    /// Every case, in the order in which they run.
    pub(crate) fn all() -> Vec<Case> {
        let kinds = [
            Kind::Snapshot,
            Kind::SnapshotUnderLoad,
            Kind::IncrementalSnapshot,
            Kind::StreamDrain(Drain::Inserts),
            Kind::StreamDrain(Drain::Updates),
            Kind::StreamDrain(Drain::HugeTransaction),
            Kind::StreamLatency,
        ];
        let both = |kind| [Target::Kafka, Target::Nothing].map(|target| Case { kind, target });
        kinds.into_iter().flat_map(both).collect()
    }

    /// The case's name in the results.
    pub(crate) fn name(self) -> String {
        let kind = match self.kind {
            Kind::Snapshot => "snapshot",
            Kind::SnapshotUnderLoad => "snapshot_under_load",
            Kind::IncrementalSnapshot => "incremental_snapshot",
            Kind::StreamDrain(Drain::Inserts) => "stream_drain",
            Kind::StreamDrain(Drain::Updates) => "stream_updates",
            Kind::StreamDrain(Drain::HugeTransaction) => "stream_huge_transaction",
            Kind::StreamLatency => "stream_latency_1000tps",
        };
        match self.target {
            Target::Kafka => kind.to_owned(),
            Target::Nothing => format!("{kind}_null"),
        }
    }

    /// CPU seconds for a million events that the case must not exceed. None where events come slowly: a capture that
    /// mostly waits is judged by its latency.
    pub(crate) fn cpu_s_per_million_max(self) -> Option<f64> {
        match (self.kind, self.target) {
            (Kind::StreamLatency, _) => None,
            (Kind::StreamDrain(_), Target::Kafka) => Some(3.5),
            (Kind::StreamDrain(_), Target::Nothing) => Some(2.0),
            (_, Target::Kafka) => Some(2.5),
            (_, Target::Nothing) => Some(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_runs_into_kafka_and_into_nothing_under_its_own_name() {
        let names: Vec<String> = Case::all().into_iter().map(Case::name).collect();
        assert_eq!(names.len(), 14);
        for kind in [
            "snapshot",
            "snapshot_under_load",
            "stream_drain",
            "stream_updates",
            "stream_huge_transaction",
            "stream_latency_1000tps",
            "incremental_snapshot",
        ] {
            assert!(
                names.contains(&kind.to_owned()) && names.contains(&format!("{kind}_null")),
                "{kind}"
            );
        }
    }
}
