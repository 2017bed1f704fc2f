// SPDX-License-Identifier: Apache-2.0
//! A delete of a row of which nothing is known but the key, as it lies in the topic.
//!
//! The record's key is the stored one, octet for octet, so that the delete reaches the partition, the reader and the
//! compaction of the records that it ends. The row before holds the key's columns: a value looks alike in a key and in a
//! row, so they are cut out and put in, and no value is decoded.

use highwater_core::Result;
use highwater_core::change::{Change, Op};
use highwater_core::schema::TableSchema;
use highwater_core::transport::RecordBatch;
use serde_json::value::RawValue;
use std::collections::HashMap;

use super::encoder::Encoder;
use super::envelope::{Envelope, Images};
use super::explain::explain;
use super::nested::Nested;
use super::plan::{Fail, ImagePlan, Plan};
use super::repeated::Repeated;
use super::settings::Format;
use super::slot::{Kind, Notation, Slot, SlotWriter};
use crate::avro::writer::Avro;
use crate::json::writer::Json;

/// What [`Encoder::encode_gone`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Gone {
    /// The delete and, if the settings say so, its tombstone were appended.
    Appended,
    /// Nothing was appended: call [`Encoder::prepare`] first.
    Prepare,
    /// Nothing was appended: the key was written when the table's key looked otherwise.
    OtherKey,
}

/// The columns of a key: place in the table, and the value's octets; `None`: NULL.
pub(crate) struct StoredKey<'a>(Vec<(usize, Option<&'a [u8]>)>);

impl<P> Encoder<P> {
    /// Appends a delete of the row whose key lies in the topic as `key`. Of `change`, a [`Op::Delete`], all but the images
    /// is written.
    ///
    /// # Errors
    /// A bug, if the source block breaks its contract.
    pub fn encode_gone(&mut self, key: &[u8], change: &Change<P>, now_us: i64, out: &mut RecordBatch) -> Result<Gone> {
        let Some(at) = self.find(change.schema.fingerprint()) else {
            return Ok(Gone::Prepare);
        };
        let Some(plan) = self.plans.get(at) else {
            return Ok(Gone::Prepare);
        };
        let columns = match self.settings.format {
            Format::Avro => avro_columns(plan, key),
            Format::Json => json_columns(plan, key),
        };
        let Some(columns) = columns else {
            return Ok(Gone::OtherKey);
        };
        let envelope = Envelope {
            plan,
            plan_at: at,
            source: &*self.source,
            change,
            now_us,
        };
        let (repeated, format) = (&mut self.scratch.repeated, self.settings.format);
        let written = match format {
            Format::Avro => write::<P, Avro>(&envelope, key, &columns, repeated, out),
            Format::Json => write::<P, Json>(&envelope, key, &columns, repeated, out),
        };
        written.map_err(|fail| explain(&change.schema, fail))?;
        if self.settings.tombstones {
            out.push(Some(key), None, now_us.div_euclid(1_000), Vec::new());
        }
        Ok(Gone::Appended)
    }

    /// What every key of a prepared shape begins with: the id of its schema, in Avro. `None` for a shape that is not
    /// prepared, and for a table without a key.
    pub fn key_begins_with(&self, schema: &TableSchema) -> Option<&[u8]> {
        let at = *self.index.get(&schema.fingerprint())?;
        Some(&self.plans.get(at)?.key.as_ref()?.open)
    }
}

fn write<P, N: Notation>(
    envelope: &Envelope<'_, P>,
    key: &[u8],
    columns: &StoredKey<'_>,
    repeated: &mut Repeated,
    out: &mut RecordBatch,
) -> Result<(), Fail> {
    let images = Images {
        stored: Some(columns),
        ..Images::default()
    };
    let append_key = |buffer: &mut Vec<u8>| {
        buffer.extend_from_slice(key);
        Ok(true)
    };
    out.push_with(envelope.now_us.div_euclid(1_000), Vec::new(), append_key, |buffer| {
        envelope.write::<N>(Op::Delete, images, repeated, buffer)
    })
}

impl ImagePlan {
    /// Writes the row before a change of which only the key is known.
    pub(crate) fn write_stored<'a, N: Notation, W: SlotWriter<'a>>(&self, key: &StoredKey<'_>, writer: &mut W) {
        writer.raw(&self.open);
        for column in &self.columns {
            writer.raw(&column.slot.lead);
            match key.0.iter().find(|(index, _)| *index == column.index) {
                Some((_, Some(value))) => {
                    if column.slot.optional {
                        writer.raw(N::SOME);
                    }
                    writer.raw(value);
                }
                Some((_, None)) if column.slot.optional => writer.raw(N::NONE),
                _ => writer.raw(&column.absent),
            }
        }
        writer.raw(&self.close);
    }
}

fn json_columns<'a>(plan: &Plan, key: &'a [u8]) -> Option<StoredKey<'a>> {
    let of_key = plan.key.as_ref()?;
    // Before the first brace stands the schema, where there is one.
    let frame = of_key.open.strip_suffix(Json::OPEN)?;
    let body = key.strip_prefix(frame)?;
    let close = of_key.close.strip_prefix(Json::CLOSE)?;
    let body = body.strip_suffix(close)?;
    let values: HashMap<String, &'a RawValue> = serde_json::from_slice(body).ok()?;
    let columns: Vec<_> = of_key
        .columns
        .iter()
        .map(|column| {
            let value = values.get(plan.names.get(column.index)?)?.get().as_bytes();
            Some((column.index, (value != Json::NONE).then_some(value)))
        })
        .collect::<Option<_>>()?;
    (columns.len() == values.len()).then_some(StoredKey(columns))
}

fn avro_columns<'a>(plan: &Plan, key: &'a [u8]) -> Option<StoredKey<'a>> {
    let of_key = plan.key.as_ref()?;
    let mut rest = key.strip_prefix(&*of_key.open)?;
    let mut columns = Vec::with_capacity(of_key.columns.len());
    for column in &of_key.columns {
        let is_there = !column.slot.optional || some(&mut rest)?;
        let begun = rest;
        if is_there {
            skip(&column.slot, &mut rest)?;
        }
        let value = begun.get(..begun.len() - rest.len())?;
        columns.push((column.index, is_there.then_some(value)));
    }
    rest.is_empty().then_some(StoredKey(columns))
}

/// Passes over a value, the branch of its union aside.
fn skip(slot: &Slot, rest: &mut &[u8]) -> Option<()> {
    match slot.kind {
        Kind::Boolean => take(1, rest),
        Kind::Int | Kind::Long => long(rest).map(drop),
        Kind::Float => take(4, rest),
        Kind::Double => take(8, rest),
        Kind::String | Kind::Bytes | Kind::Decimal | Kind::DecimalText { .. } | Kind::VariableScaleDecimalText => {
            octets(rest)
        }
        Kind::VariableScaleDecimal => {
            long(rest)?;
            octets(rest)
        }
        Kind::Nested => skip_nested(slot.nested.as_deref()?, rest),
        // Avro has no bare numbers of any length.
        Kind::DecimalNumber { .. } => None,
    }
}

fn skip_nested(nested: &Nested, rest: &mut &[u8]) -> Option<()> {
    match nested {
        Nested::Record(slots) => slots.iter().try_for_each(|slot| skip_optional(slot, rest)),
        Nested::List(item) => skip_blocks(rest, |rest| skip_optional(item, rest)),
        Nested::Entries { key, value } => skip_blocks(rest, |rest| {
            skip_optional(key, rest)?;
            skip_optional(value, rest)
        }),
    }
}

fn skip_blocks(rest: &mut &[u8], item: impl Fn(&mut &[u8]) -> Option<()>) -> Option<()> {
    loop {
        let count = long(rest)?;
        if count == 0 {
            return Some(());
        }
        if count < 0 {
            long(rest)?;
        }
        // Each item has an octet at least: foreign bytes do not make it count for ever.
        let count = usize::try_from(count.unsigned_abs())
            .ok()
            .filter(|count| *count <= rest.len())?;
        (0..count).try_for_each(|_| item(rest))?;
    }
}

fn skip_optional(slot: &Slot, rest: &mut &[u8]) -> Option<()> {
    if !slot.optional || some(rest)? {
        skip(slot, rest)?;
    }
    Some(())
}

/// Whether a union holds its value.
fn some(rest: &mut &[u8]) -> Option<bool> {
    match long(rest)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn octets(rest: &mut &[u8]) -> Option<()> {
    let length = usize::try_from(long(rest)?).ok()?;
    take(length, rest)
}

fn take(length: usize, rest: &mut &[u8]) -> Option<()> {
    *rest = rest.get(length..)?;
    Some(())
}

fn long(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (octet, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}
