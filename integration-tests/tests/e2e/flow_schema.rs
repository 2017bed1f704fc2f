// SPDX-License-Identifier: Apache-2.0
//! Schema changes reach the topic at their own position: each row in the shape that it was written in.

use serde_json::{Value, json};

use crate::scene::Scene;

/// The rows that were inserted with low ids, and the names of their columns. Reads are left out: a copy that still runs
/// has each row in the shape of its own moment.
async fn shapes(scene: &Scene) -> Vec<(Value, Vec<String>)> {
    let events = scene.read("public", "t").await;
    let rows = events
        .iter()
        .filter(|(_, event)| event.op() == Some("c"))
        .filter_map(|(_, event)| event.after());
    let rows = rows.filter(|row| row["id"].as_i64().is_some_and(|id| id < 1_000));
    rows.map(|row| (row["id"].clone(), row.as_object().unwrap().keys().cloned().collect()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_come_go_change_their_name_and_type_at_their_position_under_writes() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, v text); INSERT INTO t VALUES (1, 1, 'a'); \
               INSERT INTO t SELECT n FROM generate_series(1001, 1400) n";
    let mut scene = Scene::new(sql, &["public.t"]).await;
    scene.file.set("snapshot", json!({ "chunk_rows_max": 50 }));
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let database = scene.database.clone();
    let noise = tokio::spawn(async move {
        let client = database.connect().await;
        let mut changes = 0_u64;
        while !*stopped.borrow_and_update() {
            let id = 1001 + changes % 400;
            client
                .batch_execute(&format!("UPDATE t SET n = n + 1 WHERE id = {id}"))
                .await
                .unwrap();
            changes += 1;
        }
        changes
    });
    let mut process = scene.run();
    scene
        .status_shows(&mut process, "a running pipeline", |status| {
            status["state"] == "running"
        })
        .await;
    for change in [
        "INSERT INTO t VALUES (2, 1, 'b')",
        "BEGIN; INSERT INTO t VALUES (3, 1, 'c'); ALTER TABLE t ADD COLUMN added int; INSERT INTO t VALUES (4, 1, 'd', 4); COMMIT",
        "BEGIN; ALTER TABLE t DROP COLUMN v; INSERT INTO t VALUES (5, 1, 5); COMMIT",
        "BEGIN; ALTER TABLE t RENAME added TO named; INSERT INTO t VALUES (6, 1, 6); COMMIT",
        "BEGIN; ALTER TABLE t ALTER n TYPE bigint; INSERT INTO t VALUES (7, 5000000000, 7); COMMIT",
        "BEGIN; ALTER TABLE t ADD COLUMN with_default text NOT NULL DEFAULT 'd'; INSERT INTO t VALUES (8, 1, 8); COMMIT",
    ] {
        scene.database.run(change).await;
        scene
            .database
            .acknowledged(scene.file.name(), crate::scene::LIMIT)
            .await;
    }
    stop.send_replace(true);
    let changes = noise.await.unwrap();
    scene.finish(&mut process).await;
    let expected: [(i64, &[&str]); 7] = [
        (2, &["id", "n", "v"]),
        (3, &["id", "n", "v"]),
        (4, &["id", "n", "v", "added"]),
        (5, &["id", "n", "added"]),
        (6, &["id", "n", "named"]),
        (7, &["id", "n", "named"]),
        (8, &["id", "n", "named", "with_default"]),
    ];
    let found = shapes(&scene).await;
    let expected: Vec<(Value, Vec<String>)> = expected
        .iter()
        .map(|(id, columns)| (json!(id), columns.iter().map(|name| (*name).to_owned()).collect()))
        .collect();
    assert_eq!(found, expected);
    the_noise_is_whole(&scene, changes).await;
}

/// Each row of the noise counts up by one with each event of the log, and ends where the table is.
async fn the_noise_is_whole(scene: &Scene, changes: u64) {
    let mut counts = std::collections::BTreeMap::new();
    let mut updates = 0;
    for (_, event) in scene.read("public", "t").await {
        let Some(row) = event.after().filter(|row| row["id"].as_i64() > Some(1_000)) else {
            continue;
        };
        let (id, n) = (row["id"].as_i64().unwrap(), row["n"].as_i64().unwrap());
        let before = counts.insert(id, n);
        match event.op() {
            Some("u") => {
                updates += 1;
                assert!(
                    before.is_none_or(|before| n == before + 1),
                    "row {id} went from {before:?} to {n}"
                );
            }
            _ => assert!(
                before.is_none_or(|before| n == before),
                "a read of row {id} goes from {before:?} to {n}"
            ),
        }
    }
    assert!(updates <= changes);
    let sum: i64 = counts.values().sum();
    let found = scene
        .database
        .text("SELECT count(*) || ' ' || sum(n) FROM t WHERE id > 1000")
        .await;
    assert_eq!(found, format!("{} {sum}", counts.len()));
}

#[tokio::test]
async fn a_table_that_is_dropped_and_made_again_under_its_name_is_captured_on() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";
    let mut scene = Scene::new(sql, &["public.*"]).await;
    scene.file.set_source("publication.create", json!(false));
    let name = scene.file.name();
    scene
        .database
        .run(&format!("CREATE PUBLICATION {name} FOR ALL TABLES"))
        .await;
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene
        .database
        .run("INSERT INTO t VALUES (2, 'b'); DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text, w int)")
        .await;
    scene.database.run("INSERT INTO t VALUES (3, 'c', 1)").await;
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "c 2", "c 3"]);
}
