// SPDX-License-Identifier: Apache-2.0
//! Reads topics as any consumer would: committed records only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clock::monotonic_us;
use crate::failure::{Failure, Result};
use crate::record_key::{SeenIds, id_of};

/// The longest that a broker may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How often a reader looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// What a topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Committed records with a value.
    pub(crate) events: u64,
    /// Different keys among them.
    pub(crate) keys: u64,
    /// Records whose key is none of the table's, or without a value.
    pub(crate) strangers: u64,
}

/// Reads a topic from its beginning to its end. Blocks.
pub(crate) fn read_all(brokers: &str, topic: &str, id_max: u64) -> Result<Contents> {
    let consumer = assigned(brokers, topic)?;
    let mut open = consumer.assignment()?.count();
    let mut seen = SeenIds::new(id_max);
    let (mut events, mut strangers) = (0, 0);
    while open > 0 {
        match consumer.poll(ANSWER_MAX) {
            Some(Ok(message)) => {
                let known = message.key().and_then(id_of).is_some_and(|id| seen.note(id));
                if known && message.payload().is_some() {
                    events += 1;
                } else {
                    strangers += 1;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => {
                return Err(Failure::new(format!(
                    "topic {topic}: the broker sent nothing for {ANSWER_MAX:?}"
                )));
            }
        }
    }
    Ok(Contents {
        events,
        keys: seen.distinct(),
        strangers,
    })
}

/// A reader that notes when each record came.
#[derive(Debug)]
pub(crate) struct Watcher {
    thread: JoinHandle<Result<Vec<(u64, u64)>>>,
    stop: Arc<AtomicBool>,
}

impl Watcher {
    /// Starts to read a topic that exists, from its beginning.
    pub(crate) fn start(brokers: &str, topic: &str) -> Result<Self> {
        let consumer = assigned(brokers, topic)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || watch(&consumer, &stopped))
            .map_err(|error| Failure::during("cannot start a thread", error))?;
        Ok(Self { thread, stop })
    }

    /// Ends the reader once no record has come for a moment: of each record its id and the time of its arrival.
    pub(crate) fn finish(self) -> Result<Vec<(u64, u64)>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| Failure::new("the thread that reads the topic panicked"))?
    }
}

fn watch(consumer: &BaseConsumer, stop: &AtomicBool) -> Result<Vec<(u64, u64)>> {
    let mut arrivals = Vec::new();
    loop {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let now = monotonic_us();
                let id = message.key().and_then(id_of);
                let id = id.ok_or_else(|| Failure::new("a record's key is none of the table's"))?;
                arrivals.push((id, now));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            None if stop.load(Ordering::Relaxed) => return Ok(arrivals),
            None => {}
        }
    }
}

/// A consumer of all partitions of a topic, from their beginnings, in no group.
fn assigned(brokers: &str, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "highwater-bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_MAX)?;
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        partitions.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    if partitions.count() == 0 {
        return Err(Failure::new(format!("topic {topic} does not exist")));
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}
