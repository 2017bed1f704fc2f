// SPDX-License-Identifier: Apache-2.0
//! Values of columns: from the bytes that fields have in a row image to core's [`ValueWriter`].
//!
//! A decoder is made once for a column. Its bytes are the field's own, without a length before it. What cannot be carried
//! without loss is an error that does not show the value. Which column gets which decoder is not decided here yet, and
//! texts, whose character sets are to become UTF-8, have none.
//!
//! [`ValueWriter`]: highwater_core::value::ValueWriter

pub mod bits;
mod calendar;
pub mod decimal;
pub mod integer;
pub mod json;
pub mod labels;
pub mod shape;
pub mod time;
pub mod vector;

use highwater_core::value::ValueError;

/// The bytes of a value whose length its type fixes.
fn fixed<const N: usize>(bytes: &[u8], reason: &'static str) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| ValueError::new(reason))
}

/// A big-endian integer of at most 8 bytes.
fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// The shortest form of a big-endian two's complement number: leading bytes that only repeat the sign are left out, one
/// byte always stays.
fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        let repeats = match rest.first() {
            Some(next) => (*first == 0 && *next < 0x80) || (*first == 0xFF && *next >= 0x80),
            None => false,
        };
        if !repeats {
            break;
        }
        bytes = rest;
    }
    bytes
}
