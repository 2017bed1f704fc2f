// SPDX-License-Identifier: Apache-2.0
//! Tables that are added to a pipeline while transactions write to them.

use highwater_integration_tests::process::highwater;
use serde_json::json;

use crate::scene::{LIMIT, Scene};

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE late (id int PRIMARY KEY)";

#[tokio::test]
async fn rows_of_a_transaction_that_was_open_when_their_table_was_added_are_not_lost() {
    let mut scene = Scene::new(TABLES, &["public.t"]).await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    let open = scene.database.connect().await;
    open.batch_execute("BEGIN; INSERT INTO late VALUES (1)").await.unwrap();
    scene
        .file
        .set_source("tables.include", json!(["public.t", "public.late"]));
    let path = scene.file.path().display().to_string();
    highwater(&["reload", "--file", &path], &[]).await.with_code(0);
    process.tells("so its copy waits for their end", LIMIT).await;
    // What is written from here on is in the log, that of the same transaction too.
    open.batch_execute("INSERT INTO late VALUES (2); COMMIT").await.unwrap();
    scene.finish(&mut process).await;
    let ops = scene.ops("late").await;
    // A read whose window the second row's change lies in leaves that row to the log.
    assert!(
        ops.contains(&"r 1".to_owned()) && ops.contains(&"c 2".to_owned()),
        "{ops:?}"
    );
}

#[tokio::test]
async fn a_table_that_is_added_by_a_restart_waits_for_open_transactions_too() {
    let mut scene = Scene::new(TABLES, &["public.t"]).await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    process.terminate().await.with_code(0);
    let open = scene.database.connect().await;
    open.batch_execute("BEGIN; INSERT INTO late VALUES (1)").await.unwrap();
    scene
        .file
        .set_source("tables.include", json!(["public.t", "public.late"]));
    let mut process = scene.run();
    process.tells("so its copy waits for their end", LIMIT).await;
    // The table was published already when the next run begins, and the transaction is as old as it was.
    process.terminate().await.with_code(0);
    let mut process = scene.run();
    process.tells("so its copy waits for their end", LIMIT).await;
    open.batch_execute("COMMIT").await.unwrap();
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("late").await, ["r 1"]);
}
