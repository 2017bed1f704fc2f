// SPDX-License-Identifier: Apache-2.0
//! What is committed together with the events it covers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Positions and snapshot progress of one connector task, as bytes. Written in the same transaction as the events that it
/// covers; there is no separate checkpoint store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The connector's kind (`postgres`): another kind's checkpoint is refused.
    pub connector: String,
    /// Version of `bytes`' form.
    pub version: u32,
    /// The engine's state, see [`crate::dblog`].
    pub bytes: Bytes,
}

/// Numbers the checkpoints of one run, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointId(pub u64);
