// SPDX-License-Identifier: Apache-2.0
//! The local socket of a running pipeline, spoken to as any program could: a line of JSON there, lines of JSON back.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// The longest wait for a whole answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Sends a request; the items of its answer and what the answer ends with, an error included (`{"error": …}`). `None`
/// when nobody listens or the process goes before the end.
pub async fn ask(socket: &Path, request: &Value) -> Option<(Vec<Value>, Value)> {
    tokio::time::timeout(ANSWER_LIMIT, exchange(socket, request))
        .await
        .ok()
        .flatten()
}

async fn exchange(socket: &Path, request: &Value) -> Option<(Vec<Value>, Value)> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    stream.write_all(format!("{request}\n").as_bytes()).await.ok()?;
    let mut lines = BufReader::new(stream).lines();
    let mut items = Vec::new();
    while let Some(line) = lines.next_line().await.ok()? {
        let mut answer: Value = serde_json::from_str(&line).ok()?;
        if let Some(item) = answer.get_mut("item") {
            items.push(item.take());
        } else if let Some(end) = answer.get_mut("end") {
            return Some((items, end.take()));
        } else {
            return Some((items, answer));
        }
    }
    None
}
