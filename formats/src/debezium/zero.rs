// SPDX-License-Identifier: Apache-2.0
//! What stands where a value must and none is known.

use highwater_core::value::{TimeUnit, ValueType, ValueWriter};

/// Well-known binary, little-endian: a point with both coordinates 0.
const POINT_AT_ZERO: [u8; 21] = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Well-known binary, little-endian: a collection of no shapes.
const EMPTY_COLLECTION: [u8; 9] = [1, 7, 0, 0, 0, 0, 0, 0, 0];

/// The value that stands in a required column of an image that does not have it: Debezium's fall-back.
pub(crate) fn write_zero(value_type: &ValueType, writer: &mut dyn ValueWriter) {
    match value_type {
        ValueType::Boolean => writer.boolean(false),
        ValueType::Int16 | ValueType::Int32 | ValueType::Date => writer.int(0),
        ValueType::Time(TimeUnit::Millis) => writer.int(0),
        ValueType::Int64 | ValueType::Time(_) | ValueType::Timestamp(_) | ValueType::MicroDuration => writer.long(0),
        ValueType::Float32 => writer.float(0.0),
        ValueType::Float64 => writer.double(0.0),
        ValueType::Bytes | ValueType::Bits { .. } => writer.bytes(&[]),
        ValueType::Decimal { .. } => writer.decimal(&[0]),
        ValueType::VariableScaleDecimal => writer.variable_scale_decimal(0, &[0]),
        ValueType::ZonedTime => writer.string("00:00:00Z"),
        ValueType::ZonedTimestamp => writer.string("1970-01-01T00:00:00Z"),
        ValueType::Uuid => writer.string("00000000-0000-0000-0000-000000000000"),
        ValueType::Json => writer.string("{}"),
        ValueType::List { .. } | ValueType::FloatVector | ValueType::DoubleVector => {
            writer.begin(0);
            writer.end();
        }
        ValueType::Record(of) => {
            writer.begin(of.fields.len());
            for _ in &of.fields {
                writer.next();
                writer.null();
            }
            writer.end();
        }
        ValueType::Point => {
            writer.begin(4);
            for _ in 0..2 {
                writer.next();
                writer.double(0.0);
            }
            write_shape(&POINT_AT_ZERO, writer);
        }
        ValueType::Geometry | ValueType::Geography => {
            writer.begin(2);
            write_shape(&EMPTY_COLLECTION, writer);
        }
        ValueType::SparseDoubleVector => {
            writer.begin(2);
            writer.next();
            writer.int(0);
            writer.next();
            writer.begin(0);
            writer.end();
            writer.end();
        }
        _ => writer.string(""),
    }
}

/// The last two fields of a shape.
fn write_shape(wkb: &[u8], writer: &mut dyn ValueWriter) {
    writer.next();
    writer.bytes(wkb);
    writer.next();
    writer.null();
    writer.end();
}
