// SPDX-License-Identifier: Apache-2.0
//! The compacted topic that holds each writer's last checkpoint, written in the transaction that it covers.
//!
//! Reading it to where a reader of committed records gets is not enough: another writer's open transaction would hide
//! what was committed behind it. So it is read, committed records only, until everything that was in the partition when the
//! reading began has been decided.

use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_core::Result;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::partitioner::partition_for_key;
use highwater_core::transport::{Cleanup, Offsets, TopicSpec, WriterId};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::consumer::{Consumer, Item};
use super::failure::{Failure, error};
use super::settings::KafkaSettings;
use crate::stored_checkpoint;

/// How far back from the end each try looks; the last try reads all.
const LOOK_BACK: [u64; 3] = [1_000, 50_000, u64::MAX];

/// The topic as it is made.
pub(super) fn topic(settings: &KafkaSettings) -> TopicSpec {
    TopicSpec {
        name: settings.checkpoint_topic.clone(),
        partitions: settings.checkpoint_partitions.max(1),
        cleanup: Cleanup::Compact,
        retention: None,
    }
}

/// The last committed checkpoint of `id`. Blocks.
pub(super) fn read(settings: &KafkaSettings, id: &WriterId) -> Result<Option<Checkpoint>> {
    let failed = |failure: Failure| {
        error(
            &failure,
            &format!("read topic \"{}\"", settings.checkpoint_topic),
            settings,
        )
    };
    let limit = Duration::from_millis(u64::from(settings.operation_timeout_ms));
    let mut everything = settings.consumer(&settings.client_id)?;
    everything.remove("group.id");
    everything.set("isolation.level", "read_uncommitted");
    let everything = Consumer::new(&everything)?;
    let found = everything
        .topics(Some(&settings.checkpoint_topic), limit)
        .map_err(failed)?;
    let partitions = found.get(&settings.checkpoint_topic).map_or(0, |found| found.0);
    let place = (
        settings.checkpoint_topic.clone(),
        partition_for_key(id.0.as_bytes(), partitions),
    );
    let bound = |at_end| {
        let bounds = everything
            .bounds(std::slice::from_ref(&place), at_end, limit)
            .map_err(failed)?;
        Ok::<u64, highwater_core::Error>(bounds.get(&place).copied().unwrap_or(0))
    };
    let (start, end) = (bound(false)?, bound(true)?);
    drop(everything);

    let mut committed = settings.consumer(&format!("{}-checkpoints", settings.client_id))?;
    committed.set("fetch.wait.max.ms", "10");
    let consumer = Consumer::new(&committed)?;
    // Another writer's transaction may be open for so long.
    let limit = limit + Duration::from_millis(u64::from(settings.transaction_timeout_ms));
    for look_back in LOOK_BACK {
        let from = start.max(end.saturating_sub(look_back));
        let last = last_of(&consumer, &place, from..end, id, limit).map_err(failed)?;
        if let Some(stored) = last {
            let name = format!("topic \"{}\"", settings.checkpoint_topic);
            return stored
                .map(|stored| stored_checkpoint::decode(stored, &name))
                .transpose();
        }
        if from == start {
            break;
        }
    }
    Ok(None)
}

/// The value of the last committed record of `id` in a stretch of the partition.
fn last_of(
    consumer: &Consumer,
    place: &(String, u32),
    stretch: std::ops::Range<u64>,
    id: &WriterId,
    limit: Duration,
) -> Result<Option<Option<Bytes>>, Failure> {
    if stretch.is_empty() {
        return Ok(None);
    }
    consumer.assign(&Offsets::from([(place.clone(), stretch.start)]))?;
    let (deadline, mut position, mut last, mut failed) = (Instant::now() + limit, stretch.start, None, None);
    while position < stretch.end {
        consumer.take(1_000, Duration::from_millis(200), |item| match item {
            Item::Record(record) => {
                let (key, value) = record.key_and_value();
                if key.as_deref() == Some(id.0.as_bytes()) {
                    last = Some(value);
                }
                position = position.max(record.offset + 1);
            }
            Item::End { offset, .. } => position = position.max(offset),
            Item::Failed { failure, .. } => failed = Some(failure),
        });
        match failed.take() {
            // Its start was compacted away or expired between the question and the reading.
            Some(failure) if failure.code == Code::AutoOffsetReset => return Err(failure),
            Some(failure) => tracing::debug!(cause = %failure.text, "reading checkpoints"),
            None => {}
        }
        if Instant::now() > deadline {
            return Err(consumer.client().explained(Failure::of_code(Code::OperationTimedOut)));
        }
    }
    Ok(last)
}
