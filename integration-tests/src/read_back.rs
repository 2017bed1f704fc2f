// SPDX-License-Identifier: Apache-2.0
//! Reads topics back as a consumer would: committed records only, decoded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_core::transport::{Record, StartAt, Transport};
use highwater_formats::registry::confluent::{ConfluentRegistry, ConfluentSettings};
use highwater_formats::registry::embedded::EmbeddedRegistry;
use highwater_formats::{DecodedEvent, Decoder, Format, SchemaRegistry};
use highwater_transport::embedded::{EmbeddedSettings, EmbeddedTransport};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::event::{Event, EventReader};

/// Where events went.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A broker and a registry.
    Kafka {
        /// `127.0.0.1:PORT`.
        brokers: String,
        /// The registry's address.
        registry: String,
    },
    /// The folder of an embedded transport that no process has open.
    Embedded {
        /// The folder.
        store: PathBuf,
    },
}

/// Which records a consumer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions.
    Committed,
    /// All of them.
    Uncommitted,
}

/// The longest that reading a topic may take.
const READ_LIMIT: Duration = Duration::from_secs(120);
/// How long a lock may outlive the reader that held it: another test may start a process at that moment, which is a copy of
/// this one, open files included, until it becomes the other program.
const UNLOCK_LIMIT: Duration = Duration::from_secs(10);
/// Records asked of the embedded transport at once.
const RECORDS_MAX: usize = 10_000;

fn is_locked(error: &highwater_core::Error) -> bool {
    error.message().contains("another process has it open")
}

impl Destination {
    /// All committed records of topics, from the oldest to the end as it is now; per partition in order. Topics that do
    /// not exist have none.
    ///
    /// # Panics
    /// When they cannot be read.
    pub async fn records(&self, topics: &[String]) -> Vec<Record> {
        match self {
            Destination::Kafka { brokers, .. } => {
                let (brokers, topics) = (brokers.clone(), topics.to_vec());
                tokio::task::spawn_blocking(move || kafka_records(&brokers, &topics, Isolation::Committed))
                    .await
                    .expect("the reader ends well")
            }
            Destination::Embedded { store } => embedded_records(&embedded(store).await, topics).await,
        }
    }

    /// Waits until no transaction is open in the topics: a commit or an abort that has returned shows soon after, for the
    /// brokers write its markers by and by. Only where no writer died that nobody has replaced.
    ///
    /// # Panics
    /// When one stays open.
    pub async fn settled(&self, topics: &[String]) {
        if let Destination::Kafka { brokers, .. } = self {
            let (brokers, topics) = (brokers.clone(), topics.to_vec());
            tokio::task::spawn_blocking(move || wait_for_markers(&brokers, &topics))
                .await
                .expect("the look ends well");
        }
    }

    /// The registry that holds the schemas.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn registry(&self) -> Arc<dyn SchemaRegistry> {
        match self {
            Destination::Kafka { registry, .. } => {
                Arc::new(ConfluentRegistry::new(&ConfluentSettings::new(registry)).expect("a registry's address"))
            }
            Destination::Embedded { store } => {
                let folder = store.join("schemas");
                let unlocked = Instant::now() + UNLOCK_LIMIT;
                loop {
                    match EmbeddedRegistry::open(&folder) {
                        Err(error) if is_locked(&error) && Instant::now() < unlocked => {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        opened => return Arc::new(opened.expect("the registry's folder")),
                    }
                }
            }
        }
    }

    /// All committed records, decoded from Avro.
    ///
    /// # Panics
    /// When one cannot be decoded.
    pub async fn decoded(&self, topics: &[String]) -> Vec<(Record, DecodedEvent)> {
        let mut decoded = Vec::new();
        self.each(topics, |record, event| decoded.push((record, event))).await;
        decoded
    }

    /// All committed records of the workload's topics as events, and what is wrong with single ones.
    pub async fn events(&self, topics: &[String], reader: &EventReader) -> (Vec<Event>, Vec<String>) {
        let (mut events, mut faults) = (Vec::new(), Vec::new());
        self.each(topics, |record, decoded| match reader.read(&record, &decoded) {
            Ok(event) => events.push(event),
            Err(fault) => faults.push(fault),
        })
        .await;
        (events, faults)
    }

    /// Decodes topic by topic, so that not all of them are in memory at once. A store is opened once for all of them: that
    /// reads its whole journal.
    async fn each(&self, topics: &[String], mut take: impl FnMut(Record, DecodedEvent)) {
        let mut decoder = Decoder::new(Format::Avro, self.registry());
        let opened = match self {
            Destination::Embedded { store } => Some(embedded(store).await),
            Destination::Kafka { .. } => None,
        };
        for topic in topics {
            let one = std::slice::from_ref(topic);
            let records = match &opened {
                Some(transport) => embedded_records(transport, one).await,
                None => self.records(one).await,
            };
            for record in records {
                let event = decoder.decode(&record).await.unwrap_or_else(|error| {
                    panic!(
                        "{topic} {}:{} cannot be decoded: {error}",
                        record.partition, record.offset
                    )
                });
                take(record, event);
            }
        }
    }
}

async fn embedded(store: &Path) -> EmbeddedTransport {
    let settings = EmbeddedSettings {
        path: store.to_owned(),
        ..EmbeddedSettings::default()
    };
    EmbeddedTransport::open(settings).await.expect("the store opens")
}

async fn embedded_records(transport: &EmbeddedTransport, topics: &[String]) -> Vec<Record> {
    let have: BTreeSet<String> = transport
        .topics()
        .await
        .expect("its topics")
        .into_iter()
        .map(|info| info.name)
        .collect();
    let topics: Vec<String> = topics.iter().filter(|topic| have.contains(*topic)).cloned().collect();
    let mut records = Vec::new();
    let mut reader = transport
        .open_reader(&topics, None, StartAt::Earliest)
        .await
        .expect("a reader");
    let end = reader.end().await.expect("the end");
    let begun = Instant::now();
    loop {
        let position = reader.position();
        if end
            .iter()
            .all(|(partition, end)| *end == 0 || position.get(partition).is_some_and(|at| at >= end))
        {
            return records;
        }
        assert!(begun.elapsed() < READ_LIMIT, "the store's topics {topics:?} do not end");
        reader
            .poll(&mut records, RECORDS_MAX, Duration::from_millis(100))
            .await
            .expect("records");
    }
}

/// The longest that one look into a broker may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

fn consumer(brokers: &str, isolation: Isolation) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "read-back")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // An end shows only when a fetch is answered with nothing, after this time.
        .set("fetch.wait.max.ms", "20")
        .set("queued.max.messages.kbytes", "65536")
        .set(
            "isolation.level",
            match isolation {
                Isolation::Committed => "read_committed",
                Isolation::Uncommitted => "read_uncommitted",
            },
        )
        .create()
        .expect("a consumer")
}

/// The partitions of topics; those that do not exist have none.
fn partitions(consumer: &BaseConsumer, topics: &[String]) -> Vec<(String, i32)> {
    let mut found = Vec::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), LOOK_LIMIT).expect("metadata");
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        found.extend(partitions.map(|partition| (topic.clone(), partition.id())));
    }
    found
}

/// Waits until committed readers see as far as the topics reach.
fn wait_for_markers(brokers: &str, topics: &[String]) {
    let (committed, all) = (
        consumer(brokers, Isolation::Committed),
        consumer(brokers, Isolation::Uncommitted),
    );
    let begun = Instant::now();
    for (topic, partition) in partitions(&all, topics) {
        let end = |of: &BaseConsumer| of.fetch_watermarks(&topic, partition, LOOK_LIMIT).expect("an end").1;
        while end(&committed) < end(&all) {
            assert!(begun.elapsed() < READ_LIMIT, "a transaction stays open in {topic}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Reads topics of Kafka with librdkafka's own consumer, not with the code under test. Blocks.
///
/// # Panics
/// When they cannot be read.
pub fn kafka_records(brokers: &str, topics: &[String], isolation: Isolation) -> Vec<Record> {
    let consumer = consumer(brokers, isolation);
    let begun = Instant::now();
    let mut records = Vec::new();
    // One at a time: an end is told again whenever a partition has grown meanwhile, and without its topic.
    for (topic, partition) in partitions(&consumer, topics) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition, Offset::Beginning)
            .expect("an offset");
        consumer.assign(&list).expect("an assignment");
        loop {
            assert!(begun.elapsed() < READ_LIMIT, "topic {topic} does not end");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => records.push(record(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => panic!("reading {topic}: {error}"),
                None => {}
            }
        }
    }
    records
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| {
                (
                    header.key.to_owned(),
                    Bytes::copy_from_slice(header.value.unwrap_or_default()),
                )
            })
            .collect()
    });
    Record {
        topic: message.topic().into(),
        partition: message.partition() as u32,
        offset: message.offset() as u64,
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        headers,
    }
}
