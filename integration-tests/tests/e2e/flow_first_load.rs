// SPDX-License-Identifier: Apache-2.0
//! First copies from the snapshot that the slot was made with: whole under writes, and what happens when it goes midway.

use highwater_integration_tests::database::{self, Database};
use highwater_integration_tests::process::Process;
use highwater_integration_tests::workload::{Workload, WorkloadSettings};
use highwater_testbed::{PgOptions, Postgres, wait};
use serde_json::{Value, json};

use crate::scene::{LIMIT, Scene};

const MANY: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); \
                    INSERT INTO t SELECT n, 'old' FROM generate_series(1, 6000) n; ANALYZE";
const ROWS: usize = 6_000;
const HELD: &str =
    "datname = current_database() AND application_name IN ('highwater snapshot', 'highwater first load')";

/// A pipeline that stops to copy after a few chunks.
async fn midway(scene: &mut Scene) -> Process {
    let snapshot = json!({ "first_load": "one_snapshot", "chunk_rows_max": 20, "windows_max": 1 });
    scene.file.set("snapshot", snapshot);
    let mut process = scene.run();
    scene
        .status_shows(&mut process, "a finished chunk", |status| rows_read(status) > 0)
        .await;
    throttle(scene, 0).await;
    let status = scene
        .status_shows(&mut process, "a copy that waits", |status| {
            status["snapshots"][0]["windows_open"] == 0
        })
        .await;
    assert!(rows_read(&status) < ROWS as u64 / 2, "too much was copied: {status}");
    process
}

fn rows_read(status: &Value) -> u64 {
    status["snapshots"][0]["rows_read"].as_u64().unwrap_or_default()
}

fn reports(status: &Value, code: &str) -> bool {
    let reports = status["reports"].as_array();
    reports.is_some_and(|reports| reports.iter().any(|report| report["code"] == code))
}

async fn throttle(scene: &Scene, windows_max: u32) {
    let request = json!({ "do": "throttle", "windows_max": windows_max });
    scene.file.ask(request).await.expect("an answer");
}

async fn end_sessions(scene: &Scene) {
    let ended = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {HELD}");
    assert!(scene.database.text(&ended).await.parse::<u32>().unwrap() >= 2);
}

/// Each row was read once, in whatever order.
async fn each_row_once(scene: &Scene) {
    let mut ids: Vec<usize> = scene
        .ops("t")
        .await
        .iter()
        .map(|op| op.strip_prefix("r ").expect("a read").parse().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, Vec::from_iter(1..=ROWS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_snapshot_under_writes_is_the_journal_and_is_let_go_when_it_is_read() {
    let mut scene = Scene::of_major(17, "", &["w.*"]).await;
    let settings = WorkloadSettings {
        rows: 3_000,
        truncates: true,
        ..WorkloadSettings::new(0x6c6f_6164, "w")
    };
    let mut workload = Workload::prepare(&scene.database, settings).await;
    workload.write();
    let snapshot = json!({ "first_load": "one_snapshot", "chunk_rows_max": 50, "windows_max": 4 });
    scene.file.set("snapshot", snapshot);
    let mut process = scene.run();
    scene.copied(&mut process).await;
    workload.wrote(100).await;
    workload.stop().await;
    scene.caught_up(&mut process).await;
    let held = format!("SELECT count(*) FROM pg_stat_activity WHERE {HELD}");
    assert_eq!(
        scene.database.text(&held).await,
        "0",
        "the snapshot is held for nothing"
    );
    process.terminate().await.with_code(0);
    scene.equals_the_journal(&workload).await;
}

#[tokio::test]
async fn a_snapshot_lost_midway_is_told_and_the_rest_is_read_between_marks() {
    let mut scene = Scene::new(MANY, &["public.t"]).await;
    let mut process = midway(&mut scene).await;
    end_sessions(&scene).await;
    throttle(&scene, 4).await;
    scene
        .status_shows(&mut process, "a report", |status| reports(status, "copy_by_windows"))
        .await;
    scene.finish(&mut process).await;
    let said = process.err();
    assert!(said.contains("the snapshot of the slot is gone"), "{said}");
    each_row_once(&scene).await;
}

#[tokio::test]
async fn after_kill_9_midway_the_rest_is_read_between_marks_and_no_finished_chunk_again() {
    let mut scene = Scene::of_major(15, MANY, &["public.t"]).await;
    let mut process = midway(&mut scene).await;
    // What was read is committed: nothing follows it.
    scene
        .status_shows(&mut process, "a commit of all that was read", |status| {
            status["events"].as_u64() == Some(rows_read(status))
        })
        .await;
    scene.acknowledged(&mut process).await;
    process.kill9();
    let mut process = scene.run();
    scene.finish(&mut process).await;
    each_row_once(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_new_state_is_in_the_log_but_not_yet_visible_never_leaves_stale() {
    for is_lost in [false, true] {
        // A standby that never comes; only who asks for it waits.
        let options = PgOptions::major(17)
            .with("synchronous_standby_names", "nobody")
            .with("synchronous_commit", "local");
        let server = Postgres::start(options).await.unwrap();
        never_stale(&server, is_lost).await;
    }
}

async fn never_stale(server: &Postgres, is_lost: bool) {
    let mut scene = Scene::at(Database::on(server), MANY, &["public.t"]).await;
    let mut process = midway(&mut scene).await;
    let waiting = scene.database.connect().await;
    let cancel = waiting.cancel_token();
    let commit = tokio::spawn(async move {
        let update = "SET synchronous_commit = on; UPDATE t SET v = 'new' WHERE id = 5900";
        waiting.batch_execute(update).await
    });
    let sync = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let client = scene.database.connect().await;
    wait::until(LIMIT, "a commit that waits for its standby", || async {
        Ok((database::text(&client, sync).await == "1").then_some(()))
    })
    .await
    .unwrap();
    scene.database.acknowledged(scene.file.name(), LIMIT).await;
    assert_eq!(scene.database.text("SELECT v FROM t WHERE id = 5900").await, "old");
    if is_lost {
        end_sessions(&scene).await;
    }
    throttle(&scene, 4).await;
    let (what, code) = match is_lost {
        true => ("a report of a view behind the log", "view_behind_log"),
        false => ("the end of the copy", ""),
    };
    // Between marks the chunk is read again for as long as the commit is invisible; the snapshot never shows it.
    scene
        .status_shows(&mut process, what, |status| match is_lost {
            true => reports(status, code),
            false => crate::scene::has_copied(status) && rows_read(status) == ROWS as u64,
        })
        .await;
    cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    commit.await.unwrap().unwrap();
    scene.finish(&mut process).await;
    let values: Vec<_> = scene
        .read("public", "t")
        .await
        .iter()
        .filter(|(_, event)| event.key == Some(json!({ "id": 5900 })))
        .map(|(_, event)| event.after().unwrap()["v"].clone())
        .collect();
    assert_eq!(values.first(), Some(&json!("new")));
    assert!(
        values.iter().all(|value| value == "new"),
        "a stale row left: {values:?}"
    );
    assert!(!is_lost || process.err().contains("copy_by_windows"));
}
