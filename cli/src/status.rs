// SPDX-License-Identifier: Apache-2.0
//! `highwater status`.

use std::fmt::Write as _;

use highwater_core::{Error, ErrorKind, Result};
use highwater_runtime::control::{Client, Request};
use highwater_runtime::telemetry::status::Status;

use crate::args::ReachArgs;
use crate::reach::client;

/// Shows what a running pipeline is doing.
pub async fn status(args: ReachArgs) -> Result<()> {
    let client = client(&args)?;
    if args.json {
        println!("{}", client.get(&Request::Status).await?);
        return Ok(());
    }
    print!("{}", text(&read(&client).await?));
    Ok(())
}

/// The status of a running pipeline.
pub async fn read(client: &Client) -> Result<Status> {
    let value = client.get(&Request::Status).await?;
    serde_json::from_value(value)
        .map_err(|error| Error::new(ErrorKind::CorruptMessage, "the pipeline sent no status").with_source(error))
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let state = format!("{:?}", status.state).to_lowercase();
    let _ = writeln!(text, "pipeline   {} ({}): {state}", status.pipeline, status.connector);
    let position = |position: &Option<String>| position.clone().unwrap_or_else(|| "-".to_owned());
    let _ = writeln!(text, "read to    {}", position(&status.read_position));
    let _ = writeln!(text, "durable    {}", position(&status.acknowledged_position));
    let lag = status
        .lag_bytes
        .map_or("unknown".to_owned(), |lag| format!("{lag} bytes"));
    let _ = writeln!(text, "lag        {lag}, {:.3} s", status.source_lag_seconds);
    let _ = writeln!(text, "events     {}", status.events);
    if let Some(overload) = &status.overload {
        let _ = writeln!(text, "copies     wait, the source has enough to do: {overload}");
    }
    if let Some(address) = status.admin {
        let _ = writeln!(text, "admin      http://{address}/status");
    }
    for (name, table) in &status.tables {
        let estimate = table
            .rows_estimate
            .map_or(String::new(), |rows| format!(" of about {rows}"));
        let copying = match (table.copying, table.copied) {
            (true, _) => "copying",
            (false, true) => "copied",
            (false, false) => "not copied,",
        };
        let left = table
            .seconds_left
            .map_or(String::new(), |left| format!(", {left:.0} s left"));
        let rows = table.rows_read;
        let events = table.events;
        let _ = writeln!(
            text,
            "table      {name}: {copying} {rows}{estimate} rows{left}; {events} events"
        );
    }
    for (name, renewal) in &status.renewals {
        let state = format!("{:?}", renewal.state).to_lowercase();
        let (compared, removed) = (renewal.keys_compared, renewal.keys_removed);
        let _ = writeln!(
            text,
            "renewal    {name}: {state}; {compared} keys compared, {removed} removed"
        );
        if renewal.other_keys > 0 {
            let _ = writeln!(
                text,
                "           {} keys of an earlier form were left alone",
                renewal.other_keys
            );
        }
    }
    for report in &status.reports {
        let _ = writeln!(text, "report     {}: {}", report.table, report.message);
    }
    if let Some(error) = &status.last_error {
        let _ = writeln!(text, "last error {}", error.message);
        if let Some(fix) = &error.fix {
            let _ = writeln!(text, "       fix {fix}");
        }
    }
    text
}
