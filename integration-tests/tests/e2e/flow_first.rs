// SPDX-License-Identifier: Apache-2.0
//! The main job: a Postgres under writes, captured whole, on each major and into each transport.

use std::time::{Duration, Instant};

use highwater_integration_tests::journal_check::Extent;
use highwater_integration_tests::workload::Workload;
use highwater_testbed::{Postgres, skip};
use serde_json::json;

use crate::scene::{LIMIT, Scene, reads_sorted, small_load};

async fn captures_the_whole_history(scene: Scene, truncates: bool) {
    let mut settings = small_load(41);
    settings.truncates = truncates;
    let mut workload = Workload::prepare(&scene.database, settings).await;
    workload.write();
    let mut process = scene.run();
    scene.copied(&mut process).await;
    workload.wrote(1_500).await;
    workload.stop().await;
    workload.verify_tables().await;
    scene.finish(&mut process).await;
    let verdict = scene.compared(&workload, Extent::Whole).await;
    verdict.assert_right();
    assert!(
        verdict.log_events > 1_000 && verdict.reads > 1_000 && verdict.partial > 0,
        "{verdict:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_15_flows_into_the_embedded_transport() {
    captures_the_whole_history(Scene::of_major(15, "", &["w.*"]).await, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_17_flows_into_the_embedded_transport() {
    captures_the_whole_history(Scene::of_major(17, "", &["w.*"]).await, true).await;
}

/// The other majors, one after the other: what differs between them lies in the connector, so a load that is small does.
async fn smoke(major: u16) {
    if let Err(error) = Postgres::shared(major).await {
        return skip::counted(&format!("the main job on postgres {major}"), &error);
    }
    let scene = Scene::of_major(major, "", &["w.*"]).await;
    let mut settings = small_load(43 + u64::from(major));
    settings.rows = 150;
    let mut workload = Workload::prepare(&scene.database, settings).await;
    workload.write();
    let mut process = scene.run();
    scene.copied(&mut process).await;
    workload.wrote(300).await;
    workload.stop().await;
    workload.verify_tables().await;
    scene.finish(&mut process).await;
    let verdict = scene.compared(&workload, Extent::Whole).await;
    verdict.assert_right();
    assert!(verdict.log_events > 200 && verdict.reads > 300, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_13_flows_into_the_embedded_transport() {
    smoke(13).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_14_flows_into_the_embedded_transport() {
    smoke(14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_16_flows_into_the_embedded_transport() {
    smoke(16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_18_flows_into_the_embedded_transport() {
    smoke(18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_19_flows_into_the_embedded_transport() {
    smoke(19).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_15_flows_into_kafka() {
    captures_the_whole_history(Scene::kafka(15, "", &["w.*"]).await, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_17_flows_into_kafka_with_many_partitions() {
    let mut scene = Scene::kafka(17, "", &["w.*"]).await;
    scene.file.set("topics.partitions", json!(4));
    captures_the_whole_history(scene, false).await;
}

#[tokio::test]
async fn an_idle_database_is_copied_at_once_for_its_windows_close_without_a_write() {
    let sql =
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 2000) n";
    let mut scene = Scene::new(sql, &["public.t"]).await;
    // The server's own messages while idle come too seldom to help.
    scene.file.set_source("heartbeat", json!({ "interval_ms": 20_000 }));
    scene
        .file
        .set("snapshot", json!({ "chunk_rows_max": 100, "windows_max": 1 }));
    let mut process = scene.run();
    scene
        .status_shows(&mut process, "a running pipeline", |status| {
            status["state"] == "running"
        })
        .await;
    let begun = Instant::now();
    scene.copied(&mut process).await;
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(100),
        "20 chunks of an idle table took {took:?}"
    );
    process.terminate().await.with_code(0);
    assert_eq!(scene.ops("t").await.len(), 2_000);
}

#[tokio::test]
async fn sigterm_commits_what_was_captured_and_the_next_run_repeats_nothing() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";
    let mut scene = Scene::new(sql, &["public.t"]).await;
    // Nothing is committed but at the end.
    let seldom = json!({ "every_ms": 600_000, "every_events": 1_000_000, "idle_ms": 600_000 });
    scene.file.set("checkpoint", seldom);
    let mut expected = vec!["r 1".to_owned()];
    for round in 0..4 {
        let mut process = scene.run();
        scene.copied(&mut process).await;
        let from = 10 + round * 100;
        let rows = format!("INSERT INTO t SELECT n, 'x' FROM generate_series({from}, {from} + 99) n");
        scene.database.run(&rows).await;
        let copied = u64::from(round == 0);
        scene
            .status_shows(&mut process, "the rows, captured", |status| {
                status["tables"]["public.t"]["events"].as_u64() == Some(100 + copied)
            })
            .await;
        let ended = process.terminate().await.with_code(0);
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
        expected.extend((from..from + 100).map(|id| format!("c {id}")));
        assert_eq!(reads_sorted(scene.ops("t").await), expected, "after round {round}");
    }
    let slot = scene.file.name();
    scene.database.slot_is_free(slot, LIMIT).await;
}

#[tokio::test]
async fn tables_that_the_file_names_later_are_captured_without_a_restart() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); \
               CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1), (2)";
    let mut scene = Scene::new(sql, &["public.t"]).await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    scene.database.run("INSERT INTO later VALUES (3)").await;
    let walsender = format!(
        "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{}'",
        scene.file.name()
    );
    let before = scene.database.text(&walsender).await;
    scene
        .file
        .set_source("tables.include", json!(["public.t", "public.later"]));
    process.signal(libc::SIGHUP);
    scene
        .status_shows(&mut process, "the copy of the new table", |status| {
            let later = &status["tables"]["public.later"];
            later["copying"] == false && later["rows_read"] == 3
        })
        .await;
    scene
        .database
        .run("INSERT INTO later VALUES (4); INSERT INTO t VALUES (2)")
        .await;
    scene.caught_up(&mut process).await;
    assert_eq!(scene.database.text(&walsender).await, before, "the log was opened anew");
    process.terminate().await.with_code(0);
    assert_eq!(reads_sorted(scene.ops("later").await), ["r 1", "r 2", "r 3", "c 4"]);
    assert_eq!(scene.ops("t").await, ["r 1", "c 2"]);
    // And they stay captured.
    let mut process = scene.run();
    scene.database.run("INSERT INTO later VALUES (5)").await;
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("later").await.last().unwrap(), "c 5");
}
