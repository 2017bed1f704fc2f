// SPDX-License-Identifier: Apache-2.0
//! Clause 5, writer epochs, and checkpoints.

use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{Transport, Writer, WriterId};
use highwater_core::{ErrorKind, Result};

use super::batches::{batch, checkpoint, earliest, new_topic, new_writer, read, values, write};
use super::{Subject, unique};

async fn put(writer: &mut dyn Writer, checkpoint: &Checkpoint) {
    let mut txn = writer.begin().await.unwrap();
    txn.put_checkpoint(checkpoint).await.unwrap();
    txn.commit().await.unwrap();
}

async fn reopened(transport: &dyn Transport, id: &WriterId) -> Option<Checkpoint> {
    transport.open_writer(id).await.unwrap().checkpoint().await.unwrap()
}

async fn try_write(writer: &mut dyn Writer, topic: &str, value: &str) -> Result<()> {
    let mut txn = writer.begin().await?;
    txn.append(topic, &batch(&[(None, value)])).await?;
    txn.put_checkpoint(&checkpoint(value)).await?;
    txn.commit().await
}

pub(super) async fn clause_5_opening_a_writer_fences_the_earlier_one(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let id = WriterId(unique("writer"));
    let mut older = transport.open_writer(&id).await.unwrap();
    try_write(&mut *older, &topic, "older").await.unwrap();
    let mut newer = transport.open_writer(&id).await.unwrap();
    assert_eq!(newer.checkpoint().await.unwrap(), Some(checkpoint("older")));
    for _ in 0..2 {
        let refused = try_write(&mut *older, &topic, "zombie").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Fenced, "{refused}");
    }
    try_write(&mut *newer, &topic, "newer").await.unwrap();
    assert_eq!(
        values(&read(&mut *earliest(&*transport, &[&topic]).await, 2).await),
        ["older", "newer"]
    );
    assert_eq!(reopened(&*transport, &id).await, Some(checkpoint("newer")));
}

pub(super) async fn clause_5_a_zombie_that_commits_late_leaves_nothing(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let id = WriterId(unique("writer"));
    let mut older = transport.open_writer(&id).await.unwrap();
    let mut late = older.begin().await.unwrap();
    late.append(&topic, &batch(&[(None, "zombie")])).await.unwrap();
    late.put_checkpoint(&checkpoint("zombie")).await.unwrap();
    let mut newer = transport.open_writer(&id).await.unwrap();
    assert_eq!(newer.checkpoint().await.unwrap(), None);
    try_write(&mut *newer, &topic, "newer").await.unwrap();
    let refused = late.commit().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced, "{refused}");
    try_write(&mut *newer, &topic, "newest").await.unwrap();
    assert_eq!(
        values(&read(&mut *earliest(&*transport, &[&topic]).await, 2).await),
        ["newer", "newest"]
    );
    assert_eq!(reopened(&*transport, &id).await, Some(checkpoint("newest")));
}

pub(super) async fn clause_5_writers_of_different_ids_do_not_disturb_each_other(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let (mut one, mut other) = (new_writer(&*transport).await, new_writer(&*transport).await);
    let mut open = one.begin().await.unwrap();
    open.append(&topic, &batch(&[(Some("one"), "1")])).await.unwrap();
    write(&mut *other, &topic, &[(Some("other"), "2")]).await;
    open.append(&topic, &batch(&[(Some("one"), "3")])).await.unwrap();
    open.commit().await.unwrap();
    write(&mut *other, &topic, &[(Some("other"), "4")]).await;
    let records = read(&mut *earliest(&*transport, &[&topic]).await, 4).await;
    for (key, expected) in [("one", ["1", "3"]), ("other", ["2", "4"])] {
        let own: Vec<_> = records
            .iter()
            .filter(|record| record.key.as_deref() == Some(key.as_bytes()))
            .cloned()
            .collect();
        assert_eq!(values(&own), expected);
    }
}

pub(super) async fn a_checkpoint_comes_back_as_it_was_put(subject: &dyn Subject) {
    let transport = subject.open().await;
    let id = WriterId(unique("writer"));
    let bytes: Vec<u8> = (0..100_000_u32).map(|number| (number * 31 % 251) as u8).collect();
    let large = Checkpoint {
        connector: "suite".to_owned(),
        version: u32::MAX,
        bytes: bytes.into(),
    };
    let empty = Checkpoint {
        connector: String::new(),
        version: 0,
        bytes: bytes::Bytes::new(),
    };
    for expected in [large, empty, checkpoint("last")] {
        let mut writer = transport.open_writer(&id).await.unwrap();
        put(&mut *writer, &expected).await;
        assert_eq!(reopened(&*transport, &id).await, Some(expected));
    }
    let mut writer = transport.open_writer(&id).await.unwrap();
    let mut txn = writer.begin().await.unwrap();
    txn.put_checkpoint(&checkpoint("replaced")).await.unwrap();
    txn.put_checkpoint(&checkpoint("the later one counts")).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(
        reopened(&*transport, &id).await,
        Some(checkpoint("the later one counts"))
    );
    assert_eq!(reopened(&*transport, &WriterId(unique("writer"))).await, None);
}

pub(super) async fn a_checkpoint_of_an_aborted_transaction_is_not_kept(subject: &dyn Subject) {
    let transport = subject.open().await;
    let id = WriterId(unique("writer"));
    let mut writer = transport.open_writer(&id).await.unwrap();
    put(&mut *writer, &checkpoint("kept")).await;
    let mut txn = writer.begin().await.unwrap();
    txn.put_checkpoint(&checkpoint("aborted")).await.unwrap();
    txn.abort().await.unwrap();
    let mut txn = writer.begin().await.unwrap();
    txn.put_checkpoint(&checkpoint("dropped")).await.unwrap();
    drop(txn);
    assert_eq!(writer.checkpoint().await.unwrap(), Some(checkpoint("kept")));
    drop(writer);
    assert_eq!(reopened(&*transport, &id).await, Some(checkpoint("kept")));
}
