// SPDX-License-Identifier: Apache-2.0
//! Makes plans.

use std::sync::Arc;

use highwater_core::change::Op;
use highwater_core::schema::{Column, SchemaKind, TableSchema};
use highwater_core::source_block::SourceField;
use highwater_core::value::{ValueType, ValueWriter};
use highwater_core::{Error, Result};

use super::plan::{ColumnPlan, EnvelopePlan, ImagePlan, OPS, Plan, op_code};
use super::slot::{Forms, Kind, Notation, Slot, SlotWriter, source_slot};
use super::zero::write_zero;

/// Bytes around a key or a value: the wire format's header in Avro, the schema in JSON.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) open: Vec<u8>,
    pub(crate) close: Vec<u8>,
}

/// What a plan is made of.
pub(crate) struct Compiler<'a> {
    pub(crate) schema: &'a Arc<TableSchema>,
    pub(crate) topic: Arc<str>,
    /// Names of the columns in events.
    pub(crate) names: Vec<String>,
    pub(crate) nullable: &'a [bool],
    pub(crate) forms: Forms,
    pub(crate) placeholder: &'a str,
    pub(crate) version: &'a str,
    pub(crate) connector: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) source_fields: &'a [SourceField],
    pub(crate) key_frame: Frame,
    pub(crate) value_frame: Frame,
}

impl Compiler<'_> {
    /// The plan in this notation.
    pub(crate) fn compile<N: Notation>(self) -> Result<Plan> {
        let key = if self.schema.key.is_empty() {
            None
        } else {
            let open = [&self.key_frame.open[..], N::OPEN].concat();
            let close = [N::CLOSE, &self.key_frame.close[..]].concat();
            Some(self.image::<N>(&self.schema.key, open, close)?)
        };
        let all: Vec<usize> = (0..self.schema.columns.len()).collect();
        let (open, envelope) = match self.schema.kind {
            SchemaKind::Table => ([N::SOME, N::OPEN].concat(), self.envelope::<N>()?),
            SchemaKind::Messages => (N::OPEN.to_vec(), self.message_envelope::<N>()?),
        };
        let row = self.image::<N>(&all, open, N::CLOSE.to_vec())?;
        Ok(Plan {
            topic: Arc::clone(&self.topic),
            kind: self.schema.kind,
            key,
            row,
            envelope,
            names: self.names,
        })
    }

    fn image<N: Notation>(&self, indices: &[usize], open: Vec<u8>, close: Vec<u8>) -> Result<ImagePlan> {
        let mut columns = Vec::with_capacity(indices.len());
        for &index in indices {
            let (Some(column), Some(name)) = (self.schema.columns.get(index), self.names.get(index)) else {
                return Err(Error::bug(format!("table {} has no column {index}", self.schema.name)));
            };
            columns.push(self.column::<N>(index, column, name, columns.is_empty())?);
        }
        Ok(ImagePlan {
            open: open.into(),
            columns: columns.into(),
            close: close.into(),
        })
    }

    fn column<N: Notation>(&self, index: usize, column: &Column, name: &str, first: bool) -> Result<ColumnPlan> {
        let optional = self.nullable.get(index).copied().unwrap_or(true);
        let slot = Slot::of::<N>(N::field(name, first), &column.value_type, optional, self.forms)
            .ok_or_else(|| Error::bug(format!("column {:?} has a schema and no way to write it", column.name)))?;
        let bare = Slot {
            lead: Box::default(),
            ..slot.clone()
        };
        let absent = value_bytes::<N>(&bare, |writer| match bare.optional {
            true => writer.null(),
            false => write_zero(&column.value_type, writer),
        });
        let unavailable = match &column.value_type {
            of if is_text(of) => value_bytes::<N>(&bare, |writer| writer.string(self.placeholder)),
            ValueType::Bytes | ValueType::Bits { .. } => {
                value_bytes::<N>(&bare, |writer| writer.bytes(self.placeholder.as_bytes()))
            }
            ValueType::List { items } if is_text(items) => value_bytes::<N>(&bare, |writer| {
                writer.begin(1);
                writer.next();
                writer.string(self.placeholder);
                writer.end();
            }),
            _ => absent.clone(),
        };
        Ok(ColumnPlan {
            index,
            slot,
            decoder: Arc::clone(&column.decoder),
            absent: absent.into(),
            unavailable: unavailable.into(),
        })
    }

    fn envelope<N: Notation>(&self) -> Result<EnvelopePlan> {
        let slot = |name: &str, kind: Kind, optional: bool| Slot::simple(N::field(name, false), kind, optional);
        let text = put_text::<N>;
        let mut source = N::field("source", false);
        source.extend(N::OPEN);
        text(&mut source, "version", true, self.version);
        text(&mut source, "connector", false, self.connector);
        text(&mut source, "name", false, self.prefix);
        let snapshot = |value: &str| -> Box<[u8]> {
            let value = text_bytes::<N>(value);
            [&N::field("snapshot", false)[..], N::SOME_DEFAULTED, &value]
                .concat()
                .into()
        };
        let mut source_fields = Vec::new();
        for field in self.source_fields {
            source_fields.push(source_slot::<N>(field, self.forms).ok_or_else(|| {
                Error::bug(format!(
                    "source field {:?} has a type that no format writes",
                    field.name
                ))
            })?);
        }
        let ops = OPS.map(|op| {
            let mut bytes = N::CLOSE.to_vec();
            bytes.extend(N::field("transaction", false));
            bytes.extend(N::NONE);
            text(&mut bytes, "op", false, op_code(op));
            bytes.into()
        });
        let open = [&self.value_frame.open[..], N::OPEN, &N::field("before", true)].concat();
        Ok(EnvelopePlan {
            open: open.into(),
            no_image: N::NONE.into(),
            between: N::field("after", false).into(),
            source: source.into(),
            source_ts_ms: slot("ts_ms", Kind::Long, false),
            snapshot_log: snapshot("false"),
            snapshot_read: snapshot("incremental"),
            db: slot("db", Kind::String, false),
            sequence: slot("sequence", Kind::String, true),
            source_ts_us: slot("ts_us", Kind::Long, true),
            source_ts_ns: slot("ts_ns", Kind::Long, true),
            source_fields: source_fields.into(),
            ops,
            ts_ms: slot("ts_ms", Kind::Long, true),
            ts_us: slot("ts_us", Kind::Long, true),
            ts_ns: slot("ts_ns", Kind::Long, true),
            close: [N::CLOSE, &self.value_frame.close[..]].concat().into(),
        })
    }

    /// The constant parts of the envelope of messages, whose source block is that of rows.
    fn message_envelope<N: Notation>(&self) -> Result<EnvelopePlan> {
        let mut open = [&self.value_frame.open[..], N::OPEN].concat();
        put_text::<N>(&mut open, "op", true, op_code(Op::Message));
        let mut between = N::CLOSE.to_vec();
        between.extend(N::field("transaction", false));
        between.extend(N::NONE);
        between.extend(N::field("message", false));
        Ok(EnvelopePlan {
            open: open.into(),
            between: between.into(),
            ..self.envelope::<N>()?
        })
    }
}

/// Appends a required text field.
fn put_text<N: Notation>(out: &mut Vec<u8>, name: &str, first: bool, value: &str) {
    out.extend(N::field(name, first));
    out.extend(text_bytes::<N>(value));
}

fn value_bytes<N: Notation>(slot: &Slot, write: impl FnOnce(&mut N::Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = N::Writer::new(&mut bytes);
    writer.open(slot);
    write(&mut writer);
    drop(writer);
    bytes
}

fn text_bytes<N: Notation>(text: &str) -> Vec<u8> {
    let slot = Slot::simple([], Kind::String, false);
    value_bytes::<N>(&slot, |writer| writer.string(text))
}

/// Whether values are text whose length varies, so that the log may leave them out and the placeholder fits.
fn is_text(value_type: &ValueType) -> bool {
    matches!(
        value_type,
        ValueType::String
            | ValueType::Json
            | ValueType::Xml
            | ValueType::Enum { .. }
            | ValueType::Tsvector
            | ValueType::Ltree
    )
}
