// SPDX-License-Identifier: Apache-2.0
//! Structured logs on standard error. Never a row value, a key or a secret.

use std::str::FromStr;

use highwater_core::{Error, ErrorKind};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(
                Error::new(ErrorKind::Configuration, format!("unknown log format \"{text}\""))
                    .with_fix("choose text or json"),
            ),
        }
    }
}

/// Sends logs of this process to standard error. `HIGHWATER_LOG` (else `RUST_LOG`) chooses what is shown, as
/// `debug` or `warn,highwater_runtime=debug`; `info` where neither is set. A second call does nothing.
pub fn init(format: LogFormat) {
    init_showing(format, "info");
}

/// As [`init`], with another choice where the environment makes none: `warn`.
pub fn init_showing(format: LogFormat, default: &str) {
    let filter = std::env::var("HIGHWATER_LOG")
        .or_else(|_| std::env::var("RUST_LOG"))
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
