// SPDX-License-Identifier: Apache-2.0
//! Values that hold others: their schemas, their bytes as another implementation of Avro reads them, and JSON.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::sync::Arc;

use apache_avro::types::Value as Avro;
use fixture::{Bench, change, record, table};
use highwater_core::ErrorKind;
use highwater_core::change::{Change, Op};
use highwater_core::image::{Cell, RowImage, RowImageBuilder};
use highwater_core::schema::{Column, TableSchema};
use highwater_core::value::{ColumnDecoder, RecordField, RecordType, ValueError, ValueType, ValueWriter};
use highwater_formats::{Decoder, EncoderSettings, Format, SchemaRegistry, wire};
use serde_json::{Value, json};

type Script = fn(&mut dyn ValueWriter);

/// Writes what its script says, whatever the bytes are.
#[derive(Debug)]
struct Scripted(Script);

impl ColumnDecoder for Scripted {
    fn decode(&self, _: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        (self.0)(out);
        Ok(())
    }
}

fn list(items: ValueType) -> ValueType {
    ValueType::List { items: Arc::new(items) }
}

fn pair() -> ValueType {
    let field = |name: &str, value_type| RecordField {
        name: name.into(),
        value_type,
    };
    ValueType::Record(Arc::new(RecordType {
        schema: "public".into(),
        name: "pair".into(),
        fields: vec![
            field("no", ValueType::Int32),
            field("the notes", list(ValueType::String)),
        ],
    }))
}

fn all(out: &mut dyn ValueWriter, values: &[Script]) {
    out.begin(values.len());
    for value in values {
        out.next();
        value(out);
    }
    out.end();
}

/// Name, type, what its decoder writes, and what a reader finds in Avro and in JSON.
type Case = (&'static str, ValueType, Script, Value, Value);

fn both(name: &'static str, of: ValueType, script: Script, value: Value) -> Case {
    (name, of, script, value.clone(), value)
}

fn columns() -> Vec<Case> {
    vec![
        both(
            "ints",
            list(ValueType::Int16),
            |out| all(out, &[|o| o.int(7), |o| o.null(), |o| o.int(-300)]),
            json!([7, null, -300]),
        ),
        both("none", list(ValueType::Int64), |out| all(out, &[]), json!([])),
        both(
            "texts",
            list(ValueType::String),
            |out| all(out, &[|o| o.string("a\""), |o| o.null()]),
            json!(["a\"", null]),
        ),
        both(
            "pairs",
            list(pair()),
            |out| {
                all(
                    out,
                    &[
                        |o| all(o, &[|o| o.int(1), |o| all(o, &[|o| o.string("x")])]),
                        |o| o.null(),
                    ],
                )
            },
            json!([{"no": 1, "the_notes": ["x"]}, null]),
        ),
        both(
            "a_pair",
            pair(),
            |out| all(out, &[|o| o.null(), |o| o.null()]),
            json!({"no": null, "the_notes": null}),
        ),
        (
            "point",
            ValueType::Point,
            |out| {
                all(
                    out,
                    &[
                        |o| o.double(1.5),
                        |o| o.double(-2.0),
                        |o| o.bytes(&[1, 2]),
                        |o| o.null(),
                    ],
                )
            },
            json!({"x": 1.5, "y": -2.0, "wkb": [1, 2], "srid": null}),
            json!({"x": 1.5, "y": -2.0, "wkb": "AQI=", "srid": null}),
        ),
        (
            "shape",
            ValueType::Geometry,
            |out| all(out, &[|o| o.bytes(&[3]), |o| o.int(4326)]),
            json!({"wkb": [3], "srid": 4326}),
            json!({"wkb": "Aw==", "srid": 4326}),
        ),
        both(
            "floats",
            ValueType::FloatVector,
            |out| all(out, &[|o| o.float(0.5), |o| o.float(2.0)]),
            json!([0.5, 2.0]),
        ),
        both(
            "doubles",
            ValueType::DoubleVector,
            |out| all(out, &[|o| o.double(0.1)]),
            json!([0.1]),
        ),
        (
            "sparse",
            ValueType::SparseDoubleVector,
            |out| {
                all(
                    out,
                    &[
                        |o| o.int(9),
                        |o| {
                            o.begin(2);
                            for (place, number) in [(2, 0.5), (7, -1.0)] {
                                o.next();
                                o.int(place);
                                o.next();
                                o.double(number);
                            }
                            o.end();
                        },
                    ],
                );
            },
            json!({"dimensions": 9, "vector": [{"key": 2, "value": 0.5}, {"key": 7, "value": -1.0}]}),
            json!({"dimensions": 9, "vector": [[2, 0.5], [7, -1.0]]}),
        ),
        (
            "empty",
            ValueType::SparseDoubleVector,
            |out| all(out, &[|o| o.int(9), |o| all(o, &[])]),
            json!({"dimensions": 9, "vector": []}),
            json!({"dimensions": 9, "vector": []}),
        ),
        both("words", ValueType::Tsvector, |out| out.string("'a':1"), json!("'a':1")),
        both("path", ValueType::Ltree, |out| out.string("a.b"), json!("a.b")),
    ]
}

fn scripted(name: &str, value_type: ValueType, script: Script) -> Column {
    Column {
        name: name.to_owned(),
        database_type: "made".to_owned(),
        value_type,
        nullable: true,
        decoder: Arc::new(Scripted(script)),
    }
}

fn schema() -> Arc<TableSchema> {
    let columns = columns()
        .into_iter()
        .map(|(name, of, script, ..)| scripted(name, of, script));
    table("t", columns.collect(), &[])
}

fn row(schema: &TableSchema, cell: Option<Cell>) -> RowImage {
    let mut builder = RowImageBuilder::default();
    for _ in &schema.columns {
        match cell {
            Some(cell) => builder.cell(cell),
            None => builder.value(b"x"),
        }
    }
    builder.build()
}

fn created(schema: &Arc<TableSchema>) -> Change<u64> {
    change(schema, Op::Create, None, Some(row(schema, None)))
}

fn shown(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Int(value) => value.into(),
        Avro::Long(value) => value.into(),
        Avro::Float(value) => f64::from(value).into(),
        Avro::Double(value) => value.into(),
        Avro::String(value) => value.into(),
        Avro::Bytes(value) => value.into(),
        Avro::Union(_, value) => shown(*value),
        Avro::Array(values) => values.into_iter().map(shown).collect(),
        Avro::Record(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, shown(value))).collect()),
        other => panic!("no such value is written: {other:?}"),
    }
}

#[tokio::test]
async fn values_that_hold_others_read_back_by_another_implementation_and_by_our_own() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let schema = schema();
    let batch = bench.encode(&created(&schema)).await;
    let sent = record(batch.iter().next().unwrap());
    let (id, mut body) = wire::split(sent.value.as_ref().unwrap()).unwrap();
    let text = bench.registry.schema(id).await.unwrap();
    let parsed = apache_avro::Schema::parse_str(&text).unwrap();
    let value = shown(apache_avro::from_avro_datum(&parsed, &mut body, None).unwrap());
    assert!(body.is_empty(), "bytes are left over");
    for (name, _, _, expected, _) in columns() {
        assert_eq!(value["after"][name], expected, "{name}");
    }
    let registry: Arc<dyn SchemaRegistry> = Arc::clone(&bench.registry) as _;
    let own = Decoder::new(Format::Avro, registry).decode(&sent).await.unwrap();
    assert_eq!(
        own.after().unwrap()["pairs"],
        json!([{"no": 1, "the_notes": ["x"]}, null])
    );
    let pretty: Value = serde_json::from_str(&text).unwrap();
    insta::assert_snapshot!(
        "values_that_hold_others",
        serde_json::to_string_pretty(&pretty["fields"][0]).unwrap()
    );
}

#[tokio::test]
async fn json_has_objects_and_arrays_and_pairs_for_maps() {
    let mut settings = EncoderSettings::new("shop");
    settings.format = Format::Json;
    settings.json.schemas = true;
    let mut bench = Bench::new(settings);
    let batch = bench.encode(&created(&schema())).await;
    let message: Value = serde_json::from_slice(batch.iter().next().unwrap().value.unwrap()).unwrap();
    for (name, .., expected) in columns() {
        // JSON keeps the names of fields as they are.
        let expected = expected.to_string().replace("the_notes", "the notes");
        assert_eq!(message["payload"]["after"][name].to_string(), expected, "{name}");
    }
    let fields = message["schema"]["fields"][1]["fields"].as_array().unwrap();
    let of = |name: &str| fields.iter().find(|field| field["field"] == name).unwrap();
    assert_eq!(of("ints")["items"], json!({"type": "int16", "optional": true}));
    assert_eq!(
        of("sparse")["fields"][1]["keys"],
        json!({"type": "int16", "optional": false})
    );
}

#[tokio::test]
async fn what_the_log_left_out_is_a_placeholder_of_the_same_shape() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let columns = columns().into_iter().map(|(name, of, script, ..)| Column {
        nullable: false,
        ..scripted(name, of, script)
    });
    let schema = table("t", columns.collect(), &[]);
    let unchanged = change(&schema, Op::Update, None, Some(row(&schema, Some(Cell::UNCHANGED))));
    let batch = bench.encode(&unchanged).await;
    let registry: Arc<dyn SchemaRegistry> = Arc::clone(&bench.registry) as _;
    let event = Decoder::new(Format::Avro, registry)
        .decode(&record(batch.iter().next().unwrap()))
        .await
        .unwrap();
    let after = event.after().unwrap();
    for (name, expected) in [
        ("ints", json!([])),
        ("texts", json!(["__debezium_unavailable_value"])),
        ("a_pair", json!({"no": null, "the_notes": null})),
        ("doubles", json!([])),
        ("sparse", json!({"dimensions": 0, "vector": []})),
        ("words", json!("__debezium_unavailable_value")),
    ] {
        assert_eq!(after[name], expected, "{name}");
    }
    assert_eq!(after["point"]["x"], json!(0.0));
    assert!(event.unchanged.contains(&"ints".to_owned()));
}

#[tokio::test]
async fn a_decoder_that_does_not_end_or_writes_too_much_or_too_little_is_noticed() {
    let scripts: [(ValueType, Script); 7] = [
        (list(ValueType::Int32), |out| out.begin(0)),
        (list(ValueType::Int32), |out| {
            out.begin(1);
            out.end();
        }),
        (list(ValueType::Int32), |out| {
            out.begin(1);
            out.int(1);
            out.end();
        }),
        (list(ValueType::Int32), |out| all(out, &[|o| o.string("1")])),
        (pair(), |out| all(out, &[|o| o.int(1)])),
        (ValueType::Int32, |out| all(out, &[|o| o.int(1)])),
        (ValueType::FloatVector, |out| all(out, &[|o| o.null()])),
    ];
    for (of, script) in scripts {
        for format in [Format::Avro, Format::Json] {
            let mut settings = EncoderSettings::new("shop");
            settings.format = format;
            let mut bench = Bench::new(settings);
            let schema = table("t", vec![scripted("c", of.clone(), script)], &[]);
            let error = bench.try_encode(&created(&schema)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Bug, "{of:?}: {error}");
        }
    }
}

#[tokio::test]
async fn two_composite_types_of_one_name_in_events_are_refused() {
    let record = |name: &str, of| {
        let field = RecordField {
            name: "a".into(),
            value_type: of,
        };
        ValueType::Record(Arc::new(RecordType {
            schema: "public".into(),
            name: name.into(),
            fields: vec![field],
        }))
    };
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let columns = vec![
        scripted("one", record("a-b", ValueType::Int32), |_| {}),
        scripted("two", record("a_b", ValueType::String), |_| {}),
    ];
    let error = bench.encoder.prepare(&table("t", columns, &[])).await.unwrap_err();
    assert!(
        error.to_string().contains("\"two\"") && error.to_string().contains("shop.public.a_b.Composite"),
        "{error}"
    );
}
