// SPDX-License-Identifier: Apache-2.0
//! pgvector's `vector`, `halfvec` and `sparsevec`.

use super::cursor::Cursor;
use super::server_text::number::write_float4;
use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

/// `vector`, in double precision as Debezium has it: each number is the one that its shortest text reads as.
#[derive(Debug)]
pub struct Vector;

impl ColumnDecoder for Vector {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let malformed = ValueError::new("vector is malformed");
        let mut numbers = dense(bytes, 4).ok_or(malformed)?;
        out.begin(numbers.left() / 4);
        let mut text = String::new();
        while let Some(number) = numbers.f32() {
            out.next();
            out.double(widened(number, &mut text).ok_or(malformed)?);
        }
        out.end();
        Ok(())
    }
}

/// `halfvec`.
#[derive(Debug)]
pub struct HalfVector;

impl ColumnDecoder for HalfVector {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut numbers = dense(bytes, 2).ok_or(ValueError::new("halfvec is malformed"))?;
        out.begin(numbers.left() / 2);
        while let Some(half) = numbers.u16() {
            out.next();
            out.float(from_half(half));
        }
        out.end();
        Ok(())
    }
}

/// `sparsevec`: its numbers that are not 0, by their places from 1.
#[derive(Debug)]
pub struct SparseVector;

impl ColumnDecoder for SparseVector {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let malformed = ValueError::new("sparsevec is malformed");
        let sparse = Sparse::parse(bytes).ok_or(malformed)?;
        let dimensions = i16::try_from(sparse.dimensions).map_err(|_| {
            ValueError::new(
                "sparsevec has more than 32,767 dimensions, which Debezium's form cannot hold; name its type in \
                 `values.as_text`",
            )
        })?;
        out.begin(2);
        out.next();
        out.int(i32::from(dimensions));
        out.next();
        out.begin(sparse.count);
        let mut text = String::new();
        for (place, number) in sparse.numbers() {
            out.next();
            out.int(i32::try_from(place).map_err(|_| malformed)?);
            out.next();
            out.double(widened(number, &mut text).ok_or(malformed)?);
        }
        out.end();
        out.end();
        Ok(())
    }
}

/// The numbers of a dense vector of items of `size` bytes.
pub(super) fn dense(bytes: &[u8], size: usize) -> Option<Cursor<'_>> {
    let mut cursor = Cursor::new(bytes);
    let dimensions = usize::from(cursor.u16()?);
    let _unused = cursor.u16()?;
    (cursor.left() == dimensions * size).then_some(cursor)
}

/// A `sparsevec`, checked.
#[derive(Debug)]
pub(super) struct Sparse<'a> {
    pub(super) dimensions: u32,
    pub(super) count: usize,
    places: &'a [u8],
    numbers: Cursor<'a>,
}

impl<'a> Sparse<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let dimensions = u32::try_from(cursor.i32()?).ok()?;
        let count = usize::try_from(cursor.i32()?).ok()?;
        let _unused = cursor.i32()?;
        let places = cursor.bytes(count.checked_mul(4)?)?;
        let sparse = Self {
            dimensions,
            count,
            places,
            numbers: cursor,
        };
        let inside = sparse.numbers().all(|(place, _)| (1..=dimensions).contains(&place));
        (inside && cursor.left() == count * 4).then_some(sparse)
    }

    /// Places from 1 and numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (u32, f32)> + use<'a> {
        let (mut places, mut numbers) = (Cursor::new(self.places), self.numbers);
        std::iter::from_fn(move || Some((places.u32()?.wrapping_add(1), numbers.f32()?)))
    }
}

/// The double-precision number that the shortest text of a single-precision one reads as.
fn widened(number: f32, text: &mut String) -> Option<f64> {
    text.clear();
    write_float4(number, text);
    text.parse().ok()
}

/// IEEE 754's half precision.
pub(super) fn from_half(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let (exponent, fraction) = (u32::from(half >> 10 & 0x1F), u32::from(half & 0x3FF));
    match (exponent, fraction) {
        (0, fraction) => {
            // Below the normal numbers: so many times 2^-24, which single precision holds exactly.
            let magnitude = fraction as f32 / 16_777_216.0;
            f32::from_bits(magnitude.to_bits() | sign)
        }
        (0x1F, fraction) => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        (exponent, fraction) => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}
