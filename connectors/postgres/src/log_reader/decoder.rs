// SPDX-License-Identifier: Apache-2.0
//! Frames in, log items out, without I/O.
//!
//! Two streams of frames go through the same code: the server's ([`Decoder::run`]), and, when a transaction that was held
//! commits, what was kept of it ([`Decoder::replay`]). The second is read to its end before the first goes on.

use super::DecodeFailure;
use super::held::{HeldTransactions, Kept, read_kept, xid_of};
use super::labels::LookedUp;
use super::messages::Messages;
use super::prepared::PreparedLedger;
use super::relation::CapturedRelation;
use super::relations::Relations;
use crate::position::{PgPosition, XidEpoch};
use crate::protocol::framing::FrameBatch;
use crate::protocol::pgoutput::{self, PgOutput, Relation};
use crate::protocol::replication::{Keepalive, StreamMessage, XLogData, parse_stream_message};
use crate::protocol::{Lsn, ProtocolError};
use crate::selection::Selection;
use highwater_core::change::{Capture, Change, ChangeOrigin, ChangeVersion, LogItem, Op};
use highwater_core::image::RowImage;
use highwater_core::position::{InsideTransaction, ResumePoint, RunId, TransactionId};
use highwater_core::schema::TableSchema;
use highwater_core::{Error, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

/// Where a run over frames stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// At the end of the frames.
    Drained,
    /// At the most items that were wanted.
    Full,
    /// At a relation whose schema must be found out first; see [`Decoder::announced`].
    RelationUnknown,
    /// More is kept in memory than may be; see [`Decoder::take_spill`].
    SpillDue,
    /// A transaction that was held commits; see [`Decoder::replaying`].
    ReplayDue,
}

/// What follows a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Message,
    SpillDue,
    ReplayDue,
    RelationUnknown,
}

/// A transaction whose end has not come yet.
#[derive(Debug)]
pub(super) struct OpenTransaction {
    pub(super) id: TransactionId,
    pub(super) commit: PgPosition,
    pub(super) time_us: i64,
    pub(super) ordinal: u64,
    pub(super) origin: Option<Arc<ChangeOrigin<PgPosition>>>,
    /// What an earlier run delivered of it.
    pub(super) skip: Option<InsideTransaction<PgPosition>>,
    /// An earlier run delivered all of it.
    pub(super) delivered_before: bool,
}

impl OpenTransaction {
    /// The change of it that was just counted.
    #[inline]
    pub(super) fn change(
        &self,
        schema: &Arc<TableSchema>,
        op: Op,
        lsn: Lsn,
        before: Option<RowImage>,
        after: Option<RowImage>,
    ) -> Change<PgPosition> {
        Change {
            schema: schema.clone(),
            op,
            before,
            after,
            position: PgPosition(lsn),
            commit: self.commit,
            transaction: self.id,
            ordinal: self.ordinal,
            source_time_us: self.time_us,
            version: ChangeVersion::InOrder,
            capture: Capture::Log,
            origin: self.origin.clone(),
        }
    }
}

/// What the messages that come now belong to, beside the transactions that come whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Nothing.
    None,
    /// A piece of this transaction.
    Piece(u32),
    /// This transaction, which was prepared.
    Prepare(u32),
}

/// A transaction that was held and is delivered now.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) xid: u32,
    pub(super) held: super::held::HeldTransaction,
    pub(super) end: PgPosition,
}

/// The state between frames.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) slot: String,
    pub(super) run: RunId,
    pub(super) selection: Arc<Selection>,
    pub(super) xids: XidEpoch,
    pub(super) relations: Relations,
    pub(super) announced: Option<Arc<Relation>>,
    pub(super) looked_up: LookedUp,
    /// The row that was read comes again, once its table was looked up.
    pub(super) again: bool,
    pub(super) transaction: Option<OpenTransaction>,
    pub(super) section: Section,
    pub(super) held: HeldTransactions,
    pub(super) replay: Option<Replay>,
    pub(super) ledger: PreparedLedger,
    pub(super) messages: Messages,
    memory_bytes_max: usize,
    pub(super) inside: Option<InsideTransaction<PgPosition>>,
    /// Where the checkpoint lies: what commits before it was delivered by an earlier run.
    pub(super) start: PgPosition,
    pub(super) delivered: PgPosition,
    pub(super) foreign_marks: u64,
    reply_requested: bool,
}

pub(super) type Items = Vec<LogItem<PgPosition>>;

impl Decoder {
    pub(super) fn new(
        slot: String,
        run: RunId,
        selection: Arc<Selection>,
        xids: XidEpoch,
        start: ResumePoint<PgPosition>,
        memory_bytes_max: usize,
    ) -> Self {
        Self {
            slot,
            run,
            selection,
            xids,
            relations: Relations::default(),
            announced: None,
            looked_up: LookedUp::default(),
            again: false,
            transaction: None,
            section: Section::None,
            held: HeldTransactions::default(),
            replay: None,
            ledger: PreparedLedger::default(),
            messages: Messages::default(),
            memory_bytes_max,
            inside: start.inside,
            start: start.position,
            delivered: start.position,
            foreign_marks: 0,
            reply_requested: false,
        }
    }

    /// The relation that waits for its schema.
    pub(super) fn announced(&self) -> Option<&Relation> {
        self.announced.as_deref()
    }

    /// Gives the announced relation its schema.
    pub(super) fn adopt(&mut self, captured: CapturedRelation) {
        if let Some(relation) = self.announced.take() {
            self.relations.resolve(relation.oid, captured);
        }
    }

    /// Everything at or before was delivered.
    pub(super) fn delivered(&self) -> PgPosition {
        self.delivered
    }

    /// How far the server may be told that everything is durable, when everything at or before `position` is.
    pub(super) fn acknowledgeable(&mut self, position: PgPosition) -> Lsn {
        self.ledger.acknowledgeable(position.0)
    }

    pub(super) fn foreign_marks(&self) -> u64 {
        self.foreign_marks
    }

    /// Whether the server asked for a status update since the last call.
    pub(super) fn take_reply_requested(&mut self) -> bool {
        std::mem::take(&mut self.reply_requested)
    }

    /// What is to be written to the file of a transaction, once [`Step::SpillDue`].
    pub(super) fn take_spill(&mut self) -> Option<(u32, Vec<u8>)> {
        self.held.take_largest()
    }

    /// Transactions whose files are not needed any more.
    pub(super) fn take_dropped(&mut self) -> Vec<u32> {
        self.held.take_dropped()
    }

    /// The transaction that is replayed: the frames of its file go to [`Decoder::replay`], then those of
    /// [`Decoder::take_replay_tail`], then [`Decoder::end_replay`] is called.
    pub(super) fn replaying(&self) -> Option<u32> {
        self.replay.as_ref().map(|replay| replay.xid)
    }

    /// The frames of the replayed transaction that are in no file.
    pub(super) fn take_replay_tail(&mut self) -> Vec<u8> {
        self.replay
            .as_mut()
            .map(|replay| replay.held.take_tail())
            .unwrap_or_default()
    }

    /// Turns frames of the server into items until one of the reasons of [`Step`]; `items` grows to `length_max` or a
    /// little more.
    pub(super) fn run(
        &mut self,
        batch: &mut FrameBatch,
        items: &mut Items,
        length_max: usize,
        server_error: impl Fn(&[u8]) -> Error,
    ) -> Result<Step, DecodeFailure> {
        let block = batch.bytes().clone();
        while items.len() < length_max {
            let offset = batch.offset();
            let Some(frame) = batch.next_frame() else {
                return Ok(Step::Drained);
            };
            if frame.tag != b'd' {
                not_of_the_log(frame.tag, frame.body, &server_error)?;
                continue;
            }
            let data = match parse_stream_message(frame.body)? {
                // Where an origin's name is not found, servers before version 15 send its message without content.
                StreamMessage::XLogData(data) if data.payload.is_empty() => continue,
                StreamMessage::XLogData(data) => data,
                StreamMessage::Keepalive(keepalive) => {
                    self.keepalive(&keepalive, items);
                    continue;
                }
            };
            let start = frame.body_start + data.payload_start;
            match self.message(&data, &block, start..start + data.payload.len(), items)? {
                Next::Message => {}
                Next::SpillDue => return Ok(Step::SpillDue),
                Next::ReplayDue => return Ok(Step::ReplayDue),
                Next::RelationUnknown => {
                    // Comes again once the table's schema was found out.
                    batch.rewind(offset);
                    return Ok(Step::RelationUnknown);
                }
            }
        }
        Ok(if batch.is_exhausted() {
            Step::Drained
        } else {
            Step::Full
        })
    }

    /// Turns frames of the replayed transaction into items, as [`Decoder::run`] does those of the server.
    pub(super) fn replay(
        &mut self,
        batch: &mut FrameBatch,
        items: &mut Items,
        length_max: usize,
    ) -> Result<Step, DecodeFailure> {
        let block = batch.bytes().clone();
        while items.len() < length_max {
            let offset = batch.offset();
            let Some(frame) = batch.next_frame() else {
                return Ok(Step::Drained);
            };
            let (lsn, kept, at) = read_kept(frame.tag, frame.body)?;
            let payload = frame.body.get(at..).unwrap_or_default();
            let in_pieces = match &self.replay {
                Some(replay) if replay.held.in_pieces => {
                    if replay.held.is_aborted(replay.xid, xid_of(payload)?) {
                        continue;
                    }
                    true
                }
                _ => false,
            };
            if self.must_be_announced(payload, if in_pieces { 5 } else { 1 }) {
                batch.rewind(offset);
                return Ok(Step::RelationUnknown);
            }
            let start = frame.body_start + at;
            let bytes = block.slice(start..start + payload.len());
            match (decode_kept(payload, in_pieces)?, kept) {
                (PgOutput::Relation(relation), Kept::Relation(arrival)) => {
                    self.relations.announce(relation, arrival, &self.selection);
                }
                (message, _) => self.content(message, lsn, bytes, items)?,
            }
            if std::mem::take(&mut self.again) {
                batch.rewind(offset);
                return Ok(Step::RelationUnknown);
            }
        }
        Ok(if batch.is_exhausted() {
            Step::Drained
        } else {
            Step::Full
        })
    }

    /// A message of the server's output plug-in.
    #[inline]
    fn message(
        &mut self,
        data: &XLogData<'_>,
        block: &bytes::Bytes,
        payload: Range<usize>,
        items: &mut Items,
    ) -> Result<Next, DecodeFailure> {
        if self.section != Section::None {
            return self.hold(data);
        }
        if self.must_be_announced(data.payload, 1) {
            return Ok(Next::RelationUnknown);
        }
        match pgoutput::decode(data.payload)? {
            PgOutput::Relation(relation) => {
                let arrival = self.relations.arrived();
                self.relations.announce(relation, arrival, &self.selection);
                Ok(Next::Message)
            }
            PgOutput::Message(message) if !message.transactional => {
                self.lone_message(&message, data.sent_us, items)?;
                Ok(Next::Message)
            }
            message @ (PgOutput::Insert { .. }
            | PgOutput::Update { .. }
            | PgOutput::Delete { .. }
            | PgOutput::Truncate { .. }
            | PgOutput::Message(_)) => {
                self.content(message, data.start, block.slice(payload), items)?;
                Ok(if std::mem::take(&mut self.again) {
                    Next::RelationUnknown
                } else {
                    Next::Message
                })
            }
            message => self.landmark(&message, items),
        }
    }

    /// Whether the message refers to a relation whose schema must be found out before; it is announced then. Object ids
    /// begin at `at`.
    fn must_be_announced(&mut self, payload: &[u8], at: usize) -> bool {
        let Some(fields) = payload.get(at..) else { return false };
        let oids = match payload.first() {
            Some(b'I' | b'U' | b'D') => fields.get(..4),
            // A count and an octet of options come before the ids.
            Some(b'T') => fields.get(5..),
            _ => return false,
        };
        for oid in oids.unwrap_or_default().chunks_exact(4) {
            let oid = oid.try_into().map(u32::from_be_bytes).unwrap_or_default();
            if let Some(relation) = self.relations.unresolved(oid, &self.selection) {
                self.announced = Some(relation);
                return true;
            }
        }
        false
    }

    /// Whether more is kept in memory than may be.
    pub(super) fn after_keeping(&self) -> Next {
        if self.held.memory_bytes() > self.memory_bytes_max {
            Next::SpillDue
        } else {
            Next::Message
        }
    }

    fn keepalive(&mut self, keepalive: &Keepalive, items: &mut Items) {
        self.reply_requested |= keepalive.reply_requested;
        if self.transaction.is_some() {
            return;
        }
        self.ledger.read(keepalive.end);
        self.delivered = self.delivered.max(PgPosition(keepalive.end));
        match items.last_mut() {
            Some(LogItem::Progress(position)) => *position = self.delivered,
            _ => items.push(LogItem::Progress(self.delivered)),
        }
    }
}

/// A message as it was kept.
#[inline]
pub(super) fn decode_kept(payload: &[u8], in_piece: bool) -> Result<PgOutput<'_>, ProtocolError> {
    if in_piece {
        Ok(pgoutput::decode_in_piece(payload)?.1)
    } else {
        pgoutput::decode(payload)
    }
}

/// What else a server may say while it streams.
fn not_of_the_log(tag: u8, body: &[u8], server_error: &impl Fn(&[u8]) -> Error) -> Result<(), DecodeFailure> {
    match tag {
        b'E' => Err(DecodeFailure::Core(server_error(body))),
        b'N' | b'S' => Ok(()),
        b'c' | b'C' | b'Z' => {
            let what = "the server ended the stream of changes; it is shutting down or was promoted";
            Err(DecodeFailure::Core(Error::new(ErrorKind::Unreachable, what)))
        }
        tag => {
            let state = "in a stream of changes";
            Err(ProtocolError::Unexpected { tag, state }.into())
        }
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "held_tests.rs"]
mod held_tests;

#[cfg(test)]
#[path = "pieces_property_tests.rs"]
mod pieces_property_tests;
