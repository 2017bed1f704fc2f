// SPDX-License-Identifier: Apache-2.0
//! What the demo shows: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use highwater_core::{Error, ErrorKind, Result};
use highwater_runtime::shutdown::Shutdown;
use highwater_runtime::telemetry::status::{State, Status, StatusBoard, TableStatus};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::changes::Changes;

const DRAW_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// The demo's output.
pub struct Screen {
    terminal: bool,
    bars: MultiProgress,
    tables: BTreeMap<String, ProgressBar>,
    last_line: Instant,
    pace: Pace,
}

struct Pace {
    since: Instant,
    events: u64,
    per_second: f64,
}

impl Pace {
    fn tell(&mut self, events: u64) -> f64 {
        let took = self.since.elapsed().as_secs_f64();
        if took >= 0.5 {
            self.per_second = events.saturating_sub(self.events) as f64 / took;
            self.since = Instant::now();
            self.events = events;
        }
        self.per_second
    }
}

impl Screen {
    pub fn new() -> Self {
        let now = Instant::now();
        Screen {
            terminal: std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
            bars: MultiProgress::new(),
            tables: BTreeMap::new(),
            last_line: now - LINE_EVERY,
            pace: Pace {
                since: now,
                events: 0,
                per_second: 0.0,
            },
        }
    }

    /// Shows the copies until they are done.
    pub async fn copies(&mut self, board: &StatusBoard, interrupted: &Shutdown, patience: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let status = board.read();
            self.draw_copies(&status);
            let copied = |table: &TableStatus| table.copied;
            if status.state == State::Running && status.tables.len() >= 3 && status.tables.values().all(copied) {
                break;
            }
            if interrupted.is_requested() {
                break;
            }
            if status.state == State::Stopped || began.elapsed() > patience {
                let why = status
                    .last_error
                    .map_or("the copies took too long".to_owned(), |error| error.message);
                return Err(Error::new(ErrorKind::Unreachable, why));
            }
            tokio::time::sleep(DRAW_EVERY).await;
        }
        let status = board.read();
        for (_, bar) in std::mem::take(&mut self.tables) {
            bar.finish_and_clear();
        }
        for (name, table) in &status.tables {
            println!("copied {name}: {} rows", grouped(table.rows_read));
        }
        println!(
            "copies took {:.1} s, while the writer went on",
            began.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn draw_copies(&mut self, status: &Status) {
        let pace = self.pace.tell(status.events);
        if self.terminal {
            for (name, table) in &status.tables {
                let bars = &self.bars;
                let bar = self.tables.entry(name.clone()).or_insert_with(|| bars.add(bar(name)));
                bar.set_length(table.rows_estimate.unwrap_or(0).max(table.rows_read));
                bar.set_position(table.rows_read);
                let left = table
                    .seconds_left
                    .map_or(String::new(), |left| format!("{left:.0} s left, "));
                bar.set_message(format!(
                    "{left}{} events/s, lag {:.2} s",
                    grouped(pace as u64),
                    status.source_lag_seconds
                ));
            }
            return;
        }
        if self.is_time_for_a_line() && !status.tables.is_empty() {
            println!("{}", copies_line(status, pace));
        }
    }

    /// Shows the stream for a while, or until Ctrl-C.
    pub async fn stream(
        &mut self,
        board: &StatusBoard,
        changes: &Changes,
        interrupted: &Shutdown,
        during: Option<Duration>,
    ) {
        let began = Instant::now();
        let bar = self.terminal.then(|| self.bars.add(ProgressBar::new_spinner()));
        while during.is_none_or(|during| began.elapsed() < during) && !interrupted.is_requested() {
            let status = board.read();
            let pace = self.pace.tell(status.events);
            let line = format!(
                "{} statements written, {} events, {} events/s, lag {:.3} s",
                grouped(changes.statements()),
                grouped(status.events),
                grouped(pace as u64),
                status.source_lag_seconds
            );
            match &bar {
                Some(bar) => {
                    bar.set_message(line);
                    bar.tick();
                }
                None if self.is_time_for_a_line() => println!("{line}"),
                None => {}
            }
            tokio::select! {
                () = tokio::time::sleep(DRAW_EVERY) => {}
                () = interrupted.requested() => {}
            }
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn is_time_for_a_line(&mut self) -> bool {
        let due = self.last_line.elapsed() >= LINE_EVERY;
        if due {
            self.last_line = Instant::now();
        }
        due
    }
}

fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:<16} {bar:30} {human_pos:>10} of {human_len} rows  {msg}");
    let bar = ProgressBar::new(0).with_prefix(name.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn copies_line(status: &Status, pace: f64) -> String {
    let tables: Vec<String> = status
        .tables
        .iter()
        .map(|(name, table)| {
            let estimate = table.rows_estimate.unwrap_or(0).max(table.rows_read).max(1);
            let left = table
                .seconds_left
                .map_or(String::new(), |left| format!(", {left:.0} s left"));
            format!(
                "{name} {} % of {} rows{left}",
                table.rows_read * 100 / estimate,
                grouped(estimate)
            )
        })
        .collect();
    let lag = status.source_lag_seconds;
    format!(
        "{}; {} events/s, lag {lag:.2} s",
        tables.join("; "),
        grouped(pace as u64)
    )
}

/// `41250` as `41,250`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_in_threes() {
        assert_eq!(
            [0, 999, 1_000, 41_250, 1_234_567].map(grouped),
            ["0", "999", "1,000", "41,250", "1,234,567"]
        );
    }
}
