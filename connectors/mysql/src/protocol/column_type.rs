// SPDX-License-Identifier: Apache-2.0
//! The types that columns have in a binlog, and how long a field of each is in a row image.

use super::{FieldReader, Flavor, ProtocolError};

/// The type of a column with what a TABLE_MAP says of it beside the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// TINYINT and BOOLEAN, 1 byte.
    Tiny,
    /// SMALLINT, 2 bytes.
    Short,
    /// MEDIUMINT, 3 bytes.
    Int24,
    /// INT, 4 bytes.
    Long,
    /// BIGINT, 8 bytes.
    LongLong,
    /// FLOAT, 4 bytes.
    Float,
    /// DOUBLE, 8 bytes.
    Double,
    /// DECIMAL, packed: 9 digits in 4 bytes, big-endian.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// BIT, big-endian.
    Bit {
        /// How many.
        bits: u16,
    },
    /// YEAR, 1 byte.
    Year,
    /// DATE, 3 bytes.
    Date,
    /// TIME.
    Time {
        /// Digits of the fraction.
        fraction: u8,
    },
    /// DATETIME.
    Datetime {
        /// Digits of the fraction.
        fraction: u8,
    },
    /// TIMESTAMP.
    Timestamp {
        /// Digits of the fraction.
        fraction: u8,
    },
    /// VARCHAR and VARBINARY.
    Varchar {
        /// The longest value, in bytes.
        bytes_max: u16,
    },
    /// CHAR and BINARY, without the spaces or zero bytes at their end.
    String {
        /// The longest value, in bytes.
        bytes_max: u16,
    },
    /// ENUM: the number of the label.
    Enum {
        /// Bytes of the number.
        bytes: u8,
    },
    /// SET: a bit for each label.
    Set {
        /// Bytes of the bits.
        bytes: u8,
    },
    /// TEXT and BLOB of all sizes.
    Blob {
        /// Bytes of the length before each value.
        length_bytes: u8,
    },
    /// Shapes: a reference system of 4 bytes and well-known binary.
    Geometry {
        /// Bytes of the length before each value.
        length_bytes: u8,
    },
    /// JSON in the server's binary form.
    Json {
        /// Bytes of the length before each value.
        length_bytes: u8,
    },
    /// VECTOR: 4 bytes each number.
    Vector {
        /// Bytes of the length before each value.
        length_bytes: u8,
    },
    /// MariaDB: VARCHAR … COMPRESSED.
    CompressedVarchar {
        /// The longest value, in bytes.
        bytes_max: u16,
    },
    /// MariaDB: TEXT and BLOB … COMPRESSED.
    CompressedBlob {
        /// Bytes of the length before each value.
        length_bytes: u8,
    },
}

/// The numbers of the types (`enum_field_types`).
mod number {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const LONG_LONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const YEAR: u8 = 13;
    pub const NEW_DATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEW_DECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// The most digits of a fraction of a second.
const FRACTION_MAX: u8 = 6;
/// The most digits of a DECIMAL, and of those after its point, which are 30 in MySQL.
const PRECISION_MAX: u8 = 65;
const SCALE_MAX: u8 = 38;
const BITS_MAX: u16 = 64;

impl ColumnType {
    /// Reads what TABLE_MAP says of a column of the type `code`. `None` for a type that is not known or has no length to
    /// go by: MariaDB still has times as before MySQL 5.6 (`mysql56_temporal_format`), whose fields are longer by a
    /// fraction that TABLE_MAP does not tell.
    pub(super) fn read(code: u8, metadata: &mut FieldReader<'_>) -> Result<Option<Self>, ProtocolError> {
        Ok(Some(match code {
            number::TINY => Self::Tiny,
            number::SHORT => Self::Short,
            number::INT24 => Self::Int24,
            number::LONG => Self::Long,
            number::LONG_LONG => Self::LongLong,
            number::YEAR => Self::Year,
            number::DATE | number::NEW_DATE => Self::Date,
            _ => return Self::read_sized(code, metadata),
        }))
    }

    /// Reads a type that has more to it than its number.
    fn read_sized(code: u8, metadata: &mut FieldReader<'_>) -> Result<Option<Self>, ProtocolError> {
        Ok(Some(match code {
            number::FLOAT => {
                expect(metadata, 4)?;
                Self::Float
            }
            number::DOUBLE => {
                expect(metadata, 8)?;
                Self::Double
            }
            number::TIME2 => Self::Time {
                fraction: fraction(metadata)?,
            },
            number::DATETIME2 => Self::Datetime {
                fraction: fraction(metadata)?,
            },
            number::TIMESTAMP2 => Self::Timestamp {
                fraction: fraction(metadata)?,
            },
            number::NEW_DECIMAL => decimal(metadata)?,
            number::BIT => bit(metadata)?,
            number::STRING | number::ENUM | number::SET => return string(metadata),
            _ => return Self::read_prefixed(code, metadata),
        }))
    }

    /// Reads a type whose values have their length before them.
    fn read_prefixed(code: u8, metadata: &mut FieldReader<'_>) -> Result<Option<Self>, ProtocolError> {
        Ok(Some(match code {
            number::VARCHAR | number::VAR_STRING => Self::Varchar {
                bytes_max: metadata.u16("length of a VARCHAR column")?,
            },
            number::VARCHAR_COMPRESSED => Self::CompressedVarchar {
                bytes_max: metadata.u16("length of a VARCHAR column")?,
            },
            number::TINY_BLOB | number::MEDIUM_BLOB | number::LONG_BLOB | number::BLOB => Self::Blob {
                length_bytes: length_bytes(metadata)?,
            },
            number::BLOB_COMPRESSED => Self::CompressedBlob {
                length_bytes: length_bytes(metadata)?,
            },
            number::GEOMETRY => Self::Geometry {
                length_bytes: length_bytes(metadata)?,
            },
            number::JSON => Self::Json {
                length_bytes: length_bytes(metadata)?,
            },
            number::VECTOR => Self::Vector {
                length_bytes: length_bytes(metadata)?,
            },
            _ => return Ok(None),
        }))
    }

    /// How long a field of the type is.
    pub fn field_length(self) -> FieldLength {
        let fixed = |bytes: usize| FieldLength::Fixed(bytes);
        match self {
            Self::Tiny | Self::Year => fixed(1),
            Self::Short => fixed(2),
            Self::Int24 | Self::Date => fixed(3),
            Self::Long | Self::Float => fixed(4),
            Self::LongLong | Self::Double => fixed(8),
            Self::Decimal { precision, scale } => fixed(decimal_bytes(precision, scale)),
            Self::Bit { bits } => fixed(usize::from(bits.div_ceil(8))),
            Self::Time { fraction } => fixed(3 + fraction_bytes(fraction)),
            Self::Timestamp { fraction } => fixed(4 + fraction_bytes(fraction)),
            Self::Datetime { fraction } => fixed(5 + fraction_bytes(fraction)),
            Self::Enum { bytes } | Self::Set { bytes } => fixed(usize::from(bytes)),
            Self::Varchar { bytes_max } | Self::String { bytes_max } | Self::CompressedVarchar { bytes_max } => {
                FieldLength::Prefixed(if bytes_max > 255 { 2 } else { 1 })
            }
            Self::Blob { length_bytes }
            | Self::Geometry { length_bytes }
            | Self::Json { length_bytes }
            | Self::Vector { length_bytes }
            | Self::CompressedBlob { length_bytes } => FieldLength::Prefixed(usize::from(length_bytes)),
        }
    }

    /// Whether TABLE_MAP has a bit for it among the signs; `counts_year` says whether it has one for YEAR.
    pub fn is_numeric(self, counts_year: bool) -> bool {
        matches!(
            self,
            Self::Tiny
                | Self::Short
                | Self::Int24
                | Self::Long
                | Self::LongLong
                | Self::Float
                | Self::Double
                | Self::Decimal { .. }
        ) || (counts_year && self == Self::Year)
    }

    /// Whether TABLE_MAP counts it among the columns with a character set; ENUM and SET are counted apart. MySQL counts
    /// VECTOR in, MariaDB the shapes.
    pub fn is_character(self, flavor: Flavor) -> bool {
        match self {
            Self::Varchar { .. } | Self::String { .. } | Self::Blob { .. } => true,
            Self::CompressedVarchar { .. } | Self::CompressedBlob { .. } => true,
            Self::Vector { .. } => flavor != Flavor::MariaDb,
            Self::Geometry { .. } => flavor == Flavor::MariaDb,
            _ => false,
        }
    }
}

/// How to find the end of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldLength {
    /// It has so many bytes.
    Fixed(usize),
    /// So many bytes with its length stand before it.
    Prefixed(usize),
}

fn expect(metadata: &mut FieldReader<'_>, bytes: u8) -> Result<(), ProtocolError> {
    if metadata.u8("length of a column of numbers")? == bytes {
        Ok(())
    } else {
        Err(metadata.malformed("length of a column of numbers"))
    }
}

fn fraction(metadata: &mut FieldReader<'_>) -> Result<u8, ProtocolError> {
    let digits = metadata.u8("digits of a column of times")?;
    if digits <= FRACTION_MAX {
        Ok(digits)
    } else {
        Err(metadata.malformed("digits of a column of times"))
    }
}

fn length_bytes(metadata: &mut FieldReader<'_>) -> Result<u8, ProtocolError> {
    match metadata.u8("bytes of a column's lengths")? {
        bytes @ 1..=4 => Ok(bytes),
        _ => Err(metadata.malformed("bytes of a column's lengths")),
    }
}

fn decimal(metadata: &mut FieldReader<'_>) -> Result<ColumnType, ProtocolError> {
    let precision = metadata.u8("digits of a DECIMAL column")?;
    let scale = metadata.u8("digits of a DECIMAL column")?;
    if (1..=PRECISION_MAX).contains(&precision) && scale <= SCALE_MAX.min(precision) {
        Ok(ColumnType::Decimal { precision, scale })
    } else {
        Err(metadata.malformed("digits of a DECIMAL column"))
    }
}

fn bit(metadata: &mut FieldReader<'_>) -> Result<ColumnType, ProtocolError> {
    let rest = u16::from(metadata.u8("length of a BIT column")?);
    let bytes = u16::from(metadata.u8("length of a BIT column")?);
    let bits = bytes * 8 + rest;
    if rest < 8 && (1..=BITS_MAX).contains(&bits) {
        Ok(ColumnType::Bit { bits })
    } else {
        Err(metadata.malformed("length of a BIT column"))
    }
}

/// Reads what STRING stands for. Two bits of the length that exceed its byte are kept, inverted, in the type's number.
fn string(metadata: &mut FieldReader<'_>) -> Result<Option<ColumnType>, ProtocolError> {
    const LENGTH_BITS: u8 = 0x30;
    let real = metadata.u8("type of a CHAR column")?;
    let length = metadata.u8("length of a CHAR column")?;
    let high = u16::from(!real & LENGTH_BITS) << 4;
    Ok(match (real | LENGTH_BITS, length) {
        (number::STRING, _) => Some(ColumnType::String {
            bytes_max: high | u16::from(length),
        }),
        (number::ENUM, 1..=2) if high == 0 => Some(ColumnType::Enum { bytes: length }),
        (number::SET, 1..=8) if high == 0 => Some(ColumnType::Set { bytes: length }),
        _ => return Err(metadata.malformed("length of a CHAR, ENUM or SET column")),
    })
}

fn fraction_bytes(digits: u8) -> usize {
    usize::from(digits.div_ceil(2))
}

/// Bytes of a packed DECIMAL: 4 for 9 digits, fewer for those that are left on either side of the point.
pub fn decimal_bytes(precision: u8, scale: u8) -> usize {
    let side = |digits: u8| usize::from(digits / 9) * 4 + usize::from((digits % 9).div_ceil(2));
    side(precision.saturating_sub(scale)) + side(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: u8, metadata: &[u8]) -> Result<Option<ColumnType>, ProtocolError> {
        let mut fields = FieldReader::new("TABLE_MAP", metadata);
        let found = ColumnType::read(code, &mut fields)?;
        fields.finish().map(|()| found)
    }

    #[test]
    fn a_decimal_has_the_bytes_of_the_manual() {
        for (precision, scale, bytes) in [(1, 0, 1), (5, 2, 3), (14, 4, 7), (65, 30, 30), (9, 9, 4), (18, 9, 8)] {
            assert_eq!(decimal_bytes(precision, scale), bytes, "{precision},{scale}");
        }
    }

    #[test]
    fn the_length_of_a_char_reaches_into_its_type() {
        assert_eq!(read(254, &[0xfe, 40]), Ok(Some(ColumnType::String { bytes_max: 40 })));
        assert_eq!(
            read(254, &[0xce, 0xfc]),
            Ok(Some(ColumnType::String { bytes_max: 1020 }))
        );
        assert_eq!(read(254, &[247, 2]), Ok(Some(ColumnType::Enum { bytes: 2 })));
        assert_eq!(read(254, &[248, 8]), Ok(Some(ColumnType::Set { bytes: 8 })));
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_is_unknown_is_none() {
        for (code, metadata) in [
            (4, &[8][..]),
            (254, &[247, 3]),
            (254, &[248, 0]),
            (254, &[0x0f, 1]),
            (19, &[7]),
            (246, &[66, 0]),
            (246, &[5, 6]),
            (16, &[8, 1]),
            (16, &[0, 0]),
            (245, &[5]),
            (252, &[0]),
        ] {
            assert!(read(code, metadata).is_err(), "{code} {metadata:?}");
        }
        for code in [0, 6, 7, 11, 12, 20, 139, 142, 241, 243, 244] {
            assert_eq!(read(code, &[]), Ok(None), "{code}");
        }
    }
}
