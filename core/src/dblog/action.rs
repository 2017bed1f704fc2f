// SPDX-License-Identifier: Apache-2.0
//! What the engine asks for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::change::{Change, ChunkId};
use crate::checkpoint::{Checkpoint, CheckpointId};
use crate::connector::{ChunkRequest, ChunkScope};
use crate::dblog::input::SnapshotId;
use crate::position::MarkId;
use crate::schema::{SchemaFingerprint, TableName, TableSchema};
use crate::spill::{SpillEntry, SpillRun};

/// One thing to do, in order. `P` is the connector's position.
#[derive(Debug, Clone)]
pub enum Action<P> {
    /// Send this event on.
    Emit(Change<P>),
    /// Events of this table follow this shape from here on.
    Schema(Arc<TableSchema>),
    /// Write a mark, then tell [`crate::dblog::input::Input::MarkWritten`]; if it fails,
    /// [`crate::dblog::input::Input::ChunkFailed`] with `chunk`.
    WriteMark {
        /// Its number.
        mark: MarkId,
        /// The chunk that it belongs to.
        chunk: ChunkId,
    },
    /// Read a chunk, then tell [`crate::dblog::input::Input::ChunkRead`].
    ReadChunk(ChunkRequest),
    /// Keep a run of what is remembered in the [`crate::spill::Spill`], then tell [`crate::dblog::input::Input::Spilled`], or
    /// [`crate::dblog::input::Input::SpillFailed`]. This, `Recall` and `Forget` are done in the order in which they are asked.
    Spill {
        /// Its number.
        run: SpillRun,
        /// What is in it.
        entries: Vec<SpillEntry>,
    },
    /// Ask runs what they have under these digests, then tell [`crate::dblog::input::Input::Recalled`], or
    /// [`crate::dblog::input::Input::SpillFailed`].
    Recall {
        /// The chunk whose keys are meant.
        chunk: ChunkId,
        /// Which runs.
        runs: Vec<SpillRun>,
        /// Digests of keys.
        digests: Vec<u64>,
    },
    /// Drop a run; no answer.
    Forget(SpillRun),
    /// Commit this checkpoint in one transaction with every event emitted before it and after the checkpoint before, then
    /// tell [`crate::dblog::input::Input::CheckpointSaved`].
    SaveCheckpoint {
        /// Its number.
        id: CheckpointId,
        /// What to store.
        checkpoint: Checkpoint,
    },
    /// Tell the source that everything at or before this position is durable. Only ever follows `CheckpointSaved`.
    Acknowledge(P),
    /// A snapshot that was asked for has this number from now on. A request with two scopes of one table becomes several.
    Started {
        /// Its number.
        snapshot: SnapshotId,
        /// Its tables.
        tables: Vec<TableName>,
    },
    /// A chunk is finished; keep its evidence.
    Certificate(Certificate),
    /// A snapshot is finished.
    Done {
        /// Which.
        snapshot: SnapshotId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Something that a person should see.
    Report(Report),
    /// A table whose log was lost is copied: take note of every key that leaves from here on ([`crate::dblog::Renewal`]).
    Watch(TableName),
    /// Everything that left before [`Action::Watch`] is durable: find the keys that the table's topic had alive before
    /// `ends` and has no record of since; then tell [`crate::dblog::input::Input::Compared`], or
    /// [`crate::dblog::input::Input::CompareFailed`].
    Compare {
        /// The table.
        table: TableName,
        /// Per partition of its topic, where what is new begins.
        ends: Vec<u64>,
    },
    /// Of the keys that were told of by [`crate::dblog::input::Input::Compared`], those that did not leave since
    /// [`Action::Watch`] are gone: send a delete for each.
    Remove {
        /// The table.
        table: TableName,
        /// The position at which they are gone.
        position: P,
        /// Whether the table is right with it.
        last: bool,
    },
}

/// How a snapshot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every row of its scope was read and reconciled.
    Completed,
    /// A person cancelled it.
    Cancelled,
    /// A chunk failed for good; the report says why.
    Failed,
}

/// The evidence that a finished chunk leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The chunk.
    pub chunk: ChunkId,
    /// The table.
    pub table: TableName,
    /// What was read. Keys are bytes of the database, kept out of logs.
    pub scope: ChunkScope,
    /// Position of the low mark, in the database's notation.
    pub low: String,
    /// Position of the high mark.
    pub high: String,
    /// The shape that the rows were read in.
    pub schema: SchemaFingerprint,
    /// Rows that the read found.
    pub rows_read: u64,
    /// Rows that the log had newer news of.
    pub rows_dropped: u64,
    /// Rows that left as events.
    pub rows_emitted: u64,
    /// Reads that were thrown away because their view missed a transaction that had been forwarded.
    pub reads_repeated: u32,
}

/// Something that a person should see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The table.
    pub table: TableName,
    /// The chunk, where one is concerned.
    pub chunk: Option<ChunkId>,
    /// A stable name: `view_behind_log`, `chunk_failed`, `chunk_without_progress`, `table_without_key`,
    /// `change_without_key`, `repair_queue_full`, `spill_failed`, `copy_by_windows`,
    /// `table_replaced`, `renewal_cancelled`, and those of [`crate::connector::UnloggedChange`].
    pub code: String,
    /// What happened and what to do; no values.
    pub message: String,
}
