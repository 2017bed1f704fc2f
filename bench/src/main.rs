// SPDX-License-Identifier: Apache-2.0
//! Measures capture on real servers: how many events a second, for how much CPU and memory, how late.
//!
//! ```text
//!   highwater-bench postgres                highwater-bench capture FILE      (one process per case)
//!     servers, rows, writers    ──stdin──▶    the pipeline, as the product runs it
//!     what the server can do    ◀─stdout──    transport wrapped in a tally: counts, times, CPU, memory
//!     reads everything back     ◀────────────────────── Kafka ─────────────┘
//! ```
//!
//! A case whose events cannot be counted back to the last one fails: speed is never bought with loss.

mod capture;
mod case;
mod child;
mod clock;
mod dataset;
mod failure;
mod goals;
mod latency;
mod limits;
mod load;
mod many_tables;
mod measure;
mod peer;
mod peer_report;
mod pipeline_file;
mod read_back;
mod readme;
mod record_key;
mod report;
mod suite;
mod table;
mod tallied;
mod tally;
mod topics;
mod usage;
mod wide_rows;
mod writer_limit;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures capture on real servers.
#[derive(Debug, Parser)]
#[command(name = "highwater-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Captures Postgres on servers of its own and writes target/bench/postgres.json.
    Postgres(suite::SuiteArguments),
    /// The process that is measured: runs one pipeline file, steered through its standard input.
    #[command(hide = true)]
    Capture {
        /// What to capture and how.
        task: PathBuf,
    },
}

fn main() -> ExitCode {
    if std::env::var_os("HIGHWATER_TESTBED").is_none() {
        // The limits are measured by programs that come with native servers.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("HIGHWATER_TESTBED", "process") };
    }
    let result = match Arguments::parse().command {
        Command::Postgres(arguments) => suite::run(&arguments),
        Command::Capture { task } => capture::run(&task),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("highwater-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
