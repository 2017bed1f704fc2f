// SPDX-License-Identifier: Apache-2.0
//! A thousand tables in one slot.

use std::collections::BTreeMap;

use crate::scene::{Scene, short};

const TABLES: usize = 1_000;

#[tokio::test]
async fn a_thousand_tables_are_copied_and_captured_through_one_slot() {
    let each = |statement: &str| {
        format!(
            "DO $$ BEGIN FOR i IN 1..{TABLES} LOOP EXECUTE format('{statement}', i); \
             IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$"
        )
    };
    let scene = Scene::new("SELECT 1", &["public.*"]).await;
    scene
        .database
        .run(&each(
            "CREATE TABLE t_%1$s (id int PRIMARY KEY, v text); INSERT INTO t_%1$s VALUES (1, ''a''), (2, ''b'')",
        ))
        .await;
    let mut process = scene.run();
    scene.copied(&mut process).await;
    scene
        .database
        .run(&each("UPDATE t_%1$s SET v = ''c'' WHERE id = 2"))
        .await;
    scene.finish(&mut process).await;
    let topics: Vec<String> = (1..=TABLES)
        .map(|table| scene.file.topic("public", &format!("t_{table}")))
        .collect();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (record, event) in scene.destination.decoded(&topics).await {
        found.entry(record.topic.to_string()).or_default().push(short(&event));
    }
    assert_eq!(found.len(), TABLES);
    for (topic, events) in found {
        assert_eq!(events, ["r 1", "r 2", "u 2"], "{topic}");
    }
}
