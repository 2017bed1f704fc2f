// SPDX-License-Identifier: Apache-2.0
//! Dates of the Gregorian calendar as the server counts them, without time zones.

use highwater_core::value::ValueError;

/// A date and a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) micros: i64,
}

pub(super) const MICROS: i64 = 1_000_000;
const SECONDS_OF_DAY: i64 = 86_400;

impl Moment {
    /// Days since 1970-01-01. The server keeps dates that there are none of where `sql_mode` lets it: with the month or
    /// the day 0, and the 31st of short months.
    pub(super) fn days(self) -> Result<i64, ValueError> {
        if self.month == 0 || self.day == 0 {
            return Err(ValueError::new("date with month or day 0 is none of the calendar"));
        }
        if !(1..=12).contains(&self.month) || self.day > days_of(self.year, self.month) {
            return Err(ValueError::new("date is none of the calendar"));
        }
        Ok(days_since_1970(self.year, self.month, self.day))
    }

    /// Microseconds since 1970-01-01 00:00.
    pub(super) fn micros(self) -> Result<i64, ValueError> {
        if self.hour > 23 || self.minute > 59 || self.second > 59 || self.micros >= MICROS {
            return Err(ValueError::new("time of day is malformed"));
        }
        let seconds = self.hour * 3_600 + self.minute * 60 + self.second;
        Ok((self.days()? * SECONDS_OF_DAY + seconds) * MICROS + self.micros)
    }

    /// The moment of a number of seconds since 1970.
    pub(super) fn of_seconds(seconds: i64, micros: i64) -> Self {
        let (days, of_day) = (seconds.div_euclid(SECONDS_OF_DAY), seconds.rem_euclid(SECONDS_OF_DAY));
        let (year, month, day) = date_of(days);
        Self {
            year,
            month,
            day,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            micros,
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counted from the first of March, so that the day that leap years have is the last of a year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_both_ways() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 3, 1), 11_017);
        assert_eq!(days_since_1970(1000, 1, 1), -354_285);
        assert_eq!(days_since_1970(9999, 12, 31), 2_932_896);
        for days in -360_000..60_000 {
            let (year, month, day) = date_of(days);
            assert_eq!(days_since_1970(year, month, day), days);
            assert!((1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day));
        }
    }
}
