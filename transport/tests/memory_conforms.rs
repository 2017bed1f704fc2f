// SPDX-License-Identifier: Apache-2.0
//! The transport in memory keeps the clauses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use highwater_core::transport::Transport;
use highwater_testkit::transport_suite::Subject;
use highwater_transport::memory::MemoryTransport;

/// After every timestamp that the suite writes and its retention.
const LATER_MS: i64 = 1_800_000_000_000;

struct Memory(MemoryTransport);

#[async_trait]
impl Subject for Memory {
    async fn open(&self) -> Arc<dyn Transport> {
        Arc::new(self.0.clone())
    }

    async fn reopen(&self, transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
        drop(transport);
        self.open().await
    }

    async fn compact(&self, _transport: &Arc<dyn Transport>, _topic: &str) -> bool {
        self.0.compact();
        true
    }

    async fn expire(&self, _transport: &Arc<dyn Transport>, _topic: &str) -> bool {
        self.0.expire(LATER_MS);
        true
    }
}

highwater_testkit::transport_suite!(Memory(MemoryTransport::new()));
