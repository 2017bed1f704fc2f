// SPDX-License-Identifier: Apache-2.0
//! What a log delivers and what the engine emits.

use std::sync::Arc;

use crate::image::RowImage;
use crate::position::{MarkId, TransactionId};
use crate::schema::{Key, TableId, TableSchema};

/// What happened to a row or table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// A row was inserted.
    Create,
    /// A row was changed.
    Update,
    /// A row was deleted.
    Delete,
    /// A table was emptied. No key, no image.
    Truncate,
    /// A row was read by a chunk.
    Read,
    /// A program wrote a message into the log. Its schema is [`TableSchema::messages`], and `after` has prefix and content.
    Message,
}

/// How an event came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capture {
    /// From the log.
    Log,
    /// From a chunk of a snapshot of a table, range or condition.
    Chunk(ChunkId),
    /// From a read of chosen keys: a repair.
    Repair(ChunkId),
    /// From a comparison of keys after the log was lost: deletes only.
    Renewal,
}

/// A chunk, numbered by the engine; unique over the life of a connector's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChunkId(pub u64);

/// How sources without a total order say which of two states of a key is newer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ChangeVersion {
    /// The order of delivery is the order of changes.
    #[default]
    InOrder,
    /// The change's own commit time, as the connector's position bytes compare: CockroachDB's HLC.
    At(u128),
    /// Write time per cell in the order of the columns, `None` for a cell without one (Cassandra).
    Cells(Arc<[Option<i64>]>),
    /// A deletion that covers `scope` up to and including this write time (Cassandra).
    Deletion {
        /// Which rows. Boxed, for it would make every other change larger.
        scope: Box<DeletionScope>,
        /// Write time, microseconds.
        at: i64,
    },
}

/// What a deletion without a full key covers. Bounds are compared as canonical bytes of clustering prefixes, in the order
/// that the connector gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletionScope {
    /// The row of the change's key.
    Row,
    /// Every row whose key starts with these canonical bytes.
    Partition(Key),
    /// Rows of the partition whose clustering rank (as the connector numbers it) lies in the range.
    Range {
        /// Canonical bytes that the keys start with.
        partition: Key,
        /// First clustering bytes, inclusive.
        from: Vec<u8>,
        /// Last clustering bytes, inclusive.
        through: Vec<u8>,
    },
}

/// One change of one row, or a truncation. What leaves the engine has the same form.
#[derive(Debug, Clone)]
pub struct Change<P> {
    /// The table's shape that the images follow.
    pub schema: Arc<TableSchema>,
    /// What happened.
    pub op: Op,
    /// The row before, whole (replica identity full) or key columns only; `None` when the log does not carry it
    /// (for an update: the key did not change).
    pub before: Option<RowImage>,
    /// The row after, or the message; `None` for deletes and truncations.
    pub after: Option<RowImage>,
    /// The change's own position. Shared by the rows of one log record; not ascending across transactions.
    pub position: P,
    /// Position at which its transaction committed; ascending in delivery order.
    pub commit: P,
    /// The transaction.
    pub transaction: TransactionId,
    /// Counts the transaction's changes from 1, before any filter.
    pub ordinal: u64,
    /// Commit time (for reads: the time of the read), microseconds since 1970.
    pub source_time_us: i64,
    /// For sources without a total order.
    pub version: ChangeVersion,
    /// How it came to be.
    pub capture: Capture,
    /// Where it was made first, when it came to the source by replication from another database and the log says so.
    pub origin: Option<Arc<ChangeOrigin<P>>>,
}

/// Another database in which a transaction was made before it came to the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeOrigin<P> {
    /// The source's own name for it.
    pub name: String,
    /// Where the transaction committed there, where the log says so.
    pub position: Option<P>,
}

impl<P> Change<P> {
    /// The table.
    pub fn table(&self) -> TableId {
        self.schema.id
    }

    /// The key after the change; of a delete the key before it. `None` for truncations and tables without a key.
    pub fn key(&self) -> Option<Key> {
        self.after
            .as_ref()
            .or(self.before.as_ref())
            .and_then(|image| self.schema.key_of(image))
    }

    /// The key before the change where it differs from [`Change::key`] (the row moved to another key).
    pub fn old_key(&self) -> Option<Key> {
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return None;
        };
        let old = self.schema.key_of(before)?;
        (Some(&old) != self.schema.key_of(after).as_ref()).then_some(old)
    }

    /// Whether the row after lacks columns that the log left out as unchanged.
    pub fn is_partial(&self) -> bool {
        self.after.as_ref().is_some_and(RowImage::is_partial)
    }
}

/// One item of a log, in the log's order.
// Changes are by far the most items, so boxing them would cost an allocation each to save room in the rare rest.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum LogItem<P> {
    /// A transaction starts; its changes follow until its [`LogItem::Commit`].
    Begin {
        /// The transaction.
        transaction: TransactionId,
        /// Where it commits.
        commit: P,
    },
    /// A change of the transaction that is open.
    Change(Change<P>),
    /// The transaction ends. Everything at or before `position` is delivered.
    Commit {
        /// The transaction.
        transaction: TransactionId,
        /// The end of the transaction: a log opened here delivers what comes after it.
        position: P,
    },
    /// From here on the table's changes follow this shape. Comes before the first change that does, again after each
    /// reconnection, inside or between transactions.
    Schema(Arc<TableSchema>),
    /// A mark of this run.
    Watermark {
        /// Which.
        mark: MarkId,
        /// Where it stands.
        position: P,
    },
    /// Everything at or before this position is delivered; comes also when the source is idle, between transactions only.
    Progress(P),
}
