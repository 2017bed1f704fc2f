// SPDX-License-Identifier: Apache-2.0
//! A place in the write-ahead log.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use tokio_postgres::types::{FromSql, Type, accepts};

/// A log sequence number: a byte position in the server's write-ahead log, printed as `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The invalid position, smaller than every position in a log.
    pub const ZERO: Self = Self(0);

    /// Whether this is a position in a log (zero is none).
    pub fn is_valid(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not two hexadecimal numbers of at most 32 bits with a slash between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidLsn;

impl fmt::Display for InvalidLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a log sequence number such as 16/B374D848")
    }
}

impl Error for InvalidLsn {}

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let half = |digits: &str| {
            let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if plain {
                u64::from_str_radix(digits, 16).map_err(|_| InvalidLsn)
            } else {
                Err(InvalidLsn)
            }
        };
        let (high, low) = text.split_once('/').ok_or(InvalidLsn)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

/// As a query's result has it, in the binary format.
impl<'a> FromSql<'a> for Lsn {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(u64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(PG_LSN);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_as_the_server_does() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn(0x1_0000_000A).to_string(), "1/A");
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!("0/0".parse(), Ok(Lsn::ZERO));
    }

    #[test]
    fn refuses_what_the_server_never_prints() {
        for text in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "+1/2",
            "1/-2",
            "123456789/0",
            "0/123456789",
            "g/0",
            " 1/2",
        ] {
            assert_eq!(text.parse::<Lsn>(), Err(InvalidLsn), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parses_what_it_prints_and_keeps_the_order(a: u64, b: u64) {
            prop_assert_eq!(Lsn(a).to_string().parse(), Ok(Lsn(a)));
            prop_assert_eq!(Lsn(a) < Lsn(b), a < b);
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<Lsn>();
        }
    }
}
