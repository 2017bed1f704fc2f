// SPDX-License-Identifier: Apache-2.0
//! The schemas that are registered, and how they evolve with their tables.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::sync::Arc;

use fixture::{Bench, change, column, record, table};
use highwater_core::change::Op;
use highwater_core::image::RowImage;
use highwater_core::schema::{Column, TableSchema};
use highwater_core::value::{TimeUnit, ValueType};
use highwater_core::{Class, ErrorKind, Scope};
use highwater_formats::{Compatibility, DecimalHandling, Decoder, EncoderSettings, Format, SchemaRegistry};

async fn registered(bench: &Bench, subject: &str) -> String {
    let schema = bench.registry.latest(subject).await.unwrap().unwrap().schema;
    apache_avro::Schema::parse_str(&schema).expect("a schema that another implementation reads");
    let value: serde_json::Value = serde_json::from_str(&schema).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

fn every_type() -> Vec<Column> {
    use TimeUnit::{Micros, Millis, Nanos};
    let types = [
        ("boolean", ValueType::Boolean),
        ("int16", ValueType::Int16),
        ("int32", ValueType::Int32),
        ("int64", ValueType::Int64),
        ("float32", ValueType::Float32),
        ("float64", ValueType::Float64),
        ("string", ValueType::String),
        ("bytes", ValueType::Bytes),
        (
            "decimal",
            ValueType::Decimal {
                precision: 12,
                scale: 2,
            },
        ),
        ("variable", ValueType::VariableScaleDecimal),
        ("date", ValueType::Date),
        ("time_ms", ValueType::Time(Millis)),
        ("time_us", ValueType::Time(Micros)),
        ("time_ns", ValueType::Time(Nanos)),
        ("ts_ms", ValueType::Timestamp(Millis)),
        ("ts_us", ValueType::Timestamp(Micros)),
        ("ts_ns", ValueType::Timestamp(Nanos)),
        ("zoned_time", ValueType::ZonedTime),
        ("zoned_ts", ValueType::ZonedTimestamp),
        ("duration", ValueType::MicroDuration),
        ("uuid", ValueType::Uuid),
        ("json", ValueType::Json),
        ("xml", ValueType::Xml),
        (
            "enum",
            ValueType::Enum {
                allowed: vec!["G".to_owned(), "PG-13".to_owned()].into(),
            },
        ),
        ("bits", ValueType::Bits { length: Some(9) }),
        ("varbits", ValueType::Bits { length: None }),
    ];
    let required = types
        .iter()
        .map(|(name, value_type)| column(name, value_type.clone(), false));
    let optional = types
        .iter()
        .map(|(name, value_type)| column(&format!("{name}_opt"), value_type.clone(), true));
    required.chain(optional).collect()
}

#[tokio::test]
async fn an_ordinary_tables_schemas_are_debeziums_in_connects_avro() {
    let mut bench = Bench::new(EncoderSettings::new("shop-1"));
    let columns = vec![
        column("id", ValueType::Int64, false),
        column("2nd name", ValueType::String, true),
        column(
            "amount",
            ValueType::Decimal {
                precision: 12,
                scale: 2,
            },
            false,
        ),
    ];
    bench.encoder.prepare(&table("items", columns, &[0])).await.unwrap();
    assert_eq!(
        bench.registry.subjects().await.unwrap(),
        ["shop-1.public.items-key", "shop-1.public.items-value"]
    );
    insta::assert_snapshot!("key", registered(&bench, "shop-1.public.items-key").await);
    insta::assert_snapshot!("envelope", registered(&bench, "shop-1.public.items-value").await);
}

#[tokio::test]
async fn each_type_of_column_has_its_semantic_type() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    bench
        .encoder
        .prepare(&table("types", every_type(), &[3]))
        .await
        .unwrap();
    let schema: serde_json::Value = serde_json::from_str(&registered(&bench, "shop.public.types-value").await).unwrap();
    let fields = schema["fields"][0]["type"][1]["fields"].as_array().unwrap();
    let lines: Vec<String> = fields.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("every_type", lines.join("\n"));
}

#[tokio::test]
async fn decimals_as_text_are_plain_strings_in_the_schema() {
    let mut bench = Bench::new(EncoderSettings {
        decimals: DecimalHandling::String,
        ..EncoderSettings::new("shop")
    });
    let columns = vec![
        column("a", ValueType::Decimal { precision: 5, scale: 1 }, false),
        column("b", ValueType::VariableScaleDecimal, false),
    ];
    bench.encoder.prepare(&table("t", columns, &[])).await.unwrap();
    let schema: serde_json::Value = serde_json::from_str(&registered(&bench, "shop.public.t-value").await).unwrap();
    let fields = &schema["fields"][0]["type"][1]["fields"];
    assert_eq!(
        (&fields[0]["type"], &fields[1]["type"]),
        (&"string".into(), &"string".into())
    );
}

fn version(columns: Vec<Column>) -> Arc<TableSchema> {
    table("t", columns, &[0])
}

#[tokio::test]
async fn a_new_nullable_column_a_dropped_and_a_wider_one_evolve_the_subject() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let id = || column("id", ValueType::Int64, false);
    let shapes = [
        version(vec![id(), column("a", ValueType::Int32, false)]),
        version(vec![
            id(),
            column("a", ValueType::Int64, false),
            column("b", ValueType::String, true),
        ]),
        version(vec![id(), column("b", ValueType::String, true)]),
    ];
    for (at, shape) in (1..).zip(&shapes) {
        bench.encoder.prepare(shape).await.unwrap();
        let latest = bench.registry.latest("shop.public.t-value").await.unwrap().unwrap();
        assert_eq!(latest.version, at);
    }
    // The log may still deliver the first shape: its schema has its id for ever.
    let mut restarted = highwater_formats::Encoder::<u64>::new(
        EncoderSettings::new("shop"),
        Arc::new(fixture::FakeSource::default()),
        Arc::clone(&bench.registry) as _,
        Arc::new(fixture::StoppedClock),
    )
    .unwrap();
    restarted.prepare(&shapes[0]).await.unwrap();
    assert_eq!(
        bench
            .registry
            .latest("shop.public.t-value")
            .await
            .unwrap()
            .unwrap()
            .version,
        3
    );
}

#[tokio::test]
async fn a_column_added_as_not_null_and_one_that_became_not_null_stay_optional_instead_of_stopping_the_table() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let id = || column("id", ValueType::Int64, false);
    bench
        .encoder
        .prepare(&version(vec![id(), column("a", ValueType::Int32, true)]))
        .await
        .unwrap();
    let stricter = version(vec![
        id(),
        column("a", ValueType::Int32, false),
        column("added", ValueType::Int32, false),
    ]);
    let row = RowImage::from_values(&[
        Some(1i64.to_be_bytes().to_vec()),
        Some(2i32.to_be_bytes().to_vec()),
        Some(3i32.to_be_bytes().to_vec()),
    ]);
    let batch = bench.encode(&change(&stricter, Op::Create, None, Some(row))).await;
    let schema: serde_json::Value = serde_json::from_str(&registered(&bench, "shop.public.t-value").await).unwrap();
    let types: Vec<String> = schema["fields"][0]["type"][1]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["type"].to_string())
        .collect();
    assert_eq!(types, ["\"long\"", "[\"null\",\"int\"]", "[\"null\",\"int\"]"]);
    let registry: Arc<dyn SchemaRegistry> = Arc::clone(&bench.registry) as _;
    let sent = record(batch.iter().next().unwrap());
    let event = Decoder::new(Format::Avro, registry)
        .without_source()
        .decode(&sent)
        .await
        .unwrap();
    assert_eq!(event.after(), Some(&serde_json::json!({"id": 1, "a": 2, "added": 3})));
    assert_eq!(event.source(), None);
}

#[tokio::test]
async fn a_topic_name_that_kafka_does_not_take_is_refused_before_anything_is_registered() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let long = table(&"t".repeat(240), vec![column("id", ValueType::Int64, false)], &[0]);
    let error = bench.encoder.prepare(&long).await.unwrap_err();
    assert_eq!((error.kind(), error.scope()), (ErrorKind::Configuration, Scope::Table));
    assert!(bench.registry.subjects().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_incompatible_change_stops_its_table_and_names_subject_column_and_fix() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let id = || column("id", ValueType::Int64, false);
    bench
        .encoder
        .prepare(&version(vec![id(), column("a", ValueType::String, true)]))
        .await
        .unwrap();
    let narrowed = version(vec![id(), column("a", ValueType::Int32, true)]);
    let error = bench.encoder.prepare(&narrowed).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class(), error.scope()),
        (ErrorKind::SchemaRejected, Class::User, Scope::Table)
    );
    assert!(error.message().contains("\"shop.public.t-value\"") && error.message().contains("/before/a"));
    assert!(error.fix().is_some());
    assert!(!bench.encoder.is_prepared(&narrowed));

    let latest = bench.registry.latest("shop.public.t-value").await.unwrap().unwrap();
    assert_eq!(latest.version, 1, "nothing was stored");
    let check = bench
        .registry
        .check_compatibility("shop.public.t-value", "\"int\"")
        .await
        .unwrap();
    assert!(matches!(check, Compatibility::Incompatible { reasons } if !reasons.is_empty()));
}
