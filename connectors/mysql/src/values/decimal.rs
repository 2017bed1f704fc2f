// SPDX-License-Identifier: Apache-2.0
//! DECIMAL: groups of digits, big-endian, turned into the unscaled two's complement number of a decimal.
//!
//! Each side of the point has groups of 9 digits in 4 bytes, counted from the point; what is left over has fewer bytes. The
//! highest bit is set where the number is not negative; a negative number has all bits inverted.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

use super::shortest;
use crate::protocol::column_type::decimal_bytes;

/// Digits of a whole group.
const GROUP_DIGITS: u8 = 9;
/// Bytes of a group by its digits.
const GROUP_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
/// 65 digits have 216 bits, and one for the sign.
const LIMBS: usize = 7;
/// The most bytes a value has.
const BYTES_MAX: usize = 32;

const fn malformed() -> ValueError {
    ValueError::new("decimal is malformed")
}

/// DECIMAL(p, s).
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    /// All digits.
    pub precision: u8,
    /// Digits after the point.
    pub scale: u8,
}

impl ColumnDecoder for Decimal {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let (negative, magnitude) = self.magnitude(bytes)?;
        let mut unscaled = [0; LIMBS * 4];
        for (place, limb) in unscaled.chunks_exact_mut(4).zip(magnitude.0.iter().rev()) {
            place.copy_from_slice(&limb.to_be_bytes());
        }
        if negative {
            negate(&mut unscaled);
        }
        out.decimal(shortest(&unscaled));
        Ok(())
    }
}

impl Decimal {
    /// Whether the number is negative, and its digits as one number.
    fn magnitude(&self, bytes: &[u8]) -> Result<(bool, Magnitude), ValueError> {
        let whole = self.precision.checked_sub(self.scale).ok_or(malformed())?;
        if bytes.len() != decimal_bytes(self.precision, self.scale) {
            return Err(malformed());
        }
        let mut plain = [0; BYTES_MAX];
        let plain = plain.get_mut(..bytes.len()).ok_or(malformed())?;
        plain.copy_from_slice(bytes);
        let first = plain.first_mut().ok_or(malformed())?;
        *first ^= 0x80;
        let negative = *first & 0x80 != 0;
        if negative {
            plain.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let mut magnitude = Magnitude::default();
        let mut rest = &*plain;
        let groups = |digits: u8| std::iter::repeat_n(GROUP_DIGITS, usize::from(digits / GROUP_DIGITS));
        let (left, right) = (whole % GROUP_DIGITS, self.scale % GROUP_DIGITS);
        let all = std::iter::once(left)
            .chain(groups(whole))
            .chain(groups(self.scale))
            .chain([right]);
        for digits in all {
            let length = GROUP_BYTES.get(usize::from(digits)).copied().unwrap_or_default();
            let (group, tail) = rest.split_at_checked(length).ok_or(malformed())?;
            rest = tail;
            let value = group.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte));
            magnitude.append(value, digits)?;
        }
        Ok((negative, magnitude))
    }

    /// Appends the number as the server writes it.
    pub(super) fn write_text(&self, bytes: &[u8], text: &mut String) -> Result<(), ValueError> {
        let (negative, magnitude) = self.magnitude(bytes)?;
        let digits = magnitude.digits();
        let scale = usize::from(self.scale);
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        if negative {
            text.push('-');
        }
        text.push_str(whole);
        if !fraction.is_empty() {
            text.push('.');
            text.push_str(fraction);
        }
        Ok(())
    }
}

/// A number without a sign, lowest limb first.
#[derive(Default)]
struct Magnitude([u32; LIMBS]);

impl Magnitude {
    /// Moves the number up by `digits` and adds `value`, which must have no more of them.
    fn append(&mut self, value: u32, digits: u8) -> Result<(), ValueError> {
        let factor = 10_u64.pow(u32::from(digits));
        if u64::from(value) >= factor {
            return Err(malformed());
        }
        let mut carry = u64::from(value);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * factor + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry == 0 { Ok(()) } else { Err(malformed()) }
    }

    fn digits(mut self) -> String {
        const BILLION: u64 = 1_000_000_000;
        let mut groups = Vec::new();
        while self.0.iter().any(|limb| *limb != 0) {
            let mut remainder = 0;
            for limb in self.0.iter_mut().rev() {
                let value = (remainder << 32) | u64::from(*limb);
                *limb = (value / BILLION) as u32;
                remainder = value % BILLION;
            }
            groups.push(remainder);
        }
        let mut digits = groups.pop().unwrap_or_default().to_string();
        for group in groups.into_iter().rev() {
            digits.push_str(&format!("{group:09}"));
        }
        digits
    }
}

/// Two's complement of a big-endian number.
fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
    }
}
