// SPDX-License-Identifier: Apache-2.0
//! A peer's figures beside ours of the same run.

use serde::Serialize;

use crate::report::Figures;
use crate::table::{columns, grouped, rows_of_markdown};

const HEADERS: [&str; 6] = [
    "case",
    "Debezium",
    "CPU-s per million",
    "events/s",
    "peak MB",
    "p50, p99 ms",
];

/// What a run found of a peer.
#[derive(Debug, Serialize)]
pub(crate) struct PeerReport {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its exact version.
    pub(crate) version: String,
    /// One entry per case and variant.
    pub(crate) results: Vec<Comparison>,
}

/// What one case of a peer found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PeerFigures {
    /// Our case that it is the counterpart of.
    pub(crate) case: String,
    /// How the peer was set.
    pub(crate) variant: &'static str,
    /// Events a second, from the first record in its topic to the last; `None` where the load sets the pace.
    pub(crate) events_per_s: Option<f64>,
    /// CPU seconds of the worker, its start included, for a million events.
    pub(crate) cpu_s_per_million: f64,
    /// The most memory that the worker ever held resident, in megabytes.
    pub(crate) rss_peak_mb: f64,
    /// Half of the events came within this time after their commit.
    pub(crate) p50_ms: Option<f64>,
    /// All but one in a hundred.
    pub(crate) p99_ms: Option<f64>,
}

/// A peer's figures and how ours stand to them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    /// The peer's.
    #[serde(flatten)]
    pub(crate) theirs: PeerFigures,
    /// Ours by theirs.
    pub(crate) ours_to_theirs: Ratios,
    #[serde(skip)]
    ours: PeerFigures,
}

/// Ours by theirs: below 1 is less processor time, memory and lateness; above 1 more events a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratios {
    pub(crate) events_per_s: Option<f64>,
    pub(crate) cpu_s_per_million: f64,
    pub(crate) rss_peak_mb: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

impl Comparison {
    /// Ours and theirs of the same case and run.
    pub(crate) fn new(ours: &Figures, theirs: PeerFigures) -> Self {
        let by = |ours: Option<f64>, theirs: Option<f64>| ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
        Self {
            ours_to_theirs: Ratios {
                events_per_s: theirs.events_per_s.map(|theirs| ours.events_per_s / theirs),
                cpu_s_per_million: ours.cpu_s_per_million / theirs.cpu_s_per_million,
                rss_peak_mb: ours.rss_peak_mb / theirs.rss_peak_mb,
                p50_ms: by(ours.p50_ms, theirs.p50_ms),
                p99_ms: by(ours.p99_ms, theirs.p99_ms),
            },
            ours: PeerFigures {
                case: ours.name.clone(),
                variant: "",
                events_per_s: Some(ours.events_per_s),
                cpu_s_per_million: ours.cpu_s_per_million,
                rss_peak_mb: ours.rss_peak_mb,
                p50_ms: ours.p50_ms,
                p99_ms: ours.p99_ms,
            },
            theirs,
        }
    }

    fn cells(&self) -> Vec<String> {
        let (ours, theirs, ratios) = (&self.ours, &self.theirs, &self.ours_to_theirs);
        let pair = |ours: String, theirs: String, ratio: f64| format!("{ours} : {theirs} = {}", two_digits(ratio));
        let late = |ours: Option<f64>, theirs: Option<f64>, ratio: Option<f64>| {
            let (ours, theirs, ratio) = (ours?, theirs?, ratio?);
            Some(pair(format!("{ours:.1}"), format!("{theirs:.1}"), ratio))
        };
        let latencies = [
            late(ours.p50_ms, theirs.p50_ms, ratios.p50_ms),
            late(ours.p99_ms, theirs.p99_ms, ratios.p99_ms),
        ];
        let latencies: Vec<String> = latencies.into_iter().flatten().collect();
        let cpu = |figures: &PeerFigures| format!("{:.2}", figures.cpu_s_per_million);
        let memory = |figures: &PeerFigures| grouped(figures.rss_peak_mb);
        let rates = ours.events_per_s.zip(theirs.events_per_s).zip(ratios.events_per_s);
        let rates = rates.map(|((ours, theirs), ratio)| pair(grouped(ours), grouped(theirs), ratio));
        vec![
            theirs.case.clone(),
            theirs.variant.to_owned(),
            pair(cpu(ours), cpu(theirs), ratios.cpu_s_per_million),
            rates.unwrap_or_default(),
            pair(memory(ours), memory(theirs), ratios.rss_peak_mb),
            latencies.join(", "),
        ]
    }
}

impl PeerReport {
    /// Lines in columns: ours : theirs = ratio.
    pub(crate) fn plain(&self) -> String {
        columns(&HEADERS.map(str::to_owned), &self.cells())
    }

    /// The same as a Markdown table.
    pub(crate) fn markdown(&self) -> String {
        rows_of_markdown(&HEADERS.map(str::to_owned), &self.cells())
    }

    fn cells(&self) -> Vec<Vec<String>> {
        self.results.iter().map(Comparison::cells).collect()
    }
}

/// A ratio with the two digits that say something.
fn two_digits(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 10.0 => format!("{ratio:.0}"),
        ratio if ratio >= 1.0 => format!("{ratio:.1}"),
        ratio if ratio >= 0.1 => format!("{ratio:.2}"),
        ratio => format!("{ratio:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::figures;

    fn comparison() -> Comparison {
        let ours = Figures {
            p50_ms: Some(7.0),
            p99_ms: Some(32.0),
            ..figures(2.0)
        };
        let theirs = PeerFigures {
            case: "stream_drain".to_owned(),
            variant: "tuned",
            events_per_s: Some(20_000.0),
            cpu_s_per_million: 80.0,
            rss_peak_mb: 1_000.0,
            p50_ms: Some(70.0),
            p99_ms: Some(64.0),
        };
        Comparison::new(&ours, theirs)
    }

    #[test]
    fn ratios_are_ours_by_theirs() {
        let ratios = comparison().ours_to_theirs;
        assert_eq!((ratios.events_per_s, ratios.cpu_s_per_million), (Some(5.0), 0.025));
        assert_eq!((ratios.rss_peak_mb, ratios.p50_ms), (0.02, Some(0.1)));
        assert_eq!(ratios.p99_ms, Some(0.5));
    }

    #[test]
    fn the_table_and_the_file_show_both_figures_and_their_ratio() {
        let report = PeerReport {
            name: "debezium",
            version: "1".to_owned(),
            results: vec![comparison()],
        };
        let row = "| `stream_drain` | tuned | 2.00 : 80.00 = 0.025 | 100,000 : 20,000 = 5.0 | 20 : 1,000 = 0.020 \
                   | 7.0 : 70.0 = 0.10, 32.0 : 64.0 = 0.50 |";
        assert_eq!(report.markdown().lines().last(), Some(row));
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["results"][0]["cpu_s_per_million"], 80.0);
        assert_eq!(value["results"][0]["ours_to_theirs"]["cpu_s_per_million"], 0.025);
    }
}
