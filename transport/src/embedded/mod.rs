// SPDX-License-Identifier: Apache-2.0
//! A durable transport in files, for one process: no Kafka, no Java, nothing to set up.
//!
//! ```text
//! LOCK                                      held by the one process, with its number inside
//! journal/<number>.log                      what is committed: each entry whole or not there
//! topics/<topic>/<partition>/<offset>-<generation>.log   segments of blocks of records
//! open/                                     large open transactions, nameless
//! ```
//!
//! Why a commit is atomic: its records are written behind the committed end of their segments, where nobody reads; then one
//! journal entry says how far each segment reaches now, and holds the checkpoint and the group offsets. The entry, with
//! its checksum, is the commit. A start reads the journal, cuts segments to what it says and removes what it does not
//! name. Offsets are given at commit, so aborted transactions leave no gaps.
//!
//! Blocks carry checksums that every reader checks: damage is an error that names the file and the byte, and nothing is
//! skipped. A process whose lock file was taken away writes nothing more (see `lock`). Memory is bounded: open transactions past a limit wait in a file, readers read rounds of a few megabytes,
//! compaction keeps a limited number of keys.

mod block;
mod committer;
mod compaction;
mod disk;
mod entry;
mod journal;
mod lock;
mod open;
mod reader;
mod segment_file;
mod settings;
mod state;
mod store;
mod tails;
#[cfg(test)]
mod tests;
mod upkeep;
mod wire;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use highwater_core::transport::{GroupId, Offsets, Reader, StartAt, TopicInfo, TopicSpec, Transport, Writer, WriterId};
use highwater_core::{Error, Result};

use crate::failure::{check_topic, topic_not_found};
use committer::Request;
use disk::Disk;
use store::Handle;

pub use settings::{EmbeddedSettings, Fsync};

/// The transport. Its store closes, and its lock is free, when this, its clones, its writers and its readers are gone;
/// the last one waits for the end of the store's threads.
#[derive(Clone)]
pub struct EmbeddedTransport {
    handle: Arc<Handle>,
}

impl EmbeddedTransport {
    /// Opens the store at `settings.path` and makes it where there is none.
    pub async fn open(settings: EmbeddedSettings) -> Result<Self> {
        Self::open_on(settings, Arc::new(Disk::default())).await
    }

    async fn open_on(settings: EmbeddedSettings, disk: Arc<Disk>) -> Result<Self> {
        let opening = tokio::task::spawn_blocking(move || open::open(settings, disk));
        let handle = opening
            .await
            .map_err(|_| Error::bug("opening the embedded transport panicked"))??;
        Ok(EmbeddedTransport {
            handle: Arc::new(handle),
        })
    }

    /// Does a round of retention and compaction now, ages counted from `now_ms` (milliseconds since 1970). It also happens by
    /// itself, every `upkeep_interval_ms`.
    pub async fn upkeep(&self, now_ms: i64) -> Result<()> {
        upkeep::ask_round(self.handle.upkeep.as_ref(), now_ms).await
    }
}

#[async_trait]
impl Transport for EmbeddedTransport {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        topics.iter().try_for_each(check_topic)?;
        let missing: Vec<TopicSpec> = {
            let state = self.handle.store.state();
            topics
                .iter()
                .filter(|spec| !state.topics.contains_key(&spec.name))
                .cloned()
                .collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        self.handle.ask(|reply| Request::EnsureTopics(missing, reply)).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let state = self.handle.store.state();
        let describe = |(name, topic): (&String, &state::Topic)| TopicInfo {
            name: name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| partition.start()..partition.end)
                .collect(),
        };
        Ok(state.topics.iter().map(describe).collect())
    }

    async fn open_writer(&self, id: &WriterId) -> Result<Box<dyn Writer>> {
        let epoch = self.handle.ask(|reply| Request::OpenWriter(id.clone(), reply)).await?;
        Ok(Box::new(writer::EmbeddedWriter {
            handle: Arc::clone(&self.handle),
            id: id.clone(),
            epoch,
        }))
    }

    async fn open_reader(&self, topics: &[String], group: Option<&GroupId>, start: StartAt) -> Result<Box<dyn Reader>> {
        let positions = {
            let state = self.handle.store.state();
            let committed = group.and_then(|group| state.groups.get(&group.0));
            let mut positions = Offsets::new();
            for name in topics {
                let topic = state.topics.get(name).ok_or_else(|| topic_not_found(name))?;
                for (partition, number) in topic.partitions.iter().zip(0..) {
                    let fresh = match start {
                        StartAt::Earliest => partition.start(),
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
            positions
        };
        Ok(Box::new(reader::EmbeddedReader::new(
            Arc::clone(&self.handle),
            positions,
        )))
    }
}
