// SPDX-License-Identifier: Apache-2.0
//! JSON, value by value.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use highwater_core::value::ValueWriter;

use crate::debezium::nested::{Nest, Nested};
use crate::debezium::slot::{Filled, Kind, Notation, Slot, SlotWriter};
use crate::decimal::write_decimal;

/// Objects with names and commas; an optional value is `null` or the value.
pub(crate) struct Json;

impl Notation for Json {
    type Writer<'a> = JsonWriter<'a>;
    const OPEN: &'static [u8] = b"{";
    const CLOSE: &'static [u8] = b"}";
    const SOME: &'static [u8] = b"";
    const NONE: &'static [u8] = b"null";
    const SOME_DEFAULTED: &'static [u8] = b"";

    fn field(name: &str, first: bool) -> Vec<u8> {
        let mut lead = Vec::with_capacity(name.len() + 4);
        if !first {
            lead.push(b',');
        }
        write_text(name, &mut lead);
        lead.push(b':');
        lead
    }
}

/// Appends JSON values.
pub(crate) struct JsonWriter<'a> {
    out: &'a mut Vec<u8>,
    kind: Kind,
    optional: bool,
    filled: Filled,
    nest: Nest,
}

impl<'a> SlotWriter<'a> for JsonWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        JsonWriter {
            out,
            kind: Kind::Boolean,
            optional: false,
            filled: Filled::Empty,
            nest: Nest::default(),
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn open(&mut self, slot: &Slot) {
        self.out.extend_from_slice(&slot.lead);
        self.kind = slot.kind;
        self.optional = slot.optional;
        self.filled = Filled::Empty;
        if slot.kind == Kind::Nested {
            self.nest.open(slot);
        }
    }

    fn filled(&self) -> Filled {
        if self.nest.is_empty() {
            self.filled
        } else {
            Filled::Mismatch
        }
    }
}

impl JsonWriter<'_> {
    fn take(&mut self, fits: bool) -> bool {
        let sound = fits && self.filled == Filled::Empty;
        self.filled = if sound { Filled::Done } else { Filled::Mismatch };
        sound
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        write!(self.out, "{value}").expect("invariant: a vector takes every write");
    }

    /// Numbers that JSON has no digits for are text, as Java's converter has them.
    fn number<N: serde::Serialize>(&mut self, value: N, finite: bool, text: &str) {
        if finite {
            serde_json::to_writer(&mut *self.out, &value).expect("invariant: a vector takes every finite number");
        } else {
            write_text(text, self.out);
        }
    }

    fn base64(&mut self, octets: &[u8]) {
        let start = self.out.len() + 1;
        let length = octets.len().div_ceil(3) * 4;
        self.out.push(b'"');
        self.out.resize(start + length, 0);
        STANDARD
            .encode_slice(octets, &mut self.out[start..])
            .expect("invariant: base64 takes four characters for three octets begun");
        self.out.push(b'"');
    }

    fn decimal_text(&mut self, scale: i32, unscaled: &[u8]) {
        self.out.push(b'"');
        write_decimal(unscaled, scale, self.out);
        self.out.push(b'"');
    }
}

impl ValueWriter for JsonWriter<'_> {
    fn null(&mut self) {
        match (self.filled, self.optional) {
            (Filled::Empty, true) => {
                self.out.extend_from_slice(Json::NONE);
                self.filled = Filled::Done;
            }
            (Filled::Empty, false) => self.filled = Filled::UnexpectedNull,
            _ => self.filled = Filled::Mismatch,
        }
    }

    fn boolean(&mut self, value: bool) {
        if self.take(self.kind == Kind::Boolean) {
            self.display(value);
        }
    }

    fn int(&mut self, value: i32) {
        if self.take(self.kind == Kind::Int) {
            self.display(value);
        }
    }

    fn long(&mut self, value: i64) {
        if self.take(self.kind == Kind::Long) {
            self.display(value);
        }
    }

    fn float(&mut self, value: f32) {
        if self.take(self.kind == Kind::Float) {
            self.number(value, value.is_finite(), not_finite(f64::from(value)));
        }
    }

    fn double(&mut self, value: f64) {
        if self.take(self.kind == Kind::Double) {
            self.number(value, value.is_finite(), not_finite(value));
        }
    }

    fn string(&mut self, value: &str) {
        if self.take(self.kind == Kind::String) {
            write_text(value, self.out);
        }
    }

    fn bytes(&mut self, value: &[u8]) {
        if self.take(self.kind == Kind::Bytes) {
            self.base64(value);
        }
    }

    fn decimal(&mut self, unscaled: &[u8]) {
        let kind = self.kind;
        match kind {
            Kind::Decimal if self.take(true) => self.base64(unscaled),
            Kind::DecimalText { scale } if self.take(true) => self.decimal_text(scale, unscaled),
            Kind::DecimalNumber { scale } if self.take(true) => write_decimal(unscaled, scale, self.out),
            _ => self.filled = Filled::Mismatch,
        }
    }

    fn variable_scale_decimal(&mut self, scale: i32, unscaled: &[u8]) {
        let kind = self.kind;
        match kind {
            Kind::VariableScaleDecimal if self.take(true) => {
                self.raw(b"{\"scale\":");
                self.display(scale);
                self.raw(b",\"value\":");
                self.base64(unscaled);
                self.raw(b"}");
            }
            Kind::VariableScaleDecimalText if self.take(true) => self.decimal_text(scale, unscaled),
            _ => self.filled = Filled::Mismatch,
        }
    }

    fn begin(&mut self, length: usize) {
        if !self.take(self.kind == Kind::Nested) {
            return;
        }
        match self.nest.begin(length) {
            Some(Nested::Record(_)) => self.out.push(b'{'),
            Some(_) => self.out.push(b'['),
            None => self.filled = Filled::Mismatch,
        }
    }

    fn next(&mut self) {
        let filled = self.filled;
        match self.nest.next() {
            Some((shape, place, slot)) if filled == Filled::Done => {
                // Entries whose keys are not text are lists of pairs, as Java's converter has them.
                let lead: &[u8] = match shape {
                    Nested::Record(_) => &slot.lead,
                    Nested::List(_) if place == 0 => b"",
                    Nested::List(_) => b",",
                    Nested::Entries { .. } if place == 0 => b"[",
                    Nested::Entries { .. } if place.is_multiple_of(2) => b"],[",
                    Nested::Entries { .. } => b",",
                };
                self.out.extend_from_slice(lead);
                self.kind = slot.kind;
                self.optional = slot.optional;
                self.filled = Filled::Empty;
            }
            _ => self.filled = Filled::Mismatch,
        }
    }

    fn end(&mut self) {
        match self.nest.end() {
            Some((shape, values)) if self.filled == Filled::Done => self.out.extend_from_slice(match *shape {
                Nested::Record(_) => b"}",
                Nested::Entries { .. } if values > 0 => b"]]",
                Nested::List(_) | Nested::Entries { .. } => b"]",
            }),
            _ => self.filled = Filled::Mismatch,
        }
    }
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Appends text in quotes.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|octet| *octet < 0x20 || matches!(octet, b'"' | b'\\'))
    {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, tail)) = tail.split_first() else {
            break;
        };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => write!(out, "\\u{control:04x}").expect("invariant: a vector takes every write"),
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_reads_back(text: String) {
            let mut out = Vec::new();
            write_text(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    fn written(kind: Kind, write: impl FnOnce(&mut JsonWriter<'_>)) -> String {
        let mut out = Vec::new();
        let mut writer = JsonWriter::new(&mut out);
        writer.open(&Slot::simple(Json::field("a", false), kind, false));
        write(&mut writer);
        assert_eq!(writer.filled(), Filled::Done);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_are_base64_text_or_numbers_as_the_settings_say() {
        let unscaled = [0xfb, 0x2e];
        assert_eq!(
            written(Kind::Decimal, |writer| writer.decimal(&unscaled)),
            r#","a":"+y4=""#
        );
        let text = Kind::DecimalText { scale: 2 };
        assert_eq!(written(text, |writer| writer.decimal(&unscaled)), r#","a":"-12.34""#);
        let number = Kind::DecimalNumber { scale: 2 };
        assert_eq!(written(number, |writer| writer.decimal(&unscaled)), r#","a":-12.34"#);
    }

    #[test]
    fn numbers_that_json_lacks_are_text() {
        assert_eq!(written(Kind::Double, |writer| writer.double(f64::NAN)), r#","a":"NaN""#);
        assert_eq!(
            written(Kind::Float, |writer| writer.float(f32::NEG_INFINITY)),
            r#","a":"-Infinity""#
        );
        assert_eq!(written(Kind::Double, |writer| writer.double(0.1)), r#","a":0.1"#);
    }
}
