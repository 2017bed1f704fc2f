// SPDX-License-Identifier: Apache-2.0
//! The embedded transport keeps the clauses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use highwater_core::transport::Transport;
use highwater_testkit::transport_suite::Subject;
use highwater_transport::embedded::{EmbeddedSettings, EmbeddedTransport};
use tempfile::TempDir;

/// After every timestamp that the suite writes and its retention.
const LATER_MS: i64 = 1_800_000_000_000;

struct Embedded {
    transport: EmbeddedTransport,
    settings: EmbeddedSettings,
    _folder: TempDir,
}

impl Embedded {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Small files, so that the suite crosses their ends; little memory, so that its large transaction spills.
        let settings = EmbeddedSettings {
            path: folder.path().join("store"),
            segment_bytes: 8 << 10,
            transaction_memory_bytes_max: 1 << 20,
            ..EmbeddedSettings::default()
        };
        Embedded {
            transport: EmbeddedTransport::open(settings.clone()).await.unwrap(),
            settings,
            _folder: folder,
        }
    }
}

#[async_trait]
impl Subject for Embedded {
    async fn open(&self) -> Arc<dyn Transport> {
        Arc::new(self.transport.clone())
    }

    /// The store as it is while it is open, opened elsewhere: what a killed process would have left.
    async fn reopen(&self, _transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
        let left = self.settings.path.with_extension("left");
        copy(&self.settings.path, &left);
        let settings = EmbeddedSettings {
            path: left,
            ..self.settings.clone()
        };
        Arc::new(EmbeddedTransport::open(settings).await.unwrap())
    }

    async fn compact(&self, _transport: &Arc<dyn Transport>, _topic: &str) -> bool {
        self.transport.upkeep(0).await.unwrap();
        true
    }

    async fn expire(&self, _transport: &Arc<dyn Transport>, _topic: &str) -> bool {
        self.transport.upkeep(LATER_MS).await.unwrap();
        true
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

highwater_testkit::transport_suite!(Embedded::new().await);
