// SPDX-License-Identifier: Apache-2.0
//! A transport that counts what is committed through it, and hands it on or drops it.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_core::Result;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{
    GroupId, Offsets, Reader, RecordBatch, StartAt, TopicInfo, TopicSpec, Transport, Txn, Writer, WriterId,
};

use crate::tally::{Pending, Tally};

/// Counts what goes through the transport that it wraps.
pub(crate) struct TalliedTransport {
    inner: Arc<dyn Transport>,
    tally: Arc<Tally>,
}

impl TalliedTransport {
    /// Wraps `inner`.
    pub(crate) fn new(inner: Arc<dyn Transport>, tally: Arc<Tally>) -> Self {
        Self { inner, tally }
    }
}

#[async_trait]
impl Transport for TalliedTransport {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        self.inner.ensure_topics(topics).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.inner.topics().await
    }

    async fn open_writer(&self, id: &WriterId) -> Result<Box<dyn Writer>> {
        let inner = self.inner.open_writer(id).await?;
        let tally = Arc::clone(&self.tally);
        tally.ready();
        Ok(Box::new(TalliedWriter { inner, tally }))
    }

    async fn open_reader(&self, topics: &[String], group: Option<&GroupId>, start: StartAt) -> Result<Box<dyn Reader>> {
        self.inner.open_reader(topics, group, start).await
    }
}

struct TalliedWriter {
    inner: Box<dyn Writer>,
    tally: Arc<Tally>,
}

#[async_trait]
impl Writer for TalliedWriter {
    async fn checkpoint(&mut self) -> Result<Option<Checkpoint>> {
        self.inner.checkpoint().await
    }

    async fn begin(&mut self) -> Result<Box<dyn Txn + '_>> {
        let inner = self.inner.begin().await?;
        Ok(Box::new(TalliedTxn {
            inner,
            tally: &self.tally,
            pending: Pending::default(),
        }))
    }
}

struct TalliedTxn<'a> {
    inner: Box<dyn Txn + 'a>,
    tally: &'a Tally,
    pending: Pending,
}

#[async_trait]
impl Txn for TalliedTxn<'_> {
    async fn announce(&mut self, topics: &[&str]) -> Result<()> {
        self.inner.announce(topics).await
    }

    async fn append(&mut self, topic: &str, batch: &RecordBatch) -> Result<()> {
        self.tally.append(&mut self.pending, topic, batch.iter());
        self.inner.append(topic, batch).await
    }

    async fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.inner.put_checkpoint(checkpoint).await
    }

    async fn commit_offsets(&mut self, group: &GroupId, offsets: &Offsets) -> Result<()> {
        self.inner.commit_offsets(group, offsets).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let Self {
            inner,
            tally,
            mut pending,
        } = *self;
        inner.commit().await?;
        tally.commit(&mut pending);
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}
