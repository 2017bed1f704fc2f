// SPDX-License-Identifier: Apache-2.0
//! Slots: the places of a compiled record where a value goes, and what a format does to fill one.

use std::sync::Arc;

use highwater_core::source_block::SourceField;
use highwater_core::value::{TimeUnit, ValueType, ValueWriter};

use super::event_schema::AdjustName;
use super::nested::Nested;
use super::settings::{DecimalHandling, Format, JsonDecimals};

/// What is written where a value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    String,
    Bytes,
    /// Unscaled bytes.
    Decimal,
    /// Text, quoted as the format quotes text.
    DecimalText {
        scale: i32,
    },
    /// A bare number, where the format has one.
    DecimalNumber {
        scale: i32,
    },
    VariableScaleDecimal,
    VariableScaleDecimalText,
    /// What [`Slot::nested`] says.
    Nested,
}

impl Kind {
    /// What values of this type become; `None` for a meaning that this release does not know.
    fn of(value_type: &ValueType, decimals: DecimalForm) -> Option<Kind> {
        Some(match value_type {
            ValueType::Boolean => Kind::Boolean,
            ValueType::Int16 | ValueType::Int32 | ValueType::Date | ValueType::Time(TimeUnit::Millis) => Kind::Int,
            ValueType::Int64 | ValueType::Time(_) | ValueType::Timestamp(_) | ValueType::MicroDuration => Kind::Long,
            ValueType::Float32 => Kind::Float,
            ValueType::Float64 => Kind::Double,
            ValueType::String
            | ValueType::ZonedTime
            | ValueType::ZonedTimestamp
            | ValueType::Uuid
            | ValueType::Json
            | ValueType::Xml
            | ValueType::Tsvector
            | ValueType::Ltree
            | ValueType::Enum { .. } => Kind::String,
            ValueType::Bytes | ValueType::Bits { .. } => Kind::Bytes,
            ValueType::Decimal { scale, .. } => {
                let scale = i32::try_from(*scale).ok()?;
                match decimals {
                    DecimalForm::Bytes => Kind::Decimal,
                    DecimalForm::Text => Kind::DecimalText { scale },
                    DecimalForm::Number => Kind::DecimalNumber { scale },
                }
            }
            ValueType::VariableScaleDecimal => match decimals {
                DecimalForm::Text => Kind::VariableScaleDecimalText,
                DecimalForm::Bytes | DecimalForm::Number => Kind::VariableScaleDecimal,
            },
            ValueType::List { .. }
            | ValueType::Record(_)
            | ValueType::Point
            | ValueType::Geometry
            | ValueType::Geography
            | ValueType::FloatVector
            | ValueType::DoubleVector
            | ValueType::SparseDoubleVector => Kind::Nested,
            _ => return None,
        })
    }
}

/// What decimals become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecimalForm {
    Bytes,
    Text,
    Number,
}

impl DecimalForm {
    pub(crate) fn new(format: Format, decimals: DecimalHandling, json: JsonDecimals) -> Self {
        match (format, decimals, json) {
            (_, DecimalHandling::String, _) => DecimalForm::Text,
            (Format::Json, DecimalHandling::Precise, JsonDecimals::Numeric) => DecimalForm::Number,
            _ => DecimalForm::Bytes,
        }
    }
}

/// One place for a value.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Bytes before the value: a name and a comma in JSON, nothing in Avro.
    pub(crate) lead: Box<[u8]>,
    pub(crate) kind: Kind,
    pub(crate) optional: bool,
    /// Of a value that holds others, what they are.
    pub(crate) nested: Option<Arc<Nested>>,
}

impl Slot {
    /// A slot of a value that holds no others.
    pub(crate) fn simple(lead: impl Into<Box<[u8]>>, kind: Kind, optional: bool) -> Self {
        Slot {
            lead: lead.into(),
            kind,
            optional,
            nested: None,
        }
    }

    /// The slot of values of this type; `None` for a meaning that this release does not know.
    pub(crate) fn of<N: Notation>(
        lead: impl Into<Box<[u8]>>,
        value_type: &ValueType,
        optional: bool,
        forms: Forms,
    ) -> Option<Self> {
        Some(Slot {
            lead: lead.into(),
            kind: Kind::of(value_type, forms.decimals)?,
            optional,
            nested: nested::<N>(value_type, forms)?.map(Arc::new),
        })
    }
}

/// How values look, whatever their type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forms {
    pub(crate) decimals: DecimalForm,
    /// Names of the fields of composite types in events.
    pub(crate) field_names: AdjustName,
}

/// What values of this type hold; `None` inside where they hold no others.
fn nested<N: Notation>(value_type: &ValueType, forms: Forms) -> Option<Option<Nested>> {
    let item = |kind| Slot::simple([], kind, false);
    let fields = |fields: &[(&str, Kind, bool)]| {
        let slots = fields
            .iter()
            .enumerate()
            .map(|(place, (name, kind, optional))| Slot::simple(N::field(name, place == 0), *kind, *optional));
        Nested::Record(slots.collect())
    };
    let (wkb, srid) = (("wkb", Kind::Bytes, false), ("srid", Kind::Int, true));
    Some(Some(match value_type {
        ValueType::List { items } => Nested::List(Slot::of::<N>([], items, true, forms)?),
        ValueType::Record(of) => {
            let slots = of.fields.iter().enumerate().map(|(place, field)| {
                let lead = N::field(&(forms.field_names)(&field.name), place == 0);
                Slot::of::<N>(lead, &field.value_type, true, forms)
            });
            Nested::Record(slots.collect::<Option<_>>()?)
        }
        ValueType::Point => fields(&[
            ("x", Kind::Double, false),
            ("y", Kind::Double, false),
            ("wkb", Kind::Bytes, true),
            srid,
        ]),
        ValueType::Geometry | ValueType::Geography => fields(&[wkb, srid]),
        ValueType::FloatVector => Nested::List(item(Kind::Float)),
        ValueType::DoubleVector => Nested::List(item(Kind::Double)),
        ValueType::SparseDoubleVector => {
            let entries = Nested::Entries {
                key: item(Kind::Int),
                value: item(Kind::Double),
            };
            let mut vector = Slot::simple(N::field("vector", false), Kind::Nested, false);
            vector.nested = Some(Arc::new(entries));
            let dimensions = Slot::simple(N::field("dimensions", true), Kind::Int, false);
            Nested::Record([dimensions, vector].into())
        }
        _ => return Some(None),
    }))
}

/// What happened in the slot that was opened last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Nothing yet.
    Empty,
    /// A value of the slot's kind, or NULL where it is optional.
    Done,
    /// NULL where it is not optional; nothing was written.
    UnexpectedNull,
    /// A second value, or one of another kind.
    Mismatch,
}

/// Writes values of one format into slots.
pub(crate) trait SlotWriter<'a>: ValueWriter {
    /// A writer that appends.
    fn new(out: &'a mut Vec<u8>) -> Self;
    /// Appends ready bytes, outside of any slot.
    fn raw(&mut self, bytes: &[u8]);
    /// Writes the slot's lead; the next value goes into it.
    fn open(&mut self, slot: &Slot);
    /// What became of the slot.
    fn filled(&self) -> Filled;
}

/// What a format needs to lay out a record.
pub(crate) trait Notation {
    /// Its writer.
    type Writer<'a>: SlotWriter<'a>;
    /// Before a struct's fields.
    const OPEN: &'static [u8];
    /// After them.
    const CLOSE: &'static [u8];
    /// Before an optional value that is there.
    const SOME: &'static [u8];
    /// In place of one that is not.
    const NONE: &'static [u8];
    /// What `SOME` is for the source block's `snapshot`, whose union begins with its default's branch.
    const SOME_DEFAULTED: &'static [u8];
    /// The lead of a field.
    fn field(name: &str, first: bool) -> Vec<u8>;
}

/// Fills a row of slots with one value after the other: the source block writes its fields without naming them.
pub(crate) struct SlotRow<'s, W> {
    writer: W,
    slots: std::slice::Iter<'s, Slot>,
    sound: bool,
}

impl<'a, 's, W: SlotWriter<'a>> SlotRow<'s, W> {
    pub(crate) fn new(writer: W, slots: &'s [Slot]) -> Self {
        SlotRow {
            writer,
            slots: slots.iter(),
            sound: true,
        }
    }

    fn advance(&mut self) -> &mut W {
        if self.writer.filled() != Filled::Done && self.writer.filled() != Filled::Empty {
            self.sound = false;
        }
        match self.slots.next() {
            Some(slot) => self.writer.open(slot),
            None => self.sound = false,
        }
        &mut self.writer
    }

    /// Whether each slot got its value.
    pub(crate) fn finish(mut self) -> bool {
        self.sound && self.slots.next().is_none() && matches!(self.writer.filled(), Filled::Done | Filled::Empty)
    }
}

impl<'a, W: SlotWriter<'a>> ValueWriter for SlotRow<'_, W> {
    fn null(&mut self) {
        self.advance().null();
    }
    fn boolean(&mut self, value: bool) {
        self.advance().boolean(value);
    }
    fn int(&mut self, value: i32) {
        self.advance().int(value);
    }
    fn long(&mut self, value: i64) {
        self.advance().long(value);
    }
    fn float(&mut self, value: f32) {
        self.advance().float(value);
    }
    fn double(&mut self, value: f64) {
        self.advance().double(value);
    }
    fn string(&mut self, value: &str) {
        self.advance().string(value);
    }
    fn bytes(&mut self, value: &[u8]) {
        self.advance().bytes(value);
    }
    fn decimal(&mut self, unscaled: &[u8]) {
        self.advance().decimal(unscaled);
    }
    fn variable_scale_decimal(&mut self, scale: i32, unscaled: &[u8]) {
        self.advance().variable_scale_decimal(scale, unscaled);
    }
    // Fields of the source block hold no others.
    fn begin(&mut self, _: usize) {
        self.sound = false;
    }
    fn next(&mut self) {
        self.sound = false;
    }
    fn end(&mut self) {
        self.sound = false;
    }
}

/// The slot of a field of the source block; `None` for a type that no format writes.
pub(crate) fn source_slot<N: Notation>(field: &SourceField, forms: Forms) -> Option<Slot> {
    Slot::of::<N>(N::field(field.name, false), &field.value_type, field.optional, forms)
}
