// SPDX-License-Identifier: Apache-2.0
//! A transport carries events between two steps: Kafka, or the embedded log. One conformance suite serves all.
//!
//! Clauses, each with one named test in `highwater-testkit`:
//! 1. *Partitions*: a record with a key goes to partition `murmur2(key) mod partitions` as Java's producer does; one
//!    without a key keeps the order of its topic's other keyless records.
//! 2. *Offsets*: ascending per partition; a reader resumes at any offset still held.
//! 3. *Atomic commit*: what one [`Txn`] appends to any number of topics, its checkpoint and its group offsets become
//!    visible together or not at all.
//! 4. *Committed reads only*: a reader never sees an open or aborted transaction.
//! 5. *Writer epochs*: opening a writer fences every earlier one of the same id; the fenced one's next call fails with
//!    [`crate::ErrorKind::Fenced`] and nothing of it appears.
//! 6. *Groups*: offsets committed for a group are read back by it.
//! 7. *Compaction*: of a compacted topic at least the last record of each key stays.
//! 8. *Retention*: records leave from the old end only.
//! 9. *Durability*: what `commit` returned survives kill -9 (under the fsync policy that the transport's settings name).
//!
//! Not promised: order across partitions, or between topics outside one transaction.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// How long a topic keeps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// By age and size.
    Delete,
    /// At least the last record of each key.
    Compact,
}

/// A topic as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Number of partitions when it is created; a topic that exists keeps its own.
    pub partitions: u32,
    /// How old records leave.
    pub cleanup: Cleanup,
    /// Age after which records may leave; `None`: the transport's default.
    pub retention: Option<Duration>,
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Per partition, the first offset held and the next one to be written (committed records only).
    pub partitions: Vec<Range<u64>>,
}

/// Names a writer over its restarts: the connector task. Opening it again fences the one before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WriterId(pub String);

/// A reader group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupId(pub String);

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub value: Bytes,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Option<Range<u32>>,
    value: Option<Range<u32>>,
    timestamp_ms: i64,
    headers: Option<Box<[Header]>>,
}

/// Records for one topic, in order, in one buffer: what a writer appends at once.
#[derive(Debug, Clone, Default)]
pub struct RecordBatch {
    buffer: Vec<u8>,
    entries: Vec<Entry>,
    times_are_of_now: bool,
}

/// One record of a [`RecordBatch`].
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Key bytes; `None`: no key.
    pub key: Option<&'a [u8]>,
    /// Value bytes; `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Headers.
    pub headers: &'a [Header],
}

impl RecordBatch {
    /// Appends a record whose key and value `write_key` and `write_value` append to the buffer they are given. A closure
    /// that returns `Ok(false)` says: no key, or a tombstone. On an error nothing is appended.
    pub fn push_with<E>(
        &mut self,
        timestamp_ms: i64,
        headers: Vec<Header>,
        write_key: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
        write_value: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let start = self.buffer.len();
        let written = write_key(&mut self.buffer).and_then(|key| {
            let middle = self.buffer.len();
            write_value(&mut self.buffer).map(|value| (key, middle, value))
        });
        let (key, middle, value) = match written {
            Ok(written) => written,
            Err(error) => {
                self.buffer.truncate(start);
                return Err(error);
            }
        };
        let end = self.buffer.len();
        self.entries.push(Entry {
            key: key.then_some(start as u32..middle as u32),
            value: value.then_some(middle as u32..end as u32),
            timestamp_ms,
            headers: (!headers.is_empty()).then(|| headers.into_boxed_slice()),
        });
        Ok(())
    }

    /// Appends a record from ready bytes.
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp_ms: i64, headers: Vec<Header>) {
        let append = |bytes: Option<&[u8]>, buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(bytes.unwrap_or_default());
            Ok::<bool, std::convert::Infallible>(bytes.is_some())
        };
        let Ok(()) = self.push_with(
            timestamp_ms,
            headers,
            |buffer| append(key, buffer),
            |buffer| append(value, buffer),
        );
    }

    /// Says that the records' times are nothing but the moment when they were made, until the batch is cleared: a
    /// transport may store the moment of their append instead, which lets it take many records in one go.
    pub fn let_times_be_of_append(&mut self) {
        self.times_are_of_now = true;
    }

    /// Whether the moment of the append will do as the time of each record.
    pub fn may_times_be_of_append(&self) -> bool {
        self.times_are_of_now
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys and values. Callers keep it far below 4 GiB.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> + '_ {
        self.iter_from(0)
    }

    /// The records behind the first `count`, in order.
    pub fn iter_from(&self, count: usize) -> impl ExactSizeIterator<Item = RecordRef<'_>> + '_ {
        let entries = self.entries.get(count..).unwrap_or_default();
        entries.iter().map(|entry| RecordRef {
            key: entry
                .key
                .as_ref()
                .map(|range| &self.buffer[range.start as usize..range.end as usize]),
            value: entry
                .value
                .as_ref()
                .map(|range| &self.buffer[range.start as usize..range.end as usize]),
            timestamp_ms: entry.timestamp_ms,
            headers: entry.headers.as_deref().unwrap_or_default(),
        })
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.entries.clear();
        self.times_are_of_now = false;
    }
}

/// A record as a reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: std::sync::Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
    /// Key bytes; `None`: no key.
    pub key: Option<Bytes>,
    /// Value bytes; `None`: a tombstone.
    pub value: Option<Bytes>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Headers as name and bytes.
    pub headers: Vec<(String, Bytes)>,
}

/// Offsets by topic and partition: the next record to read.
pub type Offsets = BTreeMap<(String, u32), u64>;

/// Where a reader starts on partitions that its group has no offset for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest record held.
    Earliest,
    /// Only what is committed from now on.
    Latest,
}

/// A transport.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Makes sure that topics exist; leaves those that do as they are.
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()>;
    /// The topics there are, without the transport's own.
    async fn topics(&self) -> Result<Vec<TopicInfo>>;
    /// Opens the writer `id` and fences every earlier one.
    async fn open_writer(&self, id: &WriterId) -> Result<Box<dyn Writer>>;
    /// Opens a reader of whole topics. With a group it starts at the group's offsets.
    async fn open_reader(&self, topics: &[String], group: Option<&GroupId>, start: StartAt) -> Result<Box<dyn Reader>>;
}

/// The one writer of a task. At most one transaction is open at a time.
#[async_trait]
pub trait Writer: Send {
    /// The last committed checkpoint of this writer's id, read after earlier writers were fenced.
    async fn checkpoint(&mut self) -> Result<Option<Checkpoint>>;
    /// Begins a transaction. One that is dropped without commit is aborted before the next begins.
    async fn begin(&mut self) -> Result<Box<dyn Txn + '_>>;
}

/// What commits together.
#[async_trait]
pub trait Txn: Send {
    /// Says which topics records are about to be appended to, so that what has to be known of them is asked for at once and
    /// not topic by topic. Changes nothing that a reader sees; [`Txn::append`] does without it.
    async fn announce(&mut self, topics: &[&str]) -> Result<()> {
        let _ = topics;
        Ok(())
    }
    /// Appends records to a topic that exists. Back-pressure: waits while the transport's bounded queue is full.
    async fn append(&mut self, topic: &str, batch: &RecordBatch) -> Result<()>;
    /// Stores the writer's checkpoint.
    async fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()>;
    /// Stores a group's consumed offsets.
    async fn commit_offsets(&mut self, group: &GroupId, offsets: &Offsets) -> Result<()>;
    /// Makes all of it visible at once. An error of class retryable means that nothing is visible or that all of it is:
    /// open the writer again and read its checkpoint to know.
    async fn commit(self: Box<Self>) -> Result<()>;
    /// Drops all of it.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// Reads committed records.
#[async_trait]
pub trait Reader: Send {
    /// Appends committed records to `records`, at most about `records_max`, waiting up to `wait` for the first.
    /// Cancel-safe. Per partition in offset order.
    async fn poll(&mut self, records: &mut Vec<Record>, records_max: usize, wait: Duration) -> Result<()>;
    /// Continues at these offsets.
    async fn seek(&mut self, offsets: &Offsets) -> Result<()>;
    /// The next offsets this reader will read.
    fn position(&self) -> Offsets;
    /// The ends of what is committed now: a reader whose position reaches them has read everything there was.
    async fn end(&mut self) -> Result<Offsets>;
}
