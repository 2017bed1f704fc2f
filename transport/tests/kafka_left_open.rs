// SPDX-License-Identifier: Apache-2.0
//! Transactions that a broker forgets to end: it is killed between the decision and the marks that tell the partitions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{Cleanup, RecordBatch, StartAt, TopicSpec, Transport, Txn, Writer, WriterId};
use highwater_core::{Class, Result};
use highwater_testbed::{Kafka, KafkaOptions};
use highwater_transport::kafka::{KafkaSettings, KafkaTransport};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// So many that the broker is killed before it has told all of them.
const PARTITIONS: u32 = 250;
const KEYS: usize = 1_000;
const TOPICS: [&str; 2] = ["left.open.one", "left.open.two"];
/// The window between the decision and the marks is not hit each time.
const TRIES: usize = 5;

async fn connect(kafka: &Kafka) -> KafkaTransport {
    let settings = KafkaSettings {
        bootstrap_servers: kafka.bootstrap(),
        checkpoint_partitions: 1,
        operation_timeout_ms: 20_000,
        transaction_timeout_ms: 10_000,
        ..KafkaSettings::default()
    };
    let transport = KafkaTransport::connect(settings).await.unwrap();
    let spec = |name: &str| TopicSpec {
        name: name.to_owned(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete,
        retention: Some(Duration::from_secs(100 * 365 * 24 * 3_600)),
    };
    transport.ensure_topics(&TOPICS.map(spec)).await.unwrap();
    transport
}

fn task() -> WriterId {
    WriterId("forgotten".to_owned())
}

fn checkpoint(value: &str) -> Checkpoint {
    Checkpoint {
        connector: "test".to_owned(),
        version: 1,
        bytes: Bytes::copy_from_slice(value.as_bytes()),
    }
}

/// Puts `value` under each key of each topic.
async fn append(txn: &mut dyn Txn, value: &str) -> Result<()> {
    let mut batch = RecordBatch::default();
    for key in 0..KEYS {
        batch.push(Some(key.to_string().as_bytes()), Some(value.as_bytes()), 0, Vec::new());
    }
    txn.announce(&TOPICS).await?;
    for topic in TOPICS {
        txn.append(topic, &batch).await?;
    }
    txn.put_checkpoint(&checkpoint(value)).await
}

async fn write(writer: &mut dyn Writer, value: &str) -> Result<()> {
    let mut txn = writer.begin().await?;
    append(&mut *txn, value).await?;
    txn.commit().await
}

/// Writes `value` with a new writer, which must find `before` as its checkpoint. What is to be tried again is.
async fn go_on(transport: &KafkaTransport, before: &str, value: &str) {
    for _ in 0..5 {
        let outcome = async {
            let mut writer = transport.open_writer(&task()).await?;
            assert_eq!(writer.checkpoint().await?, Some(checkpoint(before)));
            write(&mut *writer, value).await
        };
        match outcome.await {
            Ok(()) => return,
            Err(error) => {
                assert_eq!(error.class(), Class::Retryable, "{error}");
                println!("again: {error}");
            }
        }
    }
    panic!("it never goes on");
}

/// The values of each key in each topic, in order, as a reader of committed records finds them.
async fn committed(transport: &KafkaTransport, count: usize) -> BTreeMap<(String, String), Vec<String>> {
    let topics = TOPICS.map(str::to_owned);
    let mut reader = transport.open_reader(&topics, None, StartAt::Earliest).await.unwrap();
    let mut records = Vec::new();
    let reading = async {
        while records.len() < count {
            reader.poll(&mut records, 10_000, Duration::from_secs(1)).await.unwrap();
        }
        reader.poll(&mut records, 10_000, Duration::from_secs(1)).await.unwrap();
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), reading).await;
    assert!(outcome.is_ok(), "only {} of {count} records came", records.len());
    let text = |bytes: Option<Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let mut found = BTreeMap::<_, Vec<String>>::new();
    for record in records {
        let key = (record.topic.to_string(), text(record.key));
        found.entry(key).or_default().push(text(record.value));
    }
    found
}

async fn holds(transport: &KafkaTransport, values: &[&str]) {
    let found = committed(transport, KEYS * TOPICS.len() * values.len()).await;
    assert_eq!(found.len(), KEYS * TOPICS.len());
    for (key, held) in found {
        assert_eq!(held, values, "{key:?}");
    }
}

/// In how many partitions a transaction is open: of our topics, of the checkpoints' topic.
fn left_open(kafka: &Kafka) -> (usize, usize) {
    let consumer = |isolation: &str| -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("isolation.level", isolation)
            .set("group.id", "test")
            .create()
            .unwrap()
    };
    let (all, committed) = (consumer("read_uncommitted"), consumer("read_committed"));
    let ends = |topic: &str, partition| {
        let end = |consumer: &BaseConsumer| {
            let bounds = consumer.fetch_watermarks(topic, partition, Duration::from_secs(20));
            bounds.unwrap().1
        };
        (end(&committed), end(&all))
    };
    let open = |topic: &str, partitions| {
        let places = (0..partitions).map(|partition| ends(topic, partition));
        places.filter(|(committed, all)| committed < all).count()
    };
    let of_topics = TOPICS.map(|topic| open(topic, PARTITIONS as i32)).iter().sum();
    (of_topics, open("__highwater_checkpoints", 1))
}

/// Has the broker killed and restarted until it forgets to end a transaction, and requires of each time that nothing is lost or
/// repeated.
async fn forgetful(what: &str, commits: bool) {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let mut transport = connect(&kafka).await;
    let mut writer = transport.open_writer(&task()).await.unwrap();
    write(&mut *writer, "0").await.unwrap();
    drop(writer);
    let mut values = vec!["0".to_owned()];
    let mut forgot = false;
    for round in 0..TRIES {
        let mut writer = transport.open_writer(&task()).await.unwrap();
        let mut txn = writer.begin().await.unwrap();
        let value = format!("{what} {round}");
        append(&mut *txn, &value).await.unwrap();
        if commits {
            txn.commit().await.unwrap();
            values.push(value);
        } else {
            txn.abort().await.unwrap();
        }
        kafka.kill9().await.unwrap();
        drop((writer, transport));
        kafka.restart().await.unwrap();
        transport = connect(&kafka).await;
        let open = left_open(&kafka);
        println!(
            "{what}, round {round}: open in {} partitions, {} of checkpoints",
            open.0, open.1
        );
        forgot = open.0 > 0;
        let next = format!("after {round}");
        go_on(&transport, values.last().unwrap(), &next).await;
        values.push(next);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        holds(&transport, &values).await;
        if forgot {
            break;
        }
    }
    if !forgot {
        highwater_testbed::skip::counted("a broker that forgets to end a transaction", &"it did not forget");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_that_the_broker_forgets_leaves_nothing() {
    forgetful("aborted", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_the_broker_forgets_is_there_once() {
    forgetful("committed", true).await;
}
