// SPDX-License-Identifier: Apache-2.0
//! What a consumer of Debezium's topics relies on, looked at without any of our own code but the pipeline.

use apache_avro::types::Value as Avro;
use highwater_integration_tests::read_back::{Isolation, kafka_records};
use highwater_testbed::{Kafka, Registry};
use serde_json::{Value, json};

use crate::scene::Scene;

const TABLE: &str = "CREATE TABLE movies (id int NOT NULL, title text NOT NULL, price numeric(8,2), seen timestamptz, \
                     PRIMARY KEY (id)); INSERT INTO movies VALUES (1, 'Alien', 12.50, '2026-01-02 03:04:05.25+00')";

#[tokio::test]
async fn topics_keys_envelopes_and_tombstones_are_as_debezium_writes_them() {
    let scene = Scene::kafka(17, TABLE, &["public.movies"]).await;
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene
        .database
        .run("UPDATE movies SET price = -0.01; DELETE FROM movies")
        .await;
    scene.finish(&mut process).await;
    let topic = format!("{}.public.movies", scene.file.name());
    let brokers = Kafka::shared().await.unwrap().bootstrap();
    let records = kafka_records(&brokers, std::slice::from_ref(&topic), Isolation::Committed);
    assert_eq!(records.len(), 4);

    let key = schema_of(records[0].key.as_deref().unwrap()).await;
    assert_eq!(key["name"], "Key");
    assert_eq!(key["namespace"], topic.as_str());
    assert_eq!(key["fields"], json!([{ "name": "id", "type": "int" }]));
    let envelope = schema_of(records[0].value.as_deref().unwrap()).await;
    assert_eq!(envelope["connect.name"], format!("{topic}.Envelope"));
    let fields: Vec<&str> = envelope["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "before",
            "after",
            "source",
            "transaction",
            "op",
            "ts_ms",
            "ts_us",
            "ts_ns"
        ]
    );

    let mut ops = Vec::new();
    for record in &records {
        assert_eq!(record.key, records[0].key, "one key has one form");
        let Some(value) = &record.value else {
            ops.push("tombstone".to_owned());
            continue;
        };
        let event = decoded(value).await;
        let source = field(&event, "source");
        assert_eq!(text(field(source, "connector")), "postgresql");
        assert_eq!(text(field(source, "name")), scene.file.name());
        assert_eq!(text(field(source, "db")), scene.database.name);
        assert_eq!(
            (text(field(source, "schema")), text(field(source, "table"))),
            ("public".into(), "movies".into())
        );
        ops.push(text(field(&event, "op")));
    }
    assert_eq!(ops, ["r", "u", "d", "tombstone"]);
    let read = decoded(records[0].value.as_deref().unwrap()).await;
    let row = field(&read, "after");
    assert_eq!(field(row, "id"), &Avro::Int(1));
    assert_eq!(text(field(row, "title")), "Alien");
    assert_eq!(text(field(row, "seen")), "2026-01-02T03:04:05.25Z");
    let Avro::Decimal(price) = field(row, "price") else {
        panic!("{row:?}")
    };
    assert_eq!(Vec::<u8>::try_from(price).unwrap(), [0x04, 0xe2]);
}

/// The registry's schema of a message, through its own interface.
async fn schema_of(message: &[u8]) -> Value {
    let (magic, id) = (message[0], u32::from_be_bytes(message[1..5].try_into().unwrap()));
    assert_eq!(magic, 0);
    let registry = Registry::shared().await.unwrap();
    let answer =
        highwater_integration_tests::http::get(registry.port(), &format!("/apis/ccompat/v7/schemas/ids/{id}")).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    serde_json::from_str(answer["schema"].as_str().unwrap()).unwrap()
}

async fn decoded(message: &[u8]) -> Avro {
    let schema = apache_avro::Schema::parse(&schema_of(message).await).unwrap();
    let mut body = &message[5..];
    let value = apache_avro::from_avro_datum(&schema, &mut body, None).unwrap();
    assert!(body.is_empty(), "octets are left over");
    value
}

fn field<'a>(record: &'a Avro, name: &str) -> &'a Avro {
    let record = inner(record);
    let Avro::Record(fields) = record else {
        panic!("{record:?} is no record")
    };
    inner(
        &fields
            .iter()
            .find(|(field, _)| field == name)
            .unwrap_or_else(|| panic!("no field {name}"))
            .1,
    )
}

fn inner(value: &Avro) -> &Avro {
    match value {
        Avro::Union(_, value) => value,
        value => value,
    }
}

fn text(value: &Avro) -> String {
    match inner(value) {
        Avro::String(text) => text.clone(),
        other => panic!("{other:?} is no text"),
    }
}
