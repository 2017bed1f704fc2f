// SPDX-License-Identifier: Apache-2.0
//! Mistakes in the pipeline file: told with place and remedy before anything is touched.

use serde_json::json;

use crate::scene::Scene;

const ONE_TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')";

#[tokio::test]
async fn an_unknown_setting_is_named_with_the_one_that_was_meant() {
    let mut scene = Scene::new(ONE_TABLE, &["public.t"]).await;
    scene.file.set("snapshot", json!({ "chunk_row_max": 7 }));
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&["snapshot.chunk_row_max", "chunk_rows_max", "line "]);
    scene.file.set("snapshot", json!({}));
    scene.file.set_source("pasword", json!("x"));
    scene
        .fails()
        .await
        .with_code(2)
        .telling(&["source.settings.pasword", "password", "line "]);
    let slots = scene
        .database
        .text("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
        .await;
    assert_eq!(slots, "0", "a mistake in the file touched the database");
    let mut file = Scene::at(scene.database.clone(), "SELECT 1", &["public.t"]).await;
    file.file.set("source.connector", json!("postgre"));
    file.fails()
        .await
        .with_code(2)
        .telling(&["postgre", "did you mean \"postgres\""]);
}

#[tokio::test]
async fn a_pipeline_file_that_is_not_there_is_named() {
    let ended = highwater_integration_tests::process::highwater(&["run", "/nonexistent/p.yaml"], &[]).await;
    ended.with_code(2).telling(&["/nonexistent/p.yaml", "fix:"]);
}

#[tokio::test]
async fn a_table_that_does_not_exist_is_named_and_once_made_is_captured_with_the_rest() {
    let mut scene = Scene::new(ONE_TABLE, &["public.t"]).await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    scene
        .file
        .set_source("tables.include", json!(["public.t", "public.movies"]));
    scene.database.run("INSERT INTO t VALUES (3, 'c')").await;
    scene.fails().await.with_code(2).telling(&["public.movies", "fix:"]);
    scene
        .database
        .run("CREATE TABLE movies (id int PRIMARY KEY); INSERT INTO movies VALUES (9)")
        .await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "r 2", "c 3"]);
    assert_eq!(scene.ops("movies").await, ["r 9"]);
}
