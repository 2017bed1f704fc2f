// SPDX-License-Identifier: Apache-2.0
//! A program of one's own that follows a database: `cargo run --example embed -- settings.json`.

use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::position::RunId;
use highwater_postgres::{PostgresConnector, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("give the path of a settings file")?;
    follow(serde_json::from_slice(&std::fs::read(path)?)?, u64::MAX).await
}

/// Prints `commits` transactions, acknowledging each once it is printed.
pub async fn follow(settings: serde_json::Value, commits: u64) -> Result<(), Box<dyn std::error::Error>> {
    let connector = PostgresConnector::new(Settings::from_json(settings)?)?;
    let mut log = connector.open_log(None, RunId(1)).await?;
    let (mut items, mut seen) = (Vec::new(), 0);
    while seen < commits {
        log.next(&mut items).await?;
        for item in items.drain(..) {
            match item {
                LogItem::Change(change) => println!("{:?} {} {:?}", change.op, change.schema.name, change.after),
                LogItem::Commit { position, .. } => {
                    log.acknowledge(&position).await?;
                    seen += 1;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
