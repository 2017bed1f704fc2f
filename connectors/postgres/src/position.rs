// SPDX-License-Identifier: Apache-2.0
//! A Postgres log's positions, and its transaction ids made whole.

use crate::protocol::Lsn;
use highwater_core::position::{Position, TransactionId};
use highwater_core::{Error, ErrorKind, Result};
use std::fmt;

/// The id that stands for no transaction: no transaction of the server has it, and every snapshot sees it.
pub const NO_TRANSACTION: TransactionId = TransactionId(0);

/// A position in the server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgPosition(pub Lsn);

impl fmt::Display for PgPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Position for PgPosition {
    fn encode(&self) -> Vec<u8> {
        self.0.0.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let what = "a postgres position is 8 bytes long, the checkpoint holds another length";
        let bytes = bytes
            .try_into()
            .map_err(|_| Error::new(ErrorKind::CorruptMessage, what))?;
        Ok(Self(Lsn(u64::from_be_bytes(bytes))))
    }
}

/// Restores the upper half of transaction ids, of which pgoutput sends the lower 32 bits.
///
/// The server never lets two ids in use lie 2^31 or more apart (`src/backend/access/transam/varsup.c`), so the id nearest
/// to one that is known whole is the right one. The first is the server's next id when the log is opened; each that is
/// read takes its place, so that a log of any length is followed.
#[derive(Debug, Clone, Copy)]
pub struct XidEpoch {
    nearby: u64,
}

impl XidEpoch {
    /// Starts from the server's next transaction id (`pg_snapshot_xmax(pg_current_snapshot())`).
    pub fn new(next: u64) -> Self {
        Self { nearby: next }
    }

    /// The whole id of `xid`.
    pub fn whole(&mut self, xid: u32) -> TransactionId {
        let distance = xid.wrapping_sub(self.nearby as u32) as i32;
        self.nearby = self.nearby.saturating_add_signed(i64::from(distance));
        TransactionId(self.nearby)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_of_the_epoch_before_are_found_from_the_next_one() {
        let mut epoch = XidEpoch::new((7 << 32) + 5);
        assert_eq!(epoch.whole(0xFFFF_FFF0), TransactionId((6 << 32) + 0xFFFF_FFF0));
        assert_eq!(epoch.whole(3), TransactionId((7 << 32) + 3));
    }

    proptest! {
        #[test]
        fn positions_read_back_and_keep_their_order(a: u64, b: u64) {
            let (a, b) = (PgPosition(Lsn(a)), PgPosition(Lsn(b)));
            prop_assert_eq!(PgPosition::decode(&a.encode())?, a);
            prop_assert_eq!(a < b, a.encode() < b.encode());
        }

        #[test]
        fn foreign_bytes_are_no_position(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(PgPosition::decode(&bytes).is_ok(), bytes.len() == 8);
        }

        #[test]
        fn a_walk_through_the_ids_is_followed_across_epochs(
            start in (1_u64 << 33)..(1 << 60),
            steps in prop::collection::vec(-2_000_000_000_i64..2_000_000_000, 1..50),
        ) {
            let mut epoch = XidEpoch::new(start);
            let mut id = start;
            for step in steps {
                id = id.saturating_add_signed(step);
                prop_assert_eq!(epoch.whole(id as u32), TransactionId(id));
            }
        }
    }
}
