// SPDX-License-Identifier: Apache-2.0
//! The transport of a life: events and checkpoints become visible together; what was not committed is gone at a crash.

use std::collections::VecDeque;

use highwater_core::change::{Capture, Change, ChunkId};
use highwater_core::checkpoint::{Checkpoint, CheckpointId};
use highwater_core::dblog::input::SnapshotId;
use highwater_testkit::model::ModelPosition;

/// An event, and the snapshot that it belongs to if a chunk brought it.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The event.
    pub change: Change<ModelPosition>,
    /// The snapshot of its chunk.
    pub snapshot: Option<SnapshotId>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outlet {
    /// What readers see.
    pub committed: Vec<Sent>,
    /// The checkpoint committed last.
    pub checkpoint: Option<Checkpoint>,
    buffer: Vec<Sent>,
    asked: VecDeque<(CheckpointId, Vec<Sent>, Checkpoint)>,
    done: VecDeque<CheckpointId>,
}

impl Outlet {
    /// An event of the transaction that is open.
    pub fn emit(&mut self, change: Change<ModelPosition>) {
        self.buffer.push(Sent { change, snapshot: None });
    }

    /// The rows of `chunk` belong to `snapshot`.
    pub fn attribute(&mut self, chunk: ChunkId, snapshot: SnapshotId) {
        for sent in self.buffer.iter_mut().rev() {
            if sent.change.capture == Capture::Chunk(chunk) {
                sent.snapshot = Some(snapshot);
            }
        }
    }

    /// Ends the transaction with a checkpoint.
    pub fn ask(&mut self, id: CheckpointId, checkpoint: Checkpoint) {
        self.asked.push_back((id, std::mem::take(&mut self.buffer), checkpoint));
    }

    /// Whether a commit was asked for and is not done.
    pub fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Commits what was asked for first. The writer hears of it later.
    pub fn commit(&mut self) {
        if let Some((id, events, checkpoint)) = self.asked.pop_front() {
            self.committed.extend(events);
            self.checkpoint = Some(checkpoint);
            self.done.push_back(id);
        }
    }

    /// The next commit that the writer has not heard of.
    pub fn reply(&mut self) -> Option<CheckpointId> {
        self.done.pop_front()
    }

    /// Whether the writer has not heard of a commit.
    pub fn has_reply(&self) -> bool {
        !self.done.is_empty()
    }

    /// Whether events wait for a checkpoint.
    pub fn has_uncommitted(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The writer dies.
    pub fn crash(&mut self) {
        self.buffer.clear();
        self.asked.clear();
        self.done.clear();
    }
}
