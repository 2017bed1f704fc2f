// SPDX-License-Identifier: Apache-2.0
//! How much the broker takes from this machine at all: records that are encoded already, and nothing else to do.

use std::path::Path;

use highwater_core::transport::{Cleanup, RecordBatch, TopicSpec, WriterId};
use highwater_runtime::{PipelineFile, components};

use crate::clock::{monotonic_us, seconds_between};
use crate::failure::{Failure, Result};
use crate::limits::Limit;
use crate::read_back;

/// Bytes of different records; they are written over and over.
const SAMPLE_BYTES: usize = 8 << 20;
/// Bytes of one batch, as the product hands them over.
const BATCH_BYTES: usize = 512 << 10;
/// The topic that takes them.
const TOPIC: &str = "bench.writer_limit";

/// Writes `rows` records, taken from the topic of a case that is done, with the product's writer and its settings (the
/// case's `pipeline`), in transactions of `per_commit` records. Nothing reads a database meanwhile.
pub(crate) async fn write(brokers: &str, topic: &str, pipeline: &str, per_commit: u64, rows: u64) -> Result<Limit> {
    let (place, from) = (brokers.to_owned(), topic.to_owned());
    let sampling = move || read_back::sample(&place, &from, SAMPLE_BYTES);
    let sample = tokio::task::spawn_blocking(sampling)
        .await
        .map_err(|error| Failure::during("sampling records", error))??;
    let batches = batches(&sample);
    let file = PipelineFile::from_text(pipeline, Path::new("."))?;
    let transport = components::transport(&file.pipeline, &file.folder).await?;
    let spec = TopicSpec {
        name: TOPIC.to_owned(),
        partitions: 1,
        cleanup: Cleanup::Delete,
        retention: None,
    };
    transport.ensure_topics(&[spec]).await?;
    let mut writer = transport.open_writer(&WriterId(TOPIC.to_owned())).await?;
    let mut source = batches.iter().cycle();
    let (mut written, began) = (0, monotonic_us());
    while written < rows {
        let mut txn = writer.begin().await?;
        let end = rows.min(written + per_commit);
        while written < end {
            let batch = source
                .next()
                .ok_or_else(|| Failure::new(format!("topic {topic} is empty")))?;
            txn.append(TOPIC, batch).await?;
            written += batch.len() as u64;
        }
        txn.commit().await?;
    }
    Ok(Limit {
        name: "writer into Kafka",
        rows_per_s: written as f64 / seconds_between(began, monotonic_us()),
    })
}

fn batches(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<RecordBatch> {
    let mut all = Vec::new();
    let mut open = RecordBatch::default();
    open.let_times_be_of_append();
    for (key, value) in records {
        open.push(Some(key), Some(value), 0, Vec::new());
        if open.bytes() >= BATCH_BYTES {
            all.push(std::mem::take(&mut open));
            open.let_times_be_of_append();
        }
    }
    if !open.is_empty() {
        all.push(open);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_record_once_and_are_no_larger_than_the_products() {
        let records: Vec<_> = (0..5_000_u32)
            .map(|number| (number.to_le_bytes().to_vec(), vec![7; 300]))
            .collect();
        let all = batches(&records);
        assert!(all.len() > 1);
        assert!(all.iter().all(|batch| batch.bytes() < BATCH_BYTES + 400));
        let keys = all.iter().flat_map(RecordBatch::iter).filter_map(|record| record.key);
        assert!(keys.eq(records.iter().map(|(key, _)| key.as_slice())));
    }
}
