// SPDX-License-Identifier: Apache-2.0
//! Retention and compaction, on a thread of their own: commits wait for neither.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_core::transport::{Cleanup, TopicSpec};
use highwater_core::{Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::committer::Request;
use super::compaction::Compaction;
use super::entry::{Entry, Segment};
use super::lock::Lock;
use super::segment_file::SegmentFile;
use super::state::segment_path;
use super::store::{Store, closed};

/// A round of upkeep that somebody asks for and waits for.
pub(super) struct Round {
    /// The time that records' ages are counted from, milliseconds since 1970.
    pub(super) now_ms: i64,
    pub(super) reply: oneshot::Sender<Result<()>>,
}

pub(super) struct Upkeep {
    store: Arc<Store>,
    requests: mpsc::WeakSender<Request>,
    lock: Arc<Lock>,
    /// The newest time in closed segments, so that each is read once for it.
    newest_ms: HashMap<(String, u32, u64), i64>,
    /// By partition, up to which offset compaction has been.
    compacted_to: HashMap<(String, u32), u64>,
}

/// A partition as upkeep sees it.
struct Subject {
    spec: TopicSpec,
    partition: u32,
    segments: Vec<Segment>,
}

impl Upkeep {
    pub(super) fn new(store: Arc<Store>, requests: mpsc::WeakSender<Request>, lock: Arc<Lock>) -> Self {
        Upkeep {
            store,
            requests,
            lock,
            newest_ms: HashMap::new(),
            compacted_to: HashMap::new(),
        }
    }

    /// Works in rounds until the store closes.
    pub(super) fn run(mut self, rounds: &Receiver<Round>) {
        let interval = Duration::from_millis(self.store.settings.upkeep_interval_ms);
        loop {
            match rounds.recv_timeout(interval) {
                Ok(round) => {
                    let done = self.round(round.now_ms);
                    // Who asked may have gone.
                    let _ = round.reply.send(done);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now_ms = SystemTime::now()
                        .duration_since(UNIX_EPOCH)
                        .map_or(0, |now| now.as_millis() as i64);
                    if let Err(error) = self.round(now_ms) {
                        tracing::warn!(%error, "retention and compaction could not do their work and try again later");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn stopping(&self) -> bool {
        self.store.stopping.load(Ordering::Relaxed)
    }

    fn ask(&self, request: impl FnOnce(oneshot::Sender<Result<()>>) -> Request) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.upgrade().ok_or_else(closed)?;
        requests.blocking_send(request(reply)).map_err(|_| closed())?;
        drop(requests);
        answer.blocking_recv().map_err(|_| closed())?
    }

    fn subjects(&self) -> Vec<Subject> {
        let state = self.store.state();
        let topics = state.topics.values();
        topics
            .flat_map(|topic| {
                topic.partitions.iter().zip(0..).map(|(partition, number)| Subject {
                    spec: topic.spec.clone(),
                    partition: number,
                    segments: partition.segments.clone(),
                })
            })
            .collect()
    }

    fn round(&mut self, now_ms: i64) -> Result<()> {
        for subject in self.subjects() {
            if self.stopping() {
                break;
            }
            self.lock.check()?;
            match subject.spec.cleanup {
                Cleanup::Delete => self.expire(&subject, now_ms)?,
                Cleanup::Compact => self.compact(&subject)?,
            }
        }
        Ok(())
    }

    fn newest_ms(&mut self, subject: &Subject, segment: Segment, is_last: bool) -> Result<i64> {
        let place = (subject.spec.name.clone(), subject.partition, segment.base);
        if let Some(newest_ms) = self.newest_ms.get(&place) {
            return Ok(*newest_ms);
        }
        let (topic, partition) = (&subject.spec.name, subject.partition);
        let path = segment_path(&self.store.path, topic, partition, segment.base, segment.generation);
        let mut newest_ms = i64::MIN;
        if let Some(file) = SegmentFile::open(path)? {
            let mut blocks = file.blocks(0, segment.bytes);
            while let Some(header) = blocks.header()? {
                newest_ms = newest_ms.max(header.timestamp_ms_max);
                blocks.pass(&header);
            }
        }
        if !is_last {
            self.newest_ms.insert(place, newest_ms);
        }
        Ok(newest_ms)
    }

    /// Takes closed segments from the old end whose records are all too old, or that are more than the size allows. A last
    /// segment that is too old as a whole is closed first.
    fn expire(&mut self, subject: &Subject, now_ms: i64) -> Result<()> {
        let settings = &self.store.settings;
        let retention_ms = subject
            .spec
            .retention
            .map(|age| age.as_millis() as u64)
            .or(settings.retention_ms);
        let bytes_max = settings.retention_bytes;
        let oldest_ms = retention_ms.map(|age_ms| now_ms.saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX)));
        let mut bytes: u64 = subject.segments.iter().map(|segment| segment.bytes).sum();
        let mut gone = Vec::new();
        for (at, segment) in subject.segments.iter().enumerate() {
            let is_last = at + 1 == subject.segments.len();
            let too_much = bytes_max.is_some_and(|bytes_max| bytes > bytes_max) && !is_last;
            let too_old = match oldest_ms {
                Some(oldest_ms) if !too_much && segment.bytes > 0 => {
                    self.newest_ms(subject, *segment, is_last)? < oldest_ms
                }
                _ => false,
            };
            if !too_much && !too_old {
                break;
            }
            if is_last {
                self.ask(|reply| Request::Roll(subject.spec.name.clone(), subject.partition, reply))?;
                // What came between the look and the roll is newer: the segment is looked at again next time.
                break;
            }
            bytes -= segment.bytes;
            gone.push(*segment);
        }
        self.replace(subject, &gone, None)
    }

    fn replace(&mut self, subject: &Subject, gone: &[Segment], added: Option<Segment>) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let (topic, partition) = (subject.spec.name.clone(), subject.partition);
        let bases = gone.iter().map(|segment| segment.base).collect();
        let entry = Entry::Replaced {
            topic: topic.clone(),
            partition,
            gone: bases,
            added,
        };
        self.ask(|reply| Request::Replace(entry, reply))?;
        for segment in gone {
            self.newest_ms.remove(&(topic.clone(), partition, segment.base));
            let path = segment_path(&self.store.path, &topic, partition, segment.base, segment.generation);
            // Left behind, it is removed at the next start.
            self.store.disk.remove(&path)?;
        }
        Ok(())
    }

    /// Compacts the closed segments when at least half of their bytes came since the last time.
    fn compact(&mut self, subject: &Subject) -> Result<()> {
        let Some((_, closed)) = subject.segments.split_last() else {
            return Ok(());
        };
        let place = (subject.spec.name.clone(), subject.partition);
        let from = self.compacted_to.get(&place).copied().unwrap_or(0);
        let total: u64 = closed.iter().map(|segment| segment.bytes).sum();
        let fresh: u64 = closed
            .iter()
            .filter(|segment| segment.base >= from)
            .map(|segment| segment.bytes)
            .sum();
        if fresh == 0 || fresh * 2 < total {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let compaction = Compaction::new(&store, &place.0, place.1, closed);
        let Some(keys) = compaction.last_offsets(from)? else {
            return Ok(());
        };
        for group in compaction.groups() {
            if self.stopping() {
                return Ok(());
            }
            if let Some(added) = compaction.rewrite(group, &keys)? {
                let added = (added.bytes > 0).then_some(added);
                self.replace(subject, group, added)?;
            }
        }
        self.compacted_to.insert(place, keys.to);
        Ok(())
    }
}

/// Asks for a round and waits for its end.
pub(super) async fn ask_round(rounds: Option<&std::sync::mpsc::Sender<Round>>, now_ms: i64) -> Result<()> {
    let (reply, answer) = oneshot::channel();
    let rounds = rounds.ok_or_else(closed)?;
    rounds
        .send(Round { now_ms, reply })
        .map_err(|_: std::sync::mpsc::SendError<Round>| closed())?;
    answer.await.map_err(|_| -> Error { closed() })?
}
