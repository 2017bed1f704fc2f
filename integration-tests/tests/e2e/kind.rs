// SPDX-License-Identifier: Apache-2.0
//! What the pipeline does so as not to be a burden to its source: copies wait for a busy server, and what the slot keeps is
//! told before it is lost.

use std::net::SocketAddr;

use highwater_integration_tests::database::Database;
use highwater_integration_tests::http;
use highwater_integration_tests::process::highwater;
use highwater_testbed::{PgOptions, Postgres};
use serde_json::{Value, json};

use crate::scene::{LIMIT, Scene};

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
                      CREATE TABLE busy (id int)";

/// The value of a metric without labels of its own.
async fn metric(status: &Value, name: &str) -> f64 {
    let admin: SocketAddr = status["admin"].as_str().unwrap().parse().unwrap();
    let text = http::get(admin.port(), "/metrics").await;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.and_then(|value| value.parse().ok()).expect("the metric")
}

#[tokio::test]
async fn copies_wait_while_the_server_is_past_a_limit_and_the_log_is_read_on() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let mut scene = Scene::at(Database::on(&server), TABLES, &["public.t"]).await;
    scene.file.set_source("throttle", json!({ "lock_waits_max": 0 }));
    let (holder, waiter) = (scene.database.connect().await, scene.database.connect().await);
    // Neither has a transaction id, or making the slot would wait for it.
    holder
        .batch_execute("BEGIN; LOCK TABLE busy IN SHARE MODE")
        .await
        .unwrap();
    let waits = tokio::spawn(async move { waiter.batch_execute("INSERT INTO busy VALUES (1)").await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while scene.database.text(waiting).await != "1" {
        tokio::task::yield_now().await;
    }
    let mut process = scene.run();
    let status = scene
        .status_shows(&mut process, "a copy that waits", |status| {
            status["overload"] == "sessions that wait for a lock 1 (limit 0)" && status["state"] == "running"
        })
        .await;
    scene.database.run("INSERT INTO t VALUES (3, 'c')").await;
    scene.acknowledged(&mut process).await;
    let later = scene
        .status_shows(&mut process, "the new row", |status| status["events"] == 1)
        .await;
    assert_eq!(later["tables"]["public.t"]["rows_read"], 0, "the copy did not wait");
    assert!(metric(&status, "highwater_source_overloaded").await > 0.0);
    holder.batch_execute("ROLLBACK").await.unwrap();
    waits.await.unwrap().unwrap();
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["c 3", "r 1", "r 2", "r 3"]);
    assert!(
        process.err().contains("copies wait, the log is read on"),
        "{}",
        process.err()
    );
}

#[tokio::test]
async fn a_limit_that_the_role_could_not_see_passed_is_refused_with_the_statement_that_mends_it() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let mut scene = Scene::at(Database::on(&server), TABLES, &["public.t"]).await;
    let plain = "CREATE ROLE plain LOGIN REPLICATION PASSWORD 'plain'; GRANT SELECT ON t TO plain; \
                 CREATE PUBLICATION made FOR TABLE t WITH (publish_via_partition_root = true)";
    scene.database.run(plain).await;
    scene.file.set_source("user", json!("plain"));
    scene.file.set_source("password", json!("plain"));
    scene.file.set_source("publication.name", json!("made"));
    scene.file.set_source("throttle", json!({ "active_sessions_max": 50 }));
    let grant = "GRANT pg_read_all_stats TO \"plain\"";
    scene.fails().await.with_code(2).telling(&["throttle", grant, "fix:"]);
    let path = scene.file.path().display().to_string();
    let check = highwater(&["check", &path], &[]).await;
    assert!(
        check.out.contains("throttle_privilege") && check.out.contains(grant),
        "{}",
        check.out
    );
    scene.database.run(grant).await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "r 2"]);
}

#[tokio::test]
async fn a_slot_that_fills_its_share_of_the_log_is_told_of_in_metrics_and_in_a_warning() {
    let options = PgOptions::major(17).with("max_slot_wal_keep_size", "64MB");
    let server = Postgres::start(options).await.unwrap();
    let scene = Scene::at(Database::on(&server), TABLES, &["public.t"]).await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    // A transaction that does not end keeps the log from where it began.
    let open = scene.database.connect().await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (10, 'open')")
        .await
        .unwrap();
    for id in 11..15 {
        let segment = format!("INSERT INTO t VALUES ({id}, 's'); SELECT pg_switch_wal()");
        scene.database.run(&segment).await;
    }
    process.tells("may keep for the replication slot is used", LIMIT).await;
    let status = scene
        .status_shows(&mut process, "its address", |status| !status["admin"].is_null())
        .await;
    // The warning is a moment ahead of the metrics.
    while metric(&status, "highwater_source_kept_bytes").await < f64::from(32 << 20) {
        assert!(process.is_running(), "{}", process.err_tail());
    }
    assert!(metric(&status, "highwater_source_left_hours").await.is_finite());
    open.batch_execute("COMMIT").await.unwrap();
    // The slot lets go of the log as it passes what a checkpoint writes about open transactions, and that twice.
    for id in 20..23 {
        scene.database.run(&format!("INSERT INTO t VALUES ({id}, 'n')")).await;
        scene.database.run("CHECKPOINT").await;
        scene.acknowledged(&mut process).await;
    }
    process.tells("has room again", LIMIT).await;
    scene.finish(&mut process).await;
}
