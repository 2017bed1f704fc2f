// SPDX-License-Identifier: Apache-2.0
//! Types built in, which have the same object id on every server (`src/include/catalog/pg_type.dat`).

use super::forms::{NumericForm, ValueForms};
use super::server_text::{self, AsText, ServerText, as_decoded, by};
use super::{Carried, Refused, bits, carried, list, network, numeric, scalar, shape, text, time};
use highwater_core::value::{TimeUnit, ValueType};
use std::sync::Arc;

/// The object ids of the built-in base types that are carried.
pub const CARRIED_OIDS: [u32; 64] = [
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 114, 142, 600, 601, 602, 603, 604, 628, 650, 700, 701,
    718, 774, 790, 829, 869, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 1790, 2202, 2203, 2204,
    2205, 2206, 2950, 2970, 3220, 3614, 3615, 3734, 3769, 3802, 4072, 4089, 4096, 4191, 5038, 5069, 6437, 6490,
];

/// Types of the server's own catalogues and indices: `pg_node_tree`, `pg_ndistinct`, `pg_dependencies`, `gtsvector`,
/// `pg_brin_bloom_summary`, `pg_brin_minmax_multi_summary`, `pg_mcv_list`. No client can make a value of them.
const INTERNAL_OIDS: [u32; 7] = [194, 3361, 3402, 3642, 4600, 4601, 5017];

/// Digits after the point of `money`: those of the locales with cents, as Debezium's default has it.
const MONEY_SCALE: u32 = 2;
/// Digits of a 64-bit amount.
const MONEY_PRECISION: u32 = 19;

pub(super) fn is_internal(oid: u32) -> bool {
    INTERNAL_OIDS.contains(&oid)
}

/// How values of a base type with this modifier are carried.
pub(super) fn resolve(oid: u32, type_modifier: i32, forms: &ValueForms) -> Result<Carried, Refused> {
    Ok(match oid {
        16 => carried(ValueType::Boolean, scalar::Boolean),
        17 => carried(ValueType::Bytes, text::Bytea),
        20 => carried(ValueType::Int64, scalar::Int8),
        21 => carried(ValueType::Int16, scalar::Int2),
        22 => list(carried(ValueType::Int16, scalar::Int2), 21, 0),
        23 => carried(ValueType::Int32, scalar::Int4),
        // `oid`, the `reg…` types, which are object ids, `xid` and `cid`.
        24 | 26 | 28 | 29 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 | 4191 | 6490 => {
            carried(ValueType::Int64, scalar::Oid)
        }
        30 => list(carried(ValueType::Int64, scalar::Oid), 26, 0),
        114 => carried(ValueType::Json, text::Text),
        142 => carried(ValueType::Xml, text::Text),
        600 => carried(ValueType::Point, shape::Point),
        700 => carried(ValueType::Float32, scalar::Float4),
        701 => carried(ValueType::Float64, scalar::Float8),
        790 => {
            let (precision, scale) = (MONEY_PRECISION, MONEY_SCALE);
            carried(ValueType::Decimal { precision, scale }, scalar::Money)
        }
        1082 | 1083 | 1114 | 1184 | 1186 | 1266 => of_time(oid, type_modifier),
        1560 if type_modifier == 1 => carried(ValueType::Boolean, bits::SingleBit),
        1560 | 1562 => {
            let length = u32::try_from(type_modifier).ok();
            carried(ValueType::Bits { length }, bits::Bits)
        }
        1700 => of_numeric(type_modifier, forms.numeric)?,
        2950 => carried(ValueType::Uuid, scalar::Uuid),
        3614 => carried(ValueType::Tsvector, AsText(server_text(oid)?)),
        3802 => carried(ValueType::Json, text::VersionedText),
        _ => as_string(oid)?,
    })
}

/// Types that are text in events, by a decoder of their own where it is the faster one.
fn as_string(oid: u32) -> Result<Carried, Refused> {
    let string = |decoder: Arc<_>| Carried {
        value_type: ValueType::String,
        decoder,
    };
    Ok(match oid {
        18 => string(Arc::new(text::SingleByte)),
        19 | 25 | 1042 | 1043 | 1790 => string(Arc::new(text::Text)),
        650 | 869 => string(Arc::new(network::Network)),
        774 => string(Arc::new(network::MacAddress { octets: 8 })),
        829 => string(Arc::new(network::MacAddress { octets: 6 })),
        4072 => string(Arc::new(text::VersionedText)),
        _ => string(Arc::new(AsText(server_text(oid)?))),
    })
}

/// The text of a base type.
pub(super) fn server_text(oid: u32) -> Result<Arc<dyn ServerText>, Refused> {
    use server_text::{geometric, nested, number, search, system, time};
    Ok(match oid {
        16 => as_decoded(scalar::Boolean),
        17 => as_decoded(text::Bytea),
        18 => as_decoded(text::SingleByte),
        19 | 25 | 114 | 142 | 1042 | 1043 | 1790 => as_decoded(text::Text),
        20 => as_decoded(scalar::Int8),
        21 => as_decoded(scalar::Int2),
        22 => Arc::new(nested::Vector(as_decoded(scalar::Int2))),
        23 => as_decoded(scalar::Int4),
        24 | 26 | 28 | 29 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 | 4191 | 6490 => as_decoded(scalar::Oid),
        27 => by("tid", system::tid),
        30 => Arc::new(nested::Vector(as_decoded(scalar::Oid))),
        600 => by("point", geometric::point),
        601 => by("lseg", geometric::segment),
        602 => by("path", geometric::path),
        603 => by("box", geometric::corners),
        604 => by("polygon", geometric::polygon),
        628 => by("line", geometric::line),
        650 | 869 => as_decoded(network::Network),
        700 => as_decoded(scalar::Float4),
        701 => as_decoded(scalar::Float8),
        718 => by("circle", geometric::circle),
        774 => as_decoded(network::MacAddress { octets: 8 }),
        790 => by("money", number::money),
        829 => as_decoded(network::MacAddress { octets: 6 }),
        1082 => by("date", time::date),
        1083 => by("time", time::time),
        1114 => by("timestamp", time::timestamp),
        1184 => by("timestamptz", time::timestamptz),
        1186 => by("interval", time::interval),
        1266 => by("timetz", time::timetz),
        1560 | 1562 => by("bit", number::bits),
        1700 => by("numeric", number::numeric),
        2950 => as_decoded(scalar::Uuid),
        2970 | 5038 => by("pg_snapshot", system::snapshot),
        3220 => by("pg_lsn", system::lsn),
        3614 => by("tsvector", search::vector),
        3615 => by("tsquery", search::query),
        3802 | 4072 => as_decoded(text::VersionedText),
        5069 => by("xid8", number::unsigned),
        6437 => by("oid8", number::unsigned),
        oid if is_internal(oid) => return Err(Refused::new("the type is internal to the server")),
        _ => return Err(Refused::new("the type is not known to this release")),
    })
}

fn of_time(oid: u32, type_modifier: i32) -> Carried {
    let unit = time_unit(type_modifier);
    match oid {
        1082 => carried(ValueType::Date, time::Date),
        1083 => carried(ValueType::Time(unit), time::Time { unit }),
        1114 => carried(ValueType::Timestamp(unit), time::Timestamp { unit }),
        1184 => carried(ValueType::ZonedTimestamp, time::TimestampTz),
        1186 => carried(ValueType::MicroDuration, time::Interval),
        _ => carried(ValueType::ZonedTime, time::TimeTz),
    }
}

/// The resolution that a declared precision needs: milliseconds up to 3 digits, microseconds else.
fn time_unit(type_modifier: i32) -> TimeUnit {
    if (0..=3).contains(&type_modifier) {
        TimeUnit::Millis
    } else {
        TimeUnit::Micros
    }
}

fn of_numeric(type_modifier: i32, form: NumericForm) -> Result<Carried, Refused> {
    Ok(match form {
        NumericForm::Precise => decimal(type_modifier),
        NumericForm::String => carried(ValueType::String, AsText(server_text(1700)?)),
        NumericForm::Double => carried(ValueType::Float64, numeric::Double),
    })
}

/// Precision and scale lie in the modifier, 4 added; the scale has 11 bits and a sign since version 15.
fn decimal(type_modifier: i32) -> Carried {
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
