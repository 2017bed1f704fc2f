// SPDX-License-Identifier: Apache-2.0
//! `highwater snapshot …` and `highwater reload`.

use highwater_core::Result;
use highwater_runtime::control::Request;
use highwater_runtime::source_task::{SnapshotRequest, SnapshotRequestRows};
use highwater_runtime::tail::certificates;
use serde_json::Value;

use crate::args::{CertificatesArgs, ReachArgs, SnapshotArgs, SnapshotCommand, StartArgs};
use crate::reach::{client, open};
use crate::status;

/// Starts, lists and steers copies.
pub async fn snapshot(args: SnapshotArgs) -> Result<()> {
    match args.command {
        SnapshotCommand::Start(args) => start(args).await,
        SnapshotCommand::List(args) => list(&args).await,
        SnapshotCommand::Pause(args) => {
            steer(
                &args.reach,
                Request::Pause {
                    snapshot: args.snapshot,
                },
            )
            .await
        }
        SnapshotCommand::Resume(args) => {
            steer(
                &args.reach,
                Request::Resume {
                    snapshot: args.snapshot,
                },
            )
            .await
        }
        SnapshotCommand::Cancel(args) => {
            steer(
                &args.reach,
                Request::Cancel {
                    snapshot: args.snapshot,
                },
            )
            .await
        }
        SnapshotCommand::Throttle(args) => {
            let windows_max = args.windows_max;
            steer(&args.reach, Request::Throttle { windows_max }).await
        }
        SnapshotCommand::Certificates(args) => show_certificates(args).await,
    }
}

/// Reads the pipeline file again.
pub async fn reload(args: ReachArgs) -> Result<()> {
    let answer = client(&args)?.get(&Request::Reload).await?;
    if args.json {
        println!("{answer}");
        return Ok(());
    }
    let added: Vec<&str> = answer["added"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match added.as_slice() {
        [] => println!("no new tables"),
        added => println!("now captured: {}", added.join(", ")),
    }
    Ok(())
}

async fn start(args: StartArgs) -> Result<()> {
    let rows = rows(&args);
    let requests = args
        .tables
        .iter()
        .map(|table| SnapshotRequest {
            table: table.clone(),
            rows: rows.clone(),
        })
        .collect();
    let answer = client(&args.reach)?.get(&Request::Snapshot { requests }).await?;
    if args.reach.json {
        println!("{answer}");
    } else {
        for snapshot in answer["snapshots"].as_array().into_iter().flatten() {
            println!("snapshot {snapshot} begun; watch it: highwater snapshot list");
        }
    }
    Ok(())
}

fn rows(args: &StartArgs) -> SnapshotRequestRows {
    if let Some(condition) = &args.condition {
        return SnapshotRequestRows::Condition(condition.clone());
    }
    if !args.keys.is_empty() {
        return SnapshotRequestRows::Keys(args.keys.iter().map(|key| columns(key)).collect());
    }
    if args.after.is_some() || args.through.is_some() {
        return SnapshotRequestRows::Range {
            after: args.after.as_deref().map(columns),
            through: args.through.as_deref().map(columns),
        };
    }
    SnapshotRequestRows::All
}

/// `17,a\,b` has the columns `17` and `a,b`.
fn columns(key: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut letters = key.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = letter == '\\' && matches!(letters.peek(), Some(',' | '\\'));
        match (letter, columns.last_mut()) {
            (',', _) => columns.push(String::new()),
            (_, Some(column)) if escaped => column.extend(letters.next()),
            (_, Some(column)) => column.push(letter),
            (_, None) => {}
        }
    }
    columns
}

async fn steer(args: &ReachArgs, request: Request) -> Result<()> {
    let answer = client(args)?.get(&request).await?;
    println!(
        "{}",
        if args.json {
            answer.to_string()
        } else {
            "done".to_owned()
        }
    );
    Ok(())
}

async fn list(args: &ReachArgs) -> Result<()> {
    let status = status::read(&client(args)?).await?;
    if args.json {
        for snapshot in &status.snapshots {
            println!("{}", serde_json::json!(snapshot));
        }
        return Ok(());
    }
    println!("number  state      chunks  rows read  emitted  dropped  table");
    for copy in &status.snapshots {
        let state = format!("{:?}", copy.state).to_lowercase();
        println!(
            "{:>6}  {state:<9}  {:>6}  {:>9}  {:>7}  {:>7}  {}",
            copy.snapshot.0, copy.chunks_done, copy.rows_read, copy.rows_emitted, copy.rows_dropped, copy.table
        );
    }
    Ok(())
}

async fn show_certificates(args: CertificatesArgs) -> Result<()> {
    let of_table = |certificate: &Value| args.table.as_deref().is_none_or(|table| table_of(certificate) == table);
    let mut found = match open(&args.reach).await? {
        Some(opened) => certificates(&*opened.transport, &opened.prefix).await?,
        None => {
            let table = args.table.clone();
            client(&args.reach)?.list(&Request::Certificates { table }).await?
        }
    };
    found.retain(of_table);
    if !args.reach.json {
        println!("snapshot  chunk  rows read  emitted  dropped  repeated  low → high  table");
    }
    for certificate in &found {
        if args.reach.json {
            println!("{certificate}");
            continue;
        }
        if certificate["renewal"] == true {
            println!("{}", renewal_line(certificate));
            continue;
        }
        let number = |name: &str| certificate[name].as_u64().unwrap_or_default();
        let text = |name: &str| certificate[name].as_str().unwrap_or("-").to_owned();
        println!(
            "{:>8}  {:>5}  {:>9}  {:>7}  {:>7}  {:>8}  {} → {}  {}",
            number("snapshot"),
            number("chunk"),
            number("rows_read"),
            number("rows_emitted"),
            number("rows_dropped"),
            number("reads_repeated"),
            text("low"),
            text("high"),
            table_of(certificate)
        );
    }
    Ok(())
}

/// What is left of a renewal, which is of no copy's chunk.
fn renewal_line(certificate: &Value) -> String {
    let number = |name: &str| certificate[name].as_u64().unwrap_or_default();
    format!(
        "renewal   at {}: {} keys compared, {} removed, {} of an earlier form left alone  {}",
        certificate["position"].as_str().unwrap_or("-"),
        number("keys_compared"),
        number("keys_removed"),
        number("other_keys"),
        table_of(certificate)
    )
}

fn table_of(certificate: &Value) -> String {
    let part = |name: &str| certificate["table"][name].as_str().unwrap_or_default();
    format!("{}.{}", part("schema"), part("table"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_several_columns_is_cut_at_its_commas() {
        assert_eq!(columns("17"), ["17"]);
        assert_eq!(columns("17,3"), ["17", "3"]);
        assert_eq!(columns(r"a\,b,c\\d,\e"), ["a,b", r"c\d", r"\e"]);
        assert_eq!(columns(""), [""]);
    }
}
