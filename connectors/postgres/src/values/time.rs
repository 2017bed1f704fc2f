// SPDX-License-Identifier: Apache-2.0
//! Dates, times and durations. All arithmetic is on integers.
//!
//! The server counts from 2000-01-01, in days and microseconds. Infinity becomes the values that Debezium gives it, so
//! that consumers know them already.

use super::scalar::fixed;
use highwater_core::value::{ColumnDecoder, TimeUnit, ValueError, ValueWriter};

/// Days from 1970-01-01 to 2000-01-01.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
pub(super) const EPOCH_US: i64 = 946_684_800_000_000;
pub(super) const DAY_US: i64 = 86_400_000_000;
/// An average month of 30.4375 days.
const MONTH_US: i128 = 2_629_800_000_000;

const DATE_INFINITY: i32 = 2_146_033_979;
const DATE_MINUS_INFINITY: i32 = -2_147_472_692;
const TIMESTAMP_INFINITY: i64 = 9_223_372_036_825_200_000;
const TIMESTAMP_MINUS_INFINITY: i64 = -9_223_372_036_832_400_000;
const ZONED_INFINITY: &str = "+292278994-08-16T23:00:00Z";
const ZONED_MINUS_INFINITY: &str = "-292275055-05-16T23:00:00Z";

/// `date`, as days since 1970-01-01.
#[derive(Debug)]
pub struct Date;

impl ColumnDecoder for Date {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.int(match i32::from_be_bytes(fixed(bytes, "date is not 4 bytes long")?) {
            i32::MAX => DATE_INFINITY,
            i32::MIN => DATE_MINUS_INFINITY,
            days => days
                .checked_add(EPOCH_DAYS)
                .ok_or(ValueError::new("date is out of range"))?,
        });
        Ok(())
    }
}

/// `time`, since midnight. 24:00:00 is a time of its own.
#[derive(Debug)]
pub struct Time {
    /// Milliseconds for `time(0)` to `time(3)`, else microseconds.
    pub unit: TimeUnit,
}

impl ColumnDecoder for Time {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let micros = i64::from_be_bytes(fixed(bytes, "time is not 8 bytes long")?);
        if !(0..=DAY_US).contains(&micros) {
            return Err(ValueError::new("time is not within a day"));
        }
        match self.unit {
            // At most 86,400,000.
            TimeUnit::Millis => out.int((micros / 1_000) as i32),
            TimeUnit::Micros => out.long(micros),
            TimeUnit::Nanos => out.long(micros * 1_000),
        }
        Ok(())
    }
}

/// `timestamp`, since 1970-01-01 00:00.
#[derive(Debug)]
pub struct Timestamp {
    /// Milliseconds for `timestamp(0)` to `timestamp(3)`, else microseconds.
    pub unit: TimeUnit,
}

impl ColumnDecoder for Timestamp {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let out_of_range = ValueError::new("timestamp is out of range");
        let micros = match i64::from_be_bytes(fixed(bytes, "timestamp is not 8 bytes long")?) {
            i64::MAX => TIMESTAMP_INFINITY,
            i64::MIN => TIMESTAMP_MINUS_INFINITY,
            micros => micros.checked_add(EPOCH_US).ok_or(out_of_range)?,
        };
        out.long(match self.unit {
            TimeUnit::Millis => micros.div_euclid(1_000),
            TimeUnit::Micros => micros,
            TimeUnit::Nanos => micros.checked_mul(1_000).ok_or(out_of_range)?,
        });
        Ok(())
    }
}

/// `timestamptz`, as ISO 8601 in GMT.
#[derive(Debug)]
pub struct TimestampTz;

impl ColumnDecoder for TimestampTz {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let micros = match i64::from_be_bytes(fixed(bytes, "timestamptz is not 8 bytes long")?) {
            i64::MAX => {
                out.string(ZONED_INFINITY);
                return Ok(());
            }
            i64::MIN => {
                out.string(ZONED_MINUS_INFINITY);
                return Ok(());
            }
            micros => micros
                .checked_add(EPOCH_US)
                .ok_or(ValueError::new("timestamptz is out of range"))?,
        };
        let (year, month, day) = civil_from_days(micros.div_euclid(DAY_US));
        let mut text = IsoText::new();
        text.year(year);
        text.separated(b'-', month);
        text.separated(b'-', day);
        text.push(b'T');
        text.clock(micros.rem_euclid(DAY_US));
        text.deliver(out)
    }
}

/// `timetz`, as ISO 8601 in GMT.
#[derive(Debug)]
pub struct TimeTz;

impl ColumnDecoder for TimeTz {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let malformed = ValueError::new("timetz is malformed");
        let (local, zone) = bytes.split_first_chunk::<8>().ok_or(malformed)?;
        let local = i64::from_be_bytes(*local);
        let west_seconds = i32::from_be_bytes(fixed(zone, "timetz is malformed")?);
        if !(0..=DAY_US).contains(&local) || west_seconds.unsigned_abs() > 86_400 {
            return Err(malformed);
        }
        let mut text = IsoText::new();
        text.clock((local + i64::from(west_seconds) * 1_000_000).rem_euclid(DAY_US));
        text.deliver(out)
    }
}

/// `interval`, in microseconds with months of 30.4375 days.
#[derive(Debug)]
pub struct Interval;

impl ColumnDecoder for Interval {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let whole: [u8; 16] = fixed(bytes, "interval is not 16 bytes long")?;
        let bits = u128::from_be_bytes(whole);
        let (micros, days, months) = (
            (bits >> 64) as u64 as i64,
            (bits >> 32) as u32 as i32,
            bits as u32 as i32,
        );
        out.long(match (micros, days, months) {
            // Infinite intervals exist since version 17.
            (i64::MAX, i32::MAX, i32::MAX) => i64::MAX,
            (i64::MIN, i32::MIN, i32::MIN) => i64::MIN,
            _ => {
                let sum = i128::from(micros) + i128::from(days) * i128::from(DAY_US) + i128::from(months) * MONTH_US;
                i64::try_from(sum).map_err(|_| ValueError::new("interval does not fit 64 bits of microseconds"))?
            }
        });
        Ok(())
    }
}

/// The date of a day counted from 1970-01-01 in the proleptic Gregorian calendar, by eras of 400 years that begin in
/// March, so that leap days come last.
pub(super) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Text of at most 40 bytes without an allocation.
struct IsoText {
    bytes: [u8; 40],
    length: usize,
}

impl IsoText {
    fn new() -> Self {
        Self {
            bytes: [0; 40],
            length: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    /// `number` with at least `width` digits.
    fn digits(&mut self, number: i64, width: usize) {
        let mut digits = [b'0'; 20];
        let mut rest = number.unsigned_abs();
        let mut count = 0;
        for place in digits.iter_mut().rev() {
            if rest == 0 && count >= width {
                break;
            }
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
            count += 1;
        }
        for digit in digits.iter().skip(digits.len() - count) {
            self.push(*digit);
        }
    }

    /// Four digits at least; a sign where there are more, or before year 0 (which is 1 BC).
    fn year(&mut self, year: i64) {
        if year < 0 {
            self.push(b'-');
        } else if year > 9_999 {
            self.push(b'+');
        }
        self.digits(year, 4);
    }

    /// A separator and two digits of a number below 100.
    fn separated(&mut self, separator: u8, number: i64) {
        self.push(separator);
        self.pair(number);
    }

    /// Two digits of a number below 100.
    fn pair(&mut self, number: i64) {
        let number = number as u8;
        self.push(b'0' + number / 10 % 10);
        self.push(b'0' + number % 10);
    }

    /// `hh:mm:ss`, a fraction without zeros at its end, `Z`.
    fn clock(&mut self, micros: i64) {
        let seconds = micros / 1_000_000;
        self.pair(seconds / 3_600);
        self.separated(b':', seconds / 60 % 60);
        self.separated(b':', seconds % 60);
        let mut fraction = micros % 1_000_000;
        if fraction != 0 {
            let mut width = 6;
            while fraction % 10 == 0 {
                fraction /= 10;
                width -= 1;
            }
            self.push(b'.');
            self.digits(fraction, width);
        }
        self.push(b'Z');
    }

    fn deliver(&self, out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let text = self
            .bytes
            .get(..self.length)
            .and_then(|bytes| super::text::utf8(bytes).ok());
        out.string(text.ok_or(ValueError::new("time has no text"))?);
        Ok(())
    }
}
