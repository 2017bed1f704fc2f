// SPDX-License-Identifier: Apache-2.0
//! What the compiled plan writes, read by an implementation of Avro that knows nothing of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::sync::Arc;

use apache_avro::types::Value as Avro;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fixture::{Bench, NOW_US, SOURCE_US, change, column, record, table};
use highwater_core::change::{Capture, Change, ChunkId, Op};
use highwater_core::image::{Cell, CellRef, RowImage, RowImageBuilder};
use highwater_core::schema::{Column, TableSchema};
use highwater_core::value::{TimeUnit, ValueType};
use highwater_formats::{Decoder, EncoderSettings, Format, SchemaRegistry, wire};
use num_bigint::BigInt;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Every type that a column can have.
fn value_types() -> Vec<ValueType> {
    use TimeUnit::{Micros, Millis, Nanos};
    let mut types = vec![
        ValueType::Boolean,
        ValueType::Int16,
        ValueType::Int32,
        ValueType::Int64,
        ValueType::Float32,
        ValueType::Float64,
        ValueType::String,
        ValueType::Bytes,
        ValueType::Decimal {
            precision: 40,
            scale: 0,
        },
        ValueType::Decimal {
            precision: 12,
            scale: 3,
        },
        ValueType::VariableScaleDecimal,
        ValueType::Date,
        ValueType::ZonedTime,
        ValueType::ZonedTimestamp,
        ValueType::MicroDuration,
        ValueType::Uuid,
        ValueType::Json,
        ValueType::Xml,
        ValueType::Enum {
            allowed: vec!["a".to_owned(), "b c".to_owned()].into(),
        },
        ValueType::Bits { length: Some(9) },
        ValueType::Bits { length: None },
    ];
    for unit in [Millis, Micros, Nanos] {
        types.extend([ValueType::Time(unit), ValueType::Timestamp(unit)]);
    }
    types
}

#[derive(Debug, Clone, PartialEq)]
enum TestCell {
    Absent,
    Unchanged,
    Null,
    Value(Vec<u8>),
}

fn value_of(value_type: ValueType) -> BoxedStrategy<Vec<u8>> {
    match value_type {
        ValueType::Boolean => (0u8..2).prop_map(|value| vec![value]).boxed(),
        ValueType::Int16 => any::<i16>()
            .prop_map(|value| i32::from(value).to_be_bytes().to_vec())
            .boxed(),
        ValueType::Int32 | ValueType::Date | ValueType::Time(TimeUnit::Millis) => {
            any::<i32>().prop_map(|value| value.to_be_bytes().to_vec()).boxed()
        }
        ValueType::Int64 | ValueType::Time(_) | ValueType::Timestamp(_) | ValueType::MicroDuration => {
            any::<i64>().prop_map(|value| value.to_be_bytes().to_vec()).boxed()
        }
        ValueType::Float32 => any::<f32>().prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        ValueType::Float64 => any::<f64>().prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        ValueType::Bytes | ValueType::Bits { .. } => any::<Vec<u8>>().boxed(),
        ValueType::Decimal { .. } => prop::collection::vec(any::<u8>(), 1..24)
            .prop_map(|octets| BigInt::from_signed_bytes_be(&octets).to_signed_bytes_be())
            .boxed(),
        ValueType::VariableScaleDecimal => (-20i32..40, prop::collection::vec(any::<u8>(), 1..24))
            .prop_map(|(scale, octets)| {
                let unscaled = BigInt::from_signed_bytes_be(&octets).to_signed_bytes_be();
                [&scale.to_be_bytes()[..], &unscaled].concat()
            })
            .boxed(),
        _ => any::<String>().prop_map(String::into_bytes).boxed(),
    }
}

fn cell_of(value_type: ValueType) -> BoxedStrategy<TestCell> {
    prop_oneof![
        6 => value_of(value_type).prop_map(TestCell::Value),
        2 => Just(TestCell::Null),
        1 => Just(TestCell::Unchanged),
        1 => Just(TestCell::Absent),
    ]
    .boxed()
}

/// A column with a cell before and a cell after.
fn any_column() -> impl Strategy<Value = (ValueType, bool, TestCell, TestCell)> {
    prop::sample::select(value_types()).prop_flat_map(|value_type| {
        (
            Just(value_type.clone()),
            any::<bool>(),
            cell_of(value_type.clone()),
            cell_of(value_type),
        )
    })
}

fn image(cells: &[TestCell]) -> RowImage {
    let mut builder = RowImageBuilder::default();
    for cell in cells {
        match cell {
            TestCell::Absent => builder.cell(Cell::ABSENT),
            TestCell::Unchanged => builder.cell(Cell::UNCHANGED),
            TestCell::Null => builder.cell(Cell::NULL),
            TestCell::Value(value) => builder.value(value),
        }
    }
    builder.build()
}

fn decimal_text(unscaled: &BigInt, scale: i32) -> String {
    let digits = unscaled.magnitude().to_string();
    let sign = if unscaled.sign() == num_bigint::Sign::Minus {
        "-"
    } else {
        ""
    };
    if scale <= 0 {
        let zeros = if digits == "0" { 0 } else { -scale as usize };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let padded = format!("{digits:0>width$}", width = scale as usize + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale as usize);
    format!("{sign}{whole}.{fraction}")
}

fn float(value: f64) -> Value {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value => value.into(),
    }
}

/// What a value's bytes must read back as.
fn expected_value(value_type: &ValueType, bytes: &[u8]) -> Value {
    let long = || i64::from_be_bytes(bytes.try_into().unwrap());
    match value_type {
        ValueType::Boolean => (bytes[0] != 0).into(),
        ValueType::Int16 | ValueType::Int32 | ValueType::Date | ValueType::Time(TimeUnit::Millis) => {
            i32::from_be_bytes(bytes.try_into().unwrap()).into()
        }
        ValueType::Int64 | ValueType::Time(_) | ValueType::Timestamp(_) | ValueType::MicroDuration => long().into(),
        ValueType::Float32 => float(f32::from_be_bytes(bytes.try_into().unwrap()).into()),
        ValueType::Float64 => float(f64::from_be_bytes(bytes.try_into().unwrap())),
        ValueType::Bytes | ValueType::Bits { .. } => STANDARD.encode(bytes).into(),
        ValueType::Decimal { scale, .. } => decimal_text(&BigInt::from_signed_bytes_be(bytes), *scale as i32).into(),
        ValueType::VariableScaleDecimal => {
            let scale = i32::from_be_bytes(bytes[..4].try_into().unwrap());
            decimal_text(&BigInt::from_signed_bytes_be(&bytes[4..]), scale).into()
        }
        _ => String::from_utf8(bytes.to_vec()).unwrap().into(),
    }
}

/// What stands in a required column whose value is not there.
fn zero(value_type: &ValueType) -> Value {
    match value_type {
        ValueType::Boolean => false.into(),
        ValueType::Float32 | ValueType::Float64 => 0.0.into(),
        ValueType::Decimal { scale: 0, .. } | ValueType::VariableScaleDecimal => "0".into(),
        ValueType::Decimal { .. } => "0.000".into(),
        ValueType::ZonedTime => "00:00:00Z".into(),
        ValueType::ZonedTimestamp => "1970-01-01T00:00:00Z".into(),
        ValueType::Uuid => "00000000-0000-0000-0000-000000000000".into(),
        ValueType::Json => "{}".into(),
        ValueType::String | ValueType::Xml | ValueType::Enum { .. } => "".into(),
        ValueType::Bytes | ValueType::Bits { .. } => "".into(),
        _ => 0.into(),
    }
}

fn expected_cell(value_type: &ValueType, nullable: bool, cell: &TestCell, after: bool) -> Value {
    let nothing = || if nullable { Value::Null } else { zero(value_type) };
    match cell {
        TestCell::Value(bytes) => expected_value(value_type, bytes),
        TestCell::Null => Value::Null,
        TestCell::Absent if !after => nothing(),
        TestCell::Absent | TestCell::Unchanged => match value_type {
            ValueType::String | ValueType::Json | ValueType::Xml | ValueType::Enum { .. } => {
                "__debezium_unavailable_value".into()
            }
            ValueType::Bytes | ValueType::Bits { .. } => STANDARD.encode("__debezium_unavailable_value").into(),
            _ => nothing(),
        },
    }
}

/// Avro's values as the decoder shows them, but read by the other implementation.
fn shown(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) => value.into(),
        Avro::Long(value) => value.into(),
        Avro::Float(value) => float(value.into()),
        Avro::Double(value) => float(value),
        Avro::String(value) => value.into(),
        Avro::Bytes(value) => STANDARD.encode(value).into(),
        Avro::Union(_, value) => shown(*value),
        Avro::Record(fields) if fields.len() == 2 && fields[0].0 == "scale" && fields[1].0 == "value" => {
            let (Avro::Int(scale), Avro::Bytes(unscaled)) = (&fields[0].1, &fields[1].1) else {
                panic!("a variable scale decimal of other fields");
            };
            decimal_text(&BigInt::from_signed_bytes_be(unscaled), *scale).into()
        }
        Avro::Record(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, shown(value))).collect()),
        // The scale is the schema's: the caller puts the point in.
        Avro::Decimal(value) => json!({ "unscaled": Vec::<u8>::try_from(&value).unwrap() }),
        other => panic!("no such value is written: {other:?}"),
    }
}

/// Decimals of the oracle lack their scale.
fn with_scales(value: &mut Value, columns: &[Column]) {
    for column in columns {
        let ValueType::Decimal { scale, .. } = column.value_type else {
            continue;
        };
        if let Some(unscaled) = value.get(&column.name).and_then(|cell| cell.get("unscaled")).cloned() {
            let octets: Vec<u8> = serde_json::from_value(unscaled).unwrap();
            value[&column.name] = decimal_text(&BigInt::from_signed_bytes_be(&octets), scale as i32).into();
        }
    }
}

async fn oracle(registry: &dyn SchemaRegistry, message: &[u8]) -> Value {
    let (id, mut body) = wire::split(message).unwrap();
    let schema = apache_avro::Schema::parse_str(&registry.schema(id).await.unwrap()).unwrap();
    let value = apache_avro::from_avro_datum(&schema, &mut body, None).unwrap();
    assert!(body.is_empty(), "bytes are left over");
    shown(value)
}

fn expected_row(schema: &TableSchema, nullable: &[bool], cells: &[TestCell], after: bool) -> Value {
    let row = schema.columns.iter().zip(nullable).zip(cells);
    let row = row.map(|((column, nullable), cell)| {
        (
            column.name.clone(),
            expected_cell(&column.value_type, *nullable, cell, after),
        )
    });
    Value::Object(row.collect::<Map<_, _>>())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_row_of_every_type_reads_back_by_another_implementation_and_by_our_own(
        columns in prop::collection::vec(any_column(), 0..12),
        id: i64,
        op in prop::sample::select(vec![Op::Create, Op::Update, Op::Delete, Op::Read]),
        with_before: bool,
    ) {
        let key = TestCell::Value(id.to_be_bytes().to_vec());
        let mut definition = vec![column("id", ValueType::Int64, false)];
        let (mut before, mut after) = (vec![key.clone()], vec![key]);
        for (at, (value_type, nullable, old, new)) in columns.into_iter().enumerate() {
            definition.push(column(&format!("c{at}"), value_type, nullable));
            before.push(old);
            after.push(new);
        }
        let schema = table("t", definition, &[0]);
        let has_before = op == Op::Delete || (op == Op::Update && with_before);
        let has_after = op != Op::Delete;

        // What the log leaves out of the row after is taken from the row before.
        let mut filled = after.clone();
        for (cell, old) in filled.iter_mut().zip(&before) {
            let missing = matches!(cell, TestCell::Absent | TestCell::Unchanged);
            if has_before && missing && matches!(old, TestCell::Null | TestCell::Value(_)) {
                *cell = old.clone();
            }
        }
        // A NULL makes its column optional, whatever the catalogue says.
        let nullable: Vec<bool> = schema.columns.iter().enumerate().map(|(at, column)| {
            column.nullable
                || (has_before && before[at] == TestCell::Null)
                || (has_after && filled[at] == TestCell::Null)
        }).collect();
        let expected_unchanged: Vec<String> = schema.columns.iter().zip(&filled)
            .filter(|(_, cell)| has_after && matches!(cell, TestCell::Absent | TestCell::Unchanged))
            .map(|(column, _)| column.name.clone()).collect();
        let expected = json!({
            "before": has_before.then(|| expected_row(&schema, &nullable, &before, false)),
            "after": has_after.then(|| expected_row(&schema, &nullable, &filled, true)),
            "source": {
                "version": "9.9", "connector": "postgresql", "name": "shop", "ts_ms": SOURCE_US / 1000,
                "snapshot": if op == Op::Read { "incremental" } else { "false" }, "db": "shop",
                "sequence": (op != Op::Read).then_some("[\"26447900\",\"26447848\"]"),
                "ts_us": SOURCE_US, "ts_ns": SOURCE_US * 1000,
                "schema": "public", "table": "t", "txId": 766, "lsn": 26_447_848, "xmin": null,
            },
            "transaction": null,
            "op": match op { Op::Create => "c", Op::Update => "u", Op::Delete => "d", _ => "r" },
            "ts_ms": NOW_US / 1000, "ts_us": NOW_US, "ts_ns": NOW_US * 1000,
        });

        let mut sent = change(&schema, op, has_before.then(|| image(&before)), has_after.then(|| image(&after)));
        if op == Op::Read {
            sent.capture = Capture::Chunk(ChunkId(1));
        }
        block_on(async {
            let settings = EncoderSettings { source_version: "9.9".to_owned(), ..EncoderSettings::new("shop") };
            let mut bench = Bench::new(settings);
            let batch = bench.encode(&sent).await;
            let records: Vec<_> = batch.iter().collect();
            assert_eq!(records.len(), if op == Op::Delete { 2 } else { 1 });

            let key = oracle(&*bench.registry, records[0].key.unwrap()).await;
            assert_eq!(key, json!({ "id": id }));
            let mut read = oracle(&*bench.registry, records[0].value.unwrap()).await;
            for image in ["before", "after"] {
                with_scales(&mut read[image], &schema.columns);
            }
            assert_eq!(read, expected);

            let registry: Arc<dyn SchemaRegistry> = Arc::clone(&bench.registry) as _;
            let event = Decoder::new(Format::Avro, registry).decode(&record(records[0])).await.unwrap();
            assert_eq!(event.value.unwrap(), expected);
            assert_eq!(event.key.unwrap(), key);
            assert_eq!(event.unchanged, expected_unchanged);
        });
    }
}

#[test]
fn a_row_image_shorter_than_its_table_is_partial_and_not_null() {
    let schema = table(
        "t",
        vec![
            column("id", ValueType::Int64, false),
            column("a", ValueType::Int64, true),
        ],
        &[0],
    );
    let row = RowImage::from_values(&[Some(1i64.to_be_bytes())]);
    assert_eq!(row.cell(1), CellRef::Absent);
    let sent: Change<u64> = change(&schema, Op::Update, None, Some(row));
    let batch = block_on(async { Bench::new(EncoderSettings::new("shop")).encode(&sent).await });
    let headers = batch.iter().next().unwrap().headers.to_vec();
    assert_eq!(
        (headers[0].name, &headers[0].value[..]),
        ("__highwater.unchanged", &b"[\"a\"]"[..])
    );
}
