// SPDX-License-Identifier: Apache-2.0
//! Numbers of a fixed size, truth values and UUIDs.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

/// The bytes of a value whose length its type fixes.
pub(super) fn fixed<const N: usize>(bytes: &[u8], reason: &'static str) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| ValueError::new(reason))
}

/// `boolean`.
#[derive(Debug)]
pub struct Boolean;

impl ColumnDecoder for Boolean {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let [byte] = fixed(bytes, "boolean is not 1 byte long")?;
        out.boolean(byte != 0);
        Ok(())
    }
}

/// `smallint`.
#[derive(Debug)]
pub struct Int2;

impl ColumnDecoder for Int2 {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.int(i32::from(i16::from_be_bytes(fixed(
            bytes,
            "smallint is not 2 bytes long",
        )?)));
        Ok(())
    }
}

/// `integer`.
#[derive(Debug)]
pub struct Int4;

impl ColumnDecoder for Int4 {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.int(i32::from_be_bytes(fixed(bytes, "integer is not 4 bytes long")?));
        Ok(())
    }
}

/// `bigint`.
#[derive(Debug)]
pub struct Int8;

impl ColumnDecoder for Int8 {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.long(i64::from_be_bytes(fixed(bytes, "bigint is not 8 bytes long")?));
        Ok(())
    }
}

/// `oid`, which has no sign and 32 bits.
#[derive(Debug)]
pub struct Oid;

impl ColumnDecoder for Oid {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.long(i64::from(u32::from_be_bytes(fixed(bytes, "oid is not 4 bytes long")?)));
        Ok(())
    }
}

/// `real`.
#[derive(Debug)]
pub struct Float4;

impl ColumnDecoder for Float4 {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.float(f32::from_be_bytes(fixed(bytes, "real is not 4 bytes long")?));
        Ok(())
    }
}

/// `double precision`.
#[derive(Debug)]
pub struct Float8;

impl ColumnDecoder for Float8 {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.double(f64::from_be_bytes(fixed(
            bytes,
            "double precision is not 8 bytes long",
        )?));
        Ok(())
    }
}

/// `money`: an amount in the smallest unit of the server's `lc_monetary`, so the unscaled value of a decimal.
#[derive(Debug)]
pub struct Money;

impl ColumnDecoder for Money {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let amount: [u8; 8] = fixed(bytes, "money is not 8 bytes long")?;
        out.decimal(shortest(&amount));
        Ok(())
    }
}

/// The shortest form of a big-endian two's complement number: leading bytes that only repeat the sign are left out, one
/// byte always stays.
pub(super) fn shortest(mut bytes: &[u8]) -> &[u8] {
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

/// `uuid`, as its canonical text.
#[derive(Debug)]
pub struct Uuid;

impl ColumnDecoder for Uuid {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let octets: [u8; 16] = fixed(bytes, "uuid is not 16 bytes long")?;
        let mut text = [b'-'; 36];
        // Where each octet's digits stand: hyphens after the octets 4, 6, 8 and 10.
        let places = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        for (octet, place) in octets.iter().zip(places) {
            if let Some([high, low]) = text.get_mut(place..place + 2) {
                *high = DIGITS[usize::from(octet >> 4)];
                *low = DIGITS[usize::from(octet & 15)];
            }
        }
        out.string(std::str::from_utf8(&text).map_err(|_| ValueError::new("uuid has no text"))?);
        Ok(())
    }
}
