// SPDX-License-Identifier: Apache-2.0
//! Numbers and bit strings.

use super::push;
use crate::values::cursor::Cursor;
use std::fmt::Write;

/// `double precision`, with as few digits as read back as the same number.
pub(in crate::values) fn write_float8(value: f64, out: &mut String) {
    match special(value) {
        Some(text) => out.push_str(text),
        None => {
            let bits = value.to_bits();
            let binary = Binary::new(bits & ((1 << 52) - 1), (bits >> 52 & 0x7FF) as i32, 52, 1_075);
            write_digits(&shortest(value, &format!("{value:e}"), binary), 15, out);
        }
    }
}

/// `real`, with as few digits as read back as the same number.
pub(in crate::values) fn write_float4(value: f32, out: &mut String) {
    match special(f64::from(value)) {
        Some(text) => out.push_str(text),
        None => {
            let bits = value.to_bits();
            let binary = Binary::new(u64::from(bits & ((1 << 23) - 1)), (bits >> 23 & 0xFF) as i32, 23, 150);
            write_digits(&shortest(f64::from(value), &format!("{value:e}"), binary), 6, out);
        }
    }
}

/// A float's magnitude: `mantissa` times 2 to the power of `exponent`.
#[derive(Debug, Clone, Copy)]
struct Binary {
    mantissa: u64,
    exponent: i32,
    /// Whether the next smaller float is only half as far as the next larger one.
    uneven: bool,
}

impl Binary {
    fn new(fraction: u64, exponent: i32, fraction_bits: u32, bias: i32) -> Self {
        Self {
            mantissa: if exponent == 0 {
                fraction
            } else {
                fraction | 1 << fraction_bits
            },
            exponent: exponent.max(1) - bias,
            uneven: fraction == 0 && exponent > 1,
        }
    }

    /// Whether `digits` times 10 to the power of `power` lies exactly between this float and one beside it. Such a number
    /// has no fraction: with one it has more digits than a shortest text.
    fn is_bound(self, digits: u64, power: i32) -> bool {
        let Some(five) = u32::try_from(power).ok().and_then(|power| 5_u128.checked_pow(power)) else {
            return false;
        };
        let twos = digits.trailing_zeros();
        let Some(odd) = u128::from(digits >> twos.min(63)).checked_mul(five) else {
            return false;
        };
        let (twos, mantissa) = (twos as i32 + power, u128::from(self.mantissa));
        let beside = odd.abs_diff(2 * mantissa) == 1 && twos == self.exponent - 1;
        beside || (self.uneven && odd + 1 == 4 * mantissa && twos == self.exponent - 2)
    }
}

/// As the server's algorithm has it, of the shortest texts the nearest, of two as near the one with an even last digit;
/// and no text that lies between two floats. The standard library differs in both.
fn shortest(value: f64, candidate: &str, binary: Binary) -> String {
    let digits = candidate.bytes().take_while(|byte| *byte != b'e');
    let digits = digits.filter(u8::is_ascii_digit).count();
    let mut text = format!("{value:.*e}", digits - 1);
    // A text with more digits may still be that of the same number between two floats, with zeros behind.
    for more in digits..DIGITS_MAX {
        if !is_bound(&text, binary) {
            break;
        }
        text = format!("{value:.*e}", more);
    }
    text
}

/// The digits that tell every float from all others.
const DIGITS_MAX: usize = 17;

fn is_bound(text: &str, binary: Binary) -> bool {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let power = exponent.parse::<i32>().unwrap_or_default() - (digits.len() as i32 - 1);
    let significant = digits.trim_end_matches('0');
    let power = power + (digits.len() - significant.len()) as i32;
    significant.parse().is_ok_and(|number| binary.is_bound(number, power))
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        None
    }
}

/// Rewrites `-1.25e7`: with an exponent of two digits at least where it is below -4 or not below `exponent_end`, else
/// without one (`src/common/d2s.c`).
fn write_digits(scientific: &str, exponent_end: i32, out: &mut String) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    out.push_str(sign);
    if exponent < -4 || exponent >= exponent_end {
        out.push_str(mantissa);
        let sign = if exponent < 0 { '-' } else { '+' };
        out.push_str(&format!("e{sign}{:02}", exponent.unsigned_abs()));
        return;
    }
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    match usize::try_from(exponent) {
        Ok(exponent) => {
            let whole = exponent + 1;
            let split = whole.min(digits.len());
            let (before, after) = digits.split_at(split);
            out.push_str(before);
            out.extend(std::iter::repeat_n('0', whole - split));
            if !after.is_empty() {
                out.push('.');
                out.push_str(after);
            }
        }
        Err(_) => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', exponent.unsigned_abs() as usize - 1));
            out.push_str(&digits);
        }
    }
}

/// `numeric`: groups of four digits, the first one so many groups before the point as its weight says.
pub(in crate::values) fn numeric(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let count = usize::from(cursor.u16()?);
    let weight = i32::from(cursor.u16()? as i16);
    let sign = cursor.u16()?;
    let scale = usize::from(cursor.u16()?);
    let groups = cursor.bytes(count * 2)?;
    match sign {
        0x0000 => {}
        0x4000 => out.push('-'),
        0xC000 => return push("NaN", out),
        0xD000 => return push("Infinity", out),
        0xF000 => return push("-Infinity", out),
        _ => return None,
    }
    if scale > 0x3FFF {
        return None;
    }
    let group = |place: i32| -> u16 {
        let at = usize::try_from(place).ok().and_then(|place| groups.get(place * 2..));
        at.and_then(|rest| rest.first_chunk())
            .map_or(0, |pair| u16::from_be_bytes(*pair))
    };
    if (0..count as i32).any(|place| group(place) > 9_999) {
        return None;
    }
    write!(out, "{}", if weight < 0 { 0 } else { group(0) }).ok()?;
    for place in 1..=weight {
        write!(out, "{:04}", group(place)).ok()?;
    }
    if scale == 0 {
        return Some(());
    }
    out.push('.');
    let end = out.len() + scale;
    let mut place = weight + 1;
    while out.len() < end {
        write!(out, "{:04}", group(place)).ok()?;
        place += 1;
    }
    out.truncate(end);
    Some(())
}

/// `money`, as a number with two digits after the point: the server's own text depends on `lc_monetary`.
pub(in crate::values) fn money(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let amount = cursor.u64()? as i64;
    let (sign, magnitude) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    write!(out, "{sign}{}.{:02}", magnitude / 100, magnitude % 100).ok()
}

/// `xid8`, `oid8`.
pub(in crate::values) fn unsigned(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    write!(out, "{}", cursor.u64()?).ok()
}

/// `bit` and `varbit`: the count of bits, then the bits, the first one highest.
pub(in crate::values) fn bits(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let count = usize::try_from(cursor.i32()?).ok()?;
    let bytes = cursor.bytes(count.div_ceil(8))?;
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    out.extend(bits.take(count).map(|bit| if bit == 1 { '1' } else { '0' }));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_the_digits_that_the_server_shows() {
        let eight = |value| {
            let mut text = String::new();
            write_float8(value, &mut text);
            text
        };
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (-1e14, "-100000000000000"),
            (1e15, "1e+15"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e23, "9.999999999999999e+22"),
            (28_127_037_265_186_128_i64 as f64, "2.8127037265186128e+16"),
            (6_008_334_576_169_689_i64 as f64 / 4.0, "1.5020836440424222e+15"),
            (9_007_199_254_740_992.0, "9.007199254740992e+15"),
            (f64::from_bits(1), "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        ] {
            assert_eq!(eight(value), text);
        }
        let four = |value| {
            let mut text = String::new();
            write_float4(value, &mut text);
            text
        };
        for (value, text) in [
            (0.1, "0.1"),
            (1e6, "1e+06"),
            (999_999.0, "999999"),
            (f32::MAX, "3.4028235e+38"),
        ] {
            assert_eq!(four(value), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn floats_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            let mut text = String::new();
            write_float8(value, &mut text);
            let back: f64 = text.parse().unwrap();
            proptest::prop_assert!(back == value || value.is_nan(), "{}", text);
            let value = f32::from_bits(bits as u32);
            text.clear();
            write_float4(value, &mut text);
            let back: f32 = text.parse().unwrap();
            proptest::prop_assert!(back == value || value.is_nan(), "{}", text);
        }
    }
}
