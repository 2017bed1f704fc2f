// SPDX-License-Identifier: Apache-2.0
//! Shapes of a plane, `cube`, and PostGIS' shapes.

use super::number::write_float8;
use crate::values::cursor::Cursor;
use std::fmt::Write;

/// `(x,y)`.
pub(in crate::values) fn point(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    numbers("(", ")", 2, cursor, out)
}

/// `{A,B,C}`.
pub(in crate::values) fn line(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    numbers("{", "}", 3, cursor, out)
}

/// `(x,y),(x,y)`.
pub(in crate::values) fn corners(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    points(2, cursor, out)
}

/// `[(x,y),(x,y)]`.
pub(in crate::values) fn segment(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    out.push('[');
    points(2, cursor, out)?;
    out.push(']');
    Some(())
}

/// `((x,y),...)` closed, `[(x,y),...]` open.
pub(in crate::values) fn path(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let (open, close) = match cursor.u8()? {
        0 => ('[', ']'),
        _ => ('(', ')'),
    };
    out.push(open);
    points(cursor.count(16)?, cursor, out)?;
    out.push(close);
    Some(())
}

/// `((x,y),...)`.
pub(in crate::values) fn polygon(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    out.push('(');
    points(cursor.count(16)?, cursor, out)?;
    out.push(')');
    Some(())
}

/// `<(x,y),r>`.
pub(in crate::values) fn circle(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    out.push('<');
    point(cursor, out)?;
    out.push(',');
    write_float8(cursor.f64()?, out);
    out.push('>');
    Some(())
}

fn points(count: usize, cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    for place in 0..count {
        if place > 0 {
            out.push(',');
        }
        point(cursor, out)?;
    }
    Some(())
}

fn numbers(open: &str, close: &str, count: usize, cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    for place in 0..count {
        out.push_str(if place == 0 { open } else { "," });
        write_float8(cursor.f64()?, out);
    }
    out.push_str(close);
    Some(())
}

const CUBE_IS_POINT: u32 = 0x8000_0000;

/// `cube`: one corner, and the opposite one unless it is a point.
pub(in crate::values) fn cube(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let header = cursor.u32()?;
    let dimensions = usize::try_from(header & !CUBE_IS_POINT).ok()?;
    let corners = if header & CUBE_IS_POINT != 0 { 1 } else { 2 };
    if dimensions > cursor.left() / 8 {
        return None;
    }
    for corner in 0..corners {
        out.push_str(if corner == 0 { "(" } else { "),(" });
        for place in 0..dimensions {
            if place > 0 {
                out.push_str(", ");
            }
            write_float8(cursor.f64()?, out);
        }
    }
    out.push(')');
    Some(())
}

/// `geometry` and `geography`: well-known binary in hexadecimal digits.
pub(in crate::values) fn shape(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    for byte in cursor.bytes(cursor.left())? {
        write!(out, "{byte:02X}").ok()?;
    }
    Some(())
}
