// SPDX-License-Identifier: Apache-2.0
//! Finds the keys that a topic had alive before a renewal and has no record of since: reads it whole, beside the capture
//! loop.
//!
//! The topic itself is the store: what is remembered are the keys of one share of it, cut by their hash so that a share
//! fits into [`RenewalLimits::keys_bytes_max`]. A topic with more keys is read as often as there are shares; how many is found
//! out while reading. Keys are compared octet by octet, as compaction and partitioning do.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_core::schema::TableName;
use highwater_core::transport::{Offsets, Reader, Record, StartAt, Transport};
use highwater_core::{Class, Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::workers::Done;

/// What a key costs besides its bytes.
pub(super) const KEY_OVERHEAD_BYTES: usize = 64;
/// Keys that are handed over at once.
const KEYS_MAX: usize = 4_096;
/// Times [`KEYS_MAX`] keys that may wait for the capture loop.
const FINDINGS_MAX: usize = 2;
/// Records fetched at once.
const RECORDS_MAX: usize = 1_000;
/// How long one wait for records lasts.
const WAIT: Duration = Duration::from_millis(250);

/// What comparing the keys of a topic may hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalLimits {
    /// Bytes of keys, with what it costs to keep each, that one pass holds. A topic with more is read several times.
    pub keys_bytes_max: usize,
    /// Bytes of keys, with what it costs to keep each, that may leave while keys are compared; past it fewer are compared at
    /// once.
    pub left_bytes_max: usize,
}

impl Default for RenewalLimits {
    fn default() -> Self {
        RenewalLimits {
            keys_bytes_max: 64 << 20,
            left_bytes_max: 16 << 20,
        }
    }
}

/// A part of all keys: those whose hash, divided by `of`, leaves `part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    part: u64,
    of: u64,
}

impl Share {
    /// All keys.
    pub(super) const WHOLE: Share = Share { part: 0, of: 1 };

    pub(super) fn holds(self, key: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        hasher.finish() % self.of == self.part
    }

    /// What is left of it without `part`, which it was halved to.
    pub(super) fn without(self, part: Share) -> impl Iterator<Item = Share> {
        let mut half = self;
        std::iter::from_fn(move || {
            let (kept, other) = (half.of < part.of).then(|| half.halves())?;
            half = kept;
            Some(other)
        })
    }

    /// Half of it, and the other half.
    pub(super) fn halves(self) -> (Share, Share) {
        let (part, of) = (self.part, self.of * 2);
        (
            Share { part, of },
            Share {
                part: part + self.of,
                of,
            },
        )
    }
}

/// What is to be compared.
pub(super) struct Comparison {
    /// Tells it from one that was given up.
    pub(super) number: u64,
    pub(super) table: TableName,
    pub(super) topic: Arc<str>,
    /// Per partition, where what is new begins.
    pub(super) ends: Vec<u64>,
    /// What keys of the table's present form begin with.
    pub(super) key_begins_with: Bytes,
    /// Which of its keys. Less of them if they do not fit.
    pub(super) share: Share,
    pub(super) keys_bytes_max: usize,
}

/// Some of what was found.
pub(crate) struct Finding {
    /// Keys that are gone.
    pub(super) keys: Vec<Bytes>,
    /// With the last of a share.
    pub(super) share_end: Option<ShareEnd>,
    /// Given back when they are taken.
    pub(super) room: OwnedSemaphorePermit,
}

/// A share is read.
pub(super) struct ShareEnd {
    /// What of it did fit.
    pub(super) share: Share,
    /// Keys that were alive.
    pub(super) keys_compared: u64,
    /// Of them, those of another form than the table's keys have now.
    pub(super) other_keys: u64,
}

/// Compares, and sends what it finds; the last result says so, or why there is none.
pub(super) async fn compare<P: Send>(
    comparison: Comparison,
    transport: Arc<dyn Transport>,
    results: mpsc::Sender<Done<P>>,
) {
    let (number, table) = (comparison.number, comparison.table.clone());
    if let Err(error) = compare_share(comparison, &*transport, &results).await {
        let failed = Done::NotCompared { number, table, error };
        // Nobody listens any more: the run has ended.
        let _ = results.send(failed).await;
    }
}

async fn compare_share<P: Send>(
    comparison: Comparison,
    transport: &dyn Transport,
    results: &mpsc::Sender<Done<P>>,
) -> Result<()> {
    let mut alive = Alive::new(comparison.share, comparison.keys_bytes_max);
    read(&comparison, transport, &mut alive).await?;
    let (share, keys_compared, all) = (alive.share, alive.compared, alive.keys.len());
    let begins = &comparison.key_begins_with;
    let mut keys: Vec<Bytes> = alive.keys.into_iter().filter(|key| key.starts_with(begins)).collect();
    let other_keys = (all - keys.len()) as u64;
    let places = Arc::new(Semaphore::new(FINDINGS_MAX));
    let gone = || Error::new(ErrorKind::Cancelled, "the run has ended");
    loop {
        let piece = keys.split_off(keys.len().saturating_sub(KEYS_MAX));
        let room = places.clone().acquire_owned().await.map_err(|_| gone())?;
        let share_end = keys.is_empty().then_some(ShareEnd {
            share,
            keys_compared,
            other_keys,
        });
        let finding = Finding {
            keys: piece,
            share_end,
            room,
        };
        let number = comparison.number;
        let sent = results.send(Done::Compared { number, finding }).await;
        sent.map_err(|_| gone())?;
        if keys.is_empty() {
            return Ok(());
        }
    }
}

/// Keys of a share that are alive.
struct Alive {
    share: Share,
    keys: HashSet<Bytes>,
    bytes: usize,
    bytes_max: usize,
    compared: u64,
}

impl Alive {
    fn new(share: Share, bytes_max: usize) -> Self {
        Alive {
            share,
            keys: HashSet::new(),
            bytes: 0,
            bytes_max,
            compared: 0,
        }
    }

    /// A record from before the gap. A delete is followed by its tombstone.
    fn before(&mut self, record: &Record) {
        let Some(key) = record.key.as_ref().filter(|key| self.share.holds(key)) else {
            return;
        };
        if record.value.is_none() {
            self.remove(key);
        } else if !self.keys.contains(key) {
            // A copy: the record's bytes may be a slice of something much larger.
            self.keys.insert(Bytes::copy_from_slice(key));
            self.bytes += key.len() + KEY_OVERHEAD_BYTES;
            while self.bytes > self.bytes_max && self.keys.len() > 1 {
                self.halve();
            }
        }
    }

    fn halve(&mut self) {
        let (share, _) = self.share.halves();
        self.share = share;
        self.keys.retain(|key| share.holds(key));
        self.bytes = self.keys.iter().map(|key| key.len() + KEY_OVERHEAD_BYTES).sum();
    }

    fn remove(&mut self, key: &Bytes) {
        if self.keys.remove(key) {
            self.bytes -= key.len() + KEY_OVERHEAD_BYTES;
        }
    }
}

async fn read(comparison: &Comparison, transport: &dyn Transport, alive: &mut Alive) -> Result<()> {
    let topic = &comparison.topic;
    let names = [topic.to_string()];
    let mut reader = transport.open_reader(&names, None, StartAt::Earliest).await?;
    // What left before the table was watched is durable, so that all of it lies before here.
    let end = reader.end().await?;
    let begin: Offsets = end
        .keys()
        .map(|place| (place.clone(), comparison.end_of(place.1)))
        .collect();
    if comparison.ends.len() > end.len() || end.iter().any(|(place, end)| *end < begin[place]) {
        return Err(recreated(topic));
    }
    // The oldest records may leave while they are read; that is no loss before the gap.
    let old = |error: Error| match error.kind() {
        ErrorKind::PositionLost => error.with_class(Class::Retryable),
        _ => error,
    };
    until(&mut *reader, &begin, |record| {
        if record.offset < comparison.end_of(record.partition) {
            alive.before(record);
        }
    })
    .await
    .map_err(old)?;
    alive.compared = alive.keys.len() as u64;
    reader.seek(&begin).await.map_err(|error| forgotten(topic, error))?;
    let since = until(&mut *reader, &end, |record| {
        if let Some(key) = &record.key {
            alive.remove(key);
        }
    });
    since.await.map_err(|error| forgotten(topic, error))
}

impl Comparison {
    /// Where what is new begins in a partition; one that came later is new.
    fn end_of(&self, partition: u32) -> u64 {
        self.ends.get(partition as usize).copied().unwrap_or(0)
    }
}

/// Reads up to `end` in every partition, perhaps some records further.
async fn until(reader: &mut dyn Reader, end: &Offsets, mut take: impl FnMut(&Record)) -> Result<()> {
    let mut records = Vec::new();
    loop {
        let position = reader.position();
        let is_read =
            |(place, end): (&(String, u32), &u64)| *end == 0 || position.get(place).is_some_and(|at| at >= end);
        if end.iter().all(is_read) {
            return Ok(());
        }
        reader.poll(&mut records, RECORDS_MAX, WAIT).await?;
        records.drain(..).for_each(|record| take(&record));
    }
}

fn recreated(topic: &str) -> Error {
    let what = format!("topic \"{topic}\" holds less than when its renewal began: was it deleted and made again?");
    Error::new(ErrorKind::Unsuitable, what).with_fix(BEGIN_AGAIN)
}

/// Without every record since the gap, rows that are there could be taken for gone.
fn forgotten(topic: &str, error: Error) -> Error {
    if error.kind() != ErrorKind::PositionLost {
        return error;
    }
    let what = format!("topic \"{topic}\" no longer holds every record since its renewal began");
    Error::new(ErrorKind::Unsuitable, what)
        .with_fix(BEGIN_AGAIN)
        .with_source(error)
}

const BEGIN_AGAIN: &str = "let the topic keep records for longer than a copy of its table takes, then begin again: \
                           highwater renew --force";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use highwater_core::transport::{Cleanup, RecordBatch, TopicSpec, WriterId};
    use highwater_transport::memory::MemoryTransport;

    use super::*;

    const TOPIC: &str = "p.public.t";
    const PLENTY: usize = 64 << 20;

    async fn topic(transport: &MemoryTransport) {
        let spec = TopicSpec {
            name: TOPIC.to_owned(),
            partitions: 2,
            cleanup: Cleanup::Delete,
            retention: Some(Duration::from_secs(1)),
        };
        transport.ensure_topics(&[spec]).await.unwrap();
    }

    /// Commits records, a tombstone for each key with `-` in front; the ends afterwards.
    async fn write(transport: &MemoryTransport, keys: &[String]) -> Vec<u64> {
        let mut writer = transport.open_writer(&WriterId("w".to_owned())).await.unwrap();
        let mut batch = RecordBatch::default();
        for key in keys {
            match key.strip_prefix('-') {
                Some(key) => batch.push(Some(key.as_bytes()), None, 0, Vec::new()),
                None => batch.push(Some(key.as_bytes()), Some(b"row"), 0, Vec::new()),
            }
        }
        let mut txn = writer.begin().await.unwrap();
        txn.append(TOPIC, &batch).await.unwrap();
        txn.commit().await.unwrap();
        let topics = [TOPIC.to_owned()];
        let mut reader = transport.open_reader(&topics, None, StartAt::Earliest).await.unwrap();
        reader.end().await.unwrap().into_values().collect()
    }

    fn comparison(ends: Vec<u64>, keys_bytes_max: usize) -> Comparison {
        Comparison {
            number: 7,
            table: TableName::new("public", "t"),
            topic: TOPIC.into(),
            ends,
            key_begins_with: Bytes::from_static(b"k"),
            share: Share::WHOLE,
            keys_bytes_max,
        }
    }

    /// What is gone, how many keys were compared, those of another form, and how many shares there were.
    async fn found(
        ends: &[u64],
        keys_bytes_max: usize,
        transport: &Arc<MemoryTransport>,
    ) -> Result<(BTreeSet<String>, u64, u64, usize)> {
        let (mut keys, mut compared, mut other, mut shares) = (BTreeSet::new(), 0, 0, 0);
        let mut left = vec![Share::WHOLE];
        while let Some(share) = left.pop() {
            let (results, mut received) = mpsc::channel::<Done<u64>>(1);
            let comparison = Comparison {
                share,
                ..comparison(ends.to_vec(), keys_bytes_max)
            };
            let task = tokio::spawn(compare(comparison, transport.clone() as Arc<dyn Transport>, results));
            while let Some(done) = received.recv().await {
                match done {
                    Done::Compared { number: 7, finding } => {
                        for key in &finding.keys {
                            assert!(keys.insert(String::from_utf8_lossy(key).into_owned()), "found twice");
                        }
                        if let Some(end) = &finding.share_end {
                            left.extend(share.without(end.share));
                            (compared, other, shares) =
                                (compared + end.keys_compared, other + end.other_keys, shares + 1);
                        }
                    }
                    Done::NotCompared { error, .. } => return Err(error),
                    _ => panic!("another result"),
                }
            }
            task.await.unwrap();
        }
        Ok((keys, compared, other, shares))
    }

    #[tokio::test]
    async fn keys_that_were_alive_and_have_no_record_since_are_found_share_by_share() {
        let transport = Arc::new(MemoryTransport::new());
        topic(&transport).await;
        let mut before: Vec<String> = (0..10_000).map(|key| format!("k{key}")).collect();
        before.extend((0..100).map(|key| format!("-k{key}")));
        before.extend((0..10).map(|key| format!("k{key}")));
        before.extend(["old1".to_owned(), "old2".to_owned()]);
        let ends = write(&transport, &before).await;
        let since = (5_000..10_000)
            .map(|key| format!("k{key}"))
            .chain((0..5).map(|key| format!("-k{key}")));
        write(&transport, &since.collect::<Vec<_>>()).await;

        let expected: BTreeSet<String> = (5..10).chain(100..5_000).map(|key| format!("k{key}")).collect();
        for (keys_bytes_max, fewest_shares) in [(PLENTY, 1), (100_000, 7), (10_000, 60)] {
            let (keys, compared, other, shares) = found(&ends, keys_bytes_max, &transport).await.unwrap();
            assert_eq!(keys, expected);
            assert_eq!((compared, other), (9_912, 2));
            assert!(shares >= fewest_shares, "{shares} shares of {keys_bytes_max} bytes");
        }
    }

    #[tokio::test]
    async fn a_topic_that_does_not_hold_every_record_since_is_refused_by_name() {
        let transport = Arc::new(MemoryTransport::new());
        topic(&transport).await;
        let keys: Vec<String> = (0..50).map(|key| format!("k{key}")).collect();
        let ends = write(&transport, &keys).await;
        let further: Vec<u64> = ends.iter().map(|end| end + 1).collect();
        let error = found(&further, PLENTY, &transport).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsuitable);
        assert!(error.to_string().contains(TOPIC), "{error}");

        write(&transport, &keys).await;
        transport.expire(1_000_000);
        let error = found(&ends, PLENTY, &transport).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsuitable);
        assert!(error.fix().is_some_and(|fix| fix.contains("renew --force")), "{error}");
    }
}
