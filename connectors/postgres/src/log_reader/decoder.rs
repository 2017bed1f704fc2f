// SPDX-License-Identifier: Apache-2.0
//! Frames in, log items out, without I/O.

use super::DecodeFailure;
use super::relation::CapturedRelation;
use crate::position::{PgPosition, XidEpoch};
use crate::protocol::framing::FrameBatch;
use crate::protocol::pgoutput::{self, Begin, Commit, LogicalMessage, PgOutput, Relation};
use crate::protocol::replication::{Keepalive, POSTGRES_EPOCH_UNIX_US, StreamMessage, XLogData, parse_stream_message};
use crate::protocol::{Lsn, ProtocolError};
use crate::selection::Selection;
use crate::watermark::{MARK_PREFIX, Mark, decode_mark};
use bytes::Bytes;
use highwater_core::change::{Capture, Change, ChangeVersion, LogItem, Op};
use highwater_core::image::RowImage;
use highwater_core::position::{InsideTransaction, ResumePoint, RunId, TransactionId};
use highwater_core::{Error, ErrorKind};
use std::collections::HashMap;
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
}

/// What is known of a relation.
#[derive(Debug)]
enum Known {
    Captured(CapturedRelation),
    /// Published and not selected, as of this generation of the selection.
    PassedOver {
        relation: Relation,
        generation: u64,
    },
}

/// A transaction whose end has not come yet.
#[derive(Debug)]
struct OpenTransaction {
    id: TransactionId,
    commit: PgPosition,
    time_us: i64,
    ordinal: u64,
    /// What an earlier run delivered of it.
    skip: Option<InsideTransaction<PgPosition>>,
}

/// The state between frames.
#[derive(Debug)]
pub(super) struct Decoder {
    slot: String,
    run: RunId,
    selection: Arc<Selection>,
    xids: XidEpoch,
    relations: HashMap<u32, Known>,
    announced: Option<Relation>,
    transaction: Option<OpenTransaction>,
    inside: Option<InsideTransaction<PgPosition>>,
    delivered: PgPosition,
    foreign_marks: u64,
    reply_requested: bool,
}

type Items = Vec<LogItem<PgPosition>>;

impl Decoder {
    pub(super) fn new(
        slot: String,
        run: RunId,
        selection: Arc<Selection>,
        xids: XidEpoch,
        start: ResumePoint<PgPosition>,
    ) -> Self {
        Self {
            slot,
            run,
            selection,
            xids,
            relations: HashMap::new(),
            announced: None,
            transaction: None,
            inside: start.inside,
            delivered: start.position,
            foreign_marks: 0,
            reply_requested: false,
        }
    }

    /// The relation that waits for its schema.
    pub(super) fn announced(&self) -> Option<&Relation> {
        self.announced.as_ref()
    }

    /// Gives the announced relation its schema.
    pub(super) fn adopt(&mut self, captured: CapturedRelation) {
        if let Some(relation) = self.announced.take() {
            self.relations.insert(relation.oid, Known::Captured(captured));
        }
    }

    /// Everything at or before was delivered.
    pub(super) fn delivered(&self) -> PgPosition {
        self.delivered
    }

    pub(super) fn foreign_marks(&self) -> u64 {
        self.foreign_marks
    }

    /// Whether the server asked for a status update since the last call.
    pub(super) fn take_reply_requested(&mut self) -> bool {
        std::mem::take(&mut self.reply_requested)
    }

    /// Turns frames into items until one of the reasons of [`Step`]; `items` grows to `length_max` or a little more.
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
            match frame.tag {
                b'd' => match parse_stream_message(frame.body)? {
                    StreamMessage::XLogData(data) => {
                        if self.reconsider(data.payload) {
                            // Comes again once the table's schema was found out.
                            batch.rewind(offset);
                        } else {
                            let start = frame.body_start + data.payload_start;
                            let payload = block.slice(start..start + data.payload.len());
                            self.change(&data, payload, items)?;
                        }
                        if self.announced.is_some() {
                            return Ok(Step::RelationUnknown);
                        }
                    }
                    StreamMessage::Keepalive(keepalive) => self.keepalive(&keepalive, items),
                },
                b'E' => return Err(DecodeFailure::Core(server_error(frame.body))),
                b'N' | b'S' => {}
                b'c' | b'C' | b'Z' => {
                    let what = "the server ended the stream of changes; it is shutting down or was promoted";
                    return Err(DecodeFailure::Core(Error::new(ErrorKind::Unreachable, what)));
                }
                tag => {
                    return Err(ProtocolError::Unexpected {
                        tag,
                        state: "in a stream of changes",
                    }
                    .into());
                }
            }
        }
        Ok(if batch.is_exhausted() {
            Step::Drained
        } else {
            Step::Full
        })
    }

    /// Whether the row message belongs to a relation that was passed over and is selected by now; it is announced then.
    fn reconsider(&mut self, payload: &[u8]) -> bool {
        let [b'I' | b'U' | b'D', a, b, c, d, ..] = payload else {
            return false;
        };
        let oid = u32::from_be_bytes([*a, *b, *c, *d]);
        let Some(Known::PassedOver { relation, generation }) = self.relations.get_mut(&oid) else {
            return false;
        };
        let current = self.selection.generation();
        if *generation == current {
            return false;
        }
        *generation = current;
        let selected = self.selection.selects(&CapturedRelation::name_of(relation));
        if selected {
            self.announced = Some(relation.clone());
        }
        selected
    }

    fn keepalive(&mut self, keepalive: &Keepalive, items: &mut Items) {
        self.reply_requested |= keepalive.reply_requested;
        if self.transaction.is_some() {
            return;
        }
        self.delivered = self.delivered.max(PgPosition(keepalive.end));
        match items.last_mut() {
            Some(LogItem::Progress(position)) => *position = self.delivered,
            _ => items.push(LogItem::Progress(self.delivered)),
        }
    }

    fn change(&mut self, data: &XLogData<'_>, payload: Bytes, items: &mut Items) -> Result<(), DecodeFailure> {
        match pgoutput::decode(data.payload)? {
            PgOutput::Insert { relation, new } => self.row(relation, Op::Create, data.start, items, |captured| {
                Ok((None, Some(captured.image(new, payload)?)))
            }),
            PgOutput::Update { relation, old, new } => self.row(relation, Op::Update, data.start, items, |captured| {
                captured.update(old, new, payload)
            }),
            PgOutput::Delete { relation, old } => self.row(relation, Op::Delete, data.start, items, |captured| {
                Ok((Some(captured.old_image(old, payload)?), None))
            }),
            PgOutput::Truncate { relations, .. } => relations
                .into_iter()
                .try_for_each(|relation| self.row(relation, Op::Truncate, data.start, items, |_| Ok((None, None)))),
            PgOutput::Begin(begin) => self.begin(&begin, items),
            PgOutput::Commit(commit) => self.commit(&commit, items),
            PgOutput::Relation(relation) => {
                self.relation(relation);
                Ok(())
            }
            PgOutput::Message(message) => self.message(&message, items),
            PgOutput::Type { .. } | PgOutput::Origin { .. } => Ok(()),
        }
    }

    fn relation(&mut self, relation: Relation) {
        if self.selection.selects(&CapturedRelation::name_of(&relation)) {
            self.announced = Some(relation);
        } else {
            let generation = self.selection.generation();
            self.relations
                .insert(relation.oid, Known::PassedOver { relation, generation });
        }
    }

    fn begin(&mut self, begin: &Begin, items: &mut Items) -> Result<(), DecodeFailure> {
        if self.transaction.is_some() {
            let what = "a transaction begins inside another";
            return Err(ProtocolError::Malformed { message: "Begin", what }.into());
        }
        let id = self.xids.whole(begin.xid);
        let commit = PgPosition(begin.final_lsn);
        let skip = match self.inside.take() {
            Some(inside) if inside.transaction == id => Some(inside),
            Some(inside) => return Err(DecodeFailure::Core(split_transaction_gone(&inside, id))),
            None => None,
        };
        let time_us = begin.commit_time_us.saturating_add(POSTGRES_EPOCH_UNIX_US);
        self.transaction = Some(OpenTransaction {
            id,
            commit,
            time_us,
            ordinal: 0,
            skip,
        });
        items.push(LogItem::Begin {
            transaction: id,
            commit,
        });
        Ok(())
    }

    fn commit(&mut self, commit: &Commit, items: &mut Items) -> Result<(), DecodeFailure> {
        let Some(transaction) = self.transaction.take() else {
            return Err(outside("Commit"));
        };
        if let Some(inside) = transaction.skip.filter(|inside| inside.ordinal > transaction.ordinal) {
            return Err(DecodeFailure::Core(split_transaction_gone(&inside, transaction.id)));
        }
        self.delivered = PgPosition(commit.end_lsn);
        items.push(LogItem::Commit {
            transaction: transaction.id,
            position: self.delivered,
        });
        Ok(())
    }

    fn message(&mut self, message: &LogicalMessage<'_>, items: &mut Items) -> Result<(), DecodeFailure> {
        if message.prefix == MARK_PREFIX {
            match decode_mark(message.content, &self.slot, self.run).map_err(DecodeFailure::Core)? {
                Mark::Ours(mark) => items.push(LogItem::Watermark {
                    mark,
                    position: PgPosition(message.lsn),
                }),
                Mark::Foreign => self.foreign_marks += 1,
            }
        }
        Ok(())
    }

    /// Counts a change, and appends it unless its table is passed over or an earlier run delivered it.
    #[inline]
    fn row(
        &mut self,
        relation: u32,
        op: Op,
        lsn: Lsn,
        items: &mut Items,
        images: impl FnOnce(&CapturedRelation) -> Result<(Option<RowImage>, Option<RowImage>), DecodeFailure>,
    ) -> Result<(), DecodeFailure> {
        let Some(transaction) = &mut self.transaction else {
            return Err(outside("row"));
        };
        transaction.ordinal += 1;
        let position = PgPosition(lsn);
        if let Some(inside) = &transaction.skip {
            if transaction.ordinal == inside.ordinal && position != inside.change {
                return Err(DecodeFailure::Core(split_transaction_gone(inside, transaction.id)));
            }
            if transaction.ordinal <= inside.ordinal {
                return Ok(());
            }
        }
        let captured = match self.relations.get(&relation) {
            Some(Known::Captured(captured)) => captured,
            Some(Known::PassedOver { .. }) => return Ok(()),
            None => {
                let what = "a row of a relation that was not announced";
                return Err(ProtocolError::Malformed {
                    message: "pgoutput",
                    what,
                }
                .into());
            }
        };
        let (before, after) = images(captured)?;
        items.push(LogItem::Change(Change {
            schema: captured.schema.clone(),
            op,
            before,
            after,
            position,
            commit: transaction.commit,
            transaction: transaction.id,
            ordinal: transaction.ordinal,
            source_time_us: transaction.time_us,
            version: ChangeVersion::InOrder,
            capture: Capture::Log,
        }));
        Ok(())
    }
}

fn outside(message: &'static str) -> DecodeFailure {
    ProtocolError::Malformed {
        message,
        what: "outside a transaction",
    }
    .into()
}

/// The checkpoint lies inside a transaction, and the log does not bring that transaction again as it was.
fn split_transaction_gone(inside: &InsideTransaction<PgPosition>, found: TransactionId) -> Error {
    let what = "the transaction that the checkpoint splits does not come again as it was";
    Error::new(ErrorKind::PositionLost, what)
        .with("transaction", inside.transaction)
        .with("found", found)
        .with("ordinal", inside.ordinal)
        .with_fix(
            "was the publication changed, or the slot advanced by another program? start anew with a new snapshot",
        )
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
