// SPDX-License-Identifier: Apache-2.0
//! Bad days of the embedded store: a full disk, damage, interrupted writes, a second process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{
    Cleanup, Offsets, Reader, Record, RecordBatch, StartAt, TopicSpec, Transport, Writer, WriterId,
};
use highwater_core::{Class, Error, ErrorKind, Result};

use super::disk::Disk;
use super::{EmbeddedSettings, EmbeddedTransport, Fsync};

const TOPICS: [&str; 2] = ["one", "other"];

fn settings(path: &Path) -> EmbeddedSettings {
    EmbeddedSettings {
        path: path.to_owned(),
        segment_bytes: 20_000,
        ..EmbeddedSettings::default()
    }
}

fn task() -> WriterId {
    WriterId("task".to_owned())
}

async fn made(settings: EmbeddedSettings, disk: &Arc<Disk>) -> EmbeddedTransport {
    let transport = EmbeddedTransport::open_on(settings, Arc::clone(disk)).await.unwrap();
    let spec = |name: &str| TopicSpec {
        name: name.to_owned(),
        partitions: 2,
        cleanup: Cleanup::Delete,
        retention: None,
    };
    transport.ensure_topics(&TOPICS.map(spec)).await.unwrap();
    transport
}

/// One transaction: record `number` in both topics and the checkpoint that says so.
async fn write(writer: &mut dyn Writer, number: usize, padding: usize) -> Result<()> {
    let mut txn = writer.begin().await?;
    for topic in TOPICS {
        let mut batch = RecordBatch::default();
        for key in ["a", "b", "c"] {
            let value = format!("{number} {}", "x".repeat(padding));
            batch.push(Some(key.as_bytes()), Some(value.as_bytes()), number as i64, Vec::new());
        }
        txn.append(topic, &batch).await?;
    }
    let bytes = Bytes::from(number.to_string());
    txn.put_checkpoint(&Checkpoint {
        connector: "test".to_owned(),
        version: 1,
        bytes,
    })
    .await?;
    txn.commit().await
}

async fn read_all(reader: &mut dyn Reader) -> Result<Vec<Record>> {
    let (mut records, end) = (Vec::new(), reader.end().await?);
    while reader.position() != end {
        reader.poll(&mut records, 100, Duration::ZERO).await?;
    }
    Ok(records)
}

/// How many transactions the checkpoint covers; the records must be exactly those, in order.
async fn verified(transport: &EmbeddedTransport) -> usize {
    let mut writer = transport.open_writer(&task()).await.unwrap();
    let checkpoint = writer.checkpoint().await.unwrap();
    let count = checkpoint.map_or(0, |found| {
        std::str::from_utf8(&found.bytes).unwrap().parse::<usize>().unwrap() + 1
    });
    for topic in TOPICS {
        let mut reader = transport
            .open_reader(&[topic.to_owned()], None, StartAt::Earliest)
            .await
            .unwrap();
        let records = read_all(&mut *reader).await.unwrap();
        assert_eq!(
            records.len(),
            count * 3,
            "records of topic {topic} against its checkpoint"
        );
        for key in ["a", "b", "c"] {
            let own = records
                .iter()
                .filter(|record| record.key.as_deref() == Some(key.as_bytes()));
            assert!(
                own.map(|record| record.timestamp_ms).eq(0..count as i64),
                "key {key} of topic {topic}"
            );
        }
    }
    count
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|ends| ends == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_says_so_and_nothing_is_half_visible() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let transport = made(settings(folder.path()), &disk).await;
    let mut writer = transport.open_writer(&task()).await.unwrap();
    write(&mut *writer, 0, 500).await.unwrap();
    let mut committed = 1;
    // Every amount of room: the write that fails is each of the blocks, a new segment's, the journal's.
    for room in (0..12_000).step_by(97) {
        disk.set_room(Some(room));
        match write(&mut *writer, committed, 500).await {
            Ok(()) => committed += 1,
            Err(refused) => {
                assert_eq!(refused.kind(), ErrorKind::Storage, "{refused}");
                let text = refused.to_string();
                assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
                assert!(text.contains("needed_bytes") && text.contains("fix: free"), "{text}");
            }
        }
        disk.set_room(None);
        assert_eq!(verified(&transport).await, committed, "with room for {room} bytes");
        writer = transport.open_writer(&task()).await.unwrap();
        write(&mut *writer, committed, 500).await.unwrap();
        committed += 1;
    }
    drop((writer, transport));
    let transport = made(settings(folder.path()), &disk).await;
    assert_eq!(verified(&transport).await, committed);
}

#[tokio::test]
async fn a_disk_that_fills_up_under_a_large_open_transaction_fails_its_append() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let small = EmbeddedSettings {
        transaction_memory_bytes_max: 50_000,
        ..settings(folder.path())
    };
    let transport = made(small, &disk).await;
    let mut writer = transport.open_writer(&task()).await.unwrap();
    write(&mut *writer, 0, 10).await.unwrap();
    disk.set_room(Some(150_000));
    let mut txn = writer.begin().await.unwrap();
    let mut batch = RecordBatch::default();
    batch.push(Some(b"a"), Some(&[b'x'; 20_000]), 0, Vec::new());
    let refused = loop {
        if let Err(refused) = txn.append("one", &batch).await {
            break refused;
        }
    };
    assert_eq!(refused.kind(), ErrorKind::Storage, "{refused}");
    drop(txn);
    disk.set_room(None);
    write(&mut *writer, 1, 10).await.unwrap();
    assert_eq!(verified(&transport).await, 2);
}

#[tokio::test]
async fn a_transaction_larger_than_its_memory_commits_whole() {
    let folder = tempfile::tempdir().unwrap();
    let small = EmbeddedSettings {
        transaction_memory_bytes_max: 1_000,
        ..settings(folder.path())
    };
    let transport = made(small, &Arc::default()).await;
    let mut writer = transport.open_writer(&task()).await.unwrap();
    for number in 0..20 {
        write(&mut *writer, number, 3_000).await.unwrap();
    }
    assert_eq!(files(&folder.path().join("open"), "tmp"), Vec::<PathBuf>::new());
    assert_eq!(verified(&transport).await, 20);
}

/// The store after 30 transactions, closed.
async fn closed_store(settings: EmbeddedSettings) {
    let transport = made(settings, &Arc::default()).await;
    let mut writer = transport.open_writer(&task()).await.unwrap();
    for number in 0..30 {
        write(&mut *writer, number, 500).await.unwrap();
    }
}

fn flip(path: &Path, at: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[at] ^= 0x10;
    std::fs::write(path, content).unwrap();
}

fn names(error: &Error, path: &Path) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::Storage && text.contains(path.to_str().unwrap()) && text.contains("byte: ")
}

#[tokio::test]
async fn a_flipped_bit_in_a_segment_is_an_error_that_names_file_and_byte_and_nothing_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    closed_store(settings(folder.path())).await;
    let path = files(&folder.path().join("topics/one"), "log")[0]
        .canonicalize()
        .unwrap();
    let bytes = std::fs::read(&path).unwrap().len();
    for at in (0..bytes).step_by(bytes / 23) {
        flip(&path, at);
        let transport = EmbeddedTransport::open(settings(folder.path())).await.unwrap();
        let mut reader = transport
            .open_reader(&["one".to_owned()], None, StartAt::Earliest)
            .await
            .unwrap();
        let refused = read_all(&mut *reader).await.unwrap_err();
        assert!(names(&refused, &path), "{refused}");
        let again = read_all(&mut *reader).await.unwrap_err();
        assert!(names(&again, &path), "the second try: {again}");
        drop((reader, transport));
        flip(&path, at);
    }
    let transport = EmbeddedTransport::open(settings(folder.path())).await.unwrap();
    assert_eq!(verified(&transport).await, 30);
}

#[tokio::test]
async fn damage_in_the_journal_or_a_missing_segment_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    closed_store(settings(folder.path())).await;
    let journal = files(&folder.path().join("journal"), "log")[0].canonicalize().unwrap();
    let bytes = std::fs::read(&journal).unwrap().len();
    for at in [5, bytes / 2, bytes - 30] {
        flip(&journal, at);
        let refused = EmbeddedTransport::open(settings(folder.path())).await.err().unwrap();
        assert!(names(&refused, &journal), "{refused}");
        flip(&journal, at);
    }
    let segment = files(&folder.path().join("topics/other"), "log")[0]
        .canonicalize()
        .unwrap();
    let content = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &content[..content.len() - 1]).unwrap();
    let refused = EmbeddedTransport::open(settings(folder.path())).await.err().unwrap();
    assert!(names(&refused, &segment), "{refused}");
    std::fs::write(&segment, &content).unwrap();
    assert_eq!(
        verified(&EmbeddedTransport::open(settings(folder.path())).await.unwrap()).await,
        30
    );
}

#[tokio::test]
async fn a_journal_cut_anywhere_gives_the_transactions_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    closed_store(settings(folder.path())).await;
    let journal = files(&folder.path().join("journal"), "log").remove(0);
    let content = std::fs::read(&journal).unwrap();
    let mut last = 31;
    for length in (400..=content.len()).rev().step_by(61) {
        std::fs::write(&journal, &content[..length]).unwrap();
        let transport = EmbeddedTransport::open(settings(folder.path())).await.unwrap();
        let count = verified(&transport).await;
        assert!(
            count <= last,
            "{count} transactions of a shorter journal, {last} before"
        );
        last = count;
    }
    assert!(last <= 5, "{last}");
}

#[tokio::test]
async fn without_fsync_a_segment_that_a_power_failure_cut_gives_the_transactions_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let lazy = EmbeddedSettings {
        fsync: Fsync::Never,
        segment_bytes: 1 << 20,
        ..settings(folder.path())
    };
    closed_store(lazy.clone()).await;
    let segment = files(&folder.path().join("topics/other"), "log").remove(0);
    let content = std::fs::read(&segment).unwrap();
    let mut cut = content[..content.len() / 2].to_vec();
    cut.resize(content.len(), 0);
    std::fs::write(&segment, cut).unwrap();
    let transport = EmbeddedTransport::open(lazy.clone()).await.unwrap();
    let count = verified(&transport).await;
    assert!((10..20).contains(&count), "{count}");
    let mut writer = transport.open_writer(&task()).await.unwrap();
    write(&mut *writer, count, 500).await.unwrap();
    drop((writer, transport));
    assert_eq!(verified(&EmbeddedTransport::open(lazy).await.unwrap()).await, count + 1);
}

#[tokio::test]
async fn a_store_in_use_names_its_process_and_is_free_when_that_closes_it() {
    let folder = tempfile::tempdir().unwrap();
    let transport = made(settings(folder.path()), &Arc::default()).await;
    let refused = EmbeddedTransport::open(settings(folder.path())).await.err().unwrap();
    assert_eq!((refused.kind(), refused.class()), (ErrorKind::Unsuitable, Class::User));
    let text = refused.to_string();
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    assert!(text.contains(&format!("pid: {}", std::process::id())), "{text}");
    drop(transport);
    EmbeddedTransport::open(settings(folder.path())).await.unwrap();
}

#[tokio::test]
async fn a_journal_that_began_a_new_file_tells_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let transport = made(settings(folder.path()), &Arc::default()).await;
    let mut writer = transport.open_writer(&task()).await.unwrap();
    let large = vec![7; 3 << 20];
    for number in 0..30 {
        write(&mut *writer, number, 500).await.unwrap();
        let mut other = transport.open_writer(&WriterId("large".to_owned())).await.unwrap();
        let mut txn = other.begin().await.unwrap();
        let bytes = Bytes::from(large.clone());
        txn.put_checkpoint(&Checkpoint {
            connector: "test".to_owned(),
            version: 1,
            bytes,
        })
        .await
        .unwrap();
        txn.commit().await.unwrap();
    }
    drop((writer, transport));
    let journal = files(&folder.path().join("journal"), "log");
    assert_eq!(journal.len(), 1, "{journal:?}");
    assert!(
        !journal[0].ends_with("00000000000000000001.log"),
        "the journal never began a new file"
    );
    assert!(journal[0].metadata().unwrap().len() < 40 << 20);
    assert_eq!(
        verified(&EmbeddedTransport::open(settings(folder.path())).await.unwrap()).await,
        30
    );
}

#[tokio::test]
async fn a_reader_in_the_middle_goes_on_while_compaction_rewrites_what_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let transport = EmbeddedTransport::open(settings(folder.path())).await.unwrap();
    let spec = TopicSpec {
        name: "kept".to_owned(),
        partitions: 1,
        cleanup: Cleanup::Compact,
        retention: None,
    };
    transport.ensure_topics(&[spec]).await.unwrap();
    let mut writer = transport.open_writer(&task()).await.unwrap();
    for number in 0..200_i64 {
        let mut batch = RecordBatch::default();
        batch.push(Some(b"hot"), Some(&[b'x'; 1_000]), number, Vec::new());
        batch.push(
            Some(format!("cold {number}").as_bytes()),
            Some(b"x"),
            number,
            Vec::new(),
        );
        let mut txn = writer.begin().await.unwrap();
        txn.append("kept", &batch).await.unwrap();
        txn.commit().await.unwrap();
    }
    let before: u64 = files(folder.path(), "log")
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    let mut reader = transport
        .open_reader(&["kept".to_owned()], None, StartAt::Earliest)
        .await
        .unwrap();
    let mut records = Vec::new();
    reader.poll(&mut records, 50, Duration::ZERO).await.unwrap();
    transport.upkeep(0).await.unwrap();
    let after: u64 = files(folder.path(), "log")
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(after < before / 2, "{before} bytes became {after}");
    records.extend(read_all(&mut *reader).await.unwrap());
    let cold = records.iter().filter(|record| record.key.as_deref() != Some(b"hot"));
    assert!(cold.map(|record| record.timestamp_ms).eq(0..200));
    assert_eq!(records.last().unwrap().offset, 399);

    drop((reader, writer, transport));
    let transport = EmbeddedTransport::open(settings(folder.path())).await.unwrap();
    let mut reader = transport
        .open_reader(&["kept".to_owned()], None, StartAt::Earliest)
        .await
        .unwrap();
    reader
        .seek(&Offsets::from([(("kept".to_owned(), 0), 4)]))
        .await
        .unwrap();
    let records = read_all(&mut *reader).await.unwrap();
    let cold = records.iter().filter(|record| record.key.as_deref() != Some(b"hot"));
    assert!(cold.map(|record| record.timestamp_ms).eq(2..200));
}

#[tokio::test]
async fn retention_by_size_leaves_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let limited = EmbeddedSettings {
        retention_bytes: Some(50_000),
        ..settings(folder.path())
    };
    let transport = made(limited, &Arc::default()).await;
    let mut writer = transport.open_writer(&task()).await.unwrap();
    for number in 0..100 {
        write(&mut *writer, number, 1_000).await.unwrap();
    }
    let mut lost = transport
        .open_reader(&TOPICS.map(str::to_owned), None, StartAt::Earliest)
        .await
        .unwrap();
    transport.upkeep(0).await.unwrap();
    for topic in transport.topics().await.unwrap() {
        for held in topic.partitions {
            assert!(
                held.end == 0 || (held.start > 0 && held.end - held.start >= 40),
                "{held:?}"
            );
        }
    }
    let refused = read_all(&mut *lost).await.unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::PositionLost,
        "what has left is never skipped in silence: {refused}"
    );
}

#[tokio::test]
async fn writers_that_commit_at_the_same_time_each_find_all_of_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let transport = made(settings(folder.path()), &Arc::default()).await;
    let writing = (0..8).map(|number| {
        let transport = transport.clone();
        tokio::spawn(async move {
            let mut writer = transport
                .open_writer(&WriterId(format!("task {number}")))
                .await
                .unwrap();
            for _ in 0..50 {
                let mut batch = RecordBatch::default();
                batch.push(Some(b"a"), Some(number.to_string().as_bytes()), 0, Vec::new());
                let mut txn = writer.begin().await.unwrap();
                txn.append("one", &batch).await.unwrap();
                txn.commit().await.unwrap();
            }
        })
    });
    for task in writing.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let mut reader = transport
        .open_reader(&["one".to_owned()], None, StartAt::Earliest)
        .await
        .unwrap();
    let records = read_all(&mut *reader).await.unwrap();
    assert_eq!(records.len(), 400);
    assert!(records.windows(2).all(|pair| pair[1].offset == pair[0].offset + 1));
}

#[tokio::test]
async fn a_record_that_is_too_large_names_topic_and_setting() {
    let folder = tempfile::tempdir().unwrap();
    let small = EmbeddedSettings {
        record_bytes_max: 100,
        ..settings(folder.path())
    };
    let transport = made(small, &Arc::default()).await;
    let mut writer = transport.open_writer(&task()).await.unwrap();
    let refused = write(&mut *writer, 0, 100).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitReached);
    let text = refused.to_string();
    assert!(text.contains("\"one\"") && text.contains("record_bytes_max"), "{text}");
}
