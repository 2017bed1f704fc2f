// SPDX-License-Identifier: Apache-2.0
//! Tables without a key: copied by blocks while they change and while the pipeline dies.

use std::collections::BTreeMap;

use highwater_formats::DecodedEvent;
use serde_json::{Value, json};

use crate::scene::Scene;

const ROWS: i64 = 20_000;

/// How many rows of each content a consumer has that takes one equal row away for each row before.
fn state_of(events: &[DecodedEvent]) -> BTreeMap<String, i64> {
    let mut state = BTreeMap::new();
    for event in events {
        if let Some(before) = event.before() {
            let left = state.entry(before.to_string()).or_insert(0_i64);
            *left = (*left - 1).max(0);
        }
        if let Some(after) = event.after() {
            *state.entry(after.to_string()).or_insert(0) += 1;
        }
    }
    state.retain(|_, count| *count > 0);
    state
}

/// Changes rows whose id is odd, round by round, until told to stop.
async fn changes(scene: &Scene, rounds: std::ops::Range<i64>) {
    for round in rounds {
        let id = ((round * 7_919) % ROWS) | 1;
        let sql = format!(
            "UPDATE loose SET v = 'round {round}' WHERE id IN ({id}, {}); DELETE FROM loose WHERE id BETWEEN {} AND {} AND id % 2 = 1; \
             INSERT INTO loose VALUES ({}, 'new')",
            ROWS + 2 * round - 1,
            id + 100,
            id + 140,
            ROWS + 2 * round + 1
        );
        scene.database.run(&sql).await;
    }
}

#[tokio::test]
async fn a_table_without_a_key_is_copied_while_it_changes_and_the_pipeline_dies() {
    let sql = format!(
        "CREATE TABLE loose (id int, v text); ALTER TABLE loose REPLICA IDENTITY FULL; \
         INSERT INTO loose SELECT i, repeat('x', 100) FROM generate_series(1, {ROWS}) i; ANALYZE loose"
    );
    let mut scene = Scene::new(&sql, &["public.loose"]).await;
    scene.file.set("snapshot.chunk_rows_max", json!(64));
    scene.file.set("snapshot.windows_max", json!(1));
    let mut process = scene.run();
    // What is written before the copy has begun for good may come twice.
    scene
        .status_shows(&mut process, "a copy that has begun", |status| {
            status["tables"]["public.loose"]["rows_read"].as_i64() > Some(0)
        })
        .await;
    scene.acknowledged(&mut process).await;
    let mut round = 0;
    for _ in 0..2 {
        changes(&scene, round..round + 15).await;
        round += 15;
        process.kill9();
        process = scene.run();
        changes(&scene, round..round + 5).await;
        round += 5;
        scene.acknowledged(&mut process).await;
    }
    {
        let copied = scene.copied(&mut process);
        tokio::pin!(copied);
        let ended = changes(&scene, round..i64::from(i32::MAX));
        tokio::select! {
            () = copied => {}
            () = ended => {}
        }
    }
    scene.finish(&mut process).await;

    let events: Vec<DecodedEvent> = scene
        .read("public", "loose")
        .await
        .into_iter()
        .map(|(_, event)| event)
        .collect();
    assert!(events.iter().all(|event| event.key.is_none() && !event.is_tombstone()));
    let mut reads = BTreeMap::new();
    for event in events.iter().filter(|event| event.op() == Some("r")) {
        let id = event.after().and_then(|row| row["id"].as_i64()).unwrap_or_default();
        *reads.entry(id).or_insert(0) += 1;
    }
    for id in (2..=ROWS).step_by(2) {
        assert_eq!(reads.get(&id), Some(&1), "row {id} did not change");
    }
    assert!(reads.values().all(|count| *count == 1), "no row was read twice");
    let text = "SELECT coalesce(json_agg(json_build_object('id', id, 'v', v)), '[]')::text FROM loose";
    let rows: Vec<Value> = serde_json::from_str(&scene.database.text(text).await).unwrap();
    let mut table = BTreeMap::new();
    for row in &rows {
        *table.entry(row.to_string()).or_insert(0_i64) += 1;
    }
    let state = state_of(&events);
    let differ: Vec<_> = state
        .iter()
        .filter(|(row, count)| table.get(*row) != Some(count))
        .chain(table.iter().filter(|(row, count)| state.get(*row) != Some(count)))
        .take(5)
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
}
