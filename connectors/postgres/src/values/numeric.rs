// SPDX-License-Identifier: Apache-2.0
//! `numeric`: digits in base 10,000, turned into the unscaled two's complement number of a decimal.
//!
//! Up to 18 digits stay in 64 bits, up to 38 in 128 bits; what is longer takes an exact way over limbs of 32 bits.

use super::cursor::Cursor;
use super::scalar::shortest;
use super::server_text::number;
use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

/// The most digits before the point that the server takes (`NUMERIC_WEIGHT_MAX` times 4), and after it.
const DIGITS_MAX: i64 = 131_072 + 16_383;

/// `numeric(p, s)`: a decimal of the column's scale.
#[derive(Debug)]
pub struct Decimal {
    /// Digits after the point.
    pub scale: u32,
}

impl ColumnDecoder for Decimal {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let number = Number::parse(bytes)?;
        number.with_unscaled(i64::from(self.scale), |unscaled| out.decimal(unscaled))
    }
}

/// `numeric` without a scale: each value brings its own.
#[derive(Debug)]
pub struct VariableScaleDecimal;

impl ColumnDecoder for VariableScaleDecimal {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let number = Number::parse(bytes)?;
        let scale = i32::from(number.display_scale);
        number.with_unscaled(i64::from(scale), |unscaled| out.variable_scale_decimal(scale, unscaled))
    }
}

/// `numeric` as the nearest number in double precision, NaN and infinities included.
#[derive(Debug)]
pub struct Double;

impl ColumnDecoder for Double {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut text = String::with_capacity(32);
        let mut cursor = Cursor::new(bytes);
        let written = number::numeric(&mut cursor, &mut text).and_then(|()| cursor.finish());
        let value = written.and_then(|()| text.parse().ok());
        out.double(value.ok_or(ValueError::new("numeric is malformed"))?);
        Ok(())
    }
}

/// 10 to the power of 0 to 18.
const POWERS_OF_TEN: [i64; 19] = {
    let mut powers = [1; 19];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

fn too_many_digits() -> ValueError {
    ValueError::new("numeric has more digits after the point than its column's scale")
}

/// A number as the server sends it: `digits[0] * 10000^weight + digits[1] * 10000^(weight - 1) + ...`.
struct Number<'a> {
    digits: &'a [u8],
    weight: i16,
    negative: bool,
    display_scale: u16,
}

impl<'a> Number<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ValueError> {
        let malformed = ValueError::new("numeric is malformed");
        let (header, digits) = bytes.split_first_chunk::<8>().ok_or(malformed)?;
        let [a, b, c, d, e, f, g, h] = *header;
        let count = usize::from(u16::from_be_bytes([a, b]));
        let negative = match u16::from_be_bytes([e, f]) {
            0x0000 => false,
            0x4000 => true,
            0xC000 => {
                return Err(ValueError::new(
                    "numeric NaN has no decimal form; set `values.numeric` to `string` or `double`",
                ));
            }
            0xD000 | 0xF000 => {
                return Err(ValueError::new(
                    "numeric infinity has no decimal form; set `values.numeric` to `string` or `double`",
                ));
            }
            _ => return Err(malformed),
        };
        let display_scale = u16::from_be_bytes([g, h]);
        if digits.len() != count * 2 || i64::from(display_scale) > DIGITS_MAX {
            return Err(malformed);
        }
        Ok(Self {
            digits,
            weight: i16::from_be_bytes([c, d]),
            negative,
            display_scale,
        })
    }

    fn groups(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// Calls `deliver` with the number times 10^`scale`, which must be whole.
    fn with_unscaled(&self, scale: i64, deliver: impl FnOnce(&[u8])) -> Result<(), ValueError> {
        if self.groups().any(|group| group > 9_999) {
            return Err(ValueError::new("numeric is malformed"));
        }
        let count = self.digits.len() as i64 / 2;
        // What the groups read as one number is to be multiplied by: a power of ten.
        let power = 4 * (i64::from(self.weight) - count + 1) + scale;
        if count == 0 {
            deliver(&[0]);
            return Ok(());
        }
        let digits_max = 4 * count + power.max(0);
        if digits_max > DIGITS_MAX + 8 {
            return Err(ValueError::new("numeric is out of range"));
        }
        if digits_max <= 18 {
            self.tiny(power, deliver)
        } else if digits_max <= 38 {
            self.small(power, deliver)
        } else {
            self.large(power, deliver)
        }
    }

    /// At most 18 digits in all, as nearly every number has: 64 bits hold them.
    fn tiny(&self, power: i64, deliver: impl FnOnce(&[u8])) -> Result<(), ValueError> {
        let mut magnitude = self
            .groups()
            .fold(0_i64, |value, group| value * 10_000 + i64::from(group));
        // Beyond 18 the divisor exceeds any magnitude: only zero divides.
        let factor = POWERS_OF_TEN
            .get(usize::try_from(power.unsigned_abs()).unwrap_or(usize::MAX))
            .copied()
            .unwrap_or(i64::MAX);
        if power >= 0 {
            magnitude *= factor;
        } else if magnitude % factor != 0 {
            return Err(too_many_digits());
        } else {
            magnitude /= factor;
        }
        let signed = if self.negative { -magnitude } else { magnitude };
        deliver(shortest(&signed.to_be_bytes()));
        Ok(())
    }

    /// At most 38 digits in all, so that nothing overflows 127 bits.
    fn small(&self, power: i64, deliver: impl FnOnce(&[u8])) -> Result<(), ValueError> {
        let mut magnitude = self
            .groups()
            .fold(0_i128, |value, group| value * 10_000 + i128::from(group));
        if power >= 0 {
            magnitude *= 10_i128.pow(power.unsigned_abs() as u32);
        } else {
            // Beyond 38 the divisor exceeds any magnitude: only zero divides.
            let divisor = 10_i128
                .checked_pow(power.unsigned_abs().min(38) as u32)
                .unwrap_or(i128::MAX);
            if magnitude % divisor != 0 {
                return Err(too_many_digits());
            }
            magnitude /= divisor;
        }
        let signed = if self.negative { -magnitude } else { magnitude };
        deliver(shortest(&signed.to_be_bytes()));
        Ok(())
    }

    fn large(&self, power: i64, deliver: impl FnOnce(&[u8])) -> Result<(), ValueError> {
        let mut limbs = Limbs::default();
        for group in self.groups() {
            limbs.multiply_add(10_000, group);
        }
        let mut left = power.unsigned_abs();
        while left > 0 {
            let step = left.min(9) as u32;
            let factor = 10_u32.pow(step);
            if power > 0 {
                limbs.multiply_add(factor, 0);
            } else if limbs.divide(factor) != 0 {
                return Err(too_many_digits());
            } else if limbs.is_zero() {
                break;
            }
            left -= u64::from(step);
        }
        deliver(shortest(&limbs.into_twos_complement(self.negative)));
        Ok(())
    }
}

/// A whole number of any size, least significant limb first.
#[derive(Default)]
struct Limbs(Vec<u32>);

impl Limbs {
    fn multiply_add(&mut self, factor: u32, add: u32) {
        let mut carry = u64::from(add);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Divides and returns the remainder.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut remainder = 0_u64;
        for limb in self.0.iter_mut().rev() {
            let dividend = remainder << 32 | u64::from(*limb);
            *limb = (dividend / u64::from(divisor)) as u32;
            remainder = dividend % u64::from(divisor);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        remainder as u32
    }

    fn is_zero(&self) -> bool {
        self.0.iter().all(|limb| *limb == 0)
    }

    /// Big-endian, with room for the sign.
    fn into_twos_complement(self, negative: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 4 + 4);
        bytes.extend_from_slice(&[0; 4]);
        for limb in self.0.iter().rev() {
            bytes.extend_from_slice(&limb.to_be_bytes());
        }
        if negative {
            let mut carry = true;
            for byte in bytes.iter_mut().rev() {
                (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
            }
        }
        bytes
    }
}
