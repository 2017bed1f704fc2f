// SPDX-License-Identifier: Apache-2.0
//! The roles that a database plays. One trait each; `highwater-testkit` ships the conformance suite for them.
//!
//! Futures are written `impl Future + Send` instead of `async_trait`: the driver is generic over the connector, so the
//! hot path is dispatched statically. The command line holds factories that are generic inside.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::{ChunkId, LogItem};
use crate::error::Result;
use crate::image::RowImage;
use crate::position::{Lineage, MarkId, MarkPlace, Position, ReadView, ResumePoint, RunId};
use crate::schema::{Key, TableName, TableSchema};
use crate::source_block::SourceBlock;

/// How a table's copy and its log are reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reconcile {
    /// Between low and high mark, a log event of a key removes the chunk's row (Postgres, MySQL, MariaDB).
    Window,
    /// A chunk is exactly at a position; keys that the log delivered with a later version win (CockroachDB).
    AsOf,
    /// Each cell carries its write time and the newer wins (Cassandra).
    Version,
}

/// What a connector can do, and what it cannot promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// How copies and log meet.
    pub reconcile: Reconcile,
    /// Whether the log gives a total order per key.
    pub ordered: bool,
    /// Whether the log delivers a change once per connection.
    pub delivers_once: bool,
    /// What a user must know: sentences for the guarantee matrix.
    pub not_promised: Vec<String>,
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// It works, with a cost or a risk.
    Warning,
    /// Capture cannot start or would not be right.
    Error,
}

/// One thing that the check of a database found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How serious.
    pub severity: Severity,
    /// A stable name: `wal_level`, `table_without_key`.
    pub code: String,
    /// What is the matter, naming the object.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// The exact statements that mend it, ready to be executed one by one in this order; empty when no SQL does.
    pub fix_sql: Vec<String>,
    /// What to do where SQL is not enough: `restart the server`.
    pub fix: Option<String>,
}

/// The tables that a connector captures, as the database's catalogue has them now.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Captured tables, by name.
    pub tables: Vec<CatalogTable>,
}

/// A captured table in the catalogue.
#[derive(Debug, Clone)]
pub struct CatalogTable {
    /// Its shape now.
    pub schema: Arc<TableSchema>,
    /// The server's own estimate of its rows, where it has one.
    pub rows_estimate: Option<u64>,
    /// The server's own estimate of its size in bytes, where it has one.
    pub bytes_estimate: Option<u64>,
}

/// A database that can be captured.
///
/// Guarantees: (1) `preflight` changes nothing in the database; (2) `open_log(None)` makes what the log needs (slot,
/// publication) if the settings allow, and starts at a point from which no later change is missed; (3) `open_log(Some(p))`
/// delivers everything after `p`, or fails with [`crate::ErrorKind::PositionLost`]; that `p` is of another history than the
/// log's is such a loss, as far as the connector tells histories apart ([`LogReader::lineage`]); (4) readers opened by one connector
/// work side by side; (5) after `begin_anew`, `open_log(None)` starts at a point from which no later change is missed, and
/// everything that is committed before it is visible to every later read; what belongs to others is left alone.
/// Not promised: that two connectors can share one log position (a slot has one consumer).
pub trait SourceConnector: Send + Sync + 'static {
    /// The log's positions.
    type Position: Position;
    /// The log.
    type Log: LogReader<Position = Self::Position>;
    /// Chunk reads.
    type Chunks: ChunkReader<Position = Self::Position>;
    /// Marks.
    type Watermarks: WatermarkWriter<Position = Self::Position>;

    /// The kind, as in checkpoints and pipeline files: `postgres`.
    fn kind(&self) -> &'static str;
    /// What it can do.
    fn capabilities(&self) -> Capabilities;
    /// Describes where an event came from, for its envelope.
    fn source_block(&self) -> Arc<dyn SourceBlock<Self::Position>>;
    /// Checks settings and privileges.
    fn preflight(&self) -> impl Future<Output = Result<Vec<Finding>>> + Send;
    /// Reads the catalogue of captured tables. A table that the settings name and the database lacks is an error.
    fn discover(&self) -> impl Future<Output = Result<Catalog>> + Send;
    /// Opens the log after `from`, or anew.
    fn open_log(
        &self,
        from: Option<&ResumePoint<Self::Position>>,
        run: RunId,
    ) -> impl Future<Output = Result<Self::Log>> + Send;
    /// Opens the log anew, as `open_log(None, run)` does, and tries to take a snapshot of the database at its very start:
    /// what is committed is either in it or delivered by the log, never both. [`LogReader::start_snapshot`] says whether
    /// there is one.
    fn open_log_with_snapshot(&self, run: RunId) -> impl Future<Output = Result<Self::Log>> + Send {
        self.open_log(None, run)
    }
    /// Makes the source forget `lost`, from which its log cannot be opened, or must not be by a person's decision, and
    /// prepares the start of a new one.
    fn begin_anew(&self, lost: &ResumePoint<Self::Position>) -> impl Future<Output = Result<()>> + Send;
    /// Opens one more chunk reader.
    fn open_chunks(&self) -> impl Future<Output = Result<Self::Chunks>> + Send;
    /// Opens the writer of this run's marks.
    fn open_watermarks(&self, run: RunId) -> impl Future<Output = Result<Self::Watermarks>> + Send;
    /// Adds tables that the settings now name to what the running log delivers (Postgres: to the publication), without
    /// a restart of the log. Their copies are requested by the caller.
    fn add_tables(&self, tables: &[TableName]) -> impl Future<Output = Result<()>> + Send;
}

/// The log of one database.
///
/// Guarantees: (1) items come in the log's order, a transaction's changes between its `Begin` and `Commit`; (2) an idle
/// source still gives `Progress`; (3) marks of this run appear as `Watermark`, every other mark is counted and passed
/// over; (4) nothing is acknowledged to the source but what `acknowledge` was given.
/// Not promised: that a table's `Schema` comes before its next change is made (only before it is delivered).
pub trait LogReader: Send {
    /// The log's positions.
    type Position: Position;

    /// Where this log began: everything at or before it is not delivered (again).
    fn start(&self) -> &Self::Position;
    /// Appends at least one item to `items`, waiting for it. Cancel-safe: what was read and not yet appended comes with
    /// the next call.
    fn next(&mut self, items: &mut Vec<LogItem<Self::Position>>) -> impl Future<Output = Result<()>> + Send;
    /// Tells the source that everything at or before `position` is durable at our side and may be forgotten.
    fn acknowledge(&mut self, position: &Self::Position) -> impl Future<Output = Result<()>> + Send;
    /// Marks in the log that were not of this run, so far.
    fn foreign_marks(&self) -> u64;
    /// How far the source is ahead, in bytes of its log, where it says so.
    fn lag_bytes(&self) -> Option<u64>;
    /// Which history its positions are of, and what else the connector wants to find in a checkpoint. It may say more after
    /// [`Self::unlogged_changes`]: a checkpoint has both what those led to and this, or neither.
    fn lineage(&self) -> Lineage {
        Lineage::default()
    }
    /// What the source keeps of its log for us, where it says so.
    fn retention(&self) -> Option<Retention> {
        None
    }
    /// Why the source is to be spared further chunks for now: which of the user's limits it is past. The log is read on.
    fn overload(&self) -> Option<Arc<str>> {
        None
    }
    /// What happened to captured tables since the last call that the log has no row change for.
    fn unlogged_changes(&mut self) -> Vec<UnloggedChange> {
        Vec::new()
    }
    /// The snapshot that was taken where this log began. Chunk readers of the same connector read from it what says so
    /// ([`ChunkRequest::at_start`]).
    fn start_snapshot(&self) -> StartSnapshot<Self::Position> {
        StartSnapshot::None
    }
    /// Lets go of that snapshot, if there is one. So does dropping the log.
    fn release_snapshot(&mut self) {}
}

/// A snapshot of the database where its log began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartSnapshot<P> {
    /// There is none, or not any more.
    None,
    /// It can be read. Every commit that the log delivers lies behind this position, and every one that it does not is in
    /// the snapshot.
    Held(P),
    /// It can be read no more, or not all of it. Why, for people.
    Lost(String),
}

/// Rows came to a captured table, or went, and the log has no change of theirs (Postgres: partitions attached and detached).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnloggedChange {
    /// The table.
    pub table: TableName,
    /// A stable name, for reports: `partition_attached`.
    pub code: &'static str,
    /// What happened and what to do; no values.
    pub message: String,
    /// The rows that are to be copied, as a condition in the database's own language.
    pub copy: Option<String>,
}

/// What a source keeps of its log until it was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Bytes that it keeps.
    pub kept_bytes: u64,
    /// Bytes that may be written before it throws away what it keeps; `None` where there is no limit.
    pub left_bytes: Option<u64>,
    /// How long that takes at the pace of late if nothing is acknowledged; `None` without a limit, or if nothing is written.
    pub left: Option<Duration>,
}

/// Which rows a chunk covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkScope {
    /// The next rows in the server's own key order.
    Range {
        /// Rows after this key; from the first row on when `None`.
        after: Option<Key>,
        /// Rows up to and including this key; to the last row when `None`.
        through: Option<Key>,
        /// A condition in the database's own language that rows must meet besides.
        condition: Option<String>,
    },
    /// Exactly these keys.
    Keys(Vec<Key>),
}

/// A read that the engine asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRequest {
    /// Its number.
    pub chunk: ChunkId,
    /// The table, by name: its number may not be known yet.
    pub table: TableName,
    /// Which rows.
    pub scope: ChunkScope,
    /// Most rows to read.
    pub rows_max: u32,
    /// Stop after the row that passes this many bytes of values.
    pub bytes_max: u64,
    /// Read the snapshot that was taken where the log began ([`LogReader::start_snapshot`]), not the table as it is now.
    pub at_start: bool,
}

/// What a chunk's read found.
#[derive(Debug, Clone)]
pub struct ChunkRows<P> {
    /// The table's shape in the read's own snapshot.
    pub schema: Arc<TableSchema>,
    /// Rows, in the server's key order for ranges. May be empty.
    pub rows: Vec<RowImage>,
    /// For sources with write times: per row, per column.
    pub versions: Option<Vec<Arc<[Option<i64>]>>>,
    /// The key of the last row; the place behind it in a table without a key.
    pub last_key: Option<Key>,
    /// Whether no row of the scope lies behind `last_key`.
    pub exhausted: bool,
    /// What the read could see.
    pub view: ReadView<P>,
    /// When it was read, microseconds since 1970, by the source's clock.
    pub read_time_us: i64,
    /// How long the read took, microseconds.
    pub took_us: u64,
}

/// Reads chunks of tables.
///
/// A table without a key is read by places of the connector's own, whose first part says what they are places of: where it
/// differs from that of the chunk before, the copy begins anew. A connector that has none gives no `last_key` for such a
/// table, which ends its copy.
///
/// Guarantees: (1) rows, schema and view come from one database snapshot; (2) what the log filters (rows, columns) the
/// chunk filters; (3) no lock is taken that makes a writer wait, and no transaction outlives the read.
pub trait ChunkReader: Send {
    /// The log's positions.
    type Position: Position;

    /// Reads one chunk. Not cancel-safe: a reader whose read was dropped is to be dropped too.
    fn read(&mut self, request: &ChunkRequest) -> impl Future<Output = Result<ChunkRows<Self::Position>>> + Send;
    /// Keys that cut the table into about `parts` ranges of equal size, in key order, exclusive starts; fewer or none
    /// where the database cannot tell cheaply.
    fn split(&mut self, table: &TableName, parts: u32) -> impl Future<Output = Result<Vec<Key>>> + Send;
}

/// Writes marks into the log.
///
/// Guarantees: (1) when `mark` returns, the mark (or position) is in the log behind everything committed before the call;
/// (2) the log delivers it in bounded time also on an idle source.
pub trait WatermarkWriter: Send {
    /// The log's positions.
    type Position: Position;

    /// Writes one mark.
    fn mark(&mut self, mark: MarkId) -> impl Future<Output = Result<MarkPlace<Self::Position>>> + Send;
    /// The oldest transaction that may still be invisible to a new read although its commit was delivered: everything
    /// below is visible to every later read. `None` where commit order is visibility order.
    fn visibility_horizon(&mut self) -> impl Future<Output = Result<Option<u64>>> + Send;
}
