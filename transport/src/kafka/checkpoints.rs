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
use super::left_open::{FIRST_RECORDS, FirstRecord, LOOK, OTHERS_WAIT, decode};
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

/// The last record of a writer in the checkpoints' topic.
pub(super) struct Last {
    /// The checkpoint as it is stored; `None` where it was deleted.
    pub(super) stored: Option<Bytes>,
    /// The first records of its transaction; `None` where they were not written down.
    pub(super) first_records: Option<Vec<FirstRecord>>,
    /// Its transaction was decided and never ended.
    pub(super) is_left_open: bool,
}

impl Last {
    pub(super) fn checkpoint(&self, settings: &KafkaSettings) -> Result<Option<Checkpoint>> {
        let name = format!("topic \"{}\"", settings.checkpoint_topic);
        let decoded = self
            .stored
            .clone()
            .map(|stored| stored_checkpoint::decode(stored, &name));
        decoded.transpose()
    }
}

/// Where the checkpoints of a writer lie.
fn place(
    settings: &KafkaSettings,
    id: &WriterId,
    consumer: &Consumer,
    limit: Duration,
) -> Result<(String, u32), Failure> {
    let found = consumer.topics(Some(&settings.checkpoint_topic), limit)?;
    let partitions = found.get(&settings.checkpoint_topic).map_or(0, |found| found.0);
    let partition = partition_for_key(id.0.as_bytes(), partitions);
    Ok((settings.checkpoint_topic.clone(), partition))
}

fn bound(consumer: &Consumer, place: &(String, u32), at_end: bool, limit: Duration) -> Result<u64, Failure> {
    let bounds = consumer.bounds(std::slice::from_ref(place), at_end, limit)?;
    Ok(bounds.get(place).copied().unwrap_or(0))
}

/// The last record of `id`, which has no transaction open: the last committed one. Blocks.
pub(super) fn read(settings: &KafkaSettings, id: &WriterId) -> Result<Option<Last>> {
    let mut all = settings.consumer(&format!("{}-checkpoints", settings.client_id))?;
    all.set("isolation.level", "read_uncommitted");
    let mut committed = settings.consumer(&format!("{}-checkpoints", settings.client_id))?;
    committed.set("fetch.wait.max.ms", "10");
    let (all, committed) = (Consumer::new(&all)?, Consumer::new(&committed)?);
    find(settings, id, &all, &committed).map_err(|failure| {
        let doing = format!("read topic \"{}\"", settings.checkpoint_topic);
        error(&failure, &doing, settings)
    })
}

fn find(
    settings: &KafkaSettings,
    id: &WriterId,
    all: &Consumer,
    committed: &Consumer,
) -> Result<Option<Last>, Failure> {
    let limit = Duration::from_millis(u64::from(settings.operation_timeout_ms));
    let place = place(settings, id, all, limit)?;
    let (start, end) = (bound(all, &place, false, limit)?, bound(all, &place, true, limit)?);
    if let Some(open) = left_open(all, committed, &place, end, id, limit)? {
        return Ok(Some(Last {
            is_left_open: true,
            ..open
        }));
    }
    // Another writer's transaction may be open for so long.
    let limit = limit + Duration::from_millis(u64::from(settings.transaction_timeout_ms));
    for look_back in LOOK_BACK {
        let from = start.max(end.saturating_sub(look_back));
        let last = last_of(committed, &place, from..end, id, limit)?;
        if last.is_some() || from == start {
            return Ok(last);
        }
    }
    Ok(None)
}

/// The last record of `id`, if its transaction is open and does not end soon.
fn left_open(
    all: &Consumer,
    committed: &Consumer,
    place: &(String, u32),
    end: u64,
    id: &WriterId,
    limit: Duration,
) -> Result<Option<Last>, Failure> {
    let deadline = Instant::now() + OTHERS_WAIT;
    let decided = loop {
        let decided = bound(committed, place, true, limit)?;
        if decided >= end {
            return Ok(None);
        }
        if Instant::now() > deadline {
            break decided;
        }
        std::thread::sleep(LOOK);
    };
    // The first record that is open says whose transaction that is.
    let is_ours = last_of(all, place, decided..decided + 1, id, limit)?.is_some();
    if is_ours {
        last_of(all, place, decided..end, id, limit)
    } else {
        Ok(None)
    }
}

/// The last record of `id` in a stretch of the partition.
fn last_of(
    consumer: &Consumer,
    place: &(String, u32),
    stretch: std::ops::Range<u64>,
    id: &WriterId,
    limit: Duration,
) -> Result<Option<Last>, Failure> {
    if stretch.is_empty() {
        return Ok(None);
    }
    consumer.assign(&Offsets::from([(place.clone(), stretch.start)]))?;
    let (deadline, mut position, mut last, mut failed) = (Instant::now() + limit, stretch.start, None, None);
    while position < stretch.end {
        consumer.take(1_000, Duration::from_millis(200), |item| match item {
            Item::Record(record) => {
                let (key, value) = record.key_and_value();
                if stretch.contains(&record.offset) && key.as_deref() == Some(id.0.as_bytes()) {
                    last = Some((value, record.headers()));
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
    Ok(last.map(|(stored, headers)| {
        let written = headers.iter().find(|(name, _)| name == FIRST_RECORDS);
        Last {
            stored,
            first_records: written.and_then(|(_, bytes)| decode(bytes)),
            is_left_open: false,
        }
    }))
}
