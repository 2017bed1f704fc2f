// SPDX-License-Identifier: Apache-2.0
//! Plain text of a decimal: `-12.50`.

use std::io::Write;

use num_bigint::BigInt;

/// Past this many digits before or behind the point, text is written with an exponent: a scale of two thousand million
/// in eight bytes of foreign input must not become two gigabytes of zeros.
const PLAIN_SCALE_MAX: u32 = 200_000;

/// Appends the number `unscaled * 10^-scale`, where `unscaled` is big-endian two's complement. No octets mean 0.
pub(crate) fn write_decimal(unscaled: &[u8], scale: i32, out: &mut Vec<u8>) {
    let start = out.len();
    write_integer(unscaled, out);
    if scale == 0 {
        return;
    }
    if scale.unsigned_abs() > PLAIN_SCALE_MAX {
        append(out, format_args!("E{}", -i64::from(scale)));
        return;
    }
    let digits_at = start + usize::from(out.get(start) == Some(&b'-'));
    if scale < 0 {
        if out.get(digits_at..) != Some(b"0") {
            out.resize(out.len() + scale.unsigned_abs() as usize, b'0');
        }
        return;
    }
    let scale = scale.unsigned_abs() as usize;
    let digits = out.len() - digits_at;
    if digits <= scale {
        let zeros = scale + 1 - digits;
        out.splice(digits_at..digits_at, std::iter::repeat_n(b'0', zeros));
    }
    out.insert(out.len() - scale, b'.');
}

fn write_integer(unscaled: &[u8], out: &mut Vec<u8>) {
    if unscaled.len() <= 16 {
        let negative = unscaled.first().is_some_and(|octet| octet & 0x80 != 0);
        let start = if negative { -1i128 } else { 0 };
        let number = unscaled
            .iter()
            .fold(start, |number, octet| (number << 8) | i128::from(*octet));
        append(out, format_args!("{number}"));
    } else {
        append(out, format_args!("{}", BigInt::from_signed_bytes_be(unscaled)));
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("invariant: a vector takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unscaled: &[u8], scale: i32) -> String {
        let mut out = b"x".to_vec();
        write_decimal(unscaled, scale, &mut out);
        String::from_utf8(out).unwrap()[1..].to_owned()
    }

    #[test]
    fn digits_signs_and_zeros_stand_where_people_put_them() {
        assert_eq!(text(&[0x04, 0xd2], 2), "12.34");
        assert_eq!(text(&[0xfb, 0x2e], 2), "-12.34");
        assert_eq!(text(&[5], 3), "0.005");
        assert_eq!(text(&[0xfb], 1), "-0.5");
        assert_eq!(text(&[0], 2), "0.00");
        assert_eq!(text(&[], 0), "0");
        assert_eq!(text(&[12], -3), "12000");
        assert_eq!(text(&[0], -3), "0");
        assert_eq!(text(&[0x80], 0), "-128");
    }

    #[test]
    fn numbers_past_128_bits_keep_every_digit() {
        let mut unscaled = vec![1];
        unscaled.extend([0; 17]);
        let digits = (BigInt::from(1) << 136u32).to_string();
        let (whole, last) = digits.split_at(digits.len() - 1);
        assert_eq!(text(&unscaled, 1), format!("{whole}.{last}"));
    }

    #[test]
    fn an_absurd_scale_takes_an_exponent_instead_of_gigabytes() {
        assert_eq!(text(&[7], i32::MIN), "7E2147483648");
        assert_eq!(text(&[7], i32::MAX), "7E-2147483647");
    }
}
