// SPDX-License-Identifier: Apache-2.0
//! pgvector's types.

use super::number::write_float4;
use crate::values::cursor::Cursor;
use crate::values::vector::{Sparse, dense, from_half};
use std::fmt::Write;

/// `vector`: `[1,2.5]`.
pub(in crate::values) fn vector(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let mut numbers = dense(cursor.bytes(cursor.left())?, 4)?;
    write_list(std::iter::from_fn(|| numbers.f32()), out);
    Some(())
}

/// `halfvec`: `[1,2.5]`.
pub(in crate::values) fn half_vector(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let mut numbers = dense(cursor.bytes(cursor.left())?, 2)?;
    write_list(std::iter::from_fn(|| numbers.u16().map(from_half)), out);
    Some(())
}

/// `sparsevec`: `{1:1,3:2.5}/5`.
pub(in crate::values) fn sparse_vector(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let sparse = Sparse::parse(cursor.bytes(cursor.left())?)?;
    out.push('{');
    for (at, (place, number)) in sparse.numbers().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(out, "{comma}{place}:").ok()?;
        write_float4(number, out);
    }
    write!(out, "}}/{}", sparse.dimensions).ok()
}

fn write_list(numbers: impl Iterator<Item = f32>, out: &mut String) {
    out.push('[');
    for (place, number) in numbers.enumerate() {
        if place > 0 {
            out.push(',');
        }
        write_float4(number, out);
    }
    out.push(']');
}
