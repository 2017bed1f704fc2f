// SPDX-License-Identifier: Apache-2.0
//! A transport in memory, for simulation and tests: clones share one store, nothing outlives the process.
//!
//! It keeps the clauses of [`Transport`] but for durability, reads no clock and starts no thread: the same calls in the
//! same order give the same result. Memory is not bounded.

mod reader;
mod writer;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use highwater_core::Result;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{
    Cleanup, GroupId, Offsets, Reader, Record, StartAt, TopicInfo, TopicSpec, Transport, Writer, WriterId,
};
use tokio::sync::watch;

use crate::failure::{check_topic, topic_not_found};

/// The transport; clones share its content.
#[derive(Clone)]
pub struct MemoryTransport {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Counts commits; readers wait on it.
    commits: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    writers: HashMap<WriterId, WriterState>,
    groups: HashMap<GroupId, Offsets>,
}

#[derive(Default)]
struct WriterState {
    epoch: u64,
    checkpoint: Option<Checkpoint>,
}

struct Topic {
    spec: TopicSpec,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    start: u64,
    end: u64,
    /// In offset order; compaction leaves gaps.
    records: VecDeque<Record>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-made change: each is made under one lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTransport {
    /// An empty one.
    pub fn new() -> Self {
        let (commits, _) = watch::channel(0);
        MemoryTransport {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                commits,
            }),
        }
    }

    /// Removes the records of every compacted topic that a later one of the same key replaces.
    pub fn compact(&self) {
        let mut state = self.shared.state();
        let compacted = state
            .topics
            .values_mut()
            .filter(|topic| topic.spec.cleanup == Cleanup::Compact);
        for partition in compacted.flat_map(|topic| &mut topic.partitions) {
            let last: HashMap<_, _> = partition
                .records
                .iter()
                .filter_map(|record| Some((record.key.clone()?, record.offset)))
                .collect();
            partition.records.retain(|record| match &record.key {
                Some(key) => last.get(key) == Some(&record.offset),
                None => true,
            });
        }
    }

    /// Removes, from the old end of topics that keep records by age, those older than the topic's retention at `now_ms`
    /// (milliseconds since 1970).
    pub fn expire(&self, now_ms: i64) {
        let mut state = self.shared.state();
        for topic in state
            .topics
            .values_mut()
            .filter(|topic| topic.spec.cleanup == Cleanup::Delete)
        {
            let Some(retention) = topic.spec.retention else {
                continue;
            };
            let oldest_ms = now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
            for partition in &mut topic.partitions {
                while partition
                    .records
                    .front()
                    .is_some_and(|record| record.timestamp_ms < oldest_ms)
                {
                    partition.records.pop_front();
                }
                partition.start = partition.records.front().map_or(partition.end, |record| record.offset);
            }
        }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        topics.iter().try_for_each(check_topic)?;
        let mut state = self.shared.state();
        for spec in topics {
            state.topics.entry(spec.name.clone()).or_insert_with(|| Topic {
                spec: spec.clone(),
                partitions: (0..spec.partitions).map(|_| Partition::default()).collect(),
            });
        }
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let describe = |(name, topic): (&String, &Topic)| TopicInfo {
            name: name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| partition.start..partition.end)
                .collect(),
        };
        Ok(self.shared.state().topics.iter().map(describe).collect())
    }

    async fn open_writer(&self, id: &WriterId) -> Result<Box<dyn Writer>> {
        let mut state = self.shared.state();
        let writer = state.writers.entry(id.clone()).or_default();
        writer.epoch += 1;
        Ok(Box::new(writer::MemoryWriter {
            shared: Arc::clone(&self.shared),
            id: id.clone(),
            epoch: writer.epoch,
        }))
    }

    async fn open_reader(&self, topics: &[String], group: Option<&GroupId>, start: StartAt) -> Result<Box<dyn Reader>> {
        let state = self.shared.state();
        let committed = group.and_then(|group| state.groups.get(group));
        let mut positions = Offsets::new();
        for name in topics {
            let topic = state.topics.get(name).ok_or_else(|| topic_not_found(name))?;
            for (partition, number) in topic.partitions.iter().zip(0..) {
                let fresh = match start {
                    StartAt::Earliest => partition.start,
                    StartAt::Latest => partition.end,
                };
                let place = (name.clone(), number);
                let offset = committed
                    .and_then(|offsets| offsets.get(&place))
                    .copied()
                    .unwrap_or(fresh);
                positions.insert(place, offset);
            }
        }
        drop(state);
        let commits = self.shared.commits.subscribe();
        Ok(Box::new(reader::MemoryReader {
            shared: Arc::clone(&self.shared),
            commits,
            positions,
        }))
    }
}
