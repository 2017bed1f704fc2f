// SPDX-License-Identifier: Apache-2.0
//! Dates and times in the forms of MySQL 5.6 and later. Big-endian but DATE.
//!
//! Fractions of a second have as many bytes as their digits need, two digits a byte: 1 and 2 digits count hundredths, 3 and
//! 4 ten-thousandths, 5 and 6 millionths.

use std::fmt::Write;

use highwater_core::value::{ColumnDecoder, TimeUnit, ValueError, ValueWriter};

use super::calendar::{MICROS, Moment};
use super::{big_endian, fixed};

const fn malformed() -> ValueError {
    ValueError::new("date or time is malformed")
}

/// Splits off the integer of `length` bytes and reads the fraction after it, in microseconds.
fn split(bytes: &[u8], length: usize, digits: u8) -> Result<(i64, i64), ValueError> {
    let (whole, fraction) = bytes.split_at_checked(length).ok_or(malformed())?;
    if fraction.len() != usize::from(digits.div_ceil(2)) {
        return Err(malformed());
    }
    let unit = match fraction.len() {
        0 | 3 => 1,
        1 => 10_000,
        2 => 100,
        _ => return Err(malformed()),
    };
    Ok((
        big_endian(whole).cast_signed(),
        big_endian(fraction).cast_signed() * unit,
    ))
}

/// DATE: days since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Date;

impl ColumnDecoder for Date {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let [a, b, c] = fixed(bytes, "date is not 3 bytes long")?;
        let packed = i64::from(u32::from_le_bytes([a, b, c, 0]));
        let date = Moment {
            year: packed >> 9,
            month: (packed >> 5) & 15,
            day: packed & 31,
            hour: 0,
            minute: 0,
            second: 0,
            micros: 0,
        };
        let days = date.days()?;
        out.int(i32::try_from(days).map_err(|_| malformed())?);
        Ok(())
    }
}

/// TIME: microseconds, negative and past a day as well.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// Digits of the fraction.
    pub fraction: u8,
}

impl ColumnDecoder for Time {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        // A negative time is the complement of whole and fraction together, as if it were one number.
        let fraction_bytes = usize::from(self.fraction.div_ceil(2));
        if bytes.len() != 3 + fraction_bytes || fraction_bytes > 3 {
            return Err(malformed());
        }
        let bits = 8 * fraction_bytes as u32;
        let number = big_endian(bytes).cast_signed() - (0x80_0000 << bits);
        let magnitude = number.abs();
        let (whole, fraction) = (magnitude >> bits, magnitude & ((1 << bits) - 1));
        let unit = [1, 10_000, 100, 1].get(fraction_bytes).copied().unwrap_or(1);
        let micros = clock(whole, fraction * unit)?;
        out.long(if number < 0 { -micros } else { micros });
        Ok(())
    }
}

/// Microseconds of hours, minutes and seconds that share a number.
fn clock(packed: i64, micros: i64) -> Result<i64, ValueError> {
    let (hours, minutes, seconds) = (packed >> 12, (packed >> 6) & 63, packed & 63);
    if minutes > 59 || seconds > 59 || micros >= MICROS || hours > 0x3FF {
        return Err(malformed());
    }
    Ok((hours * 3_600 + minutes * 60 + seconds) * MICROS + micros)
}

/// DATETIME: since 1970-01-01 00:00, without a zone.
#[derive(Debug, Clone, Copy)]
pub struct Datetime {
    /// Digits of the fraction.
    pub fraction: u8,
    /// What is counted.
    pub unit: TimeUnit,
}

impl ColumnDecoder for Datetime {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let (packed, micros) = split(bytes, 5, self.fraction)?;
        let micros = unpack(packed - 0x80_0000_0000, micros)?.micros()?;
        out.long(match self.unit {
            TimeUnit::Millis => micros.div_euclid(1_000),
            TimeUnit::Micros => micros,
            TimeUnit::Nanos => micros
                .checked_mul(1_000)
                .ok_or(ValueError::new("datetime has no form in nanoseconds"))?,
        });
        Ok(())
    }
}

/// The parts of a date and time that share a number.
pub(super) fn unpack(packed: i64, micros: i64) -> Result<Moment, ValueError> {
    if packed < 0 {
        return Err(malformed());
    }
    let (date, clock) = (packed >> 17, packed & 0x1_FFFF);
    let months = date >> 5;
    Ok(Moment {
        year: months / 13,
        month: months % 13,
        day: date & 31,
        hour: clock >> 12,
        minute: (clock >> 6) & 63,
        second: clock & 63,
        micros,
    })
}

/// TIMESTAMP: a moment, as ISO 8601 in GMT with the digits that the column has.
#[derive(Debug, Clone, Copy)]
pub struct Timestamp {
    /// Digits of the fraction.
    pub fraction: u8,
}

impl ColumnDecoder for Timestamp {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let (seconds, micros) = split(bytes, 4, self.fraction)?;
        if seconds == 0 && micros == 0 {
            return Err(ValueError::new("timestamp 0000-00-00 is none of the calendar"));
        }
        if micros >= MICROS {
            return Err(malformed());
        }
        let at = Moment::of_seconds(seconds, micros);
        let mut text = String::with_capacity(27);
        let written = write!(
            text,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            at.year, at.month, at.day, at.hour, at.minute, at.second
        );
        written.map_err(|_| malformed())?;
        if self.fraction > 0 {
            let digits = format!("{micros:06}");
            text.push('.');
            text.push_str(digits.get(..usize::from(self.fraction)).ok_or(malformed())?);
        }
        text.push('Z');
        out.string(&text);
        Ok(())
    }
}
