// SPDX-License-Identifier: Apache-2.0
//! Records to write and ways to read them back, and clauses about amounts.

use std::time::Duration;

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{
    Cleanup, Reader, Record, RecordBatch, StartAt, TopicSpec, Transport, Writer, WriterId,
};

use super::{Subject, unique};

/// How long the suite waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for what must not come.
pub(super) const SILENCE: Duration = Duration::from_millis(300);

/// 2026-01-01 in milliseconds since 1970: the time of the suite's first record.
pub(super) const FIRST_MS: i64 = 1_767_225_600_000;

/// Longer than the suite's records are old: a broker that looks for expired records while the suite runs finds none.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Makes a topic that keeps records by age and returns its name.
pub(super) async fn new_topic(transport: &dyn Transport, partitions: u32) -> String {
    let name = unique("topic");
    let spec = TopicSpec {
        name: name.clone(),
        partitions,
        cleanup: Cleanup::Delete,
        retention: Some(KEPT_FOR),
    };
    transport.ensure_topics(&[spec]).await.unwrap();
    name
}

pub(super) async fn new_writer(transport: &dyn Transport) -> Box<dyn Writer> {
    transport.open_writer(&WriterId(unique("writer"))).await.unwrap()
}

/// Records with these keys and values, a millisecond apart.
pub(super) fn batch(records: &[(Option<&str>, &str)]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    for ((key, value), at) in records.iter().zip(FIRST_MS..) {
        batch.push(key.map(str::as_bytes), Some(value.as_bytes()), at, Vec::new());
    }
    batch
}

pub(super) fn checkpoint(state: &str) -> Checkpoint {
    Checkpoint {
        connector: "suite".to_owned(),
        version: 1,
        bytes: Bytes::copy_from_slice(state.as_bytes()),
    }
}

/// Commits one transaction with these records.
pub(super) async fn write(writer: &mut dyn Writer, topic: &str, records: &[(Option<&str>, &str)]) {
    let mut txn = writer.begin().await.unwrap();
    txn.append(topic, &batch(records)).await.unwrap();
    txn.commit().await.unwrap();
}

pub(super) async fn earliest(transport: &dyn Transport, topics: &[&str]) -> Box<dyn Reader> {
    let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
    transport.open_reader(&topics, None, StartAt::Earliest).await.unwrap()
}

/// Reads until `records` has `count` of them, and fails if they do not come or more come at once.
pub(super) async fn read(reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let reading = async {
        while records.len() < count {
            reader.poll(&mut records, 1_000, Duration::from_secs(1)).await.unwrap();
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, reading).await;
    assert!(outcome.is_ok(), "only {} of {count} records came", records.len());
    assert_eq!(records.len(), count, "more records came than were committed");
    records
}

/// Fails if anything comes.
pub(super) async fn read_nothing(reader: &mut dyn Reader) {
    let mut records = Vec::new();
    reader.poll(&mut records, 1_000, SILENCE).await.unwrap();
    assert_eq!(records, [], "records came that were not committed");
}

/// Reads until the reader stands at the end.
pub(super) async fn read_to_end(reader: &mut dyn Reader) -> Vec<Record> {
    let mut records = Vec::new();
    let end = reader.end().await.unwrap();
    let reading = async {
        while reader
            .position()
            .iter()
            .any(|(place, position)| end.get(place).is_some_and(|end| position < end))
        {
            reader
                .poll(&mut records, 1_000, Duration::from_millis(200))
                .await
                .unwrap();
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, reading).await;
    assert!(
        outcome.is_ok(),
        "the reader never reached the end {end:?}, it stands at {:?}",
        reader.position()
    );
    records
}

pub(super) fn text(bytes: &Option<Bytes>) -> &str {
    bytes
        .as_ref()
        .map_or("(null)", |bytes| std::str::from_utf8(bytes).unwrap())
}

pub(super) fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| text(&record.value)).collect()
}

/// 40,000 records of 1 KiB in 40 appends: more than any of the transports' queues or buffers holds.
pub(super) async fn a_large_transaction_arrives_whole_and_in_order(subject: &dyn Subject) {
    const APPENDS: usize = 40;
    const RECORDS: usize = 1_000;
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 2).await;
    let mut writer = new_writer(&*transport).await;
    let padding = "x".repeat(1_000);
    let mut txn = writer.begin().await.unwrap();
    for append in 0..APPENDS {
        let mut batch = RecordBatch::default();
        for at in 0..RECORDS {
            let number = append * RECORDS + at;
            let key = format!("key {}", number % 7);
            batch.push(
                Some(key.as_bytes()),
                Some(format!("{number} {padding}").as_bytes()),
                FIRST_MS,
                Vec::new(),
            );
        }
        txn.append(&topic, &batch).await.unwrap();
    }
    txn.put_checkpoint(&checkpoint("large")).await.unwrap();
    txn.commit().await.unwrap();

    let records = read(&mut *earliest(&*transport, &[&topic]).await, APPENDS * RECORDS).await;
    let mut last: [Option<usize>; 2] = [None; 2];
    let mut seen = vec![false; APPENDS * RECORDS];
    for record in &records {
        let number: usize = text(&record.value).split(' ').next().unwrap().parse().unwrap();
        assert_eq!(
            record.value.as_ref().unwrap().len(),
            number.to_string().len() + 1 + padding.len()
        );
        let last = &mut last[record.partition as usize];
        assert!(
            last.is_none_or(|last| last < number),
            "record {number} came after {last:?}"
        );
        *last = Some(number);
        assert!(
            !std::mem::replace(&mut seen[number], true),
            "record {number} came twice"
        );
    }
}

pub(super) async fn many_small_transactions_arrive_in_order(subject: &dyn Subject) {
    const COMMITS: usize = 100;
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let mut writer = new_writer(&*transport).await;
    for number in 0..COMMITS {
        write(&mut *writer, &topic, &[(Some("key"), &number.to_string())]).await;
    }
    let records = read(&mut *earliest(&*transport, &[&topic]).await, COMMITS).await;
    let expected: Vec<String> = (0..COMMITS).map(|number| number.to_string()).collect();
    assert_eq!(values(&records), expected);
}
