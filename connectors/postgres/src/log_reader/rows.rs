// SPDX-License-Identifier: Apache-2.0
//! What a transaction consists of: rows, truncations and logical messages, counted and made into items.

use super::DecodeFailure;
use super::decoder::{Decoder, Items, OpenTransaction};
use super::relation::CapturedRelation;
use super::relations::Known;
use crate::position::PgPosition;
use crate::protocol::pgoutput::{LogicalMessage, PgOutput, Relation};
use crate::protocol::{Lsn, ProtocolError};
use crate::watermark::{MARK_PREFIX, Mark, decode_mark};
use bytes::Bytes;
use highwater_core::change::{LogItem, Op};
use highwater_core::image::RowImage;
use highwater_core::position::{InsideTransaction, TransactionId};
use highwater_core::{Error, ErrorKind};
use std::sync::Arc;

impl Decoder {
    /// A message of the transaction that is open.
    #[inline]
    pub(super) fn content(
        &mut self,
        message: PgOutput<'_>,
        lsn: Lsn,
        payload: Bytes,
        items: &mut Items,
    ) -> Result<(), DecodeFailure> {
        match message {
            PgOutput::Insert { relation, new } => self.row(relation, Op::Create, lsn, items, |captured| {
                Ok((None, Some(captured.image(new, payload)?)))
            }),
            PgOutput::Update { relation, old, new } => self.row(relation, Op::Update, lsn, items, |captured| {
                captured.update(old, new, payload)
            }),
            PgOutput::Delete { relation, old } => self.row(relation, Op::Delete, lsn, items, |captured| {
                Ok((Some(captured.old_image(old, payload)?), None))
            }),
            PgOutput::Truncate { relations, .. } => relations
                .into_iter()
                .try_for_each(|relation| self.row(relation, Op::Truncate, lsn, items, |_| Ok((None, None)))),
            PgOutput::Message(message) => self.logical_message(&message, items),
            _ => Ok(()),
        }
    }

    fn logical_message(&mut self, message: &LogicalMessage<'_>, items: &mut Items) -> Result<(), DecodeFailure> {
        if message.prefix == MARK_PREFIX {
            return self.mark(message, items);
        }
        if message.transactional && self.messages.selects(message.prefix) && !self.counts_as_delivered(message.lsn)? {
            self.captured_message(message, items);
        }
        Ok(())
    }

    /// A message with the prefix of marks.
    pub(super) fn mark(&mut self, message: &LogicalMessage<'_>, items: &mut Items) -> Result<(), DecodeFailure> {
        match decode_mark(message.content, &self.slot, self.run).map_err(DecodeFailure::Core)? {
            Mark::Ours(mark) => items.push(LogItem::Watermark {
                mark,
                position: PgPosition(message.lsn),
            }),
            Mark::Foreign => self.foreign_marks += 1,
        }
        Ok(())
    }

    /// Counts a change, before any filter, or a message that is captured; whether an earlier run delivered it.
    #[inline]
    pub(super) fn counts_as_delivered(&mut self, lsn: Lsn) -> Result<bool, DecodeFailure> {
        let Some(transaction) = &mut self.transaction else {
            return Err(outside("row"));
        };
        transaction.ordinal += 1;
        let Some(inside) = &transaction.skip else {
            return Ok(transaction.delivered_before);
        };
        if transaction.ordinal == inside.ordinal && PgPosition(lsn) != inside.change {
            return Err(DecodeFailure::Core(split_transaction_gone(inside, transaction.id)));
        }
        Ok(transaction.ordinal <= inside.ordinal)
    }

    /// Has the row that was just counted come again once its table was looked up.
    fn again_after(&mut self, announced: Arc<Relation>) {
        self.announced = Some(announced);
        self.again = true;
        if let Some(transaction) = &mut self.transaction {
            transaction.ordinal -= 1;
        }
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
        if self.counts_as_delivered(lsn)? {
            return Ok(());
        }
        let Some(transaction) = &self.transaction else {
            return Err(outside("row"));
        };
        let captured = match self.relations.get(relation) {
            Some(Known::Captured(captured)) => captured,
            Some(Known::PassedOver { .. }) => return Ok(()),
            Some(Known::Announced(_)) | None => {
                let what = "a row of a relation that was not announced";
                return Err(ProtocolError::malformed("pgoutput", what).into());
            }
        };
        let (before, after) = images(captured)?;
        if let Some(announced) = after.as_ref().and_then(|row| self.looked_up.due(captured, row)) {
            self.again_after(announced);
            return Ok(());
        }
        let change = transaction.change(&captured.schema, op, lsn, before, after);
        items.push(LogItem::Change(change));
        Ok(())
    }
}

/// A message stands where no transaction is open.
pub(super) fn outside(message: &'static str) -> DecodeFailure {
    ProtocolError::malformed(message, "outside a transaction").into()
}

/// Fails if an earlier run delivered more of a transaction than came now.
pub(super) fn check_whole(transaction: &OpenTransaction) -> Result<(), DecodeFailure> {
    match &transaction.skip {
        Some(inside) if inside.ordinal > transaction.ordinal => {
            Err(DecodeFailure::Core(split_transaction_gone(inside, transaction.id)))
        }
        _ => Ok(()),
    }
}

/// The checkpoint lies inside a transaction, and the log does not bring that transaction again as it was.
pub(super) fn split_transaction_gone(inside: &InsideTransaction<PgPosition>, found: TransactionId) -> Error {
    let what = "the transaction that the checkpoint splits does not come again as it was";
    Error::new(ErrorKind::PositionLost, what)
        .with("transaction", inside.transaction)
        .with("found", found)
        .with("ordinal", inside.ordinal)
        .with_fix(
            "was the publication changed, `messages.prefixes`, or the slot advanced by another program? settings can be set back \
             until the transaction is past; else, to go on: `highwater renew --force`, which copies every table again",
        )
}
