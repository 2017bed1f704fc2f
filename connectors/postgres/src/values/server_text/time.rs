// SPDX-License-Identifier: Apache-2.0
//! Dates and times in the style ISO, intervals in the style `postgres`.

use super::push;
use crate::values::cursor::Cursor;
use crate::values::time::{DAY_US, EPOCH_DAYS, EPOCH_US, civil_from_days};
use std::fmt::Write;

const DAYS_PAST_MAX: i64 = i64::MAX / DAY_US;

/// `date`.
pub(in crate::values) fn date(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    match cursor.i32()? {
        i32::MAX => out.push_str("infinity"),
        i32::MIN => out.push_str("-infinity"),
        days => {
            let before_christ = write_date(i64::from(days) + i64::from(EPOCH_DAYS), out)?;
            out.push_str(before_christ);
        }
    }
    Some(())
}

/// `time`.
pub(in crate::values) fn time(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    write_clock(cursor.u64()? as i64, out)
}

/// `timetz`, with the offset that it has.
pub(in crate::values) fn timetz(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    write_clock(cursor.u64()? as i64, out)?;
    let west = cursor.i32()?;
    let seconds = west.unsigned_abs();
    if seconds > 86_400 {
        return None;
    }
    let sign = if west > 0 { '-' } else { '+' };
    write!(out, "{sign}{:02}", seconds / 3_600).ok()?;
    if seconds % 3_600 != 0 {
        write!(out, ":{:02}", seconds / 60 % 60).ok()?;
    }
    if seconds % 60 != 0 {
        write!(out, ":{:02}", seconds % 60).ok()?;
    }
    Some(())
}

/// `timestamp`.
pub(in crate::values) fn timestamp(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    write_timestamp(cursor.u64()? as i64, "", out)
}

/// `timestamptz`, in UTC.
pub(in crate::values) fn timestamptz(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    write_timestamp(cursor.u64()? as i64, "+00", out)
}

fn write_timestamp(micros: i64, zone: &str, out: &mut String) -> Option<()> {
    match micros {
        i64::MAX => out.push_str("infinity"),
        i64::MIN => out.push_str("-infinity"),
        micros => {
            let micros = micros.checked_add(EPOCH_US)?;
            let before_christ = write_date(micros.div_euclid(DAY_US), out)?;
            out.push(' ');
            write_clock(micros.rem_euclid(DAY_US), out)?;
            out.push_str(zone);
            out.push_str(before_christ);
        }
    }
    Some(())
}

/// Writes a date; what comes at the end of it all where it lies before our era.
fn write_date(days: i64, out: &mut String) -> Option<&'static str> {
    if days.abs() > DAYS_PAST_MAX {
        return None;
    }
    let (year, month, day) = civil_from_days(days);
    let (shown, end) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    write!(out, "{shown:04}-{month:02}-{day:02}").ok()?;
    Some(end)
}

fn write_clock(micros: i64, out: &mut String) -> Option<()> {
    if !(0..=DAY_US).contains(&micros) {
        return None;
    }
    let seconds = micros / 1_000_000;
    write!(out, "{:02}:{:02}:", seconds / 3_600, seconds / 60 % 60).ok()?;
    write_seconds(seconds % 60, micros % 1_000_000, out)
}

/// Two digits, and a fraction without zeros at its end.
fn write_seconds(seconds: i64, micros: i64, out: &mut String) -> Option<()> {
    write!(out, "{seconds:02}").ok()?;
    if micros != 0 {
        let fraction = format!(".{micros:06}");
        out.push_str(fraction.trim_end_matches('0'));
    }
    Some(())
}

/// `interval` (`EncodeInterval` in `src/backend/utils/adt/datetime.c`).
pub(in crate::values) fn interval(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let (micros, days, months) = (cursor.u64()? as i64, cursor.i32()?, cursor.i32()?);
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => return push("infinity", out),
        (i64::MIN, i32::MIN, i32::MIN) => return push("-infinity", out),
        _ => {}
    }
    let (mut first, mut before) = (true, false);
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value != 0 {
            let space = if first { "" } else { " " };
            let plus = if before && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            write!(out, "{space}{plus}{value} {unit}{plural}").ok()?;
            (first, before) = (false, value < 0);
        }
    }
    if first || micros != 0 {
        let space = if first { "" } else { " " };
        let sign = match (micros < 0, before) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        let magnitude = micros.unsigned_abs();
        let seconds = magnitude / 1_000_000;
        write!(out, "{space}{sign}{:02}:{:02}:", seconds / 3_600, seconds / 60 % 60).ok()?;
        write_seconds((seconds % 60) as i64, (magnitude % 1_000_000) as i64, out)?;
    }
    Some(())
}
