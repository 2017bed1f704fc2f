// SPDX-License-Identifier: Apache-2.0
//! Where a MySQL transaction came from: the server's UUID and the tag that its session chose.

use std::fmt;

/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 32;

/// A server's `server_uuid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceUuid(pub [u8; 16]);

/// How many hexadecimal digits each group of a UUID has.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

impl SourceUuid {
    /// Reads the usual notation, 36 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut filled = bytes.iter_mut();
        let mut groups = text.split('-');
        for length in GROUPS {
            let group = groups.next()?.as_bytes();
            if group.len() != length {
                return None;
            }
            for pair in group.chunks_exact(2) {
                let [high, low] = pair else { return None };
                *filled.next()? = (hex_digit(*high)? << 4) | hex_digit(*low)?;
            }
        }
        groups.next().is_none().then_some(Self(bytes))
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

impl fmt::Display for SourceUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A tag: letters, digits and underscores, the first no digit, in lower case as the server keeps it. Empty for none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag(Box<str>);

impl Tag {
    /// Reads a tag in any case; empty text is no tag.
    pub fn parse(text: &str) -> Option<Self> {
        let starts_well = !text.starts_with(|first: char| first.is_ascii_digit());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits = text.len() <= TAG_BYTES_MAX && starts_well && text.bytes().all(allowed);
        fits.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag, empty for none.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What numbers transactions by itself: a server, and a tag on it. In the order in which the server prints them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionSource {
    /// The server.
    pub uuid: SourceUuid,
    /// The tag, if any.
    pub tag: Tag,
}

impl fmt::Display for TransactionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)?;
        if self.tag.is_none() {
            Ok(())
        } else {
            write!(f, ":{}", self.tag.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_one_notation() {
        let text = "711266a4-e8fb-11f1-98d5-02fc00000001";
        let uuid = SourceUuid::parse(text).unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(SourceUuid::parse(&text.to_uppercase()), Some(uuid));
        for wrong in [
            "",
            "711266a4e8fb11f198d502fc00000001",
            "711266a4-e8fb-11f1-98d5-02fc0000000g",
            "711266a4-e8fb-11f1-98d5-02fc00000001-",
            "711266a4-e8fb-11f1-98d502fc-00000001",
            "+11266a4-e8fb-11f1-98d5-02fc00000001",
        ] {
            assert_eq!(SourceUuid::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_tag_is_lower_case_and_begins_with_no_digit() {
        assert_eq!(Tag::parse("Tag_1").unwrap().as_str(), "tag_1");
        assert!(Tag::parse("").unwrap().is_none());
        assert!(Tag::parse(&"a".repeat(TAG_BYTES_MAX)).is_some());
        for wrong in ["1a", "a-b", "ä", " a", &"a".repeat(TAG_BYTES_MAX + 1)] {
            assert_eq!(Tag::parse(wrong), None, "{wrong}");
        }
    }
}
