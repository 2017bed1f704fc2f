// SPDX-License-Identifier: Apache-2.0
//! The Kafka transport keeps the clauses, against a real broker.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use highwater_core::transport::Transport;
use highwater_testbed::{Kafka, KafkaOptions};
use highwater_testkit::transport_suite::{CLAUSES, Subject, run_all};
use highwater_transport::kafka::{KafkaSettings, KafkaTransport};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

struct Broker(Kafka);

#[async_trait]
impl Subject for Broker {
    async fn open(&self) -> Arc<dyn Transport> {
        let settings = KafkaSettings {
            bootstrap_servers: self.0.bootstrap(),
            // Records of open transactions shall lie on the broker when readers are asked for them.
            linger_ms: 5,
            ..KafkaSettings::default()
        };
        Arc::new(KafkaTransport::connect(settings).await.unwrap())
    }

    async fn reopen(&self, transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
        drop(transport);
        self.0.kill9().await.unwrap();
        self.0.restart().await.unwrap();
        self.open().await
    }

    /// When is the broker's affair.
    async fn compact(&self, _transport: &Arc<dyn Transport>, _topic: &str) -> bool {
        false
    }

    /// The broker looks at its clock every five minutes only; what it would do is asked of it.
    async fn expire(&self, _transport: &Arc<dyn Transport>, topic: &str) -> bool {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap())
            .create()
            .unwrap();
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, 0, Offset::Offset(20)).unwrap();
        admin.delete_records(&before, &AdminOptions::new()).await.unwrap();
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_keeps_every_clause_of_the_transport() {
    let broker = Broker(Kafka::start(KafkaOptions::default()).await.unwrap());
    assert_eq!(run_all(&broker).await, CLAUSES.len());
}
