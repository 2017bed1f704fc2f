// SPDX-License-Identifier: Apache-2.0
//! Transactions that are sent before they commit, in pieces or prepared, while processes die and disks fill up.

use highwater_integration_tests::database::Database;
use highwater_integration_tests::workload::{Workload, WorkloadSettings};
use highwater_testbed::{PgOptions, Postgres, wait};
use serde_json::json;

use crate::bad_days::SmallDisk;
use crate::scene::{LIMIT, Scene, has_copied, small_load};

/// A scene whose server sends in pieces what is larger than 64 kB, and that holds little of it in memory.
async fn in_pieces(mut scene: Scene) -> Scene {
    let name = &scene.database.name;
    let sql = format!("ALTER DATABASE \"{name}\" SET logical_decoding_work_mem = '64kB'");
    scene.database.run(&sql).await;
    scene.file.set_source("spill", json!({ "memory_bytes_max": 65_536 }));
    scene
}

/// How many pieces the server has sent to the slot, as far as it says so.
async fn pieces(scene: &Scene) -> u64 {
    let slot = scene.file.name();
    let sql = format!("SELECT stream_count FROM pg_stat_replication_slots WHERE slot_name = '{slot}'");
    scene.database.text(&sql).await.parse().unwrap_or_default()
}

async fn more_pieces_than(scene: &Scene, before: u64) {
    wait::until(LIMIT, "pieces of a transaction", || async {
        Ok((pieces(scene).await > before).then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_in_pieces_comes_once_and_in_order_through_kills_before_and_after_its_commit() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    let mut scene = in_pieces(Scene::new(sql, &["public.t"]).await).await;
    scene.file.set("checkpoint.every_events", json!(20_000));
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    let writer = scene.database.connect().await;
    let insert =
        |from: u32, to: u32| format!("INSERT INTO t SELECT n, repeat('v', 60) FROM generate_series({from}, {to}) n");
    writer.batch_execute("BEGIN").await.unwrap();
    writer.batch_execute(&insert(1, 100_000)).await.unwrap();
    more_pieces_than(&scene, 0).await;
    process.kill9();
    let known = pieces(&scene).await;
    let mut process = scene.run();
    let undone = format!("SAVEPOINT s; {}; ROLLBACK TO s", insert(400_001, 410_000));
    writer.batch_execute(&undone).await.unwrap();
    writer.batch_execute(&insert(100_001, 300_000)).await.unwrap();
    // A small one commits first, and is not held up by the large one.
    scene.database.run("INSERT INTO t VALUES (0, 'small')").await;
    more_pieces_than(&scene, known).await;
    process.kill9();
    writer.batch_execute("COMMIT").await.unwrap();
    for nth in [2, 3] {
        let mut process = scene
            .file
            .run_with(&[("HIGHWATER_CRASH_AT", &format!("inside_split_transaction:{nth}"))]);
        assert!(process.was_killed(LIMIT).await, "not reached:\n{}", process.err_tail());
    }
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    let peak_kb = peak_kb(process.pid());
    scene.finish(&mut process).await;
    assert!(peak_kb < 128_000, "{peak_kb} kB were resident");
    let expected: Vec<String> = (0..=300_000).map(|id| format!("c {id}")).collect();
    assert!(scene.ops("t").await == expected, "not once and in order");
}

/// The most memory that a process ever held.
fn peak_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_whose_transactions_come_in_pieces_leave_the_journal_through_kills() {
    let scene = in_pieces(Scene::of_major(15, "", &["w.*"]).await).await;
    let settings = WorkloadSettings {
        large_per_mille: 60,
        large_rows_max: 1_500,
        ..small_load(41)
    };
    let mut workload = Workload::prepare(&scene.database, settings).await;
    workload.write();
    for _ in 0..3 {
        let before = pieces(&scene).await;
        let mut process = scene.run();
        scene
            .status_shows(&mut process, "a pipeline that has copied its tables", has_copied)
            .await;
        more_pieces_than(&scene, before).await;
        process.kill9();
    }
    let mut process = scene.run();
    workload.wrote(300).await;
    workload.stop().await;
    workload.verify_tables().await;
    scene.finish(&mut process).await;
    scene.equals_the_journal(&workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_transaction_survives_the_death_of_both_sides_between_prepare_and_commit() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    let mut scene = in_pieces(Scene::at(Database::on(&server), sql, &["public.t"]).await).await;
    let name = scene.file.name().to_owned();
    scene
        .file
        .set_source("slot", json!({ "name": name, "two_phase": true }));
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    let prepare = |gid: &str, sql: &str| format!("BEGIN; {sql}; PREPARE TRANSACTION '{gid}'");
    let run = async |sql: &str| scene.database.run(sql).await;
    run(&prepare("small", "INSERT INTO t VALUES (1, 'prepared')")).await;
    let large = "INSERT INTO t SELECT n, repeat('v', 100) FROM generate_series(1001, 4000) n";
    run(&prepare("large", large)).await;
    run(&prepare("gone", "INSERT INTO t VALUES (2, 'rolled back')")).await;
    run("INSERT INTO t VALUES (3, 'other')").await;
    durable(&scene).await;
    process.kill9();
    run("INSERT INTO t VALUES (4, 'other')").await;
    let mut process = scene.run();
    durable(&scene).await;
    let slot = scene.file.name();
    let behind = format!(
        "SELECT confirmed_flush_lsn < pg_current_wal_insert_lsn() FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    assert_eq!(
        scene.database.text(&behind).await,
        "t",
        "acknowledged past a prepare record"
    );
    server.kill9().await.unwrap();
    server.restart().await.unwrap();
    run("COMMIT PREPARED 'large'").await;
    durable(&scene).await;
    process.kill9();
    run("ROLLBACK PREPARED 'gone'").await;
    run("COMMIT PREPARED 'small'").await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    let large = (1_001..=4_000).map(|id| format!("c {id}"));
    let expected: Vec<String> = ["c 3".to_owned(), "c 4".to_owned()]
        .into_iter()
        .chain(large)
        .chain(["c 1".to_owned()])
        .collect();
    assert!(
        scene.ops("t").await == expected,
        "not once, in the order of the decisions"
    );
}

/// Waits until everything that is committed now is durable in the transport. The slot does not say so while a prepared
/// transaction is undecided.
async fn durable(scene: &Scene) {
    let now = scene.database.text("SELECT pg_current_wal_insert_lsn()").await;
    wait::until(LIMIT, &format!("a checkpoint at {now}"), || async {
        let status = scene.file.status().await.unwrap_or_default();
        let Some(position) = status["acknowledged_position"].as_str() else {
            return Ok(None);
        };
        let sql = format!("SELECT '{position}'::pg_lsn >= '{now}'");
        Ok((scene.database.text(&sql).await == "t").then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spill_disk_ends_the_run_by_name_and_with_room_nothing_is_missing() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    let mut scene = in_pieces(Scene::new(sql, &["public.t"]).await).await;
    let Some(disk) = SmallDisk::mount(1) else {
        highwater_testbed::skip::counted("a full spill disk", &"no small file system can be mounted");
        return;
    };
    let path = disk.path().display().to_string();
    let spill = json!({ "memory_bytes_max": 65_536, "directory": path });
    scene.file.set_source("spill", spill);
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    scene
        .database
        .run("INSERT INTO t SELECT n, repeat('v', 100) FROM generate_series(1, 20000) n")
        .await;
    let ended = process.ended(LIMIT).await.with_code(2);
    ended.telling(&[&path, "space", "spill.directory", "fix:"]);
    scene.fails().await.with_code(2).telling(&[&path, "fix:"]);
    disk.resize(100);
    let mut process = scene.run();
    scene.finish(&mut process).await;
    let expected: Vec<String> = (1..=20_000).map(|id| format!("c {id}")).collect();
    assert!(scene.ops("t").await == expected, "not once and in order");
}
