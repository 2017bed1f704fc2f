// SPDX-License-Identifier: Apache-2.0
//! Types made of others: arrays, composite types, ranges, multiranges and `hstore`.

use super::{ServerText, push};
use crate::values::array::{Dimension, Header};
use crate::values::cursor::Cursor;
use std::fmt::Write;
use std::sync::Arc;

/// What the server takes for space (`isspace` in the locale C).
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0B' | '\x0C')
}

/// An array of any dimensions.
#[derive(Debug)]
pub(in crate::values) struct Array {
    pub(in crate::values) items: Arc<dyn ServerText>,
    pub(in crate::values) item_oid: u32,
    /// What stands between items: a comma, of a few types another character.
    pub(in crate::values) delimiter: char,
}

impl ServerText for Array {
    fn write(&self, bytes: &[u8], out: &mut String) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        let header = Header::parse(&mut cursor)?;
        if header.item_oid != self.item_oid {
            return None;
        }
        let dimensions = header.dimensions();
        if header.items == 0 {
            out.push_str("{}");
            return cursor.finish();
        }
        if dimensions.iter().any(|dimension| dimension.lower != 1) {
            for dimension in dimensions {
                let upper = i64::from(dimension.lower) + dimension.length as i64 - 1;
                write!(out, "[{}:{upper}]", dimension.lower).ok()?;
            }
            out.push('=');
        }
        self.write_level(dimensions, &mut cursor, out)?;
        cursor.finish()
    }
}

impl Array {
    /// Writes the items of the outermost of these dimensions; there are six at most.
    fn write_level(&self, dimensions: &[Dimension], cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
        let Some((outermost, inner)) = dimensions.split_first() else {
            return self.write_item(cursor.value()?, out);
        };
        out.push('{');
        for place in 0..outermost.length {
            if place > 0 {
                out.push(self.delimiter);
            }
            self.write_level(inner, cursor, out)?;
        }
        out.push('}');
        Some(())
    }

    fn write_item(&self, item: Option<&[u8]>, out: &mut String) -> Option<()> {
        let Some(item) = item else {
            return push("NULL", out);
        };
        let mut text = String::new();
        self.items.write(item, &mut text)?;
        let special = |c: char| matches!(c, '"' | '\\' | '{' | '}') || c == self.delimiter || is_space(c);
        if text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special) {
            push_escaped(&text, out);
        } else {
            out.push_str(&text);
        }
        Some(())
    }
}

/// `int2vector` and `oidvector`: an array's binary form, and items with spaces between them as its text.
#[derive(Debug)]
pub(in crate::values) struct Vector(pub(in crate::values) Arc<dyn ServerText>);

impl ServerText for Vector {
    fn write(&self, bytes: &[u8], out: &mut String) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        let header = Header::parse(&mut cursor)?;
        for place in 0..header.items {
            if place > 0 {
                out.push(' ');
            }
            self.0.write(cursor.value()??, out)?;
        }
        cursor.finish()
    }
}

/// In quotes, a backslash before each quote and backslash.
fn push_escaped(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

/// In quotes where it must be, each quote and backslash twice.
fn push_doubled(text: &str, special: &[char], out: &mut String) {
    let quoted = text.is_empty() || text.contains(|c| matches!(c, '"' | '\\') || special.contains(&c) || is_space(c));
    if !quoted {
        return out.push_str(text);
    }
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push(character);
        }
        out.push(character);
    }
    out.push('"');
}

/// A composite type.
#[derive(Debug)]
pub(in crate::values) struct Composite {
    pub(in crate::values) fields: Vec<(u32, Arc<dyn ServerText>)>,
}

impl ServerText for Composite {
    fn write(&self, bytes: &[u8], out: &mut String) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        let count = cursor.count(8)?;
        if count > self.fields.len() {
            return None;
        }
        out.push('(');
        for (place, (oid, of)) in self.fields.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            // What a value lacks at its end is NULL: it is older than the field.
            if place >= count {
                continue;
            }
            if cursor.u32()? != *oid {
                return None;
            }
            if let Some(field) = cursor.value()? {
                let mut text = String::new();
                of.write(field, &mut text)?;
                push_doubled(&text, &['(', ')', ','], out);
            }
        }
        out.push(')');
        cursor.finish()
    }
}

/// A range.
#[derive(Debug)]
pub(in crate::values) struct Range {
    pub(in crate::values) subtype: Arc<dyn ServerText>,
}

const RANGE_EMPTY: u8 = 0x01;
const RANGE_LOWER_INCLUSIVE: u8 = 0x02;
const RANGE_UPPER_INCLUSIVE: u8 = 0x04;
const RANGE_LOWER_INFINITE: u8 = 0x08;
const RANGE_UPPER_INFINITE: u8 = 0x10;

impl ServerText for Range {
    fn write(&self, bytes: &[u8], out: &mut String) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        let flags = cursor.u8()?;
        if flags & RANGE_EMPTY != 0 {
            out.push_str("empty");
            return cursor.finish();
        }
        out.push(if flags & RANGE_LOWER_INCLUSIVE != 0 { '[' } else { '(' });
        if flags & RANGE_LOWER_INFINITE == 0 {
            self.write_bound(cursor.value()??, out)?;
        }
        out.push(',');
        if flags & RANGE_UPPER_INFINITE == 0 {
            self.write_bound(cursor.value()??, out)?;
        }
        out.push(if flags & RANGE_UPPER_INCLUSIVE != 0 { ']' } else { ')' });
        cursor.finish()
    }
}

impl Range {
    fn write_bound(&self, bound: &[u8], out: &mut String) -> Option<()> {
        let mut text = String::new();
        self.subtype.write(bound, &mut text)?;
        push_doubled(&text, &['(', ')', '[', ']', ','], out);
        Some(())
    }
}

/// A multirange.
#[derive(Debug)]
pub(in crate::values) struct Multirange {
    pub(in crate::values) range: Range,
}

impl ServerText for Multirange {
    fn write(&self, bytes: &[u8], out: &mut String) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        let count = cursor.count(5)?;
        out.push('{');
        for place in 0..count {
            if place > 0 {
                out.push(',');
            }
            self.range.write(cursor.value()??, out)?;
        }
        out.push('}');
        cursor.finish()
    }
}

/// `hstore`.
pub(in crate::values) fn hstore(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    for place in 0..cursor.count(8)? {
        if place > 0 {
            out.push_str(", ");
        }
        push_escaped(text(cursor.value()??)?, out);
        out.push_str("=>");
        match cursor.value()? {
            Some(value) => push_escaped(text(value)?, out),
            None => out.push_str("NULL"),
        }
    }
    Some(())
}
