// SPDX-License-Identifier: Apache-2.0
//! Pipeline files as people write them, and what they are told about mistakes.

use std::collections::HashMap;
use std::path::Path;

use highwater_model::{Environment, Pipeline, SnapshotMode, TransportSpec};
use serde::Deserialize;

#[derive(Default)]
struct Fixed {
    variables: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl Environment for Fixed {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| (*value).to_owned())
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        self.files
            .get(path.to_str().unwrap_or_default())
            .map(|text| (*text).to_owned())
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Connector {
    host: String,
    port: u16,
    password: String,
    #[serde(default)]
    slot: Slot,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Slot {
    name: String,
    create: bool,
}

const WHOLE: &str = r#"
version: 1
name: shop
source:
  connector: postgres
  settings:
    host: db.example
    port: ${env:PORT}
    password: ${file:/run/secrets/pg}
    slot: { name: shop, create: true }
transport:
  kafka:
    brokers: [k1:9092, k2:9092]
    sasl: { mechanism: SCRAM-SHA-512, username: hw, password: "${env:KAFKA_PASSWORD}" }
    properties: { client.rack: a }
topics: { prefix: shop.live, partitions: 6, cleanup: compact }
format: json
registry:
  confluent: { url: "http://registry:8081" }
snapshot: { mode: never, windows_max: 3 }
checkpoint: { every_ms: 20 }
admin: { listen: "127.0.0.1:9400" }
"#;

const SMALL: &str = "version: 1\nname: shop\nsource: { connector: postgres }\ntransport: embedded\n";

fn environment() -> Fixed {
    Fixed {
        variables: HashMap::from([("PORT", "5433"), ("KAFKA_PASSWORD", "hunter2")]),
        files: HashMap::from([("/run/secrets/pg", "0123\n")]),
    }
}

fn refusal(text: &str) -> String {
    Pipeline::from_yaml(text, &environment())
        .expect_err("a mistake")
        .to_string()
}

#[test]
fn a_whole_file_reads_into_its_parts() {
    let pipeline = Pipeline::from_yaml(WHOLE, &environment()).unwrap();
    assert_eq!(pipeline.prefix(), "shop.live");
    assert_eq!(pipeline.snapshot.mode, SnapshotMode::Never);
    assert_eq!(
        (pipeline.snapshot.windows_max, pipeline.snapshot.chunk_rows_max),
        (3, 16_384)
    );
    let TransportSpec::Kafka(kafka) = &pipeline.transport else {
        panic!("kafka")
    };
    let sasl: HashMap<String, String> = kafka.get("sasl").unwrap().read("transport.kafka.sasl").unwrap();
    assert_eq!(sasl["password"], "hunter2");
    let settings: Connector = pipeline
        .connector_settings(&environment())
        .unwrap()
        .read("source.settings")
        .unwrap();
    assert_eq!((settings.host.as_str(), settings.port), ("db.example", 5433));
    assert_eq!(
        settings.password, "0123",
        "a password of digits stays a text, without the file's line break"
    );
    assert!(settings.slot.create && settings.slot.name == "shop");
}

#[test]
fn a_small_file_has_every_default() {
    let pipeline = Pipeline::from_yaml(SMALL, &environment()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&pipeline).unwrap());
}

#[test]
fn a_pipeline_shown_as_json_has_its_references_and_no_secret() {
    let pipeline = Pipeline::from_yaml(WHOLE, &environment()).unwrap();
    let shown = serde_json::to_string(&pipeline).unwrap();
    assert!(shown.contains("${file:/run/secrets/pg}"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("0123"), "{shown}");
    let debug = format!("{pipeline:?}");
    assert!(!debug.contains("hunter2") && !debug.contains("db.example"), "{debug}");
    let settings = pipeline.connector_settings(&environment()).unwrap();
    assert!(!serde_json::to_string(&settings).unwrap().contains("0123"));
}

#[test]
fn an_unknown_setting_is_named_with_path_line_and_nearest_name() {
    insta::assert_snapshot!(refusal(&SMALL.replace("transport: embedded", "transport: embedded\nsnapshots: {}")),
        @r#"line 5: snapshots: unknown setting "snapshots"; did you mean "snapshot"?"#);
    insta::assert_snapshot!(refusal(&format!("{SMALL}checkpoint:\n  every_ms: 5\n  every_event: 9\n")),
        @r#"line 7: checkpoint.every_event: unknown setting "every_event"; did you mean "every_events"?"#);
    insta::assert_snapshot!(refusal(&SMALL.replace("embedded", "{ embeded: {} }")),
        @r#"line 4: transport: unknown choice "embeded"; did you mean "embedded"?"#);
    insta::assert_snapshot!(refusal(&format!("{SMALL}admin: {{ colour: red }}\n")),
        @r#"line 5: admin.colour: unknown setting "colour"; known: listen, socket, shutdown_ms_max"#);
}

#[test]
fn settings_of_transport_and_registry_keep_their_lines() {
    let pipeline = Pipeline::from_yaml(&WHOLE.replace("client.rack: a", "client.rack: [a]"), &environment()).unwrap();
    let TransportSpec::Kafka(kafka) = &pipeline.transport else {
        panic!("kafka")
    };
    let wrong = kafka
        .get("properties")
        .unwrap()
        .read::<HashMap<String, String>>("transport.kafka.properties");
    insta::assert_snapshot!(wrong.unwrap_err(), @"line 15: transport.kafka.properties.client.rack: expected a string, found sequence");
}

#[test]
fn an_unknown_setting_of_the_connector_is_named_the_same_way() {
    let text = WHOLE.replace("slot: { name: shop, create: true }", "slotname: shop");
    let settings = Pipeline::from_yaml(&text, &environment())
        .unwrap()
        .connector_settings(&environment())
        .unwrap();
    let error = settings.read::<Connector>("source.settings").unwrap_err();
    assert_eq!(error.path(), "source.settings.slotname");
    assert_eq!(error.line(), Some(10));
    insta::assert_snapshot!(error,
        @r#"line 10: source.settings.slotname: unknown setting "slotname"; known: host, port, password, slot"#);
    let text = WHOLE.replace("create: true", "creat: true");
    let settings = Pipeline::from_yaml(&text, &environment())
        .unwrap()
        .connector_settings(&environment())
        .unwrap();
    insta::assert_snapshot!(settings.read::<Connector>("source.settings").unwrap_err(),
        @r#"line 10: source.settings.slot.creat: unknown setting "creat"; did you mean "create"?"#);
}

#[test]
fn mistakes_of_every_kind_say_where_they_are() {
    insta::assert_snapshot!(refusal("name: shop"), @r#"setting "version" is missing; add "version: 1""#);
    insta::assert_snapshot!(refusal(&SMALL.replace("version: 1", "version: 2")),
        @r#"line 1: version: version 2 is not known to this release; write "version: 1""#);
    insta::assert_snapshot!(refusal(&format!("{SMALL}name: twice\n")), @"line 5: name: the setting is given twice");
    insta::assert_snapshot!(refusal(&format!("{SMALL}snapshot: {{ windows_max: many }}\n")),
        @"line 5: snapshot.windows_max: expected u32, found a text");
    insta::assert_snapshot!(refusal(&format!("{SMALL}snapshot:\n  mode: never\n  windows_max: 65\n")),
        @"line 7: snapshot.windows_max: 1 to 64 windows can be open at once");
    insta::assert_snapshot!(refusal(&SMALL.replace("transport: embedded\n", "")),
        @r#"line 1: setting "transport" is missing"#);
    insta::assert_snapshot!(refusal("version: 1\nname: [\n"), @"line 3: name: not valid YAML: while parsing a node, did not find expected node content");
    insta::assert_snapshot!(refusal(""), @"the file is empty");
}

#[test]
fn a_reference_that_leads_nowhere_names_the_setting_and_never_a_value() {
    insta::assert_snapshot!(refusal(&format!("{SMALL}registry: {{ confluent: {{ url: \"${{env:REGISTRY}}\" }} }}\n")),
        @r#"line 5: registry.confluent.url: environment variable "REGISTRY" is not set; set it: export REGISTRY=…"#);
    let text = WHOLE.replace("${env:PORT}", "${env:KAFKA_PASSWORD}");
    let settings = Pipeline::from_yaml(&text, &environment())
        .unwrap()
        .connector_settings(&environment())
        .unwrap();
    insta::assert_snapshot!(settings.read::<Connector>("source.settings").unwrap_err(),
        @"line 8: source.settings.port: what the reference stands for is not valid here");
    let text = WHOLE.replace("${file:/run/secrets/pg}", "${vault:pg}");
    let pipeline = Pipeline::from_yaml(&text, &environment()).unwrap();
    insta::assert_snapshot!(pipeline.connector_settings(&environment()).unwrap_err(),
        @"line 9: source.settings.password: a reference is of an unknown form; write ${env:NAME} or ${file:path}");
}

#[test]
fn a_doubled_dollar_stands_for_itself() {
    let text = WHOLE.replace("${file:/run/secrets/pg}", "a$${env:PORT}b${env:PORT}");
    let settings = Pipeline::from_yaml(&text, &environment())
        .unwrap()
        .connector_settings(&environment())
        .unwrap();
    assert_eq!(
        settings.read::<Connector>("source.settings").unwrap().password,
        "a${env:PORT}b5433"
    );
}
