// SPDX-License-Identifier: Apache-2.0
//! How far the source may be acknowledged while prepared transactions are undecided.
//!
//! Once a prepare record is acknowledged the server does not send its rows again: after a restart only the decision comes.
//! So acknowledgement stays at the oldest prepare record that is undecided, or decided by a commit that is not durable at
//! our side yet. A restart asks for the log from there and passes over what was delivered; the checkpoint alone says what
//! that is. Nothing has to be kept by us: the server keeps no more log for it than it would without `two_phase`, for its
//! own restart position cannot pass an undecided transaction either.
//!
//! A connection knows of a prepare record once it has read it. What lies before the checkpoint is read again first, so
//! nothing is acknowledged that this connection has not read, also where the checkpoint is far ahead of it.

use crate::protocol::Lsn;
use std::collections::HashMap;

/// Prepared transactions whose prepare record must come again after a restart.
#[derive(Debug, Default)]
pub(super) struct PreparedLedger {
    /// By transaction: where its prepare record lies.
    undecided: HashMap<u32, Lsn>,
    /// Delivered: where the prepare record lies, and where the record of the commit ends.
    committed: Vec<(Lsn, Lsn)>,
    /// How far this connection has read; `None` where nothing is sent before its commit.
    read: Option<Lsn>,
}

impl PreparedLedger {
    /// That of a connection on which prepared transactions come, which has read nothing yet.
    pub(super) fn two_phase() -> Self {
        Self {
            read: Some(Lsn::ZERO),
            ..Self::default()
        }
    }

    /// The connection has read the log up to `position`.
    #[inline]
    pub(super) fn read(&mut self, position: Lsn) {
        if let Some(read) = &mut self.read {
            *read = position.max(*read);
        }
    }

    pub(super) fn prepared(&mut self, xid: u32, prepare: Lsn) {
        self.undecided.insert(xid, prepare);
    }

    /// The transaction commits at `end`.
    pub(super) fn committed(&mut self, xid: u32, end: Lsn) {
        if let Some(prepare) = self.undecided.remove(&xid) {
            self.committed.push((prepare, end));
        }
    }

    /// The transaction is rolled back: whether its rows come again no longer matters.
    pub(super) fn rolled_back(&mut self, xid: u32) {
        self.undecided.remove(&xid);
    }

    /// Everything at or before `position` is durable at our side: how far the server may be told so.
    pub(super) fn acknowledgeable(&mut self, position: Lsn) -> Lsn {
        self.committed.retain(|(_, end)| *end > position);
        let waiting = self
            .undecided
            .values()
            .chain(self.committed.iter().map(|(prepare, _)| prepare));
        waiting.chain(&self.read).copied().fold(position, Lsn::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgement_waits_for_the_decision_and_for_its_being_durable() {
        let mut ledger = PreparedLedger::default();
        assert_eq!(ledger.acknowledgeable(Lsn(10)), Lsn(10));
        ledger.prepared(1, Lsn(20));
        ledger.prepared(2, Lsn(30));
        assert_eq!(ledger.acknowledgeable(Lsn(15)), Lsn(15), "before all of them");
        assert_eq!(ledger.acknowledgeable(Lsn(99)), Lsn(20));
        ledger.committed(1, Lsn(100));
        assert_eq!(ledger.acknowledgeable(Lsn(99)), Lsn(20), "delivered, not durable");
        assert_eq!(ledger.acknowledgeable(Lsn(100)), Lsn(30));
        ledger.rolled_back(2);
        assert_eq!(ledger.acknowledgeable(Lsn(101)), Lsn(101));
    }

    #[test]
    fn what_lies_before_the_checkpoint_is_not_acknowledged_before_it_is_read_again() {
        let mut ledger = PreparedLedger::two_phase();
        assert_eq!(ledger.acknowledgeable(Lsn(50)), Lsn::ZERO);
        ledger.read(Lsn(10));
        assert_eq!(ledger.acknowledgeable(Lsn(50)), Lsn(10));
        ledger.prepared(1, Lsn(20));
        ledger.read(Lsn(60));
        assert_eq!(ledger.acknowledgeable(Lsn(50)), Lsn(20));
        ledger.rolled_back(1);
        assert_eq!(ledger.acknowledgeable(Lsn(50)), Lsn(50));
    }
}
