// SPDX-License-Identifier: Apache-2.0
//! `highwater topics`.

use highwater_core::transport::TopicInfo;
use highwater_core::{Error, ErrorKind, Result};
use highwater_runtime::control::Request;

use crate::args::ReachArgs;
use crate::reach::{client, open};

/// Lists topics with their partitions and records.
pub async fn topics(args: ReachArgs) -> Result<()> {
    let topics = match open(&args).await? {
        Some(opened) => opened.transport.topics().await?,
        None => {
            let items = client(&args)?.list(&Request::Topics).await?;
            let read = items.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
            read.map_err(|error| {
                Error::new(ErrorKind::CorruptMessage, "the pipeline sent no topics").with_source(error)
            })?
        }
    };
    if args.json {
        for topic in &topics {
            println!("{}", serde_json::json!(topic));
        }
        return Ok(());
    }
    print!("{}", text(&topics));
    Ok(())
}

fn text(topics: &[TopicInfo]) -> String {
    let width = topics.iter().map(|topic| topic.name.len()).max().unwrap_or(0).max(5);
    let mut text = format!("{:<width$}  partitions  offsets held\n", "topic");
    for topic in topics {
        let held: u64 = topic
            .partitions
            .iter()
            .map(|range| range.end - range.start.min(range.end))
            .sum();
        text.push_str(&format!(
            "{:<width$}  {:>10}  {held:>12}\n",
            topic.name,
            topic.partitions.len()
        ));
    }
    text
}
