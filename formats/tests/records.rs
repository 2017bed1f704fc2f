// SPDX-License-Identifier: Apache-2.0
//! Which records a change becomes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::sync::Arc;

use fixture::{Bench, NOW_US, PlainDecoder, change, column, record, table};
use highwater_core::change::{ChangeVersion, DeletionScope, Op};
use highwater_core::image::{Cell, RowImage, RowImageBuilder};
use highwater_core::schema::{Key, TableSchema};
use highwater_core::transport::RecordBatch;
use highwater_core::value::ValueType;
use highwater_core::{Class, ErrorKind, Scope};
use highwater_formats::{
    DecodedEvent, Decoder, EncoderSettings, Format, JsonDecimals, JsonSettings, SchemaRegistry, Truncates,
};
use serde_json::json;

fn people() -> Arc<TableSchema> {
    let columns = vec![
        column("id", ValueType::Int64, false),
        column("name", ValueType::String, false),
        column("age", ValueType::Int32, true),
        column("motto", ValueType::String, true),
    ];
    table("people", columns, &[0])
}

fn row(id: i64, name: Option<&str>, age: Option<i32>, motto: Cell) -> RowImage {
    let mut builder = RowImageBuilder::default();
    builder.value(&id.to_be_bytes());
    match name {
        Some(name) => builder.value(name.as_bytes()),
        None => builder.cell(Cell::NULL),
    }
    match age {
        Some(age) => builder.value(&age.to_be_bytes()),
        None => builder.cell(Cell::NULL),
    }
    builder.cell(motto);
    builder.build()
}

fn key_only(id: i64) -> RowImage {
    let mut builder = RowImageBuilder::default();
    builder.value(&id.to_be_bytes());
    (0..3).for_each(|_| builder.cell(Cell::ABSENT));
    builder.build()
}

fn json_settings() -> EncoderSettings {
    EncoderSettings {
        format: Format::Json,
        ..EncoderSettings::new("shop")
    }
}

async fn events(bench: &Bench, format: Format, batch: &RecordBatch) -> Vec<DecodedEvent> {
    let registry: Arc<dyn SchemaRegistry> = Arc::clone(&bench.registry) as _;
    let mut decoder = Decoder::new(format, registry);
    let mut events = Vec::new();
    for sent in batch.iter() {
        assert_eq!(sent.timestamp_ms, NOW_US / 1000);
        events.push(decoder.decode(&record(sent)).await.unwrap());
    }
    events
}

#[tokio::test]
async fn a_delete_is_followed_by_a_tombstone_under_the_same_key() {
    for (format, tombstones) in [(Format::Avro, true), (Format::Json, true), (Format::Avro, false)] {
        let mut bench = Bench::new(EncoderSettings {
            format,
            tombstones,
            ..EncoderSettings::new("shop")
        });
        let batch = bench
            .encode(&change(&people(), Op::Delete, Some(key_only(7)), None))
            .await;
        let sent: Vec<_> = batch.iter().collect();
        assert_eq!(sent.len(), 1 + usize::from(tombstones));
        let events = events(&bench, format, &batch).await;
        assert_eq!(events[0].op(), Some("d"));
        assert_eq!(events[0].key, Some(json!({"id": 7})));
        // Columns that the log did not carry: the type's zero where NOT NULL, else null.
        assert_eq!(
            events[0].before(),
            Some(&json!({"id": 7, "name": "", "age": null, "motto": null}))
        );
        assert_eq!(events[0].after(), None);
        if tombstones {
            assert!(events[1].is_tombstone());
            assert_eq!(sent[0].key, sent[1].key);
        }
    }
}

#[tokio::test]
async fn a_row_that_moves_to_another_key_is_a_delete_a_tombstone_and_a_create() {
    for format in [Format::Avro, Format::Json] {
        let mut bench = Bench::new(EncoderSettings {
            format,
            ..EncoderSettings::new("shop")
        });
        let after = row(2, Some("b"), None, Cell::UNCHANGED);
        let batch = bench
            .encode(&change(&people(), Op::Update, Some(key_only(1)), Some(after)))
            .await;
        let sent: Vec<_> = batch.iter().collect();
        let events = events(&bench, format, &batch).await;
        let ops: Vec<_> = events.iter().map(DecodedEvent::op).collect();
        assert_eq!(ops, [Some("d"), None, Some("c")]);
        let keys: Vec<_> = events
            .iter()
            .map(|event| event.key.as_ref().unwrap()["id"].clone())
            .collect();
        assert_eq!(keys, [1, 1, 2]);
        assert_eq!(events[2].before(), None);
        assert_eq!(events[2].unchanged, ["motto"]);

        let header = |at: usize, name: &str| sent[at].headers.iter().find(|header| header.name == name).cloned();
        assert_eq!(header(0, "__debezium.newkey").unwrap().value, sent[2].key.unwrap());
        assert_eq!(header(2, "__debezium.oldkey").unwrap().value, sent[0].key.unwrap());
        assert!(sent[1].headers.is_empty());
    }
}

#[tokio::test]
async fn an_update_whose_row_before_has_the_same_key_stays_one_record() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let (old, new) = (
        row(1, Some("a"), Some(1), Cell::NULL),
        row(1, Some("b"), None, Cell::UNCHANGED),
    );
    let batch = bench.encode(&change(&people(), Op::Update, Some(old), Some(new))).await;
    let events = events(&bench, Format::Avro, &batch).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].before().unwrap()["name"], "a");
    // The unchanged column is in the row before: nothing is left to stand in for.
    assert_eq!(
        events[0].after(),
        Some(&json!({"id": 1, "name": "b", "age": null, "motto": null}))
    );
    assert!(events[0].unchanged.is_empty());
    assert!(batch.iter().next().unwrap().headers.is_empty());
}

#[tokio::test]
async fn an_unchanged_column_holds_the_placeholder_and_its_name_is_in_the_header() {
    let settings = EncoderSettings {
        unavailable_placeholder: "<same>".to_owned(),
        ..EncoderSettings::new("shop")
    };
    let mut bench = Bench::new(settings);
    let after = row(1, Some("a"), Some(3), Cell::UNCHANGED);
    let batch = bench.encode(&change(&people(), Op::Update, None, Some(after))).await;
    let events = events(&bench, Format::Avro, &batch).await;
    assert_eq!(events[0].after().unwrap()["motto"], "<same>");
    assert_eq!(events[0].unchanged, ["motto"]);
}

#[tokio::test]
async fn a_truncation_is_a_record_without_key_unless_the_settings_skip_it() {
    for format in [Format::Avro, Format::Json] {
        let mut bench = Bench::new(EncoderSettings {
            format,
            ..EncoderSettings::new("shop")
        });
        let truncation = change(&people(), Op::Truncate, None, None);
        let batch = bench.encode(&truncation).await;
        let events = events(&bench, format, &batch).await;
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].op(), &events[0].key), (Some("t"), &None));
        assert_eq!((events[0].before(), events[0].after()), (None, None));
    }
    let mut bench = Bench::new(EncoderSettings {
        truncates: Truncates::Skip,
        ..EncoderSettings::new("shop")
    });
    let batch = bench.encode(&change(&people(), Op::Truncate, None, None)).await;
    assert!(batch.is_empty());
}

#[tokio::test]
async fn a_null_in_a_column_that_the_catalogue_calls_not_null_widens_the_schema_and_is_not_lost() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let schema = people();
    let (_, prepared) = bench
        .try_encode(&change(
            &schema,
            Op::Create,
            None,
            Some(row(1, Some("a"), None, Cell::NULL)),
        ))
        .await
        .unwrap();
    assert_eq!(prepared, 1);
    let before = bench
        .registry
        .latest("shop.public.people-value")
        .await
        .unwrap()
        .unwrap();

    let null = change(&schema, Op::Create, None, Some(row(2, None, None, Cell::NULL)));
    let (batch, prepared) = bench.try_encode(&null).await.unwrap();
    assert_eq!(prepared, 1, "prepared again, once");
    let events = events(&bench, Format::Avro, &batch).await;
    assert_eq!(
        events[0].after(),
        Some(&json!({"id": 2, "name": null, "age": null, "motto": null}))
    );
    let after = bench
        .registry
        .latest("shop.public.people-value")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((before.version, after.version), (1, 2));

    let (_, prepared) = bench.try_encode(&null).await.unwrap();
    assert_eq!(prepared, 0, "the wider plan stays");
}

#[tokio::test]
async fn a_null_that_only_the_decoder_knows_is_treated_like_one_of_the_log() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let columns = vec![
        column("id", ValueType::Int64, false),
        column("n", ValueType::Int32, false),
    ];
    let row = RowImage::from_values(&[Some(1i64.to_be_bytes().to_vec()), Some(vec![0xee])]);
    let batch = bench
        .encode(&change(&table("t", columns, &[0]), Op::Create, None, Some(row)))
        .await;
    let events = events(&bench, Format::Avro, &batch).await;
    assert_eq!(events[0].after(), Some(&json!({"id": 1, "n": null})));
}

#[tokio::test]
async fn a_value_that_cannot_be_carried_stops_its_table_and_appends_nothing() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let schema = people();
    let mut bad = RowImageBuilder::default();
    bad.value(&2i64.to_be_bytes());
    bad.value(&[0xff]);
    bad.cell(Cell::NULL);
    bad.cell(Cell::NULL);
    let bad = bad.build();
    let good = row(1, Some("a"), None, Cell::NULL);
    for (op, before, after) in [
        (Op::Create, None, Some(bad.clone())),
        (Op::Delete, Some(bad.clone()), None),
        // The delete of the old key could be written: it must not leave alone.
        (Op::Update, Some(good), Some(bad)),
    ] {
        let sent = change(&schema, op, before, after);
        bench.encoder.prepare(&schema).await.unwrap();
        let mut batch = RecordBatch::default();
        let error = bench.encoder.encode(&sent, &mut batch).unwrap_err();
        assert!(batch.is_empty() && batch.bytes() == 0);
        assert_eq!(
            (error.kind(), error.scope(), error.class()),
            (ErrorKind::UnsupportedValue, Scope::Table, Class::User)
        );
        assert!(error.message().contains("public.people") && error.message().contains("\"name\""));
        assert!(error.message().contains("text is not UTF-8"));
        assert!(error.fix().is_some());
    }
}

#[tokio::test]
async fn a_delete_of_more_than_a_row_and_one_without_its_row_are_refused_and_not_dropped() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let nothing = change(&people(), Op::Delete, None, None);
    let error = bench.try_encode(&nothing).await.unwrap_err();
    assert!(error.message().contains("which row"));
    let mut partition = change(&people(), Op::Delete, Some(key_only(1)), None);
    partition.version = ChangeVersion::Deletion {
        scope: Box::new(DeletionScope::Partition(Key::from_columns(&[Some("k")]))),
        at: 1,
    };
    let error = bench.try_encode(&partition).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.scope()),
        (ErrorKind::UnsupportedValue, Scope::Table)
    );
}

#[tokio::test]
async fn a_table_without_a_key_has_records_without_keys_and_no_tombstones() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let schema = table("log", vec![column("line", ValueType::String, true)], &[]);
    let row = RowImage::from_values(&[Some("x")]);
    let batch = bench.encode(&change(&schema, Op::Delete, Some(row), None)).await;
    let sent: Vec<_> = batch.iter().collect();
    assert_eq!((sent.len(), sent[0].key), (1, None));
    assert_eq!(bench.registry.subjects().await.unwrap(), ["shop.public.log-value"]);
}

#[tokio::test]
async fn a_message_has_its_prefix_as_key_and_the_schemas_that_debezium_has_for_it() {
    let decoder = |of: ValueType| Arc::new(PlainDecoder(of));
    let schema = TableSchema::messages(decoder(ValueType::String), decoder(ValueType::Bytes));
    let schema = Arc::new(schema);
    let message = RowImage::from_values(&[Some(&b"orders.new"[..]), Some(&b"\x00\xff"[..])]);
    for format in [Format::Avro, Format::Json] {
        let mut bench = Bench::new(EncoderSettings {
            format,
            ..EncoderSettings::new("shop")
        });
        let batch = bench
            .encode(&change(&schema, Op::Message, None, Some(message.clone())))
            .await;
        assert_eq!(&**bench.encoder.prepared_topic(&schema).unwrap(), "shop.message");
        let events = events(&bench, format, &batch).await;
        assert_eq!(events[0].key, Some(json!({ "prefix": "orders.new" })));
        assert_eq!(events[0].op(), Some("m"));
        let fields: Vec<_> = events[0].value.as_ref().unwrap().as_object().unwrap().keys().collect();
        assert_eq!(fields, ["op", "ts_ms", "source", "transaction", "message"]);
        assert_eq!(
            events[0].message(),
            Some(&json!({ "prefix": "orders.new", "content": "AP8=" }))
        );
        assert_eq!(events[0].source().unwrap()["db"], "shop");
        if format == Format::Avro {
            let subjects = bench.registry.subjects().await.unwrap();
            assert_eq!(subjects, ["shop.message-key", "shop.message-value"]);
            let value = bench.registry.latest("shop.message-value").await.unwrap().unwrap();
            let value: serde_json::Value = serde_json::from_str(&value.schema).unwrap();
            assert_eq!(value["name"], "MessageValue");
            assert_eq!(value["namespace"], "io.debezium.connector.postgresql");
        }
        let row = change(&schema, Op::Create, None, Some(message.clone()));
        assert!(bench.try_encode(&row).await.is_err(), "a row is no message");
    }
}

#[tokio::test]
async fn two_tables_never_share_a_topic() {
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let tables = ["a b", "a_b"].map(|name| table(name, vec![column("id", ValueType::Int64, false)], &[0]));
    bench.encoder.prepare(&tables[0]).await.unwrap();
    let error = bench.encoder.prepare(&tables[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.message().contains("public.a b") && error.message().contains("shop.public.a_b"));
    assert_eq!(&**bench.encoder.prepared_topic(&tables[0]).unwrap(), "shop.public.a_b");
    assert_eq!(bench.encoder.prepared_topic(&tables[1]), None);
}

#[tokio::test]
async fn columns_whose_names_become_one_in_avro_are_refused_and_fine_in_json() {
    let columns = || {
        vec![
            column("a b", ValueType::Int64, true),
            column("a-b", ValueType::Int64, true),
        ]
    };
    let schema = table("t", columns(), &[]);
    let error = Bench::new(EncoderSettings::new("shop"))
        .encoder
        .prepare(&schema)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.scope()),
        (ErrorKind::UnsupportedValue, Scope::Table)
    );
    assert!(error.message().contains("\"a-b\""));
    Bench::new(json_settings()).encoder.prepare(&schema).await.unwrap();
}

#[tokio::test]
async fn json_records_are_those_of_connects_converter() {
    let columns = vec![
        column("id", ValueType::Int64, false),
        column("amount", ValueType::Decimal { precision: 5, scale: 2 }, true),
        column("data", ValueType::Bytes, true),
    ];
    let row = RowImage::from_values(&[
        Some(1i64.to_be_bytes().to_vec()),
        Some(vec![0x27, 0x0f]),
        Some(vec![1, 2]),
    ]);
    let sent = change(&table("t", columns, &[0]), Op::Create, None, Some(row));
    let mut settings = EncoderSettings {
        source_version: "9.9".to_owned(),
        ..json_settings()
    };
    let batch = Bench::new(settings.clone()).encode(&sent).await;
    let plain = batch.iter().next().unwrap();
    assert_eq!(plain.key, Some(&br#"{"id":1}"#[..]));
    insta::assert_snapshot!("json_value", std::str::from_utf8(plain.value.unwrap()).unwrap());

    settings.json = JsonSettings {
        schemas: true,
        decimals: JsonDecimals::Numeric,
    };
    let batch = Bench::new(settings).encode(&sent).await;
    let wrapped = batch.iter().next().unwrap();
    let value: serde_json::Value = serde_json::from_slice(wrapped.value.unwrap()).unwrap();
    assert_eq!(value["payload"]["after"]["amount"].to_string(), "99.99");
    insta::assert_snapshot!(
        "json_key_with_schema",
        std::str::from_utf8(wrapped.key.unwrap()).unwrap()
    );
    insta::assert_snapshot!("json_schema", serde_json::to_string_pretty(&value["schema"]).unwrap());
}

#[test]
fn encoders_and_decoders_may_move_between_threads() {
    fn sent<T: Send>(_: T) {}
    let mut bench = Bench::new(EncoderSettings::new("shop"));
    let schema = people();
    sent(bench.encoder.prepare(&schema));
    sent(bench.encoder);
    let registry: Arc<dyn SchemaRegistry> = bench.registry;
    sent(Decoder::new(Format::Avro, registry));
}
