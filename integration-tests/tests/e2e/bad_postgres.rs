// SPDX-License-Identifier: Apache-2.0
//! A server that refuses: each refusal names the thing and the remedy, and once mended the run goes on from its
//! checkpoint.

use highwater_integration_tests::database::Database;
use highwater_testbed::postgres::ROLE_PASSWORD;
use highwater_testbed::{PgOptions, Postgres};
use serde_json::json;

use crate::scene::{LIMIT, Scene, reads_sorted};

const ONE_TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')";

/// A pipeline that has captured the first two rows and ended well.
async fn begun() -> Scene {
    let scene = Scene::new(ONE_TABLE, &["public.t"]).await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    scene
}

/// Runs it again to the end: what was written meanwhile comes, and nothing twice.
async fn goes_on(scene: &Scene, expected: &[&str]) {
    let mut process = scene.run();
    scene.finish(&mut process).await;
    assert_eq!(reads_sorted(scene.ops("t").await), expected);
}

#[tokio::test]
async fn a_wrong_password_is_told_and_once_right_the_run_goes_on() {
    let mut scene = begun().await;
    scene.database.run("INSERT INTO t VALUES (3, 'c')").await;
    scene.file.set_source("password", json!("not the password"));
    let ended = scene
        .fails()
        .await
        .with_code(2)
        .telling(&["password", "highwater", "fix:"]);
    assert!(
        !ended.err.contains("not the password"),
        "a secret was told:\n{}",
        ended.err
    );
    scene.file.set_source("password", json!(ROLE_PASSWORD));
    goes_on(&scene, &["r 1", "r 2", "c 3"]).await;
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_named() {
    let mut scene = Scene::new(ONE_TABLE, &["public.t"]).await;
    scene.file.set_source("database", json!("atlantis"));
    scene.fails().await.with_code(2).telling(&["atlantis"]);
}

#[tokio::test]
async fn a_role_without_replication_is_told_what_to_grant() {
    let mut scene = Scene::new(ONE_TABLE, &["public.t"]).await;
    let role = format!("reader_{}", scene.database.name);
    let name = scene.file.name().to_owned();
    let sql = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT SELECT ON t TO {role}; CREATE PUBLICATION {name} FOR TABLE t"
    );
    scene.database.run(&sql).await;
    scene.file.set_source("user", json!(role));
    scene.file.set_source("password", json!("p"));
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&[&role, "replication", "fix:"]);
    scene.database.run(&format!("ALTER ROLE {role} REPLICATION")).await;
    goes_on(&scene, &["r 1", "r 2"]).await;
    scene
        .database
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

#[tokio::test]
async fn a_role_that_may_not_read_a_table_is_told_which_and_what_to_grant() {
    let mut scene = Scene::new(ONE_TABLE, &["public.t"]).await;
    let role = format!("blind_{}", scene.database.name);
    let name = scene.file.name().to_owned();
    let sql = format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'p'; CREATE PUBLICATION {name} FOR TABLE t");
    scene.database.run(&sql).await;
    scene.file.set_source("user", json!(role));
    scene.file.set_source("password", json!("p"));
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&["public.t", "permission denied", "grant select", "fix:"]);
    scene
        .database
        .run(&format!("GRANT SELECT ON t TO {role}; INSERT INTO t VALUES (3, 'c')"))
        .await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    let mut ops: Vec<String> = scene.ops("t").await.iter().map(|op| op[2..].to_owned()).collect();
    ops.sort();
    ops.dedup();
    assert_eq!(ops, ["1", "2", "3"]);
    scene
        .database
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

#[tokio::test]
async fn a_server_that_does_not_decode_is_told_to_and_then_captured() {
    let server = Postgres::start(PgOptions::major(15).with("wal_level", "replica"))
        .await
        .unwrap();
    let scene = Scene::at(Database::on(&server), ONE_TABLE, &["public.t"]).await;
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&["wal_level", "replica", "logical", "fix:"]);
    server.restart_with(&[("wal_level", "logical")]).await.unwrap();
    goes_on(&scene, &["r 1", "r 2"]).await;
}

#[tokio::test]
async fn a_slot_in_use_is_named_to_be_tried_again_and_its_user_is_not_disturbed() {
    let scene = Scene::new(ONE_TABLE, &["public.t"]).await;
    let mut user = scene.run();
    scene.caught_up(&mut user).await;
    let mut second = Scene::at(scene.database.clone(), "SELECT 1", &["public.t"]).await;
    let slot = scene.file.name();
    second.file.set_source("slot.name", json!(slot));
    second.file.set_source("publication.name", json!(slot));
    second.file.set("retry.give_up_after_ms", json!(0));
    second.fails().await.with_code(75).telling(&[slot, "fix:"]);
    scene.database.run("INSERT INTO t VALUES (3, 'c')").await;
    scene.finish(&mut user).await;
    assert_eq!(scene.ops("t").await, ["r 1", "r 2", "c 3"]);
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_tried_again_until_it_is_there() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let mut scene = Scene::at(Database::on(&server), ONE_TABLE, &["public.t"]).await;
    server.stop().await.unwrap();
    scene.file.set("retry.give_up_after_ms", json!(300));
    let address = format!("127.0.0.1:{}", server.port());
    scene.fails().await.with_code(75).telling(&[&server.port().to_string()]);
    scene.file.set("retry.give_up_after_ms", json!(600_000));
    let mut process = scene.run();
    process.tells("trying again", LIMIT).await;
    server.restart().await.unwrap();
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "r 2"], "{address}");
}

#[tokio::test]
async fn a_slot_that_was_dropped_is_a_lost_position_and_never_skipped() {
    let scene = begun().await;
    let slot = scene.file.name();
    scene
        .database
        .run(&format!(
            "SELECT pg_drop_replication_slot('{slot}'); INSERT INTO t VALUES (3, 'c')"
        ))
        .await;
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&[slot, "no longer exists", "fix:"]);
    // It does not help to start again: the loss is not forgotten.
    scene.fails().await.with_code(2).telling(&[slot, "fix:"]);
    let slots = scene
        .database
        .text(&format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ))
        .await;
    assert_eq!(slots, "0", "a new slot hides the loss");
    assert_eq!(scene.ops("t").await, ["r 1", "r 2"]);
}

#[tokio::test]
async fn a_slot_that_was_advanced_past_the_checkpoint_is_a_lost_position() {
    let scene = begun().await;
    let slot = scene.file.name();
    scene.database.run("INSERT INTO t VALUES (3, 'c')").await;
    scene
        .database
        .run(&format!(
            "SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"
        ))
        .await;
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&[slot, "past the checkpoint", "confirmed_flush_lsn", "fix:"]);
    assert_eq!(scene.ops("t").await, ["r 1", "r 2"]);
}

#[tokio::test]
async fn a_value_that_cannot_be_carried_stops_at_table_and_column_and_the_rest_goes_on_without_them() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
               CREATE TABLE odd (id int PRIMARY KEY, price numeric(10,2)); INSERT INTO odd VALUES (1, 1.5)";
    let mut scene = Scene::new(sql, &["public.*"]).await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    scene
        .database
        .run("INSERT INTO t VALUES (3, 'c'); INSERT INTO odd VALUES (2, 'NaN'); INSERT INTO t VALUES (4, 'd')")
        .await;
    let ended = process
        .ended(LIMIT)
        .await
        .with_code(2)
        .telling(&["public.odd", "price", "nan", "fix:"]);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    // It stays at the value, however often it is started.
    scene.fails().await.with_code(2).telling(&["public.odd", "price"]);
    scene.file.set_source("tables.exclude", json!(["public.odd"]));
    goes_on(&scene, &["r 1", "r 2", "c 3", "c 4"]).await;
    assert_eq!(scene.ops("odd").await, ["r 1"]);
}

#[tokio::test]
async fn a_column_of_a_type_that_cannot_be_carried_is_refused_by_table_and_column() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
               CREATE TABLE odd (id int PRIMARY KEY, index_only gtsvector)";
    let mut scene = Scene::new(sql, &["public.*"]).await;
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&["public.odd", "index_only", "gtsvector", "fix:"]);
    scene.file.set_source("tables.exclude", json!(["public.odd"]));
    goes_on(&scene, &["r 1", "r 2"]).await;
}

#[tokio::test]
async fn a_table_dropped_while_it_is_copied_is_named_and_the_rest_is_copied_by_the_next_run() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
               CREATE TABLE big (id int PRIMARY KEY); INSERT INTO big SELECT generate_series(1, 20000)";
    let mut scene = Scene::new(sql, &["public.*"]).await;
    scene
        .file
        .set("snapshot", json!({ "chunk_rows_max": 20, "windows_max": 1 }));
    let mut process = scene.run();
    scene
        .status_shows(&mut process, "rows of the large table", |status| {
            let big = &status["tables"]["public.big"];
            big["copying"] == true && big["rows_read"].as_u64() > Some(0)
        })
        .await;
    scene.database.run("DROP TABLE big").await;
    process
        .ended(LIMIT)
        .await
        .with_code(2)
        .telling(&["public.big", "does not exist", "fix:"]);
    scene.database.run("INSERT INTO t VALUES (3, 'c')").await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    let ops = scene.ops("t").await;
    let mut keys: Vec<&str> = ops.iter().map(|op| &op[2..]).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys, ["1", "2", "3"], "{ops:?}");
}
