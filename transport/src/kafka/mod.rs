// SPDX-License-Identifier: Apache-2.0
//! Kafka as the transport, by its transactions: a writer is a transactional producer, its id the transactional id; events,
//! checkpoint and group offsets are of one transaction; readers read committed records only.
//!
//! What differs from the other transports, as Kafka has it: a commit is decided when `commit` returns and becomes visible
//! to readers some milliseconds later; commits and aborts take offsets of their own; readers wait behind the oldest open
//! transaction of a partition; a fenced writer learns of it at the next call that speaks to the brokers, at the latest at
//! its commit.

mod calls;
mod checkpoints;
mod client;
mod consumer;
mod failure;
mod left_open;
mod produce_call;
mod produce_run;
mod producer;
mod reader;
mod settings;
mod topics;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use highwater_core::Result;
use highwater_core::transport::{GroupId, Reader, StartAt, TopicInfo, TopicSpec, Transport, Writer, WriterId};

use crate::failure::check_topic;
use topics::Topics;

pub use settings::{Compression, KafkaSettings, SaslMechanism, SaslSettings, Secret, TlsSettings};

/// The transport. Clones share the connections that ask about topics; each writer and each reader has its own.
#[derive(Clone)]
pub struct KafkaTransport {
    topics: Topics,
}

impl KafkaTransport {
    /// A transport on the cluster that the settings name, which answered.
    pub async fn connect(settings: KafkaSettings) -> Result<Self> {
        settings.check()?;
        let topics = Topics::new(Arc::new(settings))?;
        topics.list().await?;
        Ok(KafkaTransport { topics })
    }
}

#[async_trait]
impl Transport for KafkaTransport {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        topics.iter().try_for_each(check_topic)?;
        self.topics.ensure(topics).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.topics.list().await
    }

    async fn open_writer(&self, id: &WriterId) -> Result<Box<dyn Writer>> {
        Ok(Box::new(
            writer::KafkaWriter::open(self.topics.clone(), id.clone()).await?,
        ))
    }

    async fn open_reader(&self, topics: &[String], group: Option<&GroupId>, start: StartAt) -> Result<Box<dyn Reader>> {
        Ok(Box::new(
            reader::KafkaReader::open(&self.topics, topics, group, start).await?,
        ))
    }
}
