// SPDX-License-Identifier: Apache-2.0
//! JSON: the server's binary form, turned into text in the order and with the spaces of the server's own.
//!
//! ```text
//! value   type:1 bytes
//! object  count size { key offset, key length:2 }… { type:1 offset or value }… keys values
//! array   count size { type:1 offset or value }… values
//! ```
//!
//! Counts, sizes and offsets have 2 bytes in a small object or array, 4 in a large one; offsets count from the count. A
//! document that a server made has no byte in two values: one whose values use more bytes than it has is malformed, and so
//! is one that is nested deeper than the server nests.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

use super::decimal::Decimal;
use super::fixed;
use super::time::unpack;

/// How deep the server nests (`JSON_DOCUMENT_MAX_DEPTH`).
const DEPTH_MAX: usize = 100;
/// The highest type of the binary form: text begins above it.
const TYPE_MAX: u8 = 0x0f;
/// Types of columns that opaque values have.
const OPAQUE_DECIMAL: u8 = 246;
const OPAQUE_TIMESTAMP: u8 = 7;
const OPAQUE_DATE: u8 = 10;
const OPAQUE_TIME: u8 = 11;
const OPAQUE_DATETIME: u8 = 12;

const fn malformed() -> ValueError {
    ValueError::new("json is malformed")
}

/// JSON. Bytes that begin with no type of the binary form are the text of a query and are passed on.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl ColumnDecoder for Json {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        if bytes.first().is_some_and(|first| *first > TYPE_MAX) {
            out.string(std::str::from_utf8(bytes).map_err(|_| malformed())?);
            return Ok(());
        }
        let mut text = String::with_capacity(bytes.len());
        write_text(bytes, &mut text)?;
        out.string(&text);
        Ok(())
    }
}

/// Appends the text of a document in the binary form. An empty one is `null`, as the server reads it.
pub fn write_text(bytes: &[u8], text: &mut String) -> Result<(), ValueError> {
    match bytes.split_first() {
        None => text.push_str("null"),
        Some((kind, rest)) => {
            let mut writer = Writer {
                text,
                bytes_left: bytes.len(),
            };
            writer.value(*kind, rest, 0)?;
        }
    }
    Ok(())
}

struct Writer<'a> {
    text: &'a mut String,
    bytes_left: usize,
}

impl Writer<'_> {
    fn value(&mut self, kind: u8, bytes: &[u8], depth: usize) -> Result<(), ValueError> {
        self.spend(1)?;
        match kind {
            0x00 => self.container(bytes, 2, true, depth),
            0x01 => self.container(bytes, 4, true, depth),
            0x02 => self.container(bytes, 2, false, depth),
            0x03 => self.container(bytes, 4, false, depth),
            0x0c => {
                let value = with_length(bytes)?;
                self.string(std::str::from_utf8(value).map_err(|_| malformed())?)
            }
            0x0f => self.opaque(bytes),
            _ => self.scalar(kind, bytes),
        }
    }

    fn scalar(&mut self, kind: u8, bytes: &[u8]) -> Result<(), ValueError> {
        let text = &mut *self.text;
        let written = match kind {
            0x04 => match bytes.first() {
                Some(0) => text.write_str("null"),
                Some(1) => text.write_str("true"),
                Some(2) => text.write_str("false"),
                _ => return Err(malformed()),
            },
            0x05 => write!(text, "{}", i16::from_le_bytes(head(bytes)?)),
            0x06 => write!(text, "{}", u16::from_le_bytes(head(bytes)?)),
            0x07 => write!(text, "{}", i32::from_le_bytes(head(bytes)?)),
            0x08 => write!(text, "{}", u32::from_le_bytes(head(bytes)?)),
            0x09 => write!(text, "{}", i64::from_le_bytes(head(bytes)?)),
            0x0a => write!(text, "{}", u64::from_le_bytes(head(bytes)?)),
            0x0b => write_double(text, f64::from_le_bytes(head(bytes)?)),
            _ => return Err(malformed()),
        };
        written.map_err(|_| malformed())
    }

    /// An object or an array; `width` is the length of its counts and offsets.
    fn container(&mut self, bytes: &[u8], width: usize, is_object: bool, depth: usize) -> Result<(), ValueError> {
        if depth >= DEPTH_MAX {
            return Err(malformed());
        }
        let count = number(bytes, 0, width)?;
        let bytes = bytes.get(..number(bytes, width, width)?).ok_or(malformed())?;
        let keys = 2 * width;
        let values = keys + if is_object { count * (width + 2) } else { 0 };
        self.text.push(if is_object { '{' } else { '[' });
        for place in 0..count {
            if place > 0 {
                self.text.push_str(", ");
            }
            if is_object {
                let entry = keys + place * (width + 2);
                let (start, length) = (number(bytes, entry, width)?, number(bytes, entry + width, 2)?);
                let key = bytes
                    .get(start..)
                    .and_then(|key| key.get(..length))
                    .ok_or(malformed())?;
                self.string(std::str::from_utf8(key).map_err(|_| malformed())?)?;
                self.text.push_str(": ");
            }
            self.entry(bytes, values + place * (width + 1), width, depth)?;
        }
        self.text.push(if is_object { '}' } else { ']' });
        Ok(())
    }

    /// A value whose type and offset, or itself where it is short enough, stand at `entry`.
    fn entry(&mut self, bytes: &[u8], entry: usize, width: usize, depth: usize) -> Result<(), ValueError> {
        let kind = *bytes.get(entry).ok_or(malformed())?;
        let is_inlined = match kind {
            0x04..=0x06 => true,
            0x07 | 0x08 => width == 4,
            _ => false,
        };
        let start = if is_inlined {
            entry + 1
        } else {
            number(bytes, entry + 1, width)?
        };
        let end = if is_inlined { entry + 1 + width } else { bytes.len() };
        self.value(kind, bytes.get(start..end).ok_or(malformed())?, depth + 1)
    }

    /// Takes note that so many bytes of the document are used.
    fn spend(&mut self, bytes: usize) -> Result<(), ValueError> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(malformed())?;
        Ok(())
    }

    fn string(&mut self, value: &str) -> Result<(), ValueError> {
        self.spend(value.len())?;
        self.text.push('"');
        for letter in value.chars() {
            match letter {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\0'..='\u{1f}' => write!(self.text, "\\u{:04x}", u32::from(letter)).map_err(|_| malformed())?,
                _ => self.text.push(letter),
            }
        }
        self.text.push('"');
        Ok(())
    }

    /// A value of a type that JSON does not have: decimals as numbers, times as text, all others in base 64.
    fn opaque(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        let (kind, rest) = bytes.split_first().ok_or(malformed())?;
        let value = with_length(rest)?;
        self.spend(value.len())?;
        match *kind {
            OPAQUE_DECIMAL => {
                let ([precision, scale], digits) = value.split_first_chunk().ok_or(malformed())?;
                let decimal = Decimal {
                    precision: *precision,
                    scale: *scale,
                };
                decimal.write_text(digits, self.text).map_err(|_| malformed())
            }
            OPAQUE_TIME => self.time(packed(value)?),
            OPAQUE_DATE | OPAQUE_DATETIME | OPAQUE_TIMESTAMP => self.date(*kind, packed(value)?),
            _ => {
                let written = write!(self.text, "\"base64:type{kind}:{}\"", STANDARD.encode(value));
                written.map_err(|_| malformed())
            }
        }
    }

    fn time(&mut self, packed: i64) -> Result<(), ValueError> {
        let sign = if packed < 0 { "-" } else { "" };
        let magnitude = packed.unsigned_abs();
        let (clock, micros) = (magnitude >> 24, magnitude & 0xFF_FFFF);
        let (hours, minutes, seconds) = ((clock >> 12) & 0x3FF, (clock >> 6) & 63, clock & 63);
        let written = write!(self.text, "\"{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}\"");
        written.map_err(|_| malformed())
    }

    fn date(&mut self, kind: u8, packed: i64) -> Result<(), ValueError> {
        let at = unpack(packed >> 24, packed & 0xFF_FFFF)?;
        let mut written = write!(self.text, "\"{:04}-{:02}-{:02}", at.year, at.month, at.day);
        if kind != OPAQUE_DATE {
            let clock = (at.hour, at.minute, at.second, at.micros);
            let (hour, minute, second, micros) = clock;
            written = written.and_then(|()| write!(self.text, " {hour:02}:{minute:02}:{second:02}.{micros:06}"));
        }
        written.map_err(|_| malformed())?;
        self.text.push('"');
        Ok(())
    }
}

/// The first bytes of a number.
fn head<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueError> {
    bytes.first_chunk().copied().ok_or(malformed())
}

/// The little-endian number of `width` bytes at `start`.
fn number(bytes: &[u8], start: usize, width: usize) -> Result<usize, ValueError> {
    let found = bytes
        .get(start..)
        .and_then(|rest| rest.get(..width))
        .ok_or(malformed())?;
    Ok(found
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | usize::from(*byte)))
}

/// The time that 8 bytes hold.
fn packed(value: &[u8]) -> Result<i64, ValueError> {
    fixed(value, "json is malformed").map(i64::from_le_bytes)
}

/// The bytes after their length, which has 7 bits a byte, the lowest first, and a bit that says whether more follow.
fn with_length(bytes: &[u8]) -> Result<&[u8], ValueError> {
    let mut length: usize = 0;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let rest = bytes.get(place + 1..).ok_or(malformed())?;
            return rest.get(..length).ok_or(malformed());
        }
    }
    Err(malformed())
}

/// The shortest digits that are read back as the number, always as one with a fraction or an exponent.
fn write_double(text: &mut String, number: f64) -> std::fmt::Result {
    const FIXED: std::ops::Range<f64> = 1e-5..1e15;
    if !number.is_finite() {
        return Err(std::fmt::Error);
    }
    if number == 0.0 || FIXED.contains(&number.abs()) {
        write!(text, "{number:?}")
    } else {
        write!(text, "{number:e}")
    }
}
