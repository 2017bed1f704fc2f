// SPDX-License-Identifier: Apache-2.0
//! What a case is to reach, and what it must never cost.

use serde::Serialize;

use crate::case::{Case, Drain, Kind, Target};

/// A figure that is the better the smaller it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Bound {
    /// What it is to be at most.
    pub(crate) goal: f64,
    /// What it must never exceed.
    pub(crate) max: f64,
}

/// The goals of a case; none where no figure was set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Goals {
    /// CPU seconds for a million events. None where rows are wide, and where events come slowly: a capture that mostly
    /// waits is judged by its latency.
    pub(crate) cpu_s_per_million: Option<Bound>,
    /// Peak memory in megabytes.
    pub(crate) rss_peak_mb: Bound,
    /// The least share of the limit.
    pub(crate) ratio_to_limit: Option<f64>,
    /// Half of the events come within this many milliseconds.
    pub(crate) p50_ms: Option<f64>,
    /// All but one in a hundred.
    pub(crate) p99_ms: Option<f64>,
}

/// Peak memory of any case.
const RSS_MB: Bound = Bound { goal: 64.0, max: 128.0 };

impl Goals {
    /// The goals of a case.
    pub(crate) fn of(case: Case) -> Self {
        let latency = match (case.kind, case.target) {
            (Kind::StreamLatency, Target::Kafka) => Some((25.0, 45.0)),
            (Kind::StreamLatency, Target::Nothing) => Some((3.0, 12.0)),
            _ => None,
        };
        let is_compared = !matches!(
            case.kind,
            Kind::StreamLatency | Kind::StreamDrain(Drain::TenfoldTransaction)
        );
        Goals {
            cpu_s_per_million: cpu(case).map(|(goal, max)| Bound { goal, max }),
            rss_peak_mb: RSS_MB,
            ratio_to_limit: is_compared.then_some(0.9),
            p50_ms: latency.map(|(p50, _)| p50),
            p99_ms: latency.map(|(_, p99)| p99),
        }
    }
}

fn cpu(case: Case) -> Option<(f64, f64)> {
    match (case.kind, case.target) {
        (Kind::StreamLatency | Kind::SnapshotWide | Kind::StreamDrain(Drain::WideUpdates), _) => None,
        (Kind::StreamDrain(_), Target::Kafka) => Some((2.4, 3.5)),
        (Kind::StreamDrain(_), Target::Nothing) => Some((1.2, 2.0)),
        (_, Target::Kafka) => Some((1.5, 2.5)),
        (_, Target::Nothing) => Some((0.6, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goals(kind: Kind, target: Target) -> Goals {
        Goals::of(Case { kind, target })
    }

    #[test]
    fn copies_and_streams_have_goals_of_their_own_into_kafka_and_into_nothing() {
        let cpu = |kind, target| {
            goals(kind, target)
                .cpu_s_per_million
                .map(|bound| (bound.goal, bound.max))
        };
        let stream = Kind::StreamDrain(Drain::Inserts);
        assert_eq!(cpu(stream, Target::Kafka), Some((2.4, 3.5)));
        assert_eq!(cpu(stream, Target::Nothing), Some((1.2, 2.0)));
        assert_eq!(cpu(Kind::Snapshot, Target::Kafka), Some((1.5, 2.5)));
        assert_eq!(cpu(Kind::Snapshot, Target::Nothing), Some((0.6, 1.0)));
        assert_eq!(cpu(Kind::SnapshotWide, Target::Nothing), None);
    }

    #[test]
    fn only_a_case_of_single_commits_is_judged_by_its_latency() {
        let latency = goals(Kind::StreamLatency, Target::Kafka);
        assert_eq!((latency.p50_ms, latency.p99_ms), (Some(25.0), Some(45.0)));
        assert_eq!((latency.cpu_s_per_million, latency.ratio_to_limit), (None, None));
        let copy = goals(Kind::Snapshot, Target::Kafka);
        assert_eq!((copy.p99_ms, copy.ratio_to_limit), (None, Some(0.9)));
    }
}
