// SPDX-License-Identifier: Apache-2.0
//! The figures as tables for people, each figure beside its goal: for the terminal and for Markdown.

use crate::goals::Bound;
use crate::report::{Figures, LimitFigures};

const HEADERS: [&str; 8] = [
    "case",
    "rows",
    "events/s",
    "CPU-s per million (goal; at most)",
    "peak MB (goal; at most)",
    "limits: events/s",
    "ratio (goal)",
    "p50 / p99 ms (goal)",
];

/// Lines in columns; `!` before a figure that misses its goal.
pub(crate) fn plain(results: &[Figures]) -> String {
    columns(&HEADERS.map(str::to_owned), &cells(results, "!"))
}

/// A Markdown table; a figure that misses its goal is bold.
pub(crate) fn markdown(results: &[Figures]) -> String {
    rows_of_markdown(&HEADERS.map(str::to_owned), &cells(results, "**"))
}

/// Any table in columns as wide as their widest cell.
pub(crate) fn columns(headers: &[String], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(headers).chain(rows.iter().map(Vec::as_slice));
    let width = |place: usize| {
        all()
            .filter_map(|row| row.get(place))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headers.len()).map(width).collect();
    all()
        .map(|row| {
            let padded = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect::<Vec<_>>();
            padded.join("  ").trim_end().to_owned() + "\n"
        })
        .collect()
}

/// Any table in Markdown; the first column is code.
pub(crate) fn rows_of_markdown(headers: &[String], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", headers.join(" | "), "---|".repeat(headers.len()));
    for row in rows {
        let mut cells = row.iter().enumerate().map(|(place, cell)| match place {
            0 => format!("`{cell}`"),
            _ => cell.clone(),
        });
        let first = cells.next().unwrap_or_default();
        let rest: String = cells.map(|cell| format!(" | {cell}")).collect();
        text += &format!("| {first}{rest} |\n");
    }
    text
}

fn cells(results: &[Figures], miss: &str) -> Vec<Vec<String>> {
    results.iter().map(|figures| line(figures, miss).to_vec()).collect()
}

fn line(figures: &Figures, miss: &str) -> [String; 8] {
    let goals = &figures.goals;
    let limit = |limit: &LimitFigures| format!("{} {}", limit.name, grouped(limit.events_per_s));
    let limits: Vec<String> = figures.limits.iter().map(limit).collect();
    let ratio = figures.ratio_to_limit.map(|ratio| {
        let text = format!("{ratio:.2}");
        match goals.ratio_to_limit {
            Some(goal) => format!("{} ({goal})", marked(&text, ratio < goal, miss)),
            None => text,
        }
    });
    [
        figures.name.clone(),
        grouped(figures.rows as f64),
        grouped(figures.events_per_s),
        beside(figures.cpu_s_per_million, 2, goals.cpu_s_per_million, miss),
        beside(figures.rss_peak_mb, 0, Some(goals.rss_peak_mb), miss),
        limits.join(", "),
        ratio.unwrap_or_default(),
        latency(figures, miss),
    ]
}

fn latency(figures: &Figures, miss: &str) -> String {
    let goals = &figures.goals;
    let one = |found: Option<f64>, goal: Option<f64>| {
        let text = found.map(|found| format!("{found:.1}")).unwrap_or_default();
        marked(&text, found.zip(goal).is_some_and(|(found, goal)| found > goal), miss)
    };
    match (figures.p50_ms, goals.p50_ms, goals.p99_ms) {
        (Some(_), Some(p50), Some(p99)) => format!(
            "{} / {} ({p50} / {p99})",
            one(figures.p50_ms, goals.p50_ms),
            one(figures.p99_ms, goals.p99_ms)
        ),
        _ => String::new(),
    }
}

/// A figure and, in brackets, its goal and its maximum.
fn beside(figure: f64, digits: usize, bound: Option<Bound>, miss: &str) -> String {
    let text = format!("{figure:.digits$}");
    match bound {
        Some(Bound { goal, max }) => format!("{} ({goal}; {max})", marked(&text, figure > goal, miss)),
        None => text,
    }
}

fn marked(text: &str, is_missed: bool, miss: &str) -> String {
    match (is_missed, miss) {
        (false, _) => text.to_owned(),
        (true, "**") => format!("**{text}**"),
        (true, miss) => format!("{miss}{text}"),
    }
}

/// A number without a fraction, its thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::figures;

    #[test]
    fn each_figure_stands_beside_its_goal_and_a_missed_one_is_marked() {
        let text = markdown(&[figures(1.5), figures(2.5)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2],
            "| `stream_drain` | 7 | 100,000 | 1.50 (2.4; 3.5) | 20 (64; 128) | log 110,000, writer 400,000 | 0.91 (0.9) |  |"
        );
        assert!(lines[3].contains("| **2.50** (2.4; 3.5) |"));
        assert!(plain(&[figures(2.5)]).contains(" !2.50 (2.4; 3.5) "));
    }

    #[test]
    fn a_ratio_below_its_goal_and_a_late_event_are_marked() {
        let mut late = figures(1.0);
        late.ratio_to_limit = Some(0.5);
        late.goals.p50_ms = Some(25.0);
        late.goals.p99_ms = Some(45.0);
        (late.p50_ms, late.p99_ms) = (Some(7.0), Some(46.0));
        assert!(markdown(&[late]).ends_with("| **0.50** (0.9) | 7.0 / **46.0** (25 / 45) |\n"));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_thousands_stand_apart() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = columns(&row(["a", "b"]), &[row(["long", "1"])]);
        assert_eq!(text, "a     b\nlong  1\n");
        assert_eq!(
            [12.0, 123.0, 1_234.4, 1_234_567.0].map(grouped),
            ["12", "123", "1,234", "1,234,567"]
        );
    }
}
