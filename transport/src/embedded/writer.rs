// SPDX-License-Identifier: Apache-2.0
//! Writers: a transaction's records wait in memory as finished blocks, past a limit in a file of its own, until the
//! committing thread gives them their offsets.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{GroupId, Offsets, RecordBatch, RecordRef, Txn, Writer, WriterId};
use highwater_core::{Error, ErrorKind, Result, Scope};

use super::block::Blocks;
use super::committer::{Request, Transaction};
use super::store::{Handle, closed};
use super::tails::{Chunk, Part};
use crate::failure::topic_not_found;
use crate::route::partition_of;
use crate::stored_checkpoint;

pub(super) struct EmbeddedWriter {
    pub(super) handle: Arc<Handle>,
    pub(super) id: WriterId,
    pub(super) epoch: u64,
}

impl EmbeddedWriter {
    fn check(&self) -> Result<()> {
        self.handle.store.check_epoch(&self.id, self.epoch)
    }
}

#[async_trait]
impl Writer for EmbeddedWriter {
    async fn checkpoint(&mut self) -> Result<Option<Checkpoint>> {
        self.check()?;
        let stored = self.handle.store.state().checkpoints.get(&self.id.0).cloned();
        let place = || format!("the store \"{}\"", self.handle.store.path.display());
        stored
            .map(|stored| stored_checkpoint::decode(stored, &place()))
            .transpose()
    }

    async fn begin(&mut self) -> Result<Box<dyn Txn + '_>> {
        self.check()?;
        Ok(Box::new(EmbeddedTxn {
            writer: self,
            topics: HashMap::new(),
            memory_bytes: 0,
            spill: None,
            checkpoint: None,
            groups: BTreeMap::new(),
        }))
    }
}

#[derive(Default)]
struct Pending {
    blocks: Blocks,
    /// Complete, before what is in `blocks`.
    spilled: Vec<Chunk>,
}

struct EmbeddedTxn<'a> {
    writer: &'a EmbeddedWriter,
    /// By topic and partition.
    topics: HashMap<String, Vec<Pending>>,
    memory_bytes: usize,
    spill: Option<Spill>,
    checkpoint: Option<Bytes>,
    groups: BTreeMap<String, Offsets>,
}

/// A transaction's own file. It has no name any more: when the transaction ends, or the process, it is gone.
#[derive(Clone)]
struct Spill {
    file: Arc<File>,
    path: PathBuf,
    bytes: u64,
}

fn record_bytes(record: &RecordRef<'_>) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| header.name.len() + header.value.len())
        .sum();
    record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers
}

impl EmbeddedTxn<'_> {
    fn take_records(&mut self, topic: &str, batch: &RecordBatch) -> Result<()> {
        let store = &self.writer.handle.store;
        if !self.topics.contains_key(topic) {
            let partitions = store.state().topics.get(topic).map(|topic| topic.partitions.len());
            let partitions = partitions.ok_or_else(|| topic_not_found(topic))?;
            self.topics
                .insert(topic.to_owned(), (0..partitions).map(|_| Pending::default()).collect());
        }
        let pending = self
            .topics
            .get_mut(topic)
            .ok_or_else(|| Error::bug("a topic just added is missing"))?;
        let limit = store.settings.record_bytes_max;
        if let Some(large) = batch
            .iter()
            .map(|record| record_bytes(&record))
            .find(|bytes| *bytes > limit)
        {
            return Err(Error::new(
                ErrorKind::LimitReached,
                format!("a record for topic \"{topic}\" is too large"),
            )
            .with_scope(Scope::Table)
            .with("bytes", large)
            .with("record_bytes_max", limit)
            .with_fix("raise the transport setting \"record_bytes_max\", or leave the column out"));
        }
        let partitions = pending.len() as u32;
        for record in batch.iter() {
            let partition = partition_of(record.key, partitions);
            let pending = pending
                .get_mut(partition as usize)
                .ok_or_else(|| Error::bug("a record has no partition"))?;
            let before = pending.blocks.len();
            if before == 0 {
                pending.blocks.fill(store.buffer());
            }
            pending.blocks.push(&record);
            self.memory_bytes += pending.blocks.len() - before;
        }
        Ok(())
    }

    async fn spill(&mut self) -> Result<()> {
        let mut taken = Vec::new();
        for (topic, partitions) in &mut self.topics {
            for (pending, partition) in partitions.iter_mut().zip(0_usize..) {
                if pending.blocks.len() > 0 {
                    taken.push((topic.clone(), partition, pending.blocks.take()));
                }
            }
        }
        self.memory_bytes = 0;
        let handle = Arc::clone(&self.writer.handle);
        let spill = self.spill.clone();
        let writing = tokio::task::spawn_blocking(move || write_spill(&handle, spill, taken));
        let (spill, chunks) = writing.await.map_err(|_| closed())??;
        self.spill = Some(spill);
        for (topic, partition, chunk) in chunks {
            let pending = self
                .topics
                .get_mut(&topic)
                .and_then(|partitions| partitions.get_mut(partition));
            pending
                .ok_or_else(|| Error::bug("a spilled topic is missing"))?
                .spilled
                .push(chunk);
        }
        Ok(())
    }
}

type Placed<T> = (String, usize, T);

fn write_spill(
    handle: &Handle,
    spill: Option<Spill>,
    taken: Vec<Placed<Vec<u8>>>,
) -> Result<(Spill, Vec<Placed<Chunk>>)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let store = &handle.store;
    let mut spill = match spill {
        Some(spill) => spill,
        None => {
            let path = store
                .path
                .join("open")
                .join(format!("{}.tmp", COUNT.fetch_add(1, Ordering::Relaxed)));
            let file = Arc::new(store.disk.create(&path)?);
            store.disk.remove(&path)?;
            Spill { file, path, bytes: 0 }
        }
    };
    let mut chunks = Vec::with_capacity(taken.len());
    for (topic, partition, bytes) in taken {
        store.disk.write_at(&spill.file, &spill.path, &bytes, spill.bytes)?;
        let (file, path) = (Arc::clone(&spill.file), spill.path.clone());
        chunks.push((
            topic,
            partition,
            Chunk::Spilled {
                file,
                path,
                start: spill.bytes,
                bytes: bytes.len(),
            },
        ));
        spill.bytes += bytes.len() as u64;
    }
    Ok((spill, chunks))
}

#[async_trait]
impl Txn for EmbeddedTxn<'_> {
    /// A transaction whose append failed or was dropped half-way is only good for aborting.
    async fn append(&mut self, topic: &str, batch: &RecordBatch) -> Result<()> {
        self.writer.check()?;
        self.take_records(topic, batch)?;
        if self.memory_bytes > self.writer.handle.store.settings.transaction_memory_bytes_max {
            self.spill().await?;
        }
        Ok(())
    }

    async fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.writer.check()?;
        self.checkpoint = Some(stored_checkpoint::encode(checkpoint)?.into());
        Ok(())
    }

    async fn commit_offsets(&mut self, group: &GroupId, offsets: &Offsets) -> Result<()> {
        self.writer.check()?;
        self.groups.entry(group.0.clone()).or_default().extend(offsets.clone());
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let mut parts = Vec::new();
        for (topic, partitions) in self.topics {
            for (mut pending, partition) in partitions.into_iter().zip(0..) {
                let mut chunks = pending.spilled;
                if pending.blocks.len() > 0 {
                    chunks.push(Chunk::Memory(pending.blocks.take()));
                }
                if !chunks.is_empty() {
                    parts.push(Part {
                        topic: topic.clone(),
                        partition,
                        chunks,
                    });
                }
            }
        }
        let transaction = Box::new(Transaction {
            writer: self.writer.id.clone(),
            epoch: self.writer.epoch,
            parts,
            checkpoint: self.checkpoint,
            groups: self.groups.into_iter().collect(),
        });
        self.writer
            .handle
            .ask(|reply| Request::Commit(transaction, reply))
            .await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.writer.check()
    }
}
