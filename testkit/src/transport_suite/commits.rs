// SPDX-License-Identifier: Apache-2.0
//! Clauses 3 and 4: a transaction is seen whole or not at all.

use highwater_core::transport::{GroupId, Offsets, StartAt, WriterId};

use super::batches::{PATIENCE, batch, checkpoint, earliest, new_topic, new_writer, read, read_nothing, values, write};
use super::{Subject, unique};

pub(super) async fn clause_3_topics_checkpoint_and_group_offsets_commit_together(subject: &dyn Subject) {
    let transport = subject.open().await;
    let input = new_topic(&*transport, 1).await;
    let (one, other) = (new_topic(&*transport, 3).await, new_topic(&*transport, 1).await);
    let (id, group) = (WriterId(unique("writer")), GroupId(unique("group")));
    let mut source = new_writer(&*transport).await;
    write(&mut *source, &input, &[(None, "first"), (None, "second")]).await;
    let second = read(&mut *earliest(&*transport, &[&input]).await, 2).await[1].offset;

    let mut writer = transport.open_writer(&id).await.unwrap();
    let mut txn = writer.begin().await.unwrap();
    // The input gets nothing although it is announced, and the last topic gets something although it is not.
    txn.announce(&[&one, &input]).await.unwrap();
    txn.append(&one, &batch(&[(Some("a"), "1"), (Some("b"), "2"), (Some("c"), "3")]))
        .await
        .unwrap();
    txn.append(&other, &batch(&[(None, "x")])).await.unwrap();
    txn.append(&one, &batch(&[(Some("a"), "4")])).await.unwrap();
    txn.commit_offsets(&group, &Offsets::from([((input.clone(), 0), second)]))
        .await
        .unwrap();
    txn.put_checkpoint(&checkpoint("together")).await.unwrap();
    read_nothing(&mut *earliest(&*transport, &[&one, &other]).await).await;
    txn.commit().await.unwrap();

    let mut records = read(&mut *earliest(&*transport, &[&one, &other]).await, 5).await;
    records.retain(|record| record.key.as_deref() == Some(b"a"));
    assert_eq!(values(&records), ["1", "4"]);
    let mut writer = transport.open_writer(&id).await.unwrap();
    assert_eq!(writer.checkpoint().await.unwrap(), Some(checkpoint("together")));
    let mut reader = transport
        .open_reader(&[input], Some(&group), StartAt::Earliest)
        .await
        .unwrap();
    assert_eq!(values(&read(&mut *reader, 1).await), ["second"]);
}

async fn ended_without_commit(subject: &dyn Subject, abort: bool) {
    let transport = subject.open().await;
    let (one, other) = (new_topic(&*transport, 1).await, new_topic(&*transport, 1).await);
    let (id, group) = (WriterId(unique("writer")), GroupId(unique("group")));
    let mut writer = transport.open_writer(&id).await.unwrap();
    write(&mut *writer, &one, &[(None, "before")]).await;
    let mut txn = writer.begin().await.unwrap();
    txn.append(&one, &batch(&[(None, "never")])).await.unwrap();
    txn.append(&other, &batch(&[(None, "never")])).await.unwrap();
    txn.put_checkpoint(&checkpoint("never")).await.unwrap();
    txn.commit_offsets(&group, &Offsets::from([((one.clone(), 0), 1)]))
        .await
        .unwrap();
    if abort {
        txn.abort().await.unwrap();
    } else {
        drop(txn);
    }
    write(&mut *writer, &one, &[(None, "after")]).await;
    write(&mut *writer, &other, &[(None, "after")]).await;

    assert_eq!(
        values(&read(&mut *earliest(&*transport, &[&one]).await, 2).await),
        ["before", "after"]
    );
    assert_eq!(
        values(&read(&mut *earliest(&*transport, &[&other]).await, 1).await),
        ["after"]
    );
    let mut reader = transport
        .open_reader(&[one], Some(&group), StartAt::Earliest)
        .await
        .unwrap();
    assert_eq!(values(&read(&mut *reader, 2).await), ["before", "after"]);
    let mut writer = transport.open_writer(&id).await.unwrap();
    assert_eq!(writer.checkpoint().await.unwrap(), None);
}

pub(super) async fn clause_3_an_aborted_transaction_leaves_nothing(subject: &dyn Subject) {
    ended_without_commit(subject, true).await;
}

pub(super) async fn clause_3_a_dropped_transaction_leaves_nothing(subject: &dyn Subject) {
    ended_without_commit(subject, false).await;
}

pub(super) async fn clause_4_an_open_transaction_is_not_read(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let mut writer = new_writer(&*transport).await;
    write(&mut *writer, &topic, &[(None, "before")]).await;
    let mut reader = earliest(&*transport, &[&topic]).await;
    assert_eq!(values(&read(&mut *reader, 1).await), ["before"]);
    let mut txn = writer.begin().await.unwrap();
    for _ in 0..4 {
        txn.append(&topic, &batch(&[(None, "open")])).await.unwrap();
        read_nothing(&mut *reader).await;
    }
    let (committed, seen) = tokio::join!(txn.commit(), read_whole(&mut *reader));
    committed.unwrap();
    assert_eq!(seen, 4);
}

/// Reads until something is there and returns how much came at first sight.
async fn read_whole(reader: &mut dyn highwater_core::transport::Reader) -> usize {
    let mut records = Vec::new();
    while records.is_empty() {
        reader.poll(&mut records, 1_000, PATIENCE).await.unwrap();
    }
    let end = reader.end().await.unwrap();
    while reader.position() < end {
        reader.poll(&mut records, 1_000, super::batches::SILENCE).await.unwrap();
    }
    records.len()
}
