// SPDX-License-Identifier: Apache-2.0
//! Clause 6: offsets of groups.

use highwater_core::transport::{GroupId, Offsets, StartAt, Transport, Writer};

use super::batches::{new_topic, new_writer, read, read_nothing, values, write};
use super::{Subject, unique};

async fn consume(transport: &dyn Transport, writer: &mut dyn Writer, topic: &str, group: &GroupId, count: usize) {
    let mut reader = transport
        .open_reader(&[topic.to_owned()], Some(group), StartAt::Earliest)
        .await
        .unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        reader.poll(&mut records, 1, super::batches::PATIENCE).await.unwrap();
    }
    let last = &records[count - 1];
    let mut txn = writer.begin().await.unwrap();
    let next = Offsets::from([((topic.to_owned(), last.partition), last.offset + 1)]);
    txn.commit_offsets(group, &next).await.unwrap();
    txn.commit().await.unwrap();
}

pub(super) async fn clause_6_offsets_of_a_group_are_read_back_by_it(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let (group, other) = (GroupId(unique("group")), GroupId(unique("group")));
    let mut writer = new_writer(&*transport).await;
    write(&mut *writer, &topic, &[(None, "a"), (None, "b"), (None, "c")]).await;
    consume(&*transport, &mut *writer, &topic, &group, 1).await;
    consume(&*transport, &mut *writer, &topic, &group, 1).await;

    let topics = [topic.clone()];
    let mut reader = transport
        .open_reader(&topics, Some(&group), StartAt::Earliest)
        .await
        .unwrap();
    assert_eq!(values(&read(&mut *reader, 1).await), ["c"]);
    let mut reader = transport
        .open_reader(&topics, Some(&group), StartAt::Latest)
        .await
        .unwrap();
    assert_eq!(values(&read(&mut *reader, 1).await), ["c"]);
    let mut reader = transport
        .open_reader(&topics, Some(&other), StartAt::Earliest)
        .await
        .unwrap();
    assert_eq!(values(&read(&mut *reader, 3).await), ["a", "b", "c"]);
    let mut reader = transport
        .open_reader(&topics, Some(&other), StartAt::Latest)
        .await
        .unwrap();
    read_nothing(&mut *reader).await;
}
