// SPDX-License-Identifier: Apache-2.0
//! Reads topics as any consumer would: committed records only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clock::monotonic_us;
use crate::failure::{Failure, Result};
use crate::record_key::SeenIds;
use crate::topics::Topics;

/// The longest that a broker may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How often a reader looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// What topics hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Committed records with a value.
    pub(crate) events: u64,
    /// Committed records without one.
    pub(crate) tombstones: u64,
    /// Different keys among them.
    pub(crate) keys: u64,
    /// Records whose key is none of the table's.
    pub(crate) strangers: u64,
}

/// How a key's bytes tell the id of their row.
pub(crate) type IdOf = fn(&[u8]) -> Option<u64>;

/// Reads topics from their beginning to their end. Blocks.
pub(crate) fn read_all(brokers: &str, topics: &Topics, id_of: IdOf, id_max: u64) -> Result<Contents> {
    let consumer = assigned(brokers, topics)?;
    let mut open = consumer.assignment()?.count();
    let mut seen = SeenIds::new(id_max);
    let (mut events, mut tombstones, mut strangers) = (0, 0, 0);
    while open > 0 {
        match consumer.poll(ANSWER_MAX) {
            Some(Ok(message)) => {
                let known = message.key().and_then(id_of).is_some_and(|id| seen.note(id));
                match message.payload() {
                    _ if !known => strangers += 1,
                    Some(_) => events += 1,
                    None => tombstones += 1,
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => {
                return Err(Failure::new(format!(
                    "topic {}: the broker sent nothing for {ANSWER_MAX:?}",
                    topics.0
                )));
            }
        }
    }
    Ok(Contents {
        events,
        tombstones,
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
    pub(crate) fn start(brokers: &str, topics: &Topics, id_of: IdOf) -> Result<Self> {
        let consumer = assigned(brokers, topics)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || watch(&consumer, id_of, &stopped))
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

fn watch(consumer: &BaseConsumer, id_of: IdOf, stop: &AtomicBool) -> Result<Vec<(u64, u64)>> {
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

/// The first records of a topic, up to this many bytes: keys and values. Blocks.
pub(crate) fn sample(brokers: &str, topic: &str, bytes_max: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let consumer = assigned(brokers, &Topics(topic.to_owned()))?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max {
        match consumer.poll(ANSWER_MAX) {
            Some(Ok(message)) => {
                if let (Some(key), Some(value)) = (message.key(), message.payload()) {
                    bytes += key.len() + value.len();
                    records.push((key.to_vec(), value.to_vec()));
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Failure::new(format!("topic {topic}: the broker sent nothing"))),
        }
    }
    Ok(records)
}

/// How many records lie in the topics, by their offsets: 0 where there are none yet. Blocks.
pub(crate) fn count(consumer: &BaseConsumer, topics: &Topics) -> Result<u64> {
    let mut records = 0;
    for (topic, partition) in partitions(consumer, topics)? {
        records += match consumer.fetch_watermarks(&topic, partition, ANSWER_MAX) {
            Ok((low, high)) => (high - low).max(0) as u64,
            // A partition that was made just now.
            Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable,
            )) => 0,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(records)
}

/// A consumer of committed records, in no group and of no topic yet.
pub(crate) fn consumer(brokers: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", brokers),
        ("group.id", "highwater-bench"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
    ] {
        config.set(name, value);
    }
    Ok(config.create()?)
}

/// A consumer of all partitions of topics, from their beginnings.
fn assigned(brokers: &str, topics: &Topics) -> Result<BaseConsumer> {
    let consumer = consumer(brokers)?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions(&consumer, topics)? {
        list.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    if list.count() == 0 {
        return Err(Failure::new(format!("topic {} does not exist", topics.0)));
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

fn partitions(consumer: &BaseConsumer, topics: &Topics) -> Result<Vec<(String, i32)>> {
    let metadata = consumer.fetch_metadata(topics.only(), ANSWER_MAX)?;
    let ours = metadata.topics().iter().filter(|topic| topics.has(topic.name()));
    let all = ours.flat_map(|topic| {
        let numbers = topic.partitions().iter().map(|partition| partition.id());
        numbers.map(|number| (topic.name().to_owned(), number))
    });
    Ok(all.collect())
}
