// SPDX-License-Identifier: Apache-2.0
//! A real file system that is full. The test mounts a small one where it may; without that right the same is tested with
//! space taken away inside the store (`embedded::tests`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{Cleanup, RecordBatch, StartAt, TopicSpec, Transport, Writer, WriterId};
use highwater_core::{Class, ErrorKind, Result};
use highwater_transport::embedded::{EmbeddedSettings, EmbeddedTransport};

struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        let target = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: all pointers are to strings that end in zero and outlive the call.
        let done = unsafe {
            libc::mount(
                c"tmpfs".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=2m".as_ptr().cast(),
            )
        };
        (done == 0).then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let target = CString::new(self.0.to_str().unwrap()).unwrap();
        // SAFETY: the pointer is to a string that ends in zero and outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

async fn write(writer: &mut dyn Writer, number: u64) -> Result<()> {
    let mut batch = RecordBatch::default();
    for _ in 0..20 {
        batch.push(Some(b"key"), Some(&[b'x'; 1_000]), number as i64, Vec::new());
    }
    let mut txn = writer.begin().await?;
    txn.append("movies", &batch).await?;
    let bytes = Bytes::from(number.to_string());
    txn.put_checkpoint(&Checkpoint {
        connector: "test".to_owned(),
        version: 1,
        bytes,
    })
    .await?;
    txn.commit().await
}

async fn covered(transport: &EmbeddedTransport) -> u64 {
    let mut writer = transport.open_writer(&WriterId("task".to_owned())).await.unwrap();
    let checkpoint = writer.checkpoint().await.unwrap();
    let covered = checkpoint.map_or(0, |found| {
        std::str::from_utf8(&found.bytes).unwrap().parse::<u64>().unwrap() + 1
    });
    let mut reader = transport
        .open_reader(&["movies".to_owned()], None, StartAt::Earliest)
        .await
        .unwrap();
    let (mut records, end) = (Vec::new(), reader.end().await.unwrap());
    while reader.position() != end {
        reader.poll(&mut records, 10_000, Duration::ZERO).await.unwrap();
    }
    let expected = (0..covered as i64).flat_map(|number| std::iter::repeat_n(number, 20));
    assert!(
        records.iter().map(|record| record.timestamp_ms).eq(expected),
        "not what {covered} transactions made"
    );
    covered
}

#[tokio::test]
async fn a_full_file_system_stops_the_writer_and_once_freed_it_goes_on_from_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        println!("no right to mount a file system here; embedded::tests has the same with space taken away");
        return;
    };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let settings = EmbeddedSettings {
        path: disk.0.join("store"),
        segment_bytes: 300_000,
        ..EmbeddedSettings::default()
    };
    let transport = EmbeddedTransport::open(settings.clone()).await.unwrap();
    let spec = TopicSpec {
        name: "movies".to_owned(),
        partitions: 1,
        cleanup: Cleanup::Delete,
        retention: None,
    };
    transport.ensure_topics(&[spec]).await.unwrap();
    let mut writer = transport.open_writer(&WriterId("task".to_owned())).await.unwrap();
    let mut number = 0;
    let refused = loop {
        match write(&mut *writer, number).await {
            Ok(()) => number += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused.kind(), refused.class()), (ErrorKind::Storage, Class::User));
    let text = refused.to_string();
    assert!(
        text.contains(disk.0.to_str().unwrap()) && text.contains("needed_bytes: ") && text.contains("fix: free"),
        "{text}"
    );
    assert!(number > 10, "only {number} transactions fit");
    assert_eq!(covered(&transport).await, number);

    std::fs::remove_file(ballast).unwrap();
    writer = transport.open_writer(&WriterId("task".to_owned())).await.unwrap();
    for _ in 0..10 {
        write(&mut *writer, number).await.unwrap();
        number += 1;
    }
    assert_eq!(covered(&transport).await, number);
    drop((writer, transport));
    assert_eq!(covered(&EmbeddedTransport::open(settings).await.unwrap()).await, number);
}
