// SPDX-License-Identifier: Apache-2.0
//! Which transport, and how: the part of a pipeline file that names it.

use std::sync::Arc;

use highwater_core::Result;
use highwater_core::transport::Transport;
use serde::{Deserialize, Serialize};

use crate::embedded::{EmbeddedSettings, EmbeddedTransport};
use crate::memory::MemoryTransport;

/// The transport of a pipeline, by its `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TransportSettings {
    /// A durable log in files, for one process.
    Embedded(EmbeddedSettings),
    /// Nothing outlives the process: for tests.
    Memory {},
}

/// Opens the transport that the settings name.
pub async fn connect(settings: &TransportSettings) -> Result<Arc<dyn Transport>> {
    match settings {
        TransportSettings::Embedded(settings) => Ok(Arc::new(EmbeddedTransport::open(settings.clone()).await?)),
        TransportSettings::Memory {} => Ok(Arc::new(MemoryTransport::new())),
    }
}
