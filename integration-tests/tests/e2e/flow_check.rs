// SPDX-License-Identifier: Apache-2.0
//! `highwater check` says what is wrong, and its statements, executed as they stand, mend it.

use highwater_integration_tests::database::Database;
use highwater_integration_tests::process::highwater;
use highwater_testbed::{PgOptions, Postgres};
use serde_json::json;

use crate::scene::{Scene, reads_sorted};

/// A database in which nothing is ready: no logical log, a role that may nothing, tables in another schema, one of them
/// without an identity, neither slot nor publication.
const UNREADY: &str = "CREATE ROLE \"Captain's\" LOGIN PASSWORD 'p'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
     CREATE SCHEMA \"Shop\"; REVOKE ALL ON SCHEMA \"Shop\" FROM PUBLIC; \
     CREATE TABLE \"Shop\".\"Or\"\"der\" (id int PRIMARY KEY, v text); INSERT INTO \"Shop\".\"Or\"\"der\" VALUES (1, 'a'); \
     CREATE TABLE \"Shop\".nobody (id int PRIMARY KEY, v text); ALTER TABLE \"Shop\".nobody REPLICA IDENTITY NOTHING; \
     INSERT INTO \"Shop\".nobody VALUES (1, 'a')";

#[tokio::test]
async fn the_printed_sql_executed_as_it_stands_makes_the_check_pass_and_the_run_flow() {
    let server = Postgres::start(PgOptions::major(15).with("wal_level", "replica"))
        .await
        .unwrap();
    let database = Database::on(&server);
    let mut scene = Scene::at(database.clone(), UNREADY, &["Shop.*"]).await;
    scene.file.set_source("user", json!("Captain's"));
    scene.file.set_source("password", json!("p"));
    scene.file.set_source("slot.create", json!(false));
    scene.file.set_source("publication.create", json!(false));
    let path = scene.file.path().display().to_string();

    let mut rounds = 0;
    loop {
        let ended = highwater(&["check", &path], &[]).await;
        if ended.code == Some(0) {
            break;
        }
        let ended = ended.with_code(2);
        rounds += 1;
        assert!(rounds <= 4, "the check does not come to an end:\n{}", ended.out);
        assert!(ended.out.contains("sql: "), "nothing to execute:\n{}", ended.out);
        mend(&server, &database, &ended.out).await;
    }
    assert!(rounds >= 1);
    let mut process = scene.run();
    scene.copied(&mut process).await;
    database
        .run("INSERT INTO \"Shop\".\"Or\"\"der\" VALUES (2, 'b'); UPDATE \"Shop\".nobody SET v = 'b'")
        .await;
    scene.finish(&mut process).await;
    let ops = |events: Vec<(highwater_core::transport::Record, highwater_formats::DecodedEvent)>| {
        reads_sorted(events.iter().map(|(_, event)| crate::scene::short(event)).collect())
    };
    assert_eq!(ops(scene.read("Shop", "Or_der").await), ["r 1", "c 2"]);
    assert_eq!(ops(scene.read("Shop", "nobody").await), ["r 1", "u 1"]);
}

/// Does what each finding says, in their order: its statements, then its advice.
async fn mend(server: &Postgres, database: &Database, findings: &str) {
    for finding in findings.split("\n\n") {
        let client = database.connect().await;
        for statement in finding.lines().filter_map(|line| line.trim().strip_prefix("sql: ")) {
            client
                .batch_execute(statement)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
        if finding
            .lines()
            .any(|line| line.trim().starts_with("fix: ") && line.contains("restart"))
        {
            // The test-bed's own setting on the command line would win over ALTER SYSTEM.
            server.restart_with(&[("wal_level", "logical")]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_check_as_json_has_every_finding_and_a_check_changes_nothing() {
    let scene = Scene::new(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE loose (id int)",
        &["public.*"],
    )
    .await;
    let path = scene.file.path().display().to_string();
    let ended = highwater(&["check", "--json", &path], &[]).await;
    let found: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let findings = found["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding["what"].as_str().unwrap().contains("public.loose")),
        "{found:#}"
    );
    let made = "SELECT (SELECT count(*) FROM pg_publication) + \
                (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())";
    assert_eq!(scene.database.text(made).await, "0");
}

#[tokio::test]
async fn a_table_without_a_key_is_a_warning_of_the_check_and_is_copied() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE loose (v int); ALTER TABLE loose REPLICA IDENTITY FULL; \
               CREATE TABLE chosen (v int NOT NULL); CREATE UNIQUE INDEX chosen_v ON chosen (v); \
               ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_v; INSERT INTO loose VALUES (0)";
    let scene = Scene::new(sql, &["public.*"]).await;
    let path = scene.file.path().display().to_string();
    let ended = highwater(&["check", &path], &[]).await.with_code(0);
    for part in ["warning[table_without_key]", "public.loose has no key"] {
        assert!(ended.out.contains(part), "{part:?} is not in:\n{}", ended.out);
    }
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    scene
        .database
        .run("INSERT INTO loose VALUES (1); UPDATE loose SET v = 2 WHERE v = 1")
        .await;
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("loose").await, ["r", "c", "u"]);
}
