// SPDX-License-Identifier: Apache-2.0
//! Clauses 7, 8 and 9: what stays, what leaves, what survives.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_core::transport::{Cleanup, GroupId, Offsets, RecordBatch, StartAt, TopicSpec, WriterId};

use super::batches::{
    FIRST_MS, batch, checkpoint, earliest, new_topic, new_writer, read, read_to_end, text, values, write,
};
use super::{Subject, unique};

pub(super) async fn clause_7_compaction_keeps_the_last_record_of_each_key(subject: &dyn Subject) {
    const ROUNDS: usize = 30;
    const KEYS: usize = 10;
    let transport = subject.open().await;
    let topic = unique("compacted");
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: 2,
        cleanup: Cleanup::Compact,
        retention: None,
    };
    transport.ensure_topics(&[spec]).await.unwrap();
    let mut writer = new_writer(&*transport).await;
    let mut expected = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut batch = RecordBatch::default();
        for key in 0..KEYS {
            // One key is written once and never again; another ends in a tombstone.
            if key == 0 && round > 0 {
                continue;
            }
            let (name, value) = (format!("key {key}"), format!("{round} {}", "x".repeat(500)));
            let value = (key != 1 || round + 1 < ROUNDS).then_some(value);
            batch.push(
                Some(name.as_bytes()),
                value.as_deref().map(str::as_bytes),
                FIRST_MS,
                Vec::new(),
            );
            expected.insert(name, value);
        }
        let mut txn = writer.begin().await.unwrap();
        txn.append(&topic, &batch).await.unwrap();
        txn.commit().await.unwrap();
    }
    let written = 1 + (KEYS - 1) * ROUNDS;
    let before = read(&mut *earliest(&*transport, &[&topic]).await, written).await;
    let compacted = subject.compact(&transport, &topic).await;
    let after = read_to_end(&mut *earliest(&*transport, &[&topic]).await).await;
    if compacted {
        assert!(
            after.len() < before.len(),
            "nothing left: {} records before and after",
            before.len()
        );
    }
    assert!(
        after.iter().all(|record| before.contains(record)),
        "compaction changed a record"
    );
    let mut last = BTreeMap::new();
    let mut offsets: BTreeMap<u32, u64> = BTreeMap::new();
    for record in &after {
        let previous = offsets.insert(record.partition, record.offset);
        assert!(previous.is_none_or(|previous| previous < record.offset));
        last.insert(
            text(&record.key).to_owned(),
            record.value.as_ref().map(|value| text(&Some(value.clone())).to_owned()),
        );
    }
    assert_eq!(last, expected);
}

pub(super) async fn clause_8_retention_takes_records_from_the_old_end_only(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = unique("expiring");
    let retention = Some(Duration::from_secs(60));
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: 1,
        cleanup: Cleanup::Delete,
        retention,
    };
    transport.ensure_topics(&[spec]).await.unwrap();
    let mut writer = new_writer(&*transport).await;
    for round in 0..20 {
        let value = format!("{round} {}", "x".repeat(1_000));
        write(&mut *writer, &topic, &[(Some("key"), &value), (None, &value)]).await;
    }
    let mut reader = earliest(&*transport, &[&topic]).await;
    let before = read(&mut *reader, 40).await;
    let end = reader.end().await.unwrap();
    let expired = subject.expire(&transport, &topic).await;
    let mut reader = earliest(&*transport, &[&topic]).await;
    let after = read_to_end(&mut *reader).await;
    if expired {
        assert!(after.len() < before.len(), "nothing left");
    }
    assert_eq!(
        after,
        before[before.len() - after.len()..],
        "what stays must be the newer end, unchanged"
    );
    assert_eq!(reader.end().await.unwrap(), end, "retention must not move the end");
    write(&mut *writer, &topic, &[(None, "next")]).await;
    let next = read(&mut *reader, 1).await;
    assert_eq!(values(&next), ["next"]);
    assert!(next[0].offset > before[39].offset, "an offset was given twice");
}

pub(super) async fn clause_9_what_was_committed_survives_the_end_of_the_process(subject: &dyn Subject) {
    let transport = subject.open().await;
    let (one, other) = (new_topic(&*transport, 3).await, new_topic(&*transport, 1).await);
    let (id, group) = (WriterId(unique("writer")), GroupId(unique("group")));
    let mut writer = transport.open_writer(&id).await.unwrap();
    for round in 0..10 {
        let mut txn = writer.begin().await.unwrap();
        let value = round.to_string();
        txn.append(&one, &batch(&[(Some("a"), &value), (Some("b"), &value)]))
            .await
            .unwrap();
        txn.append(&other, &batch(&[(None, &value)])).await.unwrap();
        txn.put_checkpoint(&checkpoint(&value)).await.unwrap();
        txn.commit_offsets(&group, &Offsets::from([((other.clone(), 0), 0)]))
            .await
            .unwrap();
        txn.commit().await.unwrap();
    }
    let mut open = writer.begin().await.unwrap();
    open.append(&other, &batch(&[(None, "uncommitted")])).await.unwrap();
    let before_one = read(&mut *earliest(&*transport, &[&one]).await, 20).await;
    let before_other = read(&mut *earliest(&*transport, &[&other]).await, 10).await;
    drop(open);
    drop(writer);

    let transport = subject.reopen(transport).await;
    let topics = transport.topics().await.unwrap();
    assert_eq!(
        topics.iter().find(|topic| topic.name == one).unwrap().partitions.len(),
        3
    );
    let mut writer = transport.open_writer(&id).await.unwrap();
    assert_eq!(writer.checkpoint().await.unwrap(), Some(checkpoint("9")));
    let by_partition = |mut records: Vec<highwater_core::transport::Record>| {
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    };
    let after_one = read(&mut *earliest(&*transport, &[&one]).await, 20).await;
    assert_eq!(by_partition(after_one), by_partition(before_one));
    assert_eq!(
        read(&mut *earliest(&*transport, &[&other]).await, 10).await,
        before_other
    );
    let mut reader = transport
        .open_reader(std::slice::from_ref(&other), Some(&group), StartAt::Latest)
        .await
        .unwrap();
    assert_eq!(read(&mut *reader, 10).await, before_other);
    write(&mut *writer, &other, &[(None, "goes on")]).await;
    let next = read(&mut *reader, 1).await;
    assert_eq!(values(&next), ["goes on"]);
    assert!(next[0].offset > before_other[9].offset);
}
