// SPDX-License-Identifier: Apache-2.0
//! The figures, and the file for machines.

use std::path::Path;

use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::goals::Goals;
use crate::peer_report::PeerReport;

/// What a suite found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The suite's name.
    pub(crate) suite: &'static str,
    /// Rows of the tables.
    pub(crate) rows: u64,
    /// One entry per case.
    pub(crate) results: Vec<Figures>,
    /// What a peer did on the same servers, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<PeerReport>,
}

/// What one case found; null where a figure does not apply.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// The case.
    pub(crate) name: String,
    /// Events a second, from the moment the capture may read until the last event is committed.
    pub(crate) events_per_s: f64,
    /// CPU seconds of the capturing process, its start included, for a million events.
    pub(crate) cpu_s_per_million: f64,
    /// The most memory that the capturing process ever held resident, in megabytes.
    pub(crate) rss_peak_mb: f64,
    /// What the case is compared with.
    pub(crate) limit_name: Option<String>,
    /// Events a second of that.
    pub(crate) limit_events_per_s: Option<f64>,
    /// `events_per_s` by `limit_events_per_s`.
    pub(crate) ratio_to_limit: Option<f64>,
    /// Half of the events came within this time after their commit.
    pub(crate) p50_ms: Option<f64>,
    /// All but one in a hundred came within this time after their commit.
    pub(crate) p99_ms: Option<f64>,
    /// Rows of this case.
    pub(crate) rows: u64,
    /// Everything that was measured to compare it with; the smallest is the limit above.
    pub(crate) limits: Vec<LimitFigures>,
    /// What it is to reach.
    pub(crate) goals: Goals,
}

/// What could be reached at most.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LimitFigures {
    /// How it was measured.
    pub(crate) name: &'static str,
    /// Events a second.
    pub(crate) events_per_s: f64,
}

impl Report {
    /// Writes the file for machines.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let failed = |error: std::io::Error| Failure::during(format!("cannot write {}", path.display()), error);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|error| Failure::during("cannot write JSON", error))?;
        std::fs::write(path, text + "\n").map_err(failed)
    }
}

impl Figures {
    /// Whether the case costs more than it may.
    pub(crate) fn is_over(&self) -> bool {
        let cpu_max = self.goals.cpu_s_per_million.map(|bound| bound.max);
        cpu_max.is_some_and(|max| self.cpu_s_per_million > max) || self.rss_peak_mb > self.goals.rss_peak_mb.max
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::case::{Case, Drain, Kind, Target};

    /// Figures of `stream_drain`.
    pub(crate) fn figures(cpu_s_per_million: f64) -> Figures {
        let kind = Kind::StreamDrain(Drain::Inserts);
        let target = Target::Kafka;
        let limit = |name, events_per_s| LimitFigures { name, events_per_s };
        Figures {
            name: "stream_drain".to_owned(),
            events_per_s: 100_000.0,
            cpu_s_per_million,
            rss_peak_mb: 20.0,
            limit_name: Some("log".to_owned()),
            limit_events_per_s: Some(110_000.0),
            ratio_to_limit: Some(100.0 / 110.0),
            p50_ms: None,
            p99_ms: None,
            rows: 7,
            limits: vec![limit("log", 110_000.0), limit("writer", 400_000.0)],
            goals: Goals::of(Case { kind, target }),
        }
    }

    #[test]
    fn the_file_has_exactly_the_agreed_shape() {
        let report = Report {
            suite: "postgres",
            rows: 7,
            results: vec![figures(1.5)],
            peer: None,
        };
        let value = serde_json::to_value(&report).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), ["suite", "rows", "results"]);
        let result = &value["results"][0];
        let expected = [
            "name",
            "events_per_s",
            "cpu_s_per_million",
            "rss_peak_mb",
            "limit_name",
            "limit_events_per_s",
            "ratio_to_limit",
            "p50_ms",
            "p99_ms",
            "rows",
            "limits",
            "goals",
        ];
        assert_eq!(keys(result), expected);
        assert!(result["p50_ms"].is_null());
        assert_eq!(result["limits"][1]["name"], "writer");
        assert_eq!(result["goals"]["cpu_s_per_million"]["goal"], 2.4);
        assert_eq!(result["goals"]["rss_peak_mb"]["max"], 128.0);
    }

    #[test]
    fn a_case_is_over_when_its_processor_time_or_its_memory_is_past_the_maximum() {
        assert!(figures(3.6).is_over() && !figures(3.4).is_over());
        let large = Figures {
            rss_peak_mb: 129.0,
            ..figures(1.0)
        };
        assert!(large.is_over());
    }
}
