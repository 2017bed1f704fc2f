// SPDX-License-Identifier: Apache-2.0
//! A transport into nothing: for measuring what capture and encoding cost by themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{
    GroupId, Offsets, Reader, RecordBatch, StartAt, TopicInfo, TopicSpec, Transport, Txn, Writer, WriterId,
};
use highwater_core::{Error, ErrorKind, Result};

type Checkpoints = Arc<Mutex<HashMap<WriterId, Checkpoint>>>;

/// Drops every record. Checkpoints are kept in memory, so that a retry inside the process goes on where it was; nothing
/// survives the process, and nothing can be read.
#[derive(Debug, Clone, Default)]
pub struct DiscardTransport {
    checkpoints: Checkpoints,
}

#[async_trait]
impl Transport for DiscardTransport {
    async fn ensure_topics(&self, _topics: &[TopicSpec]) -> Result<()> {
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        Ok(Vec::new())
    }

    async fn open_writer(&self, id: &WriterId) -> Result<Box<dyn Writer>> {
        Ok(Box::new(DiscardWriter {
            id: id.clone(),
            checkpoints: self.checkpoints.clone(),
        }))
    }

    async fn open_reader(
        &self,
        _topics: &[String],
        _group: Option<&GroupId>,
        _start: StartAt,
    ) -> Result<Box<dyn Reader>> {
        Err(Error::new(
            ErrorKind::Unsuitable,
            "the transport \"discard\" keeps no records to read",
        )
        .with_fix("set \"transport\" to embedded or kafka"))
    }
}

struct DiscardWriter {
    id: WriterId,
    checkpoints: Checkpoints,
}

#[async_trait]
impl Writer for DiscardWriter {
    async fn checkpoint(&mut self) -> Result<Option<Checkpoint>> {
        let checkpoints = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(checkpoints.get(&self.id).cloned())
    }

    async fn begin(&mut self) -> Result<Box<dyn Txn + '_>> {
        Ok(Box::new(DiscardTxn {
            writer: self,
            checkpoint: None,
        }))
    }
}

struct DiscardTxn<'a> {
    writer: &'a DiscardWriter,
    checkpoint: Option<Checkpoint>,
}

#[async_trait]
impl Txn for DiscardTxn<'_> {
    async fn append(&mut self, _topic: &str, _batch: &RecordBatch) -> Result<()> {
        Ok(())
    }

    async fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.checkpoint = Some(checkpoint.clone());
        Ok(())
    }

    async fn commit_offsets(&mut self, _group: &GroupId, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        if let Some(checkpoint) = self.checkpoint {
            let mut checkpoints = self.writer.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
            checkpoints.insert(self.writer.id.clone(), checkpoint);
        }
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
