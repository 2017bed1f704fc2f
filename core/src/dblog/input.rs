// SPDX-License-Identifier: Apache-2.0
//! What the engine is told.

use serde::{Deserialize, Serialize};

use crate::change::{ChunkId, LogItem};
use crate::checkpoint::CheckpointId;
use crate::connector::ChunkRows;
use crate::error::Class;
use crate::position::{MarkId, MarkPlace};
use crate::schema::{Key, TableName};
use crate::spill::{SpillEntry, SpillRun};

/// A request for a copy, numbered by the engine; unique over the life of a connector's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotId(pub u64);

impl SnapshotId {
    /// The engine's own repairs: rows that the log left partial under a new key. Never requested, never done.
    pub const REPAIRS: SnapshotId = SnapshotId(0);
}

/// Which rows to copy. Serializes as the pipeline file and the local socket have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotScope {
    /// The table.
    pub table: TableName,
    /// Which of its rows.
    pub rows: SnapshotRows,
}

/// Which rows of a table to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotRows {
    /// All, in one or more ranges read side by side. `starts` are exclusive starts of the second and later ranges, in key
    /// order, as [`crate::connector::ChunkReader::split`] gives them; empty: one range.
    All {
        /// Where the second and later ranges start, exclusive.
        starts: Vec<Key>,
    },
    /// The keys after `after`, up to and including `through`.
    Range {
        /// Exclusive start.
        after: Option<Key>,
        /// Inclusive end.
        through: Option<Key>,
    },
    /// Exactly these keys: a repair. A key without a row emits nothing.
    Keys(Vec<Key>),
    /// Rows that meet a condition in the database's own language.
    Condition(String),
}

/// What a person (or the runtime) asks of snapshots that run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Read no further chunks; windows that are open still close.
    Pause(SnapshotId),
    /// Go on.
    Resume(SnapshotId),
    /// Give up what is left; finished chunks stay finished.
    Cancel(SnapshotId),
    /// At most this many windows open at once over all snapshots; 0 holds back new chunks like a pause of all.
    Throttle {
        /// The new maximum.
        windows_max: u32,
    },
    /// Whether to read no further chunks because the source has enough to do. Windows that are open still close, and what
    /// a person asked for stays as it is.
    Spare(bool),
}

/// One thing that happened. `P` is the connector's position.
#[derive(Debug, Clone)]
pub enum Input<P> {
    /// The log delivered these, in order.
    Log(Vec<LogItem<P>>),
    /// A mark that was asked for is written.
    MarkWritten {
        /// Which.
        mark: MarkId,
        /// Where to find it.
        place: MarkPlace<P>,
    },
    /// A chunk that was asked for is read.
    ChunkRead {
        /// Which.
        chunk: ChunkId,
        /// What it found.
        rows: ChunkRows<P>,
    },
    /// A mark could not be written, or a chunk not be read; the chunk is tried again by a new [`Input::Retry`], or its
    /// snapshot fails when `class` is not retryable.
    ChunkFailed {
        /// Which chunk.
        chunk: ChunkId,
        /// Whether trying again may help.
        class: Class,
        /// For reports and the status page; no values.
        message: String,
    },
    /// A moment to try again what failed or was read too early, and to set a restored engine going. The driver decides
    /// how often (a second is a good pace).
    Retry,
    /// Copy these tables, ranges or keys. Answered by [`crate::dblog::action::Action::Started`].
    Snapshot(Vec<SnapshotScope>),
    /// The same for tables that the log delivers since it began: where a snapshot was taken there
    /// ([`crate::connector::LogReader::start_snapshot`]), they are read from it while it can be had.
    FirstCopies(Vec<SnapshotScope>),
    /// That snapshot is gone, or is to be let go. What is unfinished becomes ordinary windows.
    SnapshotGone {
        /// For reports; no values.
        why: String,
    },
    /// Steer snapshots.
    Control(Control),
    /// Everything below is visible to every read that is asked for from now on
    /// ([`crate::connector::WatermarkWriter::visibility_horizon`]); `u64::MAX` where commit order is visibility order.
    /// Sent now and then also while nothing is copied, it keeps what is remembered of forwarded transactions small.
    VisibilityHorizon(u64),
    /// A run that was to be kept outside memory ([`crate::dblog::action::Action::Spill`]) is.
    Spilled(SpillRun),
    /// What was asked of runs ([`crate::dblog::action::Action::Recall`]).
    Recalled {
        /// For which chunk.
        chunk: ChunkId,
        /// What they have.
        entries: Vec<SpillEntry>,
    },
    /// A run could not be kept, or runs not be asked: no room, a disk that fails. Nothing is lost: what relied on them is
    /// read again.
    SpillFailed {
        /// For reports; no values.
        message: String,
    },
    /// Keys that a table's topic had and has no record of since were found, and wait at the driver's
    /// ([`crate::dblog::action::Action::Compare`]). Answered by [`crate::dblog::action::Action::Remove`], which comes before
    /// the next of these.
    Compared {
        /// The table.
        table: TableName,
        /// Whether there are no more.
        last: bool,
    },
    /// A table cannot be compared now; others may be, until [`Input::CompareAgain`]. Keys that were told of and are not
    /// removed yet are not going to be.
    CompareFailed(TableName),
    /// A table is to be compared from a new [`crate::dblog::action::Action::Watch`] on: after a failure, after a part of its
    /// keys, or because more left than could be watched. The same of keys that were told of.
    CompareAgain(TableName),
    /// Enough was emitted (bytes, rows or time) to be committed: save a checkpoint now, inside a transaction if need be.
    CheckpointDue,
    /// That checkpoint and every event emitted before it are durable.
    CheckpointSaved(CheckpointId),
}
