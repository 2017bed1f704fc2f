// SPDX-License-Identifier: Apache-2.0
//! Integers, floating-point numbers and years: little-endian.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

use super::{fixed, shortest};

/// TINYINT to INT, with a sign or without.
#[derive(Debug, Clone, Copy)]
pub struct Integer {
    /// Bytes of a value, 1 to 4.
    pub bytes: usize,
    /// Whether there is no sign. 4 bytes without a sign are written as a long, all others as an int.
    pub unsigned: bool,
}

impl ColumnDecoder for Integer {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        if bytes.len() != self.bytes || !matches!(bytes.len(), 1..=4) {
            return Err(ValueError::new("integer has another length than its type"));
        }
        let value = bytes
            .iter()
            .rev()
            .fold(0, |value, byte| (value << 8) | u32::from(*byte));
        if self.unsigned && self.bytes == 4 {
            out.long(i64::from(value));
        } else if self.unsigned {
            out.int(value.cast_signed());
        } else {
            let unused = 8 * (4 - self.bytes) as u32;
            out.int((value << unused).cast_signed() >> unused);
        }
        Ok(())
    }
}

/// BIGINT.
#[derive(Debug, Clone, Copy)]
pub struct Bigint;

impl ColumnDecoder for Bigint {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.long(i64::from_le_bytes(fixed(bytes, "bigint is not 8 bytes long")?));
        Ok(())
    }
}

/// BIGINT UNSIGNED as a decimal of 20 digits, which carries all of its values.
#[derive(Debug, Clone, Copy)]
pub struct UnsignedBigintDecimal;

impl ColumnDecoder for UnsignedBigintDecimal {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let value = u64::from_le_bytes(fixed(bytes, "bigint is not 8 bytes long")?);
        // A byte of zeros before it: the value has no sign.
        out.decimal(shortest(&u128::from(value).to_be_bytes()));
        Ok(())
    }
}

/// BIGINT UNSIGNED as a long, for which the upper half of its values is too large.
#[derive(Debug, Clone, Copy)]
pub struct UnsignedBigintLong;

impl ColumnDecoder for UnsignedBigintLong {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let value = u64::from_le_bytes(fixed(bytes, "bigint is not 8 bytes long")?);
        let value =
            i64::try_from(value).map_err(|_| ValueError::new("bigint unsigned above 63 bits has no long form"))?;
        out.long(value);
        Ok(())
    }
}

/// FLOAT.
#[derive(Debug, Clone, Copy)]
pub struct Float;

impl ColumnDecoder for Float {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.float(f32::from_le_bytes(fixed(bytes, "float is not 4 bytes long")?));
        Ok(())
    }
}

/// DOUBLE.
#[derive(Debug, Clone, Copy)]
pub struct Double;

impl ColumnDecoder for Double {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.double(f64::from_le_bytes(fixed(bytes, "double is not 8 bytes long")?));
        Ok(())
    }
}

/// YEAR: 0, or years from 1900.
#[derive(Debug, Clone, Copy)]
pub struct Year;

impl ColumnDecoder for Year {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let [year] = fixed(bytes, "year is not 1 byte long")?;
        out.int(if year == 0 { 0 } else { 1900 + i32::from(year) });
        Ok(())
    }
}
