// SPDX-License-Identifier: Apache-2.0
//! What was acknowledged survives kill -9, and what survives is whole: a child process writes, the test kills it at a
//! moment that differs each time, opens the store and compares.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{Cleanup, Record, RecordBatch, StartAt, TopicSpec, Transport, WriterId};
use highwater_transport::embedded::{EmbeddedSettings, EmbeddedTransport, Fsync};

const KILLS: u64 = 24;
const TOPICS: [&str; 2] = ["one", "other"];
const CHILD: &str = "HIGHWATER_TEST_CRASH_STORE";

fn settings(path: &Path, round: u64) -> EmbeddedSettings {
    EmbeddedSettings {
        path: path.to_owned(),
        segment_bytes: 200_000,
        transaction_memory_bytes_max: 50_000,
        upkeep_interval_ms: 5,
        // The records are of 1970; they stay.
        retention_ms: None,
        fsync: [Fsync::Commit, Fsync::IntervalMs(3), Fsync::Never][round as usize % 3],
        ..EmbeddedSettings::default()
    }
}

async fn open(path: &Path, round: u64) -> EmbeddedTransport {
    let transport = EmbeddedTransport::open(settings(path, round)).await.unwrap();
    let spec = |name: &str, cleanup| TopicSpec {
        name: name.to_owned(),
        partitions: 3,
        cleanup,
        retention: None,
    };
    let topics = [
        spec("one", Cleanup::Delete),
        spec("other", Cleanup::Delete),
        spec("kept", Cleanup::Compact),
    ];
    transport.ensure_topics(&topics).await.unwrap();
    transport
}

/// Transaction `number` holds this many records in each topic: mostly few, at times more than fit into memory.
fn size(number: u64) -> u64 {
    if number.is_multiple_of(11) { 300 } else { 1 + number % 5 }
}

/// The number of transactions that the checkpoint covers.
async fn covered(transport: &EmbeddedTransport) -> u64 {
    let mut writer = transport.open_writer(&WriterId("task".to_owned())).await.unwrap();
    let checkpoint = writer.checkpoint().await.unwrap();
    checkpoint.map_or(0, |found| {
        std::str::from_utf8(&found.bytes).unwrap().parse::<u64>().unwrap() + 1
    })
}

async fn write_until_killed(path: &Path, round: u64) {
    let transport = open(path, round).await;
    let mut number = covered(&transport).await;
    let mut writer = transport.open_writer(&WriterId("task".to_owned())).await.unwrap();
    loop {
        let mut txn = writer.begin().await.unwrap();
        for topic in ["one", "other", "kept"] {
            let mut batch = RecordBatch::default();
            for at in 0..size(number) {
                let value = format!("{number}.{at} {}", "x".repeat(400));
                batch.push(
                    Some(format!("key {}", at % 10).as_bytes()),
                    Some(value.as_bytes()),
                    0,
                    Vec::new(),
                );
            }
            txn.append(topic, &batch).await.unwrap();
        }
        let bytes = Bytes::from(number.to_string());
        txn.put_checkpoint(&Checkpoint {
            connector: "test".to_owned(),
            version: 1,
            bytes,
        })
        .await
        .unwrap();
        txn.commit().await.unwrap();
        eprintln!("acknowledged {number}");
        number += 1;
    }
}

#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    // Does its work only when the test below starts it.
    if let Ok(place) = std::env::var(CHILD) {
        let (round, path) = place.split_once(' ').unwrap();
        write_until_killed(Path::new(path), round.parse().unwrap()).await;
    }
}

/// Runs the child, kills it some time after its `acknowledgements`-th and returns the last number it acknowledged.
fn run_and_kill(path: &Path, round: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
        .env(CHILD, format!("{round} {}", path.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut last = None;
    let mut note = |line: String| {
        let number = line
            .strip_prefix("acknowledged ")
            .unwrap_or_else(|| panic!("the child said {line:?}"));
        last = Some(number.parse::<u64>().unwrap());
    };
    for _ in 0..=round * 7 % 40 {
        note(lines.next().expect("the child ended by itself"));
    }
    // Anywhere within the next transactions, not at an acknowledgement.
    let (begun, moment) = (Instant::now(), Duration::from_micros(round * 379 % 4_000));
    while begun.elapsed() < moment {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines.for_each(&mut note);
    last.unwrap()
}

async fn verify(path: &Path, round: u64, acknowledged: u64) {
    let transport = open(path, round).await;
    let covered = covered(&transport).await;
    assert!(
        covered > acknowledged,
        "transaction {acknowledged} was acknowledged, {covered} are there"
    );
    assert!(
        covered <= acknowledged + 2,
        "{covered} transactions are there, {acknowledged} was the last acknowledged"
    );
    let all = || (0..covered).flat_map(|number| (0..size(number)).map(move |at| (number, at)));
    for topic in TOPICS {
        let mut found = read(&transport, topic).await;
        found.sort_unstable();
        assert!(
            found.into_iter().eq(all()),
            "topic {topic} is not what {covered} transactions made"
        );
    }
    let by_key = |records: Vec<(u64, u64)>| -> BTreeMap<u64, (u64, u64)> {
        records.into_iter().map(|record| (record.1 % 10, record)).collect()
    };
    assert_eq!(
        by_key(read(&transport, "kept").await),
        by_key(all().collect()),
        "the last of each key"
    );
}

/// The records of a topic as transaction and place in it.
async fn read(transport: &EmbeddedTransport, topic: &str) -> Vec<(u64, u64)> {
    let mut reader = transport
        .open_reader(&[topic.to_owned()], None, StartAt::Earliest)
        .await
        .unwrap();
    let (mut records, end) = (Vec::new(), reader.end().await.unwrap());
    while reader.position() != end {
        reader.poll(&mut records, 10_000, Duration::ZERO).await.unwrap();
    }
    let number = |record: &Record| {
        let value = std::str::from_utf8(record.value.as_ref().unwrap()).unwrap();
        let (number, at) = value.split(' ').next().unwrap().split_once('.').unwrap();
        (number.parse().unwrap(), at.parse().unwrap())
    };
    records.iter().map(number).collect()
}

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged_and_leaves_no_partial_transaction() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..KILLS {
        let store = folder.path().join((round % 3).to_string());
        let acknowledged = run_and_kill(&store, round);
        verify(&store, round, acknowledged).await;
    }
    println!("{KILLS} kills, nothing acknowledged lost, no partial transaction");
}
