// SPDX-License-Identifier: Apache-2.0
//! Points in a log, and the identifiers that travel with them.

use std::fmt::{self, Debug, Display};
use std::hash::Hash;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A point in one database's log: LSN, GTID set, HLC, segment and offset. Opaque outside its connector.
///
/// Guarantees: (1) `a < b` means that everything at `a` was in the log before anything at `b`; (2) `decode(encode(p))`
/// is `p`, also across releases; (3) `Display` is the database's own notation.
pub trait Position: Clone + Ord + Debug + Display + Send + Sync + 'static {
    /// Stable bytes.
    fn encode(&self) -> Vec<u8>;
    /// Reads what [`Position::encode`] wrote. Fails on anything else.
    fn decode(bytes: &[u8]) -> Result<Self>;
}

/// A database transaction: Postgres' 64-bit xid, or a number that the connector keeps unique within its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransactionId(pub u64);

impl Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// Tells one run of one connector from every other: marks of an earlier run are foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunId(pub u128);

impl Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A watermark within one run. The engine numbers them before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MarkId(pub u64);

/// Where a mark can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkPlace<P> {
    /// The log will deliver it as [`crate::change::LogItem::Watermark`] with its id.
    InLog(MarkId),
    /// No mark was written: it counts as seen once everything up to and including this position was delivered.
    AtPosition(P),
}

/// Which history of its database a log is of, in the connector's own bytes: kept in checkpoints beside the position and
/// given back with it, so that a position is not taken for one of another history. Empty where nothing is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Lineage(pub Bytes);

/// Where a log is opened: everything up to `position` was delivered, and of the next transaction perhaps a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint<P> {
    /// The end of the last transaction that was delivered whole.
    pub position: P,
    /// How far the transaction after it was delivered, when a checkpoint split it.
    pub inside: Option<InsideTransaction<P>>,
    /// The history that both are of.
    pub lineage: Lineage,
}

impl<P> ResumePoint<P> {
    /// A point between transactions, of a history of which nothing is known.
    pub fn at(position: P) -> Self {
        ResumePoint {
            position,
            inside: None,
            lineage: Lineage::default(),
        }
    }
}

/// A point inside a transaction that was split over several checkpoints. The log is read again from the transaction's
/// start and what was delivered is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsideTransaction<P> {
    /// Which transaction.
    pub transaction: TransactionId,
    /// Position of the last change that was delivered.
    pub change: P,
    /// How many of the transaction's changes were delivered, counted by the log reader before any filter, from 1:
    /// rows may share a position.
    pub ordinal: u64,
}

/// What a chunk's SELECT could see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadView<P> {
    /// Exactly the committed transactions that this snapshot sees.
    Transactions(TransactionSnapshot),
    /// Exactly the state at this position.
    At(P),
    /// Commit order is visibility order on this source, so the marks alone prove the view.
    Ordered,
}

/// The visibility of a Postgres-like snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TransactionSnapshot {
    /// Every transaction below is visible if it committed.
    pub xmin: u64,
    /// No transaction at or above is visible.
    pub xmax: u64,
    /// Transactions from `xmin` to below `xmax` that are not visible, ascending.
    pub in_progress: Vec<u64>,
}

impl TransactionSnapshot {
    /// Whether a committed transaction is visible.
    pub fn sees(&self, transaction: TransactionId) -> bool {
        let id = transaction.0;
        id < self.xmin || (id < self.xmax && self.in_progress.binary_search(&id).is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_in_progress_or_too_new_is_not_visible() {
        let view = TransactionSnapshot {
            xmin: 10,
            xmax: 20,
            in_progress: vec![10, 15],
        };
        let visible: Vec<u64> = (8..22).filter(|&id| view.sees(TransactionId(id))).collect();
        assert_eq!(visible, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
    }
}
