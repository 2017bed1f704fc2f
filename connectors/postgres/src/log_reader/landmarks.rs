// SPDX-License-Identifier: Apache-2.0
//! Beginnings and ends: of transactions that come whole, of pieces of those that come before they commit, and of prepared
//! ones.

use super::DecodeFailure;
use super::decoder::{Decoder, Items, Next, OpenTransaction, Replay, Section, decode_kept};
use super::held::xid_of;
use super::rows::{check_whole, outside, split_transaction_gone};
use crate::position::PgPosition;
use crate::protocol::pgoutput::{self, Begin, Commit, PgOutput};
use crate::protocol::replication::{POSTGRES_EPOCH_UNIX_US, XLogData};
use crate::protocol::stream_messages::{StreamAbort, StreamStart};
use crate::protocol::two_phase_messages::{CommitPrepared, Prepared};
use crate::protocol::{Lsn, ProtocolError};
use highwater_core::change::{ChangeOrigin, LogItem};
use highwater_core::{Error, ErrorKind};
use std::sync::Arc;

impl Decoder {
    /// Everything outside of pieces but the content of transactions.
    pub(super) fn landmark(&mut self, message: &PgOutput<'_>, items: &mut Items) -> Result<Next, DecodeFailure> {
        match message {
            PgOutput::Begin(begin) => self.begin(begin, items)?,
            PgOutput::Commit(commit) => self.commit(commit, items)?,
            PgOutput::Origin { commit_lsn, name } => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.origin = Some(origin(*commit_lsn, name));
                }
            }
            PgOutput::StreamStart(start) => self.piece(start)?,
            PgOutput::StreamAbort(abort) => self.abort(abort)?,
            PgOutput::StreamCommit(commit) => {
                return self.commit_held(
                    commit.xid,
                    commit.commit_lsn,
                    commit.end_lsn,
                    commit.commit_time_us,
                    items,
                );
            }
            PgOutput::BeginPrepare(prepared) => {
                self.between_transactions("Begin Prepare")?;
                if !self.held.begin(prepared.xid, false) {
                    return Err(ProtocolError::malformed("Begin Prepare", "a transaction that is held already").into());
                }
                self.ledger.prepared(prepared.xid, prepared.prepare_lsn);
                self.section = Section::Prepare(prepared.xid);
            }
            PgOutput::StreamPrepare(prepared) => self.prepared(prepared)?,
            PgOutput::CommitPrepared(commit) => return self.commit_prepared(commit, items),
            PgOutput::RollbackPrepared(rollback) => {
                self.ledger.rolled_back(rollback.xid);
                self.held.discard(rollback.xid);
            }
            PgOutput::StreamStop | PgOutput::Prepare(_) => return Err(outside("the end of a piece")),
            _ => {}
        }
        Ok(Next::Message)
    }

    fn begin(&mut self, begin: &Begin, items: &mut Items) -> Result<(), DecodeFailure> {
        self.between_transactions("Begin")?;
        self.open(begin.xid, begin.final_lsn, begin.commit_time_us, None, items)
    }

    /// Opens a transaction: one that comes whole, or one that was held.
    fn open(
        &mut self,
        xid: u32,
        commit: Lsn,
        commit_time_us: i64,
        origin: Option<Arc<ChangeOrigin<PgPosition>>>,
        items: &mut Items,
    ) -> Result<(), DecodeFailure> {
        let id = self.xids.whole(xid);
        // Asked for once more for the sake of prepared transactions before it; see `prepared`.
        let delivered_before = commit < self.start.0;
        let skip = match self.inside.take() {
            Some(inside) if delivered_before => {
                self.inside = Some(inside);
                None
            }
            Some(inside) if inside.transaction == id => Some(inside),
            Some(inside) => return Err(DecodeFailure::Core(split_transaction_gone(&inside, id))),
            None => None,
        };
        let commit = PgPosition(commit);
        self.transaction = Some(OpenTransaction {
            id,
            commit,
            time_us: commit_time_us.saturating_add(POSTGRES_EPOCH_UNIX_US),
            ordinal: 0,
            origin,
            skip,
            delivered_before,
        });
        if !delivered_before {
            items.push(LogItem::Begin {
                transaction: id,
                commit,
            });
        }
        Ok(())
    }

    fn commit(&mut self, commit: &Commit, items: &mut Items) -> Result<(), DecodeFailure> {
        self.close(PgPosition(commit.end_lsn), items)
    }

    pub(super) fn close(&mut self, end: PgPosition, items: &mut Items) -> Result<(), DecodeFailure> {
        let Some(transaction) = self.transaction.take() else {
            return Err(outside("Commit"));
        };
        check_whole(&transaction)?;
        self.ledger.read(end.0);
        if !transaction.delivered_before {
            self.delivered = end;
            items.push(LogItem::Commit {
                transaction: transaction.id,
                position: end,
            });
        }
        Ok(())
    }

    pub(super) fn between_transactions(&self, message: &'static str) -> Result<(), DecodeFailure> {
        if self.transaction.is_some() {
            let what = "a transaction begins inside another";
            return Err(ProtocolError::Malformed { message, what }.into());
        }
        Ok(())
    }

    fn piece(&mut self, start: &StreamStart) -> Result<(), DecodeFailure> {
        self.between_transactions("Stream Start")?;
        let fits = if start.first {
            self.held.begin(start.xid, true)
        } else {
            self.held.get_mut(start.xid).is_some_and(|held| held.in_pieces)
        };
        if !fits {
            return Err(ProtocolError::malformed("Stream Start", "a piece that does not fit the ones before").into());
        }
        self.section = Section::Piece(start.xid);
        Ok(())
    }

    /// Keeps a message of a transaction that has not committed yet.
    pub(super) fn hold(&mut self, data: &XLogData<'_>) -> Result<Next, DecodeFailure> {
        let (xid, in_piece) = match self.section {
            Section::Piece(xid) => (xid, true),
            Section::Prepare(xid) => (xid, false),
            Section::None => return Err(outside("a piece")),
        };
        match data.payload.first() {
            Some(b'I' | b'U' | b'D' | b'T' | b'M') => {
                if in_piece {
                    xid_of(data.payload)?;
                } else {
                    self.refer(xid, data.payload);
                }
                self.held.keep(xid, data.start, data.payload);
            }
            Some(b'R') => self.hold_relation(xid, in_piece, data)?,
            Some(b'Y') => {}
            _ => self.hold_landmark(xid, in_piece, data.payload)?,
        }
        Ok(self.after_keeping())
    }

    /// The end of a piece or of a prepared transaction, or where it comes from.
    fn hold_landmark(&mut self, xid: u32, in_piece: bool, payload: &[u8]) -> Result<(), DecodeFailure> {
        match pgoutput::decode(payload)? {
            PgOutput::Origin { commit_lsn, name } => {
                if let Some(held) = self.held.get_mut(xid) {
                    held.origin = Some(origin(commit_lsn, name));
                }
            }
            PgOutput::StreamStop if in_piece => self.section = Section::None,
            PgOutput::Prepare(prepared) if !in_piece => {
                self.prepared(&prepared)?;
                self.section = Section::None;
            }
            _ => {
                let (tag, state) = (
                    payload.first().copied().unwrap_or_default(),
                    "in a piece of a transaction",
                );
                return Err(ProtocolError::Unexpected { tag, state }.into());
            }
        }
        Ok(())
    }

    /// A relation inside a transaction that is held. In a piece it is announced for this transaction; in a prepared one
    /// the server counts on it for the connection too.
    fn hold_relation(&mut self, xid: u32, in_piece: bool, data: &XLogData<'_>) -> Result<(), DecodeFailure> {
        let arrival = self.relations.arrived();
        if let PgOutput::Relation(relation) = decode_kept(data.payload, in_piece)? {
            self.held
                .keep_relation(xid, data.start, arrival, relation.oid, data.payload);
            if !in_piece {
                self.relations.announce(relation, arrival, &self.selection);
            }
        }
        Ok(())
    }

    /// Remembers the relations that a message of a prepared transaction follows.
    fn refer(&mut self, xid: u32, payload: &[u8]) {
        let Some(held) = self.held.get_mut(xid) else { return };
        let oids = match payload.first() {
            Some(b'I' | b'U' | b'D') => payload.get(1..5),
            Some(b'T') => payload.get(6..),
            _ => None,
        };
        for oid in oids.unwrap_or_default().chunks_exact(4) {
            let oid = oid.try_into().map(u32::from_be_bytes).unwrap_or_default();
            held.refers(oid, self.relations.entry(oid));
        }
    }

    fn abort(&mut self, abort: &StreamAbort) -> Result<(), DecodeFailure> {
        if abort.xid == abort.subxid {
            self.held.discard(abort.xid);
            return Ok(());
        }
        self.held
            .abort_part(abort.xid, abort.subxid)
            .map_err(DecodeFailure::Core)
    }

    fn prepared(&mut self, prepared: &Prepared<'_>) -> Result<(), DecodeFailure> {
        if !self.held.contains(prepared.xid) {
            return Err(ProtocolError::malformed("Prepare", "a transaction that did not begin").into());
        }
        self.ledger.prepared(prepared.xid, prepared.prepare_lsn);
        Ok(())
    }

    fn commit_prepared(&mut self, commit: &CommitPrepared<'_>, items: &mut Items) -> Result<Next, DecodeFailure> {
        self.ledger.committed(commit.xid, commit.end_lsn.max(self.start.0));
        self.commit_held(
            commit.xid,
            commit.commit_lsn,
            commit.end_lsn,
            commit.commit_time_us,
            items,
        )
    }

    /// A transaction that was held commits: it is replayed, unless an earlier run delivered it.
    fn commit_held(
        &mut self,
        xid: u32,
        commit: Lsn,
        end: Lsn,
        time_us: i64,
        items: &mut Items,
    ) -> Result<Next, DecodeFailure> {
        self.between_transactions("Stream Commit")?;
        if commit < self.start.0 {
            self.held.discard(xid);
            return Ok(Next::Message);
        }
        let Some(mut held) = self.held.take(xid) else {
            return Err(DecodeFailure::Core(content_gone(self.xids.whole(xid), commit)));
        };
        self.open(xid, commit, time_us, held.origin.take(), items)?;
        self.relations.enter(held.take_scope());
        self.replay = Some(Replay {
            xid,
            held,
            end: PgPosition(end),
        });
        Ok(Next::ReplayDue)
    }

    /// Everything that was kept of the replayed transaction has come.
    pub(super) fn end_replay(&mut self, items: &mut Items) -> Result<(), DecodeFailure> {
        let Some(replay) = self.replay.take() else {
            return Err(outside("the end of a replay"));
        };
        self.relations.leave(items);
        self.close(replay.end, items)
    }
}

fn origin(commit: Lsn, name: &str) -> Arc<ChangeOrigin<PgPosition>> {
    Arc::new(ChangeOrigin {
        name: name.to_owned(),
        position: Some(PgPosition(commit)).filter(|position| position.0.is_valid()),
    })
}

/// A prepared transaction commits whose rows the server does not send: it was told that they are durable somewhere.
fn content_gone(transaction: highwater_core::position::TransactionId, commit: Lsn) -> Error {
    let what = "a transaction commits whose rows were acknowledged to the server when it was prepared";
    Error::new(ErrorKind::PositionLost, what)
        .with("transaction", transaction)
        .with("commit", commit)
        .with_fix("was the slot advanced by another program? to go on: `highwater renew --force`, which copies every table again")
}
