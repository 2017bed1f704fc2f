// SPDX-License-Identifier: Apache-2.0
//! Transactions that came before they committed: kept as they came, replayed in one go.
//!
//! A message is kept as a frame, so that the same splitter that cuts the server's stream cuts what is read back:
//!
//! ```text
//! tag  length  position                payload          a row, a truncation, a logical message
//! 'd'   i32      u64     the pgoutput message as it came
//! 'R'   i32      u64     u64 arrival, then the message   a relation
//! ```

use super::relations::{Entry, Scope};
use crate::position::PgPosition;
use crate::protocol::stream_messages::xid_in_piece;
use crate::protocol::{FieldReader, Lsn, ProtocolError};
use highwater_core::change::ChangeOrigin;
use highwater_core::{Error, ErrorKind};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The most sub-transactions of one transaction that were rolled back after they were sent, and are remembered for that:
/// 16 MiB of numbers.
const ABORTED_MAX: usize = 4 << 20;

const ROW: u8 = b'd';
const RELATION: u8 = b'R';

/// One transaction.
#[derive(Debug, Default)]
pub(super) struct HeldTransaction {
    /// Frames that are not in the spill file.
    tail: Vec<u8>,
    /// Whether payloads bear the id of their (sub-)transaction.
    pub(super) in_pieces: bool,
    /// Sub-transactions that were rolled back, as distances from the top-level transaction's id, ascending.
    aborted: Vec<u32>,
    /// Where it was applied first.
    pub(super) origin: Option<Arc<ChangeOrigin<PgPosition>>>,
    /// What the connection knew of the relations of its rows that it does not announce itself.
    known_before: Scope,
    announced: HashSet<u32>,
}

impl HeldTransaction {
    /// Notes which relation a row follows: the one announced within the transaction, or the connection's of this moment.
    pub(super) fn refers(&mut self, oid: u32, of_connection: Option<&Entry>) {
        if !self.announced.contains(&oid)
            && !self.known_before.contains_key(&oid)
            && let Some(entry) = of_connection
        {
            self.known_before.insert(oid, entry.clone());
        }
    }

    /// The relations that its replay begins with.
    pub(super) fn take_scope(&mut self) -> Scope {
        std::mem::take(&mut self.known_before)
    }

    /// Whether `xid` was rolled back.
    #[inline]
    pub(super) fn is_aborted(&self, top: u32, xid: u32) -> bool {
        !self.aborted.is_empty() && self.aborted.binary_search(&xid.wrapping_sub(top)).is_ok()
    }

    /// Notes that `xid`, below `top`, was rolled back. It makes no further change, for ids are not used again.
    fn abort(&mut self, top: u32, xid: u32) -> Result<(), Error> {
        let distance = xid.wrapping_sub(top);
        if let Err(place) = self.aborted.binary_search(&distance) {
            if self.aborted.len() >= ABORTED_MAX {
                let what =
                    format!("a transaction rolled back more than {ABORTED_MAX} sub-transactions after they were sent");
                return Err(Error::new(ErrorKind::LimitReached, what)
                    .with("transaction", top)
                    .with_fix("set `streaming: off`, so that the server keeps large transactions until they commit"));
            }
            self.aborted.insert(place, distance);
        }
        Ok(())
    }

    /// The frames that are not in the spill file.
    pub(super) fn take_tail(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.tail)
    }
}

/// All of them, by the id of the top-level transaction.
#[derive(Debug, Default)]
pub(super) struct HeldTransactions {
    all: HashMap<u32, HeldTransaction>,
    /// Of all tails.
    memory_bytes: usize,
    /// Dropped, with their spill files to be dropped yet.
    dropped: Vec<u32>,
}

impl HeldTransactions {
    /// Begins to hold a transaction; `false` if it is held already.
    pub(super) fn begin(&mut self, xid: u32, in_pieces: bool) -> bool {
        if self.all.contains_key(&xid) {
            return false;
        }
        let held = HeldTransaction {
            in_pieces,
            ..HeldTransaction::default()
        };
        self.all.insert(xid, held);
        true
    }

    pub(super) fn contains(&self, xid: u32) -> bool {
        self.all.contains_key(&xid)
    }

    pub(super) fn get_mut(&mut self, xid: u32) -> Option<&mut HeldTransaction> {
        self.all.get_mut(&xid)
    }

    /// Keeps a row, truncation or logical message of `xid`.
    #[inline]
    pub(super) fn keep(&mut self, xid: u32, lsn: Lsn, payload: &[u8]) {
        self.push(xid, ROW, lsn, &[], payload);
    }

    /// Keeps an announcement within `xid`.
    pub(super) fn keep_relation(&mut self, xid: u32, lsn: Lsn, arrival: u64, oid: u32, payload: &[u8]) {
        self.push(xid, RELATION, lsn, &arrival.to_be_bytes(), payload);
        if let Some(held) = self.all.get_mut(&xid)
            && !held.in_pieces
        {
            held.announced.insert(oid);
        }
    }

    #[inline]
    fn push(&mut self, xid: u32, tag: u8, lsn: Lsn, arrival: &[u8], payload: &[u8]) {
        let Some(held) = self.all.get_mut(&xid) else { return };
        // The server's own messages are shorter than 1 GiB, and were accepted with more around them.
        let length = (4 + 8 + arrival.len() + payload.len()) as u32;
        let tail = &mut held.tail;
        let before = tail.len();
        tail.push(tag);
        tail.extend_from_slice(&length.to_be_bytes());
        tail.extend_from_slice(&lsn.0.to_be_bytes());
        tail.extend_from_slice(arrival);
        tail.extend_from_slice(payload);
        self.memory_bytes += tail.len() - before;
    }

    /// Notes that a part of a transaction was rolled back.
    pub(super) fn abort_part(&mut self, xid: u32, subxid: u32) -> Result<(), Error> {
        match self.all.get_mut(&xid) {
            Some(held) => held.abort(xid, subxid),
            None => Ok(()),
        }
    }

    /// Forgets a transaction with all that was kept of it.
    pub(super) fn discard(&mut self, xid: u32) {
        if let Some(held) = self.all.remove(&xid) {
            self.memory_bytes -= held.tail.len();
            self.dropped.push(xid);
        }
    }

    /// Hands a transaction over to be replayed.
    pub(super) fn take(&mut self, xid: u32) -> Option<HeldTransaction> {
        let held = self.all.remove(&xid)?;
        self.memory_bytes -= held.tail.len();
        Some(held)
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The transaction with the most bytes in memory, and these, which are no longer there.
    pub(super) fn take_largest(&mut self) -> Option<(u32, Vec<u8>)> {
        let (xid, held) = self.all.iter_mut().max_by_key(|(_, held)| held.tail.len())?;
        let tail = held.take_tail();
        self.memory_bytes -= tail.len();
        Some((*xid, tail)).filter(|(_, tail)| !tail.is_empty())
    }

    /// Transactions that were discarded since the last call.
    pub(super) fn take_dropped(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dropped)
    }
}

/// What was kept, read back.
#[derive(Debug)]
pub(super) enum Kept {
    /// A row, truncation or logical message.
    Message,
    /// A relation, with the number of its arrival.
    Relation(u64),
}

/// A frame's position, kind and the offset of its payload in the frame's body.
pub(super) fn read_kept(tag: u8, body: &[u8]) -> Result<(Lsn, Kept, usize), ProtocolError> {
    let mut reader = FieldReader::new("kept", body);
    let lsn = Lsn(reader.u64("position")?);
    let kept = match tag {
        ROW => Kept::Message,
        RELATION => Kept::Relation(reader.u64("arrival")?),
        _ => return Err(reader.malformed("unknown kind of a kept message")),
    };
    Ok((lsn, kept, reader.offset()))
}

/// The (sub-)transaction of a message of a piece.
pub(super) fn xid_of(payload: &[u8]) -> Result<u32, ProtocolError> {
    xid_in_piece(payload).ok_or_else(|| ProtocolError::malformed("pgoutput", "transaction id of a message in a piece"))
}
