// SPDX-License-Identifier: Apache-2.0
//! Avro's binary encoding, value by value.

use highwater_core::value::ValueWriter;

use crate::debezium::nested::{Nest, Nested};
use crate::debezium::slot::{Filled, Kind, Notation, Slot, SlotWriter};
use crate::decimal::write_decimal;

/// Records of Avro have no brackets and no names; an optional value is the second branch of a union.
pub(crate) struct Avro;

impl Notation for Avro {
    type Writer<'a> = AvroWriter<'a>;
    const OPEN: &'static [u8] = &[];
    const CLOSE: &'static [u8] = &[];
    const SOME: &'static [u8] = &[2];
    const NONE: &'static [u8] = &[0];
    const SOME_DEFAULTED: &'static [u8] = &[0];

    fn field(_name: &str, _first: bool) -> Vec<u8> {
        Vec::new()
    }
}

/// Appends Avro values.
pub(crate) struct AvroWriter<'a> {
    out: &'a mut Vec<u8>,
    kind: Kind,
    optional: bool,
    filled: Filled,
    nest: Nest,
}

impl<'a> SlotWriter<'a> for AvroWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        AvroWriter {
            out,
            kind: Kind::Boolean,
            optional: false,
            filled: Filled::Empty,
            nest: Nest::default(),
        }
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        // Most constants between Avro's values are a union's branch, or nothing: not worth a call.
        match bytes {
            [] => {}
            [octet] => self.out.push(*octet),
            _ => self.out.extend_from_slice(bytes),
        }
    }

    #[inline]
    fn open(&mut self, slot: &Slot) {
        self.kind = slot.kind;
        self.optional = slot.optional;
        self.filled = Filled::Empty;
        if slot.kind == Kind::Nested {
            self.nest.open(slot);
        }
    }

    #[inline]
    fn filled(&self) -> Filled {
        if self.nest.is_empty() {
            self.filled
        } else {
            Filled::Mismatch
        }
    }
}

impl AvroWriter<'_> {
    /// Whether the slot takes a value of this kind; writes the union's branch then.
    #[inline]
    fn take(&mut self, fits: bool) -> bool {
        if !fits || self.filled != Filled::Empty {
            self.filled = Filled::Mismatch;
            return false;
        }
        self.filled = Filled::Done;
        if self.optional {
            self.out.push(2);
        }
        true
    }

    #[inline]
    fn octets(&mut self, octets: &[u8]) {
        write_long(octets.len() as i64, self.out);
        self.out.extend_from_slice(octets);
    }

    fn decimal_text(&mut self, scale: i32, unscaled: &[u8]) {
        let mut text = Vec::with_capacity(40);
        write_decimal(unscaled, scale, &mut text);
        self.octets(&text);
    }
}

impl ValueWriter for AvroWriter<'_> {
    fn null(&mut self) {
        match (self.filled, self.optional) {
            (Filled::Empty, true) => {
                self.out.push(0);
                self.filled = Filled::Done;
            }
            (Filled::Empty, false) => self.filled = Filled::UnexpectedNull,
            _ => self.filled = Filled::Mismatch,
        }
    }

    #[inline]
    fn boolean(&mut self, value: bool) {
        if self.take(self.kind == Kind::Boolean) {
            self.out.push(u8::from(value));
        }
    }

    #[inline]
    fn int(&mut self, value: i32) {
        if self.take(self.kind == Kind::Int) {
            write_long(i64::from(value), self.out);
        }
    }

    #[inline]
    fn long(&mut self, value: i64) {
        if self.take(self.kind == Kind::Long) {
            write_long(value, self.out);
        }
    }

    #[inline]
    fn float(&mut self, value: f32) {
        if self.take(self.kind == Kind::Float) {
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    #[inline]
    fn double(&mut self, value: f64) {
        if self.take(self.kind == Kind::Double) {
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    #[inline]
    fn string(&mut self, value: &str) {
        if self.take(self.kind == Kind::String) {
            self.octets(value.as_bytes());
        }
    }

    #[inline]
    fn bytes(&mut self, value: &[u8]) {
        if self.take(self.kind == Kind::Bytes) {
            self.octets(value);
        }
    }

    #[inline]
    fn decimal(&mut self, unscaled: &[u8]) {
        let kind = self.kind;
        match kind {
            Kind::Decimal if self.take(true) => self.octets(unscaled),
            Kind::DecimalText { scale } if self.take(true) => self.decimal_text(scale, unscaled),
            _ => self.filled = Filled::Mismatch,
        }
    }

    fn variable_scale_decimal(&mut self, scale: i32, unscaled: &[u8]) {
        let kind = self.kind;
        match kind {
            Kind::VariableScaleDecimal if self.take(true) => {
                write_long(i64::from(scale), self.out);
                self.octets(unscaled);
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
            // A block of all values; an empty one is the end.
            Some(Nested::List(_) | Nested::Entries { .. }) if length > 0 => write_long(length as i64, self.out),
            Some(_) => {}
            None => self.filled = Filled::Mismatch,
        }
    }

    #[inline]
    fn next(&mut self) {
        match self.nest.next() {
            Some((_, _, slot)) if self.filled == Filled::Done => {
                self.kind = slot.kind;
                self.optional = slot.optional;
                self.filled = Filled::Empty;
            }
            _ => self.filled = Filled::Mismatch,
        }
    }

    fn end(&mut self) {
        match self.nest.end() {
            Some((shape, _)) if self.filled == Filled::Done => {
                if let Nested::List(_) | Nested::Entries { .. } = *shape {
                    self.out.push(0);
                }
            }
            _ => self.filled = Filled::Mismatch,
        }
    }
}

/// Appends an int or a long: zigzag, seven bits an octet, the lowest first.
#[inline]
pub(crate) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    if rest < 0x80 {
        out.push(rest as u8);
        return;
    }
    let mut octets = [0u8; 10];
    let mut length = 0;
    for octet in &mut octets {
        length += 1;
        *octet = rest as u8 | 0x80;
        rest >>= 7;
        if rest == 0 {
            *octet &= 0x7f;
            break;
        }
    }
    // A copy of a length that the compiler knows is two moves, where one of `length` octets is a call.
    let end = out.len() + length;
    out.extend_from_slice(&octets);
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn longs_are_those_of_the_avro_specification() {
        let written = |value| {
            let mut out = Vec::new();
            write_long(value, &mut out);
            out
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(-1), [1]);
        assert_eq!(written(-64), [0x7f]);
        assert_eq!(written(64), [0x80, 0x01]);
        assert_eq!(written(i64::MIN), [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }

    proptest! {
        #[test]
        fn longs_of_every_length_are_written_group_by_group(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            let mut rest = ((value << 1) ^ (value >> 63)) as u64;
            let mut expected = Vec::new();
            while rest >= 0x80 {
                expected.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            expected.push(rest as u8);
            let mut out = Vec::new();
            write_long(value, &mut out);
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_decoder_that_writes_another_kind_or_twice_or_null_is_noticed() {
        let slot = |optional| Slot::simple([], Kind::Int, optional);
        let filled = |optional, calls: &[fn(&mut AvroWriter<'_>)]| {
            let mut out = Vec::new();
            let mut writer = AvroWriter::new(&mut out);
            writer.open(&slot(optional));
            calls.iter().for_each(|call| call(&mut writer));
            writer.filled()
        };
        assert_eq!(filled(false, &[]), Filled::Empty);
        assert_eq!(filled(false, &[|writer| writer.int(1)]), Filled::Done);
        assert_eq!(filled(false, &[|writer| writer.long(1)]), Filled::Mismatch);
        assert_eq!(
            filled(false, &[|writer| writer.int(1), |writer| writer.int(1)]),
            Filled::Mismatch
        );
        assert_eq!(filled(false, &[|writer| writer.null()]), Filled::UnexpectedNull);
        assert_eq!(filled(true, &[|writer| writer.null()]), Filled::Done);
        assert_eq!(filled(true, &[|writer| writer.decimal(&[1])]), Filled::Mismatch);
    }
}
