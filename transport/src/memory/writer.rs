// SPDX-License-Identifier: Apache-2.0
//! Writes: everything waits in the transaction until its commit, which happens under one lock.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{GroupId, Offsets, Record, RecordBatch, Txn, Writer, WriterId};
use highwater_core::{Error, Result};

use super::{Shared, State};
use crate::failure::{fenced, topic_not_found};
use crate::route::partition_of;

pub(super) struct MemoryWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) id: WriterId,
    pub(super) epoch: u64,
}

impl MemoryWriter {
    fn check(&self, state: &State) -> Result<()> {
        let current = state.writers.get(&self.id).map(|writer| writer.epoch);
        if current == Some(self.epoch) {
            Ok(())
        } else {
            Err(fenced(&self.id))
        }
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn checkpoint(&mut self) -> Result<Option<Checkpoint>> {
        let state = self.shared.state();
        self.check(&state)?;
        Ok(state.writers.get(&self.id).and_then(|writer| writer.checkpoint.clone()))
    }

    async fn begin(&mut self) -> Result<Box<dyn Txn + '_>> {
        self.check(&self.shared.state())?;
        Ok(Box::new(MemoryTxn {
            writer: self,
            records: Vec::new(),
            checkpoint: None,
            groups: Vec::new(),
        }))
    }
}

struct MemoryTxn<'a> {
    writer: &'a MemoryWriter,
    /// Without their offsets.
    records: Vec<Record>,
    checkpoint: Option<Checkpoint>,
    groups: Vec<(GroupId, Offsets)>,
}

#[async_trait]
impl Txn for MemoryTxn<'_> {
    async fn append(&mut self, topic: &str, batch: &RecordBatch) -> Result<()> {
        let partitions = {
            let state = self.writer.shared.state();
            self.writer.check(&state)?;
            state
                .topics
                .get(topic)
                .ok_or_else(|| topic_not_found(topic))?
                .spec
                .partitions
        };
        let topic: Arc<str> = Arc::from(topic);
        self.records.extend(batch.iter().map(|record| {
            Record {
                topic: Arc::clone(&topic),
                partition: partition_of(record.key, partitions),
                offset: 0,
                key: record.key.map(Bytes::copy_from_slice),
                value: record.value.map(Bytes::copy_from_slice),
                timestamp_ms: record.timestamp_ms,
                headers: record
                    .headers
                    .iter()
                    .map(|header| (header.name.to_owned(), header.value.clone()))
                    .collect(),
            }
        }));
        Ok(())
    }

    async fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.writer.check(&self.writer.shared.state())?;
        self.checkpoint = Some(checkpoint.clone());
        Ok(())
    }

    async fn commit_offsets(&mut self, group: &GroupId, offsets: &Offsets) -> Result<()> {
        self.writer.check(&self.writer.shared.state())?;
        self.groups.push((group.clone(), offsets.clone()));
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let shared = &self.writer.shared;
        let mut state = shared.state();
        self.writer.check(&state)?;
        for mut record in self.records {
            let partition = state
                .topics
                .get_mut(record.topic.as_ref())
                .and_then(|topic| topic.partitions.get_mut(record.partition as usize))
                .ok_or_else(|| Error::bug("a topic in memory lost a partition"))?;
            record.offset = partition.end;
            partition.end += 1;
            partition.records.push_back(record);
        }
        for (group, offsets) in self.groups {
            state.groups.entry(group).or_default().extend(offsets);
        }
        if self.checkpoint.is_some() {
            state.writers.entry(self.writer.id.clone()).or_default().checkpoint = self.checkpoint;
        }
        drop(state);
        shared.commits.send_modify(|commits| *commits += 1);
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.writer.check(&self.writer.shared.state())
    }
}
