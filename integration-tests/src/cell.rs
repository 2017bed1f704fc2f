// SPDX-License-Identifier: Apache-2.0
//! One value of a test row, in the two forms that a test needs: what is written to the database, and what a reader of
//! the topic must find.

use base64::Engine;
use serde_json::Value;

/// A value and its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// SQL NULL of any type.
    Null,
    /// `smallint`, `integer`, `bigint`.
    Int(i64),
    /// `text`, `varchar`.
    Text(String),
    /// `numeric` as plain text.
    Numeric(String),
    /// `boolean`.
    Bool(bool),
    /// `timestamp`: microseconds since 1970.
    Timestamp(i64),
    /// `timestamptz`: microseconds since 1970. The last digit is never 0, so that there is one way to write it.
    TimestampTz(i64),
    /// `date`: days since 1970.
    Date(i32),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `json` and `jsonb`, as the server writes it.
    Json(String),
    /// `uuid`, canonical.
    Uuid(String),
    /// `double precision`; a number that binary fractions hold.
    Double(f64),
}

impl Cell {
    /// The literal in SQL. Texts must not hold quotes or backslashes.
    pub fn sql(&self) -> String {
        match self {
            Cell::Null => "NULL".to_owned(),
            Cell::Int(number) => number.to_string(),
            Cell::Numeric(text) => text.clone(),
            Cell::Bool(value) => value.to_string(),
            Cell::Double(value) => format!("{value:?}"),
            Cell::Bytes(octets) => format!("'\\x{}'", hex(octets)),
            other => format!("'{}'", other.text()),
        }
    }

    /// The field in `COPY … FROM STDIN`'s text format.
    pub fn copy(&self) -> String {
        match self {
            Cell::Null => "\\N".to_owned(),
            Cell::Bytes(octets) => format!("\\\\x{}", hex(octets)),
            other => other.text(),
        }
    }

    /// What a decoded event must show.
    pub fn json(&self) -> Value {
        match self {
            Cell::Null => Value::Null,
            Cell::Int(number) => Value::from(*number),
            Cell::Bool(value) => Value::from(*value),
            Cell::Timestamp(micros) => Value::from(*micros),
            Cell::Date(days) => Value::from(*days),
            Cell::Double(value) => Value::from(*value),
            Cell::Bytes(octets) => Value::from(base64::engine::general_purpose::STANDARD.encode(octets)),
            Cell::TimestampTz(micros) => Value::from(format!("{}Z", civil(*micros, 'T'))),
            Cell::Text(text) | Cell::Numeric(text) | Cell::Json(text) | Cell::Uuid(text) => Value::from(text.as_str()),
        }
    }

    fn text(&self) -> String {
        match self {
            Cell::Null => String::new(),
            Cell::Int(number) => number.to_string(),
            Cell::Bool(value) => value.to_string(),
            Cell::Double(value) => format!("{value:?}"),
            Cell::Timestamp(micros) => civil(*micros, ' '),
            Cell::TimestampTz(micros) => format!("{}+00", civil(*micros, ' ')),
            Cell::Date(days) => civil(i64::from(*days) * DAY_US, ' ')
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            Cell::Bytes(octets) => hex(octets),
            Cell::Text(text) | Cell::Numeric(text) | Cell::Json(text) | Cell::Uuid(text) => text.clone(),
        }
    }
}

const DAY_US: i64 = 86_400_000_000;

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// `2026-01-02?03:04:05.000006` of a moment, `?` being the separator.
fn civil(micros: i64, separator: char) -> String {
    let (days, of_day) = (micros.div_euclid(DAY_US), micros.rem_euclid(DAY_US));
    // Howard Hinnant's days-to-civil: eras of 400 years that start in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (second, micro) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}.{micro:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_the_calendar_has_it() {
        assert_eq!(civil(0, 'T'), "1970-01-01T00:00:00.000000");
        assert_eq!(civil(1_767_323_045_123_456, ' '), "2026-01-02 03:04:05.123456");
        assert_eq!(civil(951_782_400_000_000, ' '), "2000-02-29 00:00:00.000000");
        assert_eq!(civil(-1, ' '), "1969-12-31 23:59:59.999999");
    }

    #[test]
    fn a_value_has_the_form_that_each_side_wants() {
        let bytes = Cell::Bytes(vec![0, 255]);
        assert_eq!(
            (bytes.sql(), bytes.copy()),
            ("'\\x00ff'".to_owned(), "\\\\x00ff".to_owned())
        );
        assert_eq!(bytes.json(), "AP8=");
        assert_eq!(Cell::Date(0).sql(), "'1970-01-01'");
        assert_eq!(Cell::TimestampTz(1).json(), "1970-01-01T00:00:00.000001Z");
        assert_eq!(Cell::Double(1.5).sql(), "1.5");
    }
}
