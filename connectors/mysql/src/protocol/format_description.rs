// SPDX-License-Identifier: Apache-2.0
//! FORMAT_DESCRIPTION: which server wrote the file and what its events look like.

use super::header::HEADER_BYTES;
use super::{Checksum, FieldReader, Flavor, ProtocolError, event_type};

const EVENT: &str = "FORMAT_DESCRIPTION";
const BINLOG_VERSION: u16 = 4;
const SERVER_VERSION_BYTES: usize = 50;
/// What fixed part of their bodies events must have to be read here: the forms of MySQL 5.6 and MariaDB 10 and later.
const FIXED_BYTES: [(u8, u8); 3] = [
    (event_type::QUERY, 13),
    (event_type::TABLE_MAP, 8),
    (event_type::WRITE_ROWS, 10),
];

/// The first event of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatDescription {
    /// The server's version: `9.7.4-2`, `11.8.9-MariaDB-log`.
    pub server_version: String,
    /// When the server began this file, if it was started then, in seconds since 1970; else 0.
    pub created: u32,
    /// What the events after this one end with.
    pub checksum: Checksum,
}

impl FormatDescription {
    /// Which kind of server wrote the file.
    pub fn flavor(&self) -> Flavor {
        if self.server_version.contains("MariaDB") {
            Flavor::MariaDb
        } else {
            Flavor::MySql {
                version: version_number(&self.server_version),
            }
        }
    }

    /// Reads the body, without the checksum.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut fields = FieldReader::new(EVENT, body);
        if fields.u16("version of the format")? != BINLOG_VERSION {
            return Err(fields.malformed("version of the format other than 4"));
        }
        let version: [u8; SERVER_VERSION_BYTES] = fields.array("version of the server")?;
        let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
        let server_version = String::from_utf8_lossy(version).into_owned();
        let created = fields.u32("time of creation")?;
        if usize::from(fields.u8("length of headers")?) != HEADER_BYTES {
            return Err(fields.malformed("length of headers other than 19"));
        }
        let (checksum, lengths) = fields
            .take_rest()
            .split_last()
            .ok_or_else(|| fields.malformed("kind of checksum"))?;
        for (code, length) in FIXED_BYTES {
            if lengths.get(usize::from(code) - 1) != Some(&length) {
                return Err(ProtocolError::Unsupported {
                    event: EVENT,
                    why: "events of a form older than MySQL 5.6 and MariaDB 10",
                });
            }
        }
        Ok(Self {
            server_version,
            created,
            checksum: checksum_kind(*checksum)?,
        })
    }
}

/// 80015 for `8.0.15-log`; 0 for what is no version.
fn version_number(text: &str) -> u32 {
    let digits = text.split(|letter: char| !letter.is_ascii_digit()).take(3);
    let parts = digits.map(|part| part.parse::<u8>().map_or(0, u32::from));
    parts.chain([0; 3]).take(3).fold(0, |number, part| number * 100 + part)
}

/// What the events of a file end with, by the bytes of its whole FORMAT_DESCRIPTION.
pub(super) fn checksum_of(bytes: &[u8]) -> Result<Checksum, ProtocolError> {
    match bytes {
        [.., kind, _, _, _, _] => checksum_kind(*kind),
        _ => Err(ProtocolError::malformed(EVENT, "kind of checksum")),
    }
}

fn checksum_kind(kind: u8) -> Result<Checksum, ProtocolError> {
    match kind {
        0 => Ok(Checksum::None),
        1 => Ok(Checksum::Crc32),
        _ => Err(ProtocolError::malformed(EVENT, "kind of checksum")),
    }
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn versions_are_numbers() {
        for (text, number) in [
            ("8.0.15-log", 80_015),
            ("9.7.4-2", 90_704),
            ("8.4", 80_400),
            ("", 0),
            ("x", 0),
        ] {
            assert_eq!(version_number(text), number, "{text}");
        }
    }
}
