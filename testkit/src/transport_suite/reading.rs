// SPDX-License-Identifier: Apache-2.0
//! What readers see, wait for and are refused.

use std::time::Duration;

use bytes::Bytes;
use highwater_core::ErrorKind;
use highwater_core::transport::{Cleanup, Header, Offsets, RecordBatch, StartAt, TopicSpec, WriterId};
use tokio::time::Instant;

use super::batches::{
    FIRST_MS, KEPT_FOR, PATIENCE, SILENCE, batch, earliest, new_topic, new_writer, read, read_nothing, read_to_end,
    values, write,
};
use super::{Subject, unique};

pub(super) async fn keys_values_tombstones_headers_and_timestamps_come_back(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let mut writer = new_writer(&*transport).await;
    let header = |name, value: &'static [u8]| Header {
        name,
        value: Bytes::from_static(value),
    };
    let mut batch = RecordBatch::default();
    batch.push(
        Some(b"key"),
        Some(b"value"),
        FIRST_MS,
        vec![header("id", b"1"), header("id", b"2"), header("empty", b"")],
    );
    batch.push(Some(b"key"), None, FIRST_MS + 1, Vec::new());
    batch.push(Some(b""), Some(b""), FIRST_MS + 2, Vec::new());
    batch.push(None, Some(&[0, 255, 10]), FIRST_MS + 3, vec![header("raw", &[0, 255])]);
    let mut txn = writer.begin().await.unwrap();
    txn.append(&topic, &batch).await.unwrap();
    txn.commit().await.unwrap();

    let records = read(&mut *earliest(&*transport, &[&topic]).await, batch.len()).await;
    for (record, expected) in records.iter().zip(batch.iter()) {
        assert_eq!(&*record.topic, topic);
        assert_eq!(record.key.as_deref(), expected.key);
        assert_eq!(record.value.as_deref(), expected.value);
        assert_eq!(record.timestamp_ms, expected.timestamp_ms);
        let headers: Vec<(String, Bytes)> = expected
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.clone()))
            .collect();
        assert_eq!(record.headers, headers);
    }
}

pub(super) async fn a_reader_waits_for_the_next_commit_and_not_longer(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let mut writer = new_writer(&*transport).await;
    let mut reader = earliest(&*transport, &[&topic]).await;
    let begun = Instant::now();
    read_nothing(&mut *reader).await;
    assert!(begun.elapsed() >= SILENCE, "poll returned empty before its time");
    for round in ["first", "second"] {
        let begun = Instant::now();
        let records = [(None, round)];
        let write = write(&mut *writer, &topic, &records);
        let (records, ()) = tokio::join!(read(&mut *reader, 1), write);
        assert_eq!(values(&records), [round]);
        assert!(
            begun.elapsed() < PATIENCE / 4,
            "a commit was noticed after {:?} only",
            begun.elapsed()
        );
    }
}

pub(super) async fn a_poll_that_is_dropped_loses_nothing(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let mut writer = new_writer(&*transport).await;
    let expected: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    for part in expected.chunks(30) {
        let part: Vec<(Option<&str>, &str)> = part.iter().map(|value| (None, value.as_str())).collect();
        write(&mut *writer, &topic, &part).await;
    }
    let mut reader = earliest(&*transport, &[&topic]).await;
    let (mut records, begun) = (Vec::new(), Instant::now());
    let mut patience_us = 1;
    while records.len() < expected.len() {
        let poll = reader.poll(&mut records, 7, PATIENCE);
        if tokio::time::timeout(Duration::from_micros(patience_us), poll)
            .await
            .is_err()
        {
            patience_us = (patience_us * 2).min(100_000);
        } else {
            patience_us = 1;
        }
        assert!(begun.elapsed() < PATIENCE, "only {} records came", records.len());
    }
    assert_eq!(values(&records), expected);
}

pub(super) async fn the_end_is_reached_behind_commits_and_aborts(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 2).await;
    let mut writer = new_writer(&*transport).await;
    let mut reader = earliest(&*transport, &[&topic]).await;
    assert_eq!(read_to_end(&mut *reader).await, []);
    write(
        &mut *writer,
        &topic,
        &[(Some("a"), "1"), (Some("b"), "2"), (Some("c"), "3")],
    )
    .await;
    read(&mut *reader, 3).await;
    assert_eq!(read_to_end(&mut *reader).await, [], "the tail is a commit");
    let mut txn = writer.begin().await.unwrap();
    txn.append(&topic, &batch(&[(Some("a"), "x"), (Some("b"), "x")]))
        .await
        .unwrap();
    txn.abort().await.unwrap();
    assert_eq!(read_to_end(&mut *reader).await, [], "the tail is an abort");
    // A reader that begins now reads everything there is and knows it.
    assert_eq!(read_to_end(&mut *earliest(&*transport, &[&topic]).await).await.len(), 3);
}

pub(super) async fn a_latest_reader_sees_only_what_comes(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let mut writer = new_writer(&*transport).await;
    write(&mut *writer, &topic, &[(None, "old")]).await;
    read(&mut *earliest(&*transport, &[&topic]).await, 1).await;
    let mut reader = transport
        .open_reader(std::slice::from_ref(&topic), None, StartAt::Latest)
        .await
        .unwrap();
    read_nothing(&mut *reader).await;
    write(&mut *writer, &topic, &[(None, "new")]).await;
    assert_eq!(values(&read(&mut *reader, 1).await), ["new"]);
}

pub(super) async fn an_offset_that_is_not_held_is_an_error(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let mut writer = new_writer(&*transport).await;
    write(&mut *writer, &topic, &[(None, "only")]).await;
    let mut reader = earliest(&*transport, &[&topic]).await;
    read(&mut *reader, 1).await;
    reader
        .seek(&Offsets::from([((topic.clone(), 0), 1_000)]))
        .await
        .unwrap();
    let (mut records, begun) = (Vec::new(), Instant::now());
    let refused = loop {
        match reader.poll(&mut records, 10, SILENCE).await {
            Ok(()) => assert!(begun.elapsed() < PATIENCE, "an offset that never was is waited for"),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::PositionLost, "{refused}");
    assert!(refused.to_string().contains(&topic), "{refused}");
    let unknown = reader.seek(&Offsets::from([((topic, 9), 0)])).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{unknown}");
}

pub(super) async fn topics_lists_what_was_made_and_keeps_what_exists(subject: &dyn Subject) {
    let transport = subject.open().await;
    let spec = |partitions| TopicSpec {
        name: "suite.topics-kept".to_owned(),
        partitions,
        cleanup: Cleanup::Delete,
        retention: Some(KEPT_FOR),
    };
    transport.ensure_topics(&[spec(3)]).await.unwrap();
    transport.ensure_topics(&[spec(5)]).await.unwrap();
    let mut writer = transport.open_writer(&WriterId(unique("writer"))).await.unwrap();
    let keyless = [(None, "x"), (None, "y")];
    write(&mut *writer, "suite.topics-kept", &keyless).await;
    read(&mut *earliest(&*transport, &["suite.topics-kept"]).await, 2).await;
    let topics = transport.topics().await.unwrap();
    let kept: Vec<_> = topics
        .iter()
        .filter(|topic| topic.name == "suite.topics-kept")
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].partitions.len(), 3);
    assert!(
        kept[0].partitions[0].end >= 2 && kept[0].partitions[0].start == 0,
        "{:?}",
        kept[0]
    );
    assert!(
        topics.iter().all(|topic| !topic.name.starts_with("__")),
        "the transport's own topics are listed"
    );
    let bad = TopicSpec {
        name: "no spaces".to_owned(),
        ..spec(1)
    };
    let refused = transport.ensure_topics(&[bad]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Configuration, "{refused}");
}

pub(super) async fn a_missing_topic_is_named(subject: &dyn Subject) {
    let transport = subject.open().await;
    let missing = unique("missing");
    let refused = match transport
        .open_reader(std::slice::from_ref(&missing), None, StartAt::Earliest)
        .await
    {
        Ok(_) => panic!("a reader of a topic that does not exist was opened"),
        Err(error) => error,
    };
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert!(refused.to_string().contains(&missing), "{refused}");
    let mut writer = new_writer(&*transport).await;
    let mut txn = writer.begin().await.unwrap();
    let refused = txn.append(&missing, &batch(&[(None, "x")])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert!(refused.to_string().contains(&missing), "{refused}");
    drop(txn);
    let topic = new_topic(&*transport, 1).await;
    write(&mut *writer, &topic, &[(None, "goes on")]).await;
    assert_eq!(
        values(&read(&mut *earliest(&*transport, &[&topic]).await, 1).await),
        ["goes on"]
    );
}
