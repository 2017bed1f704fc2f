// SPDX-License-Identifier: Apache-2.0
//! Servers that go away, break or fill up under load: nothing is lost, and the run goes on.

use std::time::Duration;

use highwater_integration_tests::database::Database;
use highwater_integration_tests::http;
use highwater_integration_tests::workload::Workload;
use highwater_testbed::{FaultProxy, Kafka, KafkaOptions, PgOptions, Postgres, Registry, wait};
use serde_json::json;

use crate::scene::{LIMIT, Scene, small_load};

/// How long a server stays away. Other tests run meanwhile.
const OUTAGE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_and_comes_back_under_writes_loses_nothing() {
    let server = Postgres::start(PgOptions::major(15)).await.unwrap();
    let scene = Scene::at(Database::on(&server), "", &["w.*"]).await;
    let mut workload = Workload::prepare(&scene.database, small_load(31)).await;
    workload.write();
    let mut process = scene.run();
    scene.copied(&mut process).await;
    server.kill9().await.unwrap();
    process.tells("trying again", LIMIT).await;
    server.restart().await.unwrap();
    workload.wrote(200).await;
    // Once more in an orderly way: the server waits for its consumer to have everything.
    server.restart().await.unwrap();
    workload.wrote(200).await;
    workload.stop().await;
    scene.finish(&mut process).await;
    scene.equals_the_journal(&workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupted_message_of_the_server_is_told_and_read_again() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let proxy = FaultProxy::start(&format!("127.0.0.1:{}", server.port()))
        .await
        .unwrap();
    let mut scene = Scene::at(Database::on(&server), "", &["w.*"]).await;
    scene.file.set_source("port", json!(proxy.port()));
    scene.file.set_source("tls", json!({ "mode": "disable" }));
    let mut workload = Workload::prepare(&scene.database, small_load(32)).await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    for round in 1..=3 {
        let told = process.err().matches("trying again").count();
        // The tag of a message of the log: what follows can no longer be told apart.
        proxy.corrupt_when(|block, _| {
            let message = block
                .windows(6)
                .position(|bytes| matches!(bytes, [b'd', 0, 0, _, _, b'w']))?;
            Some(message + 5)
        });
        workload.write();
        wait::until(LIMIT, "another try", || {
            let again = process.err().matches("trying again").count() > told;
            async move { Ok(again.then_some(())) }
        })
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", process.err_tail()));
        assert_eq!(proxy.corrupted(), round);
        workload.wrote(50).await;
        workload.pause().await;
        scene.caught_up(&mut process).await;
    }
    assert!(
        process.err().contains("message"),
        "the corruption is not told:\n{}",
        process.err_tail()
    );
    workload.stop().await;
    scene.finish(&mut process).await;
    scene.equals_the_journal(&workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_stalls_and_breaks_loses_nothing() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let proxy = FaultProxy::start(&format!("127.0.0.1:{}", server.port()))
        .await
        .unwrap();
    let mut scene = Scene::at(Database::on(&server), "", &["w.*"]).await;
    scene.file.set_source("port", json!(proxy.port()));
    scene
        .file
        .set_source("heartbeat", json!({ "interval_ms": 200, "silence_max_ms": 1_500 }));
    scene.file.set("snapshot", json!({ "chunk_rows_max": 100 }));
    server
        .connect()
        .await
        .unwrap()
        .batch_execute("ALTER SYSTEM SET wal_sender_timeout = '2s'")
        .await
        .unwrap();
    server
        .connect()
        .await
        .unwrap()
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    let mut workload = Workload::prepare(&scene.database, small_load(33)).await;
    workload.write();
    let mut process = scene.run();
    for _ in 0..4 {
        workload.wrote(100).await;
        proxy.cut();
    }
    scene.copied(&mut process).await;
    let tried = process.err().matches("trying again").count();
    proxy.stall();
    wait::until(LIMIT, "the stalled connection to be given up", || {
        let again = process.err().matches("trying again").count() > tried;
        async move { Ok(again.then_some(())) }
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", process.err_tail()));
    proxy.heal();
    proxy.cut();
    workload.wrote(100).await;
    workload.stop().await;
    scene.finish(&mut process).await;
    scene.equals_the_journal(&workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_for_a_minute_is_waited_for() {
    let server = Postgres::shared(17).await.unwrap();
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let registry = Registry::shared().await.unwrap();
    let database = Database::of(&server);
    let scene = Scene::kafka_at(database, "", &["w.*"], &kafka.bootstrap(), &registry.url()).await;
    let mut workload = Workload::prepare(&scene.database, small_load(34)).await;
    workload.write();
    let mut process = scene.run();
    scene.copied(&mut process).await;
    kafka.kill9().await.unwrap();
    tokio::time::sleep(OUTAGE).await;
    assert!(process.is_running(), "it gave up:\n{}", process.err_tail());
    kafka.restart().await.unwrap();
    workload.wrote(100).await;
    workload.stop().await;
    scene.finish(&mut process).await;
    scene.equals_the_journal(&workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_down_for_a_minute_holds_a_new_schema_back_until_it_is_there() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";
    let server = Postgres::shared(17).await.unwrap();
    let kafka = Kafka::shared().await.unwrap();
    let registry = Registry::start().await.unwrap();
    let scene = Scene::kafka_at(
        Database::of(&server),
        sql,
        &["public.t"],
        &kafka.bootstrap(),
        &registry.url(),
    )
    .await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    registry.kill9().await.unwrap();
    let back_at = tokio::time::Instant::now() + OUTAGE;
    scene.database.run("INSERT INTO t VALUES (2, 'b')").await;
    scene.database.acknowledged(scene.file.name(), LIMIT).await;
    scene
        .database
        .run("ALTER TABLE t ADD COLUMN w int; INSERT INTO t VALUES (3, 'c', 7)")
        .await;
    process.tells("trying again", LIMIT).await;
    assert!(
        process.err().contains(&registry.port().to_string()),
        "the registry is not named:\n{}",
        process.err_tail()
    );
    tokio::time::sleep_until(back_at).await;
    assert!(process.is_running(), "it gave up:\n{}", process.err_tail());
    registry.restart().await.unwrap();
    scene.finish(&mut process).await;
    assert_eq!(scene.ops("t").await, ["r 1", "c 2", "c 3"]);
    let events = scene.read("public", "t").await;
    assert_eq!(events[2].1.after().unwrap()["w"], 7);
}

#[tokio::test]
async fn a_registry_that_refuses_a_schema_is_named_with_its_subject_and_once_allowed_the_run_goes_on() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)";
    let server = Postgres::shared(17).await.unwrap();
    let kafka = Kafka::shared().await.unwrap();
    // Its own, for its rule is changed.
    let registry = Registry::start().await.unwrap();
    let scene = Scene::kafka_at(
        Database::of(&server),
        sql,
        &["public.t"],
        &kafka.bootstrap(),
        &registry.url(),
    )
    .await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    let change = "INSERT INTO t VALUES (2, 2); ALTER TABLE t ALTER v TYPE text; INSERT INTO t VALUES (3, 'three')";
    scene.database.run(change).await;
    let subject = format!("{}-value", scene.file.topic("public", "t"));
    process.ended(LIMIT).await.with_code(2).telling(&[&subject, "fix:"]);
    scene.fails().await.with_code(2).telling(&[&subject, "fix:"]);
    let rule = r#"{"compatibility":"NONE"}"#;
    http::request(registry.port(), "PUT", "/apis/ccompat/v7/config", rule).await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    let values: Vec<_> = scene
        .read("public", "t")
        .await
        .iter()
        .map(|(_, event)| event.after().unwrap()["v"].clone())
        .collect();
    assert_eq!(values, [json!(1), json!(2), json!("three")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_embedded_transport_by_name_and_with_room_the_run_goes_on() {
    let mut scene = Scene::new("", &["w.*"]).await;
    let Some(disk) = SmallDisk::mount(3) else {
        highwater_testbed::skip::counted(
            "a full disk under the embedded transport",
            &"no small file system can be mounted",
        );
        return;
    };
    let store = disk.path().join("store");
    scene
        .file
        .set("transport.embedded.path", json!(store.display().to_string()));
    scene.destination = highwater_integration_tests::read_back::Destination::Embedded { store };
    let mut workload = Workload::prepare(&scene.database, small_load(35)).await;
    workload.write();
    let ended = scene.fails().await.with_code(2);
    let path = disk.path().display().to_string();
    ended.telling(&[&path, "space", "fix:"]);
    scene.fails().await.with_code(2).telling(&[&path, "fix:"]);
    disk.resize(400);
    let mut process = scene.run();
    workload.wrote(100).await;
    workload.stop().await;
    scene.finish(&mut process).await;
    scene.equals_the_journal(&workload).await;
}

/// A file system in memory, unmounted when dropped.
pub(crate) struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    pub(crate) fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = mount(&[
            "-t",
            "tmpfs",
            "-o",
            &format!("size={megabytes}m"),
            "none",
            &folder.path().display().to_string(),
        ]);
        mounted.then_some(SmallDisk { folder })
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn resize(&self, megabytes: u32) {
        let path = self.folder.path().display().to_string();
        assert!(
            mount(&["-o", &format!("remount,size={megabytes}m"), &path]),
            "the disk does not grow"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}

fn mount(arguments: &[&str]) -> bool {
    std::process::Command::new("mount")
        .args(arguments)
        .status()
        .is_ok_and(|status| status.success())
}
