// SPDX-License-Identifier: Apache-2.0
//! Messages that other programs write into the log (`pg_logical_emit_message`), as events.
//!
//! One that is part of a transaction is one of its changes: counted with them, delivered with them or never. In pieces the
//! server tells of a message the transaction and not the sub-transaction (`pgoutput_message` in
//! `src/backend/replication/pgoutput/pgoutput.c`), so one that was rolled back looks like any other: where messages are
//! captured, transactions come whole, and those that are not captured are not counted. One that is
//! not is delivered where the server met it, whatever becomes of the transaction that wrote it. It is made a transaction of
//! its own, of no id, that commits where the message's record ends: so the position behind it says whether it was
//! delivered, as it does for every other transaction. The server sends it again if and only if its record ends behind the
//! position from which the log is asked for.

use super::DecodeFailure;
use super::decoder::{Decoder, Items, OpenTransaction};
use crate::position::{NO_TRANSACTION, PgPosition};
use crate::protocol::pgoutput::LogicalMessage;
use crate::protocol::replication::POSTGRES_EPOCH_UNIX_US;
use crate::stream_settings::MessageSettings;
use crate::values::text::{Bytea, Text};
use crate::watermark::MARK_PREFIX;
use highwater_core::change::{LogItem, Op};
use highwater_core::image::RowImage;
use highwater_core::position::InsideTransaction;
use highwater_core::schema::TableSchema;
use std::sync::Arc;

/// Which messages are captured, and their shape.
#[derive(Debug)]
pub(super) struct Messages {
    settings: MessageSettings,
    schema: Arc<TableSchema>,
    /// The shape was told on this connection.
    told: bool,
}

impl Default for Messages {
    fn default() -> Self {
        Self::new(MessageSettings::default())
    }
}

impl Messages {
    pub(super) fn new(settings: MessageSettings) -> Self {
        Self {
            settings,
            schema: Arc::new(TableSchema::messages(Arc::new(Text), Arc::new(Bytea))),
            told: false,
        }
    }

    /// Whether messages with this prefix are captured.
    pub(super) fn selects(&self, prefix: &str) -> bool {
        self.settings.selects(prefix)
    }
}

impl Decoder {
    /// Appends a message that is captured, of the transaction that is open. It was counted already.
    pub(super) fn captured_message(&mut self, message: &LogicalMessage<'_>, items: &mut Items) {
        let Some(transaction) = self.transaction.as_ref() else {
            return;
        };
        if !std::mem::replace(&mut self.messages.told, true) {
            items.push(LogItem::Schema(self.messages.schema.clone()));
        }
        let content = RowImage::from_values(&[Some(message.prefix.as_bytes()), Some(message.content)]);
        let change = transaction.change(&self.messages.schema, Op::Message, message.lsn, None, Some(content));
        items.push(LogItem::Change(change));
    }

    /// A message that belongs to no transaction. Its time is that of its being sent: the log has none of its own.
    pub(super) fn lone_message(
        &mut self,
        message: &LogicalMessage<'_>,
        sent_us: i64,
        items: &mut Items,
    ) -> Result<(), DecodeFailure> {
        if message.prefix == MARK_PREFIX {
            return self.mark(message, items);
        }
        let end = PgPosition(message.lsn);
        // Of a message that a checkpoint split, whether or not it would be captured now, its end is still to be told.
        let is_split =
            |inside: &InsideTransaction<PgPosition>| inside.transaction == NO_TRANSACTION && inside.change == end;
        let skip = self.inside.take_if(|inside| is_split(inside));
        if skip.is_none() && !self.messages.selects(message.prefix) {
            return Ok(());
        }
        self.between_transactions("Message")?;
        // What lies before the transaction that the checkpoint splits was delivered, or not captured then.
        let delivered_before = end <= self.start || self.inside.is_some();
        self.transaction = Some(OpenTransaction {
            id: NO_TRANSACTION,
            commit: end,
            time_us: sent_us.saturating_add(POSTGRES_EPOCH_UNIX_US),
            ordinal: 0,
            origin: None,
            skip,
            delivered_before,
        });
        if !delivered_before {
            let (transaction, commit) = (NO_TRANSACTION, end);
            items.push(LogItem::Begin { transaction, commit });
        }
        if !self.counts_as_delivered(message.lsn)? {
            self.captured_message(message, items);
        }
        self.close(end, items)
    }
}
