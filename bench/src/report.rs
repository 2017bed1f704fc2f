// SPDX-License-Identifier: Apache-2.0
//! The figures: a file for machines and a table for people.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::case::{Case, RSS_MB_MAX};
use crate::failure::{Failure, Result};

/// What a suite found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The suite's name.
    pub(crate) suite: &'static str,
    /// Rows of the tables.
    pub(crate) rows: u64,
    /// One entry per case.
    pub(crate) results: Vec<Figures>,
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
    /// The case itself, for the table.
    #[serde(skip)]
    pub(crate) case: Case,
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

    /// The table for people: each figure beside what it must not exceed.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<28} {:>10} {:>16} {:>14} {:>24} {:>7} {:>8}\n{:<28} {:>10} {:>16} {:>14} {:>24} {:>7} {:>8}\n",
            "",
            "events/s",
            "CPU-s/million",
            "peak MB",
            "limit: events/s",
            "ratio",
            "p50/p99",
            "case",
            "",
            "(at most)",
            "(at most)",
            "",
            "",
            "ms"
        );
        for figures in &self.results {
            let _ = writeln!(text, "{}", figures.line());
        }
        text
    }
}

impl Figures {
    fn line(&self) -> String {
        let limit = match (&self.limit_name, self.limit_events_per_s) {
            (Some(name), Some(rate)) => format!("{name}: {rate:.0}"),
            _ => "-".to_owned(),
        };
        let latency = match (self.p50_ms, self.p99_ms) {
            (Some(p50), Some(p99)) => format!("{p50:.1}/{p99:.1}"),
            _ => "-".to_owned(),
        };
        let ratio = self
            .ratio_to_limit
            .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        format!(
            "{:<28} {:>10.0} {:>16} {:>14} {:>24} {:>7} {:>8}",
            self.name,
            self.events_per_s,
            beside(self.cpu_s_per_million, self.case.cpu_s_per_million_max(), 2),
            beside(self.rss_peak_mb, Some(RSS_MB_MAX), 0),
            limit,
            ratio,
            latency
        )
    }

    /// Whether the case costs more than it may.
    pub(crate) fn is_over(&self) -> bool {
        let cpu_max = self.case.cpu_s_per_million_max();
        cpu_max.is_some_and(|max| self.cpu_s_per_million > max) || self.rss_peak_mb > RSS_MB_MAX
    }
}

/// A figure and, in brackets, what it must not exceed; an exclamation mark when it does.
fn beside(figure: f64, max: Option<f64>, digits: usize) -> String {
    match max {
        Some(max) => {
            let mark = if figure > max { "!" } else { "" };
            format!("{mark}{figure:.digits$} ({max})")
        }
        None => format!("{figure:.digits$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Kind, Target};

    fn figures(cpu_s_per_million: f64) -> Figures {
        Figures {
            name: "stream_drain".to_owned(),
            events_per_s: 100_000.0,
            cpu_s_per_million,
            rss_peak_mb: 20.0,
            limit_name: None,
            limit_events_per_s: None,
            ratio_to_limit: None,
            p50_ms: None,
            p99_ms: None,
            case: Case {
                kind: Kind::StreamDrain(crate::case::Drain::Inserts),
                target: Target::Kafka,
            },
        }
    }

    #[test]
    fn the_file_has_exactly_the_agreed_shape() {
        let report = Report {
            suite: "postgres",
            rows: 7,
            results: vec![figures(1.5)],
        };
        let value = serde_json::to_value(&report).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), ["suite", "rows", "results"]);
        assert_eq!(
            keys(&value["results"][0]),
            [
                "name",
                "events_per_s",
                "cpu_s_per_million",
                "rss_peak_mb",
                "limit_name",
                "limit_events_per_s",
                "ratio_to_limit",
                "p50_ms",
                "p99_ms"
            ]
        );
        assert!(value["results"][0]["limit_name"].is_null());
    }

    #[test]
    fn a_figure_past_its_maximum_is_marked() {
        assert!(figures(3.6).is_over() && figures(3.6).line().contains("!3.60 (3.5)"));
        assert!(!figures(3.4).is_over() && figures(3.4).line().contains(" 3.40 (3.5)"));
    }
}
