// SPDX-License-Identifier: Apache-2.0
//! Records whose time is that of their append go to librdkafka many at once; nothing of them changes by it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_core::partitioner::partition_for_key;
use highwater_core::transport::{Cleanup, Header, Record, RecordBatch, StartAt, TopicSpec, Transport, WriterId};
use highwater_testbed::Kafka;
use highwater_transport::kafka::{KafkaSettings, KafkaTransport};

const RECORDS: u64 = 5_000;

type Content = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);

/// Every 7th is a tombstone, every 500th has a header, every 11th no key.
fn content(number: u64) -> Content {
    let key = (!number.is_multiple_of(11)).then(|| number.to_be_bytes().to_vec());
    let value = (!number.is_multiple_of(7)).then(|| vec![number as u8; 200 + number as usize % 300]);
    let headers = number
        .is_multiple_of(500)
        .then(|| ("number".to_owned(), number.to_be_bytes().to_vec()));
    (key, value, headers.into_iter().collect())
}

fn batch() -> RecordBatch {
    let mut batch = RecordBatch::default();
    batch.let_times_be_of_append();
    for number in 0..RECORDS {
        let (key, value, headers) = content(number);
        let header = |(_, value): (String, Vec<u8>)| Header {
            name: "number",
            value: value.into(),
        };
        let headers = headers.into_iter().map(header).collect();
        batch.push(key.as_deref(), value.as_deref(), 1, headers);
    }
    batch
}

async fn read_back(transport: &KafkaTransport, topic: &str) -> BTreeMap<u32, Vec<Record>> {
    let mut reader = transport
        .open_reader(&[topic.to_owned()], None, StartAt::Earliest)
        .await
        .unwrap();
    let (mut records, deadline) = (Vec::new(), tokio::time::Instant::now() + Duration::from_secs(60));
    while (records.len() as u64) < RECORDS {
        assert!(tokio::time::Instant::now() < deadline, "{} records came", records.len());
        reader.poll(&mut records, 10_000, Duration::from_secs(1)).await.unwrap();
    }
    let mut by_partition: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for record in records {
        by_partition.entry(record.partition).or_default().push(record);
    }
    by_partition
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_queued_many_at_once_arrive_as_they_are_in_order_also_past_a_full_queue() {
    let kafka = Kafka::shared().await.unwrap();
    for (topic, partitions) in [("many.one", 1), ("many.three", 3)] {
        let settings = KafkaSettings {
            bootstrap_servers: kafka.bootstrap(),
            // Much less than the batch: it is full again and again, and only what is sent makes room.
            queue_bytes_max: 100_000,
            batch_bytes: 20_000,
            linger_ms: 5,
            ..KafkaSettings::default()
        };
        let transport = KafkaTransport::connect(settings).await.unwrap();
        let spec = TopicSpec {
            name: topic.to_owned(),
            partitions,
            cleanup: Cleanup::Delete,
            retention: None,
        };
        transport.ensure_topics(&[spec]).await.unwrap();
        let mut writer = transport.open_writer(&WriterId(topic.to_owned())).await.unwrap();
        let began_ms = now_ms();
        let mut txn = writer.begin().await.unwrap();
        txn.append(topic, &batch()).await.unwrap();
        txn.commit().await.unwrap();

        let mut expected: BTreeMap<u32, Vec<Content>> = BTreeMap::new();
        for number in 0..RECORDS {
            let content = content(number);
            let partition = content.0.as_deref().map_or(0, |key| partition_for_key(key, partitions));
            expected.entry(partition).or_default().push(content);
        }
        let read = read_back(&transport, topic).await;
        assert_eq!(read.len(), expected.len());
        for (partition, records) in read {
            assert!(
                records
                    .iter()
                    .all(|record| (began_ms..=now_ms()).contains(&record.timestamp_ms))
            );
            let contents: Vec<Content> = records.into_iter().map(content_of).collect();
            assert!(contents == expected[&partition], "partition {partition} of {topic}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_for_more_topics_than_fill_a_batch_leave_when_the_queue_is_full() {
    let kafka = Kafka::shared().await.unwrap();
    let settings = KafkaSettings {
        bootstrap_servers: kafka.bootstrap(),
        // The queue is full long before any batch is, and what lingers does so for longer than the test.
        queue_bytes_max: 1_000_000,
        linger_ms: 400_000,
        transaction_timeout_ms: 800_000,
        ..KafkaSettings::default()
    };
    let transport = KafkaTransport::connect(settings).await.unwrap();
    let topics: Vec<String> = (0..40).map(|number| format!("many.topics.{number}")).collect();
    let spec = |name: &String| TopicSpec {
        name: name.clone(),
        partitions: 1,
        cleanup: Cleanup::Delete,
        retention: None,
    };
    let specs: Vec<TopicSpec> = topics.iter().map(spec).collect();
    transport.ensure_topics(&specs).await.unwrap();
    let mut batch = RecordBatch::default();
    batch.let_times_be_of_append();
    for number in 0..100_u64 {
        batch.push(Some(&number.to_be_bytes()), Some(&[number as u8; 1_000]), 1, Vec::new());
    }
    let id = WriterId("many.topics".to_owned());
    let mut writer = transport.open_writer(&id).await.unwrap();
    let written = async {
        let mut txn = writer.begin().await.unwrap();
        for topic in &topics {
            txn.append(topic, &batch).await.unwrap();
        }
        txn.commit().await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(200), written).await.unwrap();

    let mut reader = transport.open_reader(&topics, None, StartAt::Earliest).await.unwrap();
    let (mut records, deadline) = (Vec::new(), tokio::time::Instant::now() + Duration::from_secs(60));
    while records.len() < topics.len() * batch.len() {
        assert!(tokio::time::Instant::now() < deadline, "{} records came", records.len());
        reader.poll(&mut records, 10_000, Duration::from_secs(1)).await.unwrap();
    }
}

fn content_of(record: Record) -> Content {
    let own = |bytes: Option<bytes::Bytes>| bytes.map(|bytes| bytes.to_vec());
    let headers = record.headers.into_iter().map(|(name, value)| (name, value.to_vec()));
    (own(record.key), own(record.value), headers.collect())
}
