// SPDX-License-Identifier: Apache-2.0
//! What single rows look like on their way: filters, wide values, identities, truncations, keys that change.

use serde_json::{Value, json};

use crate::scene::{Scene, reads_sorted};

const WIDE: &str = "repeat('0123456789abcdef', 1000)";

#[tokio::test]
async fn row_filters_and_column_lists_hold_for_the_copy_as_for_the_log() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, shown text, hidden text, region int); \
               INSERT INTO t VALUES (1, 'a', 'secret', 1), (2, 'b', 'secret', 2)";
    let mut scene = Scene::new(sql, &["public.t"]).await;
    let name = scene.file.name().to_owned();
    // A filter of updates and deletes reads the row before, which is the key unless the identity is full.
    let publication = format!(
        "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER region SET NOT NULL; \
         CREATE UNIQUE INDEX by_both ON t (id, region); ALTER TABLE t REPLICA IDENTITY USING INDEX by_both; \
         CREATE PUBLICATION {name} FOR TABLE t (id, shown, region) WHERE (region = 1)"
    );
    scene.database.run(&publication).await;
    scene.file.set_source("publication.create", json!(false));
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene
        .database
        .run("INSERT INTO t VALUES (3, 'c', 'secret', 1), (4, 'd', 'secret', 2)")
        .await;
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "c 3"]);
    for (_, event) in scene.read("public", "t").await {
        let columns: Vec<&String> = event.after().unwrap().as_object().unwrap().keys().collect();
        assert_eq!(columns, ["id", "shown", "region"]);
    }
}

#[tokio::test]
async fn an_update_that_leaves_a_wide_value_alone_says_so_instead_of_null() {
    let sql = format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int, wide text); ALTER TABLE t ALTER wide SET STORAGE EXTERNAL; \
         INSERT INTO t VALUES (1, 1, {WIDE})"
    );
    let scene = Scene::new(&sql, &["public.t"]).await;
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene.database.run("UPDATE t SET n = 2").await;
    scene.database.run("UPDATE t SET n = 3, wide = 'short'").await;
    scene.finish(&mut process).await;
    let events = scene.read("public", "t").await;
    let ops: Vec<_> = events.iter().map(|(_, event)| event.op().unwrap()).collect();
    assert_eq!(ops, ["r", "u", "u"]);
    assert_eq!(events[1].1.unchanged, ["wide"]);
    let placeholder = json!({ "id": 1, "n": 2, "wide": "__debezium_unavailable_value" });
    assert_eq!(events[1].1.after(), Some(&placeholder));
    assert!(events[2].1.unchanged.is_empty());
    assert_eq!(events[2].1.after(), Some(&json!({ "id": 1, "n": 3, "wide": "short" })));
}

#[tokio::test]
async fn a_row_with_a_wide_value_moves_to_another_key_whole() {
    let sql = format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int, wide text); ALTER TABLE t ALTER wide SET STORAGE EXTERNAL; \
         INSERT INTO t VALUES (1, 1, {WIDE})"
    );
    let scene = Scene::new(&sql, &["public.t"]).await;
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene.database.run("UPDATE t SET id = 2").await;
    scene.finish(&mut process).await;
    let ops = scene.ops("t").await;
    assert_eq!(ops[..4], ["r 1", "d 1", "- 1", "c 2"]);
    let events = scene.read("public", "t").await;
    let last = &events.last().unwrap().1;
    assert!(last.unchanged.is_empty(), "{ops:?}");
    assert_eq!(last.after().unwrap()["wide"], "0123456789abcdef".repeat(1000));
    assert_eq!(last.after().unwrap()["id"], 2);
}

#[tokio::test]
async fn a_full_identity_gives_the_whole_row_before_and_a_default_one_its_key() {
    let sql = "CREATE TABLE plain (id int PRIMARY KEY, v text); \
               CREATE TABLE whole (id int PRIMARY KEY, v text); ALTER TABLE whole REPLICA IDENTITY FULL; \
               INSERT INTO plain VALUES (1, 'a'); INSERT INTO whole VALUES (1, 'a')";
    let scene = Scene::new(sql, &["public.*"]).await;
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene
        .database
        .run("UPDATE plain SET v = 'b'; DELETE FROM plain; UPDATE whole SET v = 'b'; DELETE FROM whole")
        .await;
    scene.finish(&mut process).await;
    let before = async |table: &str| -> Vec<(String, Option<Value>)> {
        let events = scene.read("public", table).await;
        let events = events.iter().filter(|(_, event)| !event.is_tombstone());
        events
            .map(|(_, event)| (event.op().unwrap().to_owned(), event.before().cloned()))
            .collect()
    };
    let op = str::to_owned;
    let whole = |v: &str| Some(json!({ "id": 1, "v": v }));
    assert_eq!(
        before("whole").await,
        [(op("r"), None), (op("u"), whole("a")), (op("d"), whole("b"))]
    );
    let key = Some(json!({ "id": 1, "v": null }));
    assert_eq!(
        before("plain").await,
        [(op("r"), None), (op("u"), None), (op("d"), key)]
    );
    assert_eq!(scene.ops("whole").await, ["r 1", "u 1", "d 1", "- 1"]);
}

#[tokio::test]
async fn a_truncation_is_an_event_of_its_table_at_its_place() {
    let sql = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); \
               INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1)";
    let scene = Scene::new(sql, &["public.*"]).await;
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene
        .database
        .run("INSERT INTO a VALUES (3); TRUNCATE a; INSERT INTO a VALUES (1); BEGIN; TRUNCATE a, b; COMMIT")
        .await;
    scene.finish(&mut process).await;
    assert_eq!(
        reads_sorted(scene.ops("a").await),
        ["r 1", "r 2", "c 3", "t", "c 1", "t"]
    );
    assert_eq!(scene.ops("b").await, ["r 1", "t"]);
}

#[tokio::test]
async fn a_changed_key_is_a_delete_with_its_tombstone_and_a_create_that_name_each_other() {
    let sql = "CREATE TABLE t (a int, b text, v text, PRIMARY KEY (b, a)); INSERT INTO t VALUES (1, 'x', 'v')";
    let scene = Scene::new(sql, &["public.t"]).await;
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene
        .database
        .run("UPDATE t SET a = 2; DELETE FROM t; INSERT INTO t VALUES (2, 'x', 'again')")
        .await;
    scene.finish(&mut process).await;
    let events = scene.read("public", "t").await;
    let shown: Vec<_> = events
        .iter()
        .map(|(_, event)| (event.op().unwrap_or("-"), event.key.clone().unwrap()["a"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("r", json!(1)),
            ("d", json!(1)),
            ("-", json!(1)),
            ("c", json!(2)),
            ("d", json!(2)),
            ("-", json!(2)),
            ("c", json!(2))
        ]
    );
    let header = |at: usize, name: &str| {
        let headers = &events[at].0.headers;
        headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(header(1, "__debezium.newkey"), events[3].0.key);
    assert_eq!(header(3, "__debezium.oldkey"), events[1].0.key);
    assert_eq!(header(4, "__debezium.newkey"), None);
}
