// SPDX-License-Identifier: Apache-2.0
//! Encrypted connections, verified.

use highwater_integration_tests::database::Database;
use highwater_testbed::certificates::{Authority, LOCAL_NAMES};
use highwater_testbed::{Gate, Kafka, KafkaOptions, PgOptions, Postgres, Registry, Security};
use serde_json::json;

use crate::scene::Scene;

const ONE_TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')";

#[tokio::test]
async fn postgres_over_verified_tls_with_scram_flows_and_a_foreign_authority_is_refused() {
    let options = PgOptions::major(17)
        .with_tls()
        .with_hba("hostnossl all highwater all reject")
        .with_hba("hostssl all highwater all scram-sha-256")
        .with_hba("hostssl replication highwater all scram-sha-256");
    let server = Postgres::start(options).await.unwrap();
    let mut scene = Scene::at(Database::on(&server), ONE_TABLE, &["public.t"]).await;
    let stranger = scene.file.folder().join("stranger.pem");
    std::fs::write(&stranger, Authority::new().unwrap().ca_pem()).unwrap();
    scene.file.set("retry.give_up_after_ms", json!(0));

    scene.file.set_source("tls", json!({ "mode": "disable" }));
    scene.fails().await.with_code(2).telling(&["pg_hba.conf"]);
    scene
        .file
        .set_source("tls", json!({ "mode": "verify-full", "root_certificates": stranger }));
    scene.fails().await.with_code(2).telling(&["certificate", "fix:"]);
    scene.file.set_source(
        "tls",
        json!({ "mode": "verify-full", "root_certificates": server.ca_path().unwrap() }),
    );
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    let plain =
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'highwater' AND NOT ssl";
    let secured = "SELECT count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                   WHERE usename = 'highwater' AND backend_type = 'walsender' AND ssl";
    assert_eq!(scene.database.text(plain).await, "0");
    assert_eq!(scene.database.text(secured).await, "t");
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "r 2"]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_by_verify_full_only() {
    let mut options = PgOptions::major(15).with_tls();
    options.tls = Some(highwater_testbed::postgres::TlsOptions {
        names: vec!["elsewhere.example".into()],
    });
    let server = Postgres::start(options).await.unwrap();
    let mut scene = Scene::at(Database::on(&server), ONE_TABLE, &["public.t"]).await;
    scene.file.set("retry.give_up_after_ms", json!(0));
    let authority = server.ca_path().unwrap();
    scene
        .file
        .set_source("tls", json!({ "mode": "verify-full", "root_certificates": authority }));
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&["127.0.0.1", "certificate", "fix:"]);
    scene
        .file
        .set_source("tls", json!({ "mode": "verify-ca", "root_certificates": authority }));
    let mut process = scene.run();
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "r 2"]);
}

#[tokio::test]
async fn kafka_over_tls_with_scram_and_a_registry_behind_tls_flow_and_what_is_wrong_is_told() {
    let shared = Postgres::shared(17).await.unwrap();
    let kafka = Kafka::start(KafkaOptions::default().with_listener(Security::SaslSsl))
        .await
        .unwrap();
    let registry = Registry::shared().await.unwrap();
    let plain = kafka.bootstrap();
    let mut scene = Scene::kafka_at(Database::of(&shared), ONE_TABLE, &["public.t"], &plain, &registry.url()).await;
    let secured = json!({ "kafka": {
        "brokers": [kafka.bootstrap_of(Security::SaslSsl).unwrap()],
        "tls": { "ca_file": kafka.ca_path().unwrap() },
        "sasl": {
            "mechanism": "SCRAM-SHA-512", "username": highwater_testbed::kafka::KAFKA_USER,
            "password": { "env": "HIGHWATER_TEST_PASSWORD" },
        },
    }});
    scene.file.set("transport", secured);
    scene.file.set("retry.give_up_after_ms", json!(2_000));
    let mut process = scene.file.run_with(&[("HIGHWATER_TEST_PASSWORD", "not the password")]);
    let ended = process.ended(crate::scene::LIMIT).await;
    let ended = ended.with_code(2).telling(&["authentication", "fix:"]);
    assert!(
        !ended.err.contains("not the password"),
        "a secret was told:\n{}",
        ended.err
    );
    let right = ("HIGHWATER_TEST_PASSWORD", highwater_testbed::kafka::KAFKA_PASSWORD);
    let authority = Authority::new().unwrap();
    let identity = authority.server(&LOCAL_NAMES).unwrap();
    let gate = Gate::start(registry.port(), &identity, "captain", "open sesame")
        .await
        .unwrap();
    std::fs::write(scene.file.folder().join("gate.pem"), authority.ca_pem()).unwrap();
    let mut behind_the_gate = json!({ "confluent": {
        "url": format!("https://127.0.0.1:{}/apis/ccompat/v7", gate.port()),
        "credentials": { "kind": "basic", "user": "captain", "password": "${env:HIGHWATER_TEST_REGISTRY}" },
    }});
    scene.file.set("registry", behind_the_gate.clone());
    let shown = ("HIGHWATER_TEST_REGISTRY", "open sesame");
    let ended = scene.file.run_with(&[right, shown]).ended(crate::scene::LIMIT).await;
    ended
        .with_code(2)
        .telling(&["certificate of the schema registry", "not trusted", "ca_file"]);
    behind_the_gate["confluent"]["ca_file"] = json!("gate.pem");
    scene.file.set("registry", behind_the_gate);
    let wrong = ("HIGHWATER_TEST_REGISTRY", "open barley");
    let ended = scene.file.run_with(&[right, wrong]).ended(crate::scene::LIMIT).await;
    let ended = ended.with_code(2).telling(&["registry", "credentials"]);
    assert!(!ended.err.contains("barley"), "a secret was told:\n{}", ended.err);
    let mut process = scene.file.run_with(&[right, shown]);
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "r 2"]);
}
