// SPDX-License-Identifier: Apache-2.0
//! The schemas of values, as Debezium has them.

use std::collections::BTreeMap;

use highwater_core::value::{RecordType, TimeUnit, ValueType};

use super::connect_schema::{ConnectField, ConnectKind, ConnectSchema};
use super::event_schema::AdjustName;
use super::settings::DecimalHandling;

/// Debezium's length of a bit string without one.
const BITS_LENGTH_MAX: u32 = i32::MAX as u32;

/// Makes the schemas of one record's values.
pub(crate) struct ValueSchemas<'a> {
    prefix: &'a str,
    decimals: DecimalHandling,
    schema_names: AdjustName,
    field_names: AdjustName,
    /// Composite types by the name of their schema: two types must not share one.
    records: BTreeMap<String, RecordType>,
}

impl<'a> ValueSchemas<'a> {
    /// Names of composite types begin with `prefix`.
    pub(crate) fn new(
        prefix: &'a str,
        decimals: DecimalHandling,
        schema_names: AdjustName,
        field_names: AdjustName,
    ) -> Self {
        ValueSchemas {
            prefix,
            decimals,
            schema_names,
            field_names,
            records: BTreeMap::new(),
        }
    }

    /// The schema of a value, required; else the reason why there is none.
    pub(crate) fn of(&mut self, value_type: &ValueType) -> Result<ConnectSchema, String> {
        Ok(match value_type {
            ValueType::List { items } => {
                let items = self.of(items)?.optional(true);
                ConnectSchema::new(ConnectKind::Array(Box::new(items)))
            }
            ValueType::Record(of) => self.record(of)?,
            other => simple(other, self.decimals)
                .or_else(|| shape(other))
                .ok_or("its type has no form in events")?,
        })
    }

    fn record(&mut self, of: &RecordType) -> Result<ConnectSchema, String> {
        let name = (self.schema_names)(&format!("{}.{}.{}.Composite", self.prefix, of.schema, of.name));
        let before = self.records.entry(name.clone()).or_insert_with(|| of.clone());
        if before != of {
            return Err(format!(
                "two of the table's composite types would both be named {name:?} in events"
            ));
        }
        let mut fields: Vec<ConnectField> = Vec::with_capacity(of.fields.len());
        for field in &of.fields {
            let field_name = (self.field_names)(&field.name);
            if fields.iter().any(|other| other.name == field_name) {
                return Err(format!(
                    "two fields of its composite type would both be named {field_name:?} in events"
                ));
            }
            fields.push(self.of(&field.value_type)?.optional(true).field(field_name));
        }
        Ok(ConnectSchema::new(ConnectKind::Struct(fields)).named(name))
    }
}

fn simple(value_type: &ValueType, decimals: DecimalHandling) -> Option<ConnectSchema> {
    use ConnectKind::{Boolean, Bytes, Float32, Float64, Int16, Int32, Int64, String};
    Some(match value_type {
        ValueType::Boolean => ConnectSchema::new(Boolean),
        ValueType::Int16 => ConnectSchema::new(Int16),
        ValueType::Int32 => ConnectSchema::new(Int32),
        ValueType::Int64 => ConnectSchema::new(Int64),
        ValueType::Float32 => ConnectSchema::new(Float32),
        ValueType::Float64 => ConnectSchema::new(Float64),
        ValueType::String => ConnectSchema::new(String),
        ValueType::Bytes => ConnectSchema::new(Bytes),
        ValueType::Decimal { .. } | ValueType::VariableScaleDecimal if decimals == DecimalHandling::String => {
            ConnectSchema::new(String)
        }
        ValueType::Decimal { precision, scale } => {
            ConnectSchema::semantic(Bytes, "org.apache.kafka.connect.data.Decimal")
                .parameter("scale", scale.to_string())
                .parameter("connect.decimal.precision", precision.to_string())
        }
        ValueType::VariableScaleDecimal => variable_scale_decimal(),
        ValueType::Date => ConnectSchema::semantic(Int32, "io.debezium.time.Date"),
        ValueType::Time(TimeUnit::Millis) => ConnectSchema::semantic(Int32, "io.debezium.time.Time"),
        ValueType::Time(TimeUnit::Micros) => ConnectSchema::semantic(Int64, "io.debezium.time.MicroTime"),
        ValueType::Time(TimeUnit::Nanos) => ConnectSchema::semantic(Int64, "io.debezium.time.NanoTime"),
        ValueType::Timestamp(TimeUnit::Millis) => ConnectSchema::semantic(Int64, "io.debezium.time.Timestamp"),
        ValueType::Timestamp(TimeUnit::Micros) => ConnectSchema::semantic(Int64, "io.debezium.time.MicroTimestamp"),
        ValueType::Timestamp(TimeUnit::Nanos) => ConnectSchema::semantic(Int64, "io.debezium.time.NanoTimestamp"),
        ValueType::ZonedTime => ConnectSchema::semantic(String, "io.debezium.time.ZonedTime"),
        ValueType::ZonedTimestamp => ConnectSchema::semantic(String, "io.debezium.time.ZonedTimestamp"),
        ValueType::MicroDuration => ConnectSchema::semantic(Int64, "io.debezium.time.MicroDuration"),
        ValueType::Uuid => ConnectSchema::semantic(String, "io.debezium.data.Uuid"),
        ValueType::Json => ConnectSchema::semantic(String, "io.debezium.data.Json"),
        ValueType::Xml => ConnectSchema::semantic(String, "io.debezium.data.Xml"),
        ValueType::Tsvector => ConnectSchema::semantic(String, "io.debezium.data.Tsvector"),
        ValueType::Ltree => ConnectSchema::semantic(String, "io.debezium.data.Ltree"),
        ValueType::Enum { allowed } => {
            ConnectSchema::semantic(String, "io.debezium.data.Enum").parameter("allowed", allowed.join(","))
        }
        ValueType::Bits { length } => ConnectSchema::semantic(Bytes, "io.debezium.data.Bits")
            .parameter("length", length.unwrap_or(BITS_LENGTH_MAX).to_string()),
        _ => return None,
    })
}

/// Vectors, and shapes of a plane or the globe.
fn shape(value_type: &ValueType) -> Option<ConnectSchema> {
    use ConnectKind::{Bytes, Float32, Float64, Int16, Int32};
    let new = ConnectSchema::new;
    let srid = || new(Int32).optional(true).field("srid");
    let vector = |items, name| ConnectSchema::semantic(ConnectKind::Array(Box::new(new(items))), name);
    Some(match value_type {
        ValueType::Point => {
            let (x, y) = (new(Float64).field("x"), new(Float64).field("y"));
            let wkb = new(Bytes).optional(true).field("wkb");
            structure(
                "io.debezium.data.geometry.Point",
                "Geometry (POINT)",
                vec![x, y, wkb, srid()],
            )
        }
        ValueType::Geometry => {
            let fields = vec![new(Bytes).field("wkb"), srid()];
            structure("io.debezium.data.geometry.Geometry", "Geometry", fields)
        }
        ValueType::Geography => {
            let fields = vec![new(Bytes).field("wkb"), srid()];
            structure("io.debezium.data.geometry.Geography", "Geography", fields)
        }
        ValueType::FloatVector => vector(Float32, "io.debezium.data.FloatVector"),
        ValueType::DoubleVector => vector(Float64, "io.debezium.data.DoubleVector"),
        ValueType::SparseDoubleVector => {
            let entries = ConnectKind::Map(Box::new(new(Int16)), Box::new(new(Float64)));
            let fields = vec![new(Int16).field("dimensions"), new(entries).field("vector")];
            structure("io.debezium.data.SparseDoubleVector", "Sparse double vector", fields)
        }
        _ => return None,
    })
}

fn variable_scale_decimal() -> ConnectSchema {
    let fields = vec![
        ConnectSchema::new(ConnectKind::Int32).field("scale"),
        ConnectSchema::new(ConnectKind::Bytes).field("value"),
    ];
    structure(
        "io.debezium.data.VariableScaleDecimal",
        "Variable scaled decimal",
        fields,
    )
}

fn structure(name: &str, doc: &'static str, fields: Vec<ConnectField>) -> ConnectSchema {
    let mut schema = ConnectSchema::semantic(ConnectKind::Struct(fields), name);
    schema.doc = Some(doc);
    schema
}
