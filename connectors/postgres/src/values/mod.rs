// SPDX-License-Identifier: Apache-2.0
//! Column types: which are carried, what they mean, and how their binary form is read.
//!
//! A type that is not listed here is refused by name. Nothing is guessed: a value that cannot be carried without loss is
//! an error, never a null.

pub mod bits;
pub mod network;
pub mod numeric;
pub mod scalar;
pub mod text;
pub mod time;

use highwater_core::value::{ColumnDecoder, TimeUnit, ValueType};
use std::sync::Arc;

/// What a type's values look like, from `pg_type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgType {
    /// Object id.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// What kind of type it is.
    pub form: TypeForm,
}

/// The kinds of types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeForm {
    /// A base type: built in, or from the named extension.
    Base {
        /// The extension that it belongs to.
        extension: Option<String>,
    },
    /// An enumeration.
    Enum {
        /// Its labels in sort order.
        labels: Arc<[String]>,
    },
    /// A domain: another type with constraints.
    Domain {
        /// The type beneath.
        base: Box<PgType>,
        /// The modifier that the domain gives to the type beneath.
        type_modifier: i32,
    },
    /// A composite, range, multirange or pseudo type, or an array.
    Other {
        /// Which of these.
        kind: &'static str,
    },
}

/// A column's meaning and its decoder.
#[derive(Debug, Clone)]
pub struct Carried {
    /// What the decoder writes.
    pub value_type: ValueType,
    /// Reads the binary form.
    pub decoder: Arc<dyn ColumnDecoder>,
}

/// Why a type is not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason, for a message that goes on after table, column and type.
    pub reason: String,
}

/// The object ids of the built-in types that are carried.
pub const CARRIED_OIDS: [u32; 31] = [
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 142, 650, 700, 701, 774, 790, 829, 869, 1042, 1043, 1082, 1083, 1114,
    1184, 1186, 1266, 1560, 1562, 1700, 2950, 3802,
];

/// Digits after the point of `money`: those of the locales with cents, as Debezium's default has it.
const MONEY_SCALE: u32 = 2;
/// Digits of a 64-bit amount.
const MONEY_PRECISION: u32 = 19;

/// How values of `of` with the modifier `type_modifier` (-1 for none) are carried.
pub fn resolve(of: &PgType, type_modifier: i32) -> Result<Carried, Refused> {
    match &of.form {
        TypeForm::Domain { base, type_modifier } => resolve(base, *type_modifier),
        TypeForm::Enum { labels } => Ok(carried(
            ValueType::Enum {
                allowed: labels.clone(),
            },
            text::Text,
        )),
        TypeForm::Other { kind } => Err(Refused {
            reason: format!("{kind} are not carried yet"),
        }),
        TypeForm::Base {
            extension: Some(extension),
        } => from_extension(extension, &of.name),
        TypeForm::Base { extension: None } => built_in(of, type_modifier),
    }
}

fn carried(value_type: ValueType, decoder: impl ColumnDecoder + 'static) -> Carried {
    Carried {
        value_type,
        decoder: Arc::new(decoder),
    }
}

fn from_extension(extension: &str, name: &str) -> Result<Carried, Refused> {
    match (extension, name) {
        ("citext", "citext") => Ok(carried(ValueType::String, text::Text)),
        ("hstore", "hstore") => Ok(carried(ValueType::Json, text::Hstore)),
        ("ltree", "ltree") => Ok(carried(ValueType::String, text::VersionedText)),
        _ => Err(Refused {
            reason: format!("types of the extension \"{extension}\" are not carried yet"),
        }),
    }
}

/// Types built in have the same object id on every server (`src/include/catalog/pg_type.dat`).
fn built_in(of: &PgType, type_modifier: i32) -> Result<Carried, Refused> {
    Ok(match of.oid {
        16 => carried(ValueType::Boolean, scalar::Boolean),
        17 => carried(ValueType::Bytes, text::Bytea),
        18 => carried(ValueType::String, text::SingleByte),
        19 | 25 | 1042 | 1043 => carried(ValueType::String, text::Text),
        20 => carried(ValueType::Int64, scalar::Int8),
        21 => carried(ValueType::Int16, scalar::Int2),
        23 => carried(ValueType::Int32, scalar::Int4),
        26 => carried(ValueType::Int64, scalar::Oid),
        114 => carried(ValueType::Json, text::Text),
        142 => carried(ValueType::Xml, text::Text),
        650 | 869 => carried(ValueType::String, network::Network),
        700 => carried(ValueType::Float32, scalar::Float4),
        701 => carried(ValueType::Float64, scalar::Float8),
        774 => carried(ValueType::String, network::MacAddress { octets: 8 }),
        829 => carried(ValueType::String, network::MacAddress { octets: 6 }),
        790 => carried(
            ValueType::Decimal {
                precision: MONEY_PRECISION,
                scale: MONEY_SCALE,
            },
            scalar::Money,
        ),
        1082 => carried(ValueType::Date, time::Date),
        1083 => {
            let unit = time_unit(type_modifier);
            carried(ValueType::Time(unit), time::Time { unit })
        }
        1114 => {
            let unit = time_unit(type_modifier);
            carried(ValueType::Timestamp(unit), time::Timestamp { unit })
        }
        1184 => carried(ValueType::ZonedTimestamp, time::TimestampTz),
        1186 => carried(ValueType::MicroDuration, time::Interval),
        1266 => carried(ValueType::ZonedTime, time::TimeTz),
        1560 if type_modifier == 1 => carried(ValueType::Boolean, bits::SingleBit),
        1560 | 1562 => carried(
            ValueType::Bits {
                length: u32::try_from(type_modifier).ok(),
            },
            bits::Bits,
        ),
        1700 => numeric(type_modifier),
        2950 => carried(ValueType::Uuid, scalar::Uuid),
        3802 => carried(ValueType::Json, text::VersionedText),
        _ => {
            return Err(Refused {
                reason: "the type is not carried yet".into(),
            });
        }
    })
}

/// The resolution that a declared precision needs: milliseconds up to 3 digits, microseconds else.
fn time_unit(type_modifier: i32) -> TimeUnit {
    if (0..=3).contains(&type_modifier) {
        TimeUnit::Millis
    } else {
        TimeUnit::Micros
    }
}

/// Precision and scale lie in the modifier, 4 added; the scale has 11 bits and a sign since version 15.
fn numeric(type_modifier: i32) -> Carried {
    let Ok(packed) = u32::try_from(type_modifier - 4) else {
        return carried(ValueType::VariableScaleDecimal, numeric::VariableScaleDecimal);
    };
    let precision = packed >> 16;
    let scale = ((packed & 0x7FF) ^ 0x400) as i32 - 0x400;
    // A negative scale rounds before the point: whole numbers with more digits. A scale above the precision leaves
    // zeros behind the point: as many digits as the scale.
    let (precision, scale) = match u32::try_from(scale) {
        Ok(scale) => (precision.max(scale), scale),
        Err(_) => (precision + scale.unsigned_abs(), 0),
    };
    carried(ValueType::Decimal { precision, scale }, numeric::Decimal { scale })
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
