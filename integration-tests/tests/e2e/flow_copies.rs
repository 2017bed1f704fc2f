// SPDX-License-Identifier: Apache-2.0
//! Copies on demand by the command line: repairs of keys, ranges and conditions; pause, resume, cancel, throttle.

use highwater_integration_tests::process::{Ended, highwater};
use serde_json::{Value, json};

use crate::scene::{Scene, has_copied};

const MANY: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 3000) n; ANALYZE";

/// `highwater` with arguments, about the scene's pipeline.
async fn command(scene: &Scene, arguments: &[&str]) -> Ended {
    let path = scene.file.path().display().to_string();
    highwater(&[arguments, &["--file", &path]].concat(), &[]).await
}

#[tokio::test]
async fn rows_are_copied_again_by_key_range_and_condition() {
    let mut scene = Scene::new(MANY, &["public.t"]).await;
    scene.file.set("snapshot.mode", json!("never"));
    let mut process = scene.run();
    scene
        .status_shows(&mut process, "a running pipeline", |status| {
            status["state"] == "running"
        })
        .await;
    for arguments in [
        &[
            "snapshot", "start", "public.t", "--key", "7", "--key", "2999", "--key", "5000",
        ][..],
        &["snapshot", "start", "public.t", "--after", "99", "--through", "102"],
        &["snapshot", "start", "public.t", "--where", "id % 1000 = 0"],
    ] {
        command(&scene, arguments).await.with_code(0);
        scene.caught_up(&mut process).await;
    }
    let listed = command(&scene, &["snapshot", "list", "--json"]).await.with_code(0);
    let emitted: Vec<Value> = listed
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["rows_emitted"].clone())
        .collect();
    assert_eq!(
        emitted.iter().filter_map(Value::as_u64).sum::<u64>(),
        8,
        "{}",
        listed.out
    );
    let certificates = command(&scene, &["snapshot", "certificates", "--json"])
        .await
        .with_code(0);
    let rows: u64 = certificates
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["rows_emitted"]
                .as_u64()
                .unwrap()
        })
        .sum();
    assert_eq!(rows, 8, "{}", certificates.out);
    command(&scene, &["snapshot", "start", "public.missing"])
        .await
        .with_code(2)
        .telling(&["public.missing", "fix:"]);
    command(&scene, &["snapshot", "start", "public.t", "--where", "no such syntax"]).await;
    assert!(
        process.is_running(),
        "a wrong condition ended the pipeline:\n{}",
        process.err_tail()
    );
    scene.finish(&mut process).await;
    let mut ids: Vec<i64> = scene
        .ops("t")
        .await
        .iter()
        .map(|op| op.strip_prefix("r ").unwrap().parse().unwrap())
        .collect();
    ids[..2].sort();
    ids[2..5].sort();
    ids[5..].sort();
    assert_eq!(ids, [7, 2999, 100, 101, 102, 1000, 2000, 3000]);
}

/// The copy that is neither a repair nor done.
fn running(status: &Value) -> Option<&Value> {
    let copies = status["snapshots"].as_array()?;
    copies
        .iter()
        .find(|copy| copy["snapshot"] != 0 && matches!(copy["state"].as_str(), Some("running" | "paused")))
}

#[tokio::test]
async fn a_copy_pauses_resumes_and_is_cancelled_while_the_log_flows() {
    let mut scene = Scene::new(MANY, &["public.t"]).await;
    scene.file.set(
        "snapshot",
        json!({ "mode": "never", "chunk_rows_max": 10, "windows_max": 1 }),
    );
    let mut process = scene.run();
    scene
        .status_shows(&mut process, "a running pipeline", |status| {
            status["state"] == "running"
        })
        .await;
    // Held back before it begins, so that it cannot be done before it is paused.
    command(&scene, &["snapshot", "throttle", "0"]).await.with_code(0);
    command(&scene, &["snapshot", "start", "public.t"]).await.with_code(0);
    let status = scene
        .status_shows(&mut process, "a copy", |status| running(status).is_some())
        .await;
    let number = running(&status).unwrap()["snapshot"].to_string();
    command(&scene, &["snapshot", "pause", &number]).await.with_code(0);
    command(&scene, &["snapshot", "throttle", "1"]).await.with_code(0);
    scene.database.run("INSERT INTO t VALUES (10001, 'log')").await;
    scene
        .database
        .acknowledged(scene.file.name(), crate::scene::LIMIT)
        .await;
    let status = scene.status_shows(&mut process, "a paused copy", |status| {
        running(status).is_some_and(|copy| copy["state"] == "paused")
    });
    assert_eq!(running(&status.await).unwrap()["rows_read"], 0, "a paused copy reads");
    command(&scene, &["snapshot", "resume", &number]).await.with_code(0);
    scene
        .status_shows(&mut process, "rows of the copy", |status| {
            running(status).is_some_and(|copy| copy["rows_read"].as_u64() > Some(50))
        })
        .await;
    command(&scene, &["snapshot", "cancel", &number]).await.with_code(0);
    scene
        .status_shows(&mut process, "the end of the copy", has_copied)
        .await;
    scene.database.run("INSERT INTO t VALUES (10002, 'log')").await;
    scene.finish(&mut process).await;
    let ops = scene.ops("t").await;
    let reads = ops.iter().filter(|op| op.starts_with("r ")).count();
    assert!((50..3_000).contains(&reads), "{reads} rows of a cancelled copy");
    assert!(ops.contains(&"c 10001".to_owned()) && ops.contains(&"c 10002".to_owned()));
    // A cancelled copy does not come back.
    let mut process = scene.run();
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ops);
}

#[tokio::test]
async fn events_and_topics_are_to_be_seen_while_the_pipeline_runs_and_afterwards() {
    let scene = Scene::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')",
        &["public.t"],
    )
    .await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    let topic = scene.file.topic("public", "t");
    for stopped in [false, true] {
        if stopped {
            scene.finish(&mut process).await;
        }
        let tail = command(&scene, &["tail", &topic, "--from-beginning", "--until-end", "--json"])
            .await
            .with_code(0);
        let event: Value = serde_json::from_str(tail.out.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&event["value"]["op"], &event["value"]["after"]["v"]),
            (&json!("r"), &json!("a")),
            "{event:#}"
        );
        let topics = command(&scene, &["topics"]).await.with_code(0);
        assert!(topics.out.contains(&topic), "{}", topics.out);
    }
    command(&scene, &["tail", "no.such.topic"])
        .await
        .with_code(2)
        .telling(&["no.such.topic", "fix:"]);
    command(&scene, &["status"])
        .await
        .with_code(75)
        .telling(&["no running pipeline", "fix:"]);
}
