// SPDX-License-Identifier: Apache-2.0
//! Two copies of a pipeline: one leads, the other waits; a former leader that wakes up writes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_integration_tests::process::Process;
use highwater_integration_tests::read_back::{Isolation, kafka_records};
use highwater_integration_tests::workload::Workload;
use highwater_testbed::wait;
use serde_json::{Value, json};

use crate::scene::{LIMIT, Scene, copies, has_copied, runs, small_load};

/// Every record in the topics' partitions, aborted ones too.
fn uncommitted(scene: &Scene, workload: &Workload, brokers: &str) -> Vec<(String, u32, u64)> {
    let records = kafka_records(brokers, &scene.workload_topics(workload), Isolation::Uncommitted);
    let mut places: Vec<_> = records
        .iter()
        .map(|record| (record.topic.to_string(), record.partition, record.offset))
        .collect();
    places.sort_unstable();
    places
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_wakes_up_after_its_successor_took_over_writes_nothing() {
    let mut scene = Scene::kafka(17, "", &["w.*"]).await;
    // A stopped consumer keeps its slot until the server gives it up.
    let name = scene.database.name.clone();
    scene
        .database
        .run(&format!("ALTER DATABASE {name} SET wal_sender_timeout = '2s'"))
        .await;
    scene.file.set("checkpoint.every_events", json!(200));
    let mut workload = Workload::prepare(&scene.database, small_load(21)).await;
    workload.write();
    // It stops by itself with a transaction in its hands: sent, its commit the next thing to do.
    let mut zombie = scene.file.run_with(&[("HIGHWATER_STOP_AT", "before_commit:40")]);
    zombie.is_stopped(LIMIT).await;
    let twin = scene.file.twin();
    let mut successor = twin.run();
    workload.wrote(300).await;
    workload.stop().await;
    scene.database.acknowledged(scene.file.name(), LIMIT).await;
    assert!(successor.is_running(), "{}", successor.err_tail());
    assert!(
        twin.status().await.is_some(),
        "the successor does not lead:\n{}",
        successor.err_tail()
    );

    let brokers = highwater_testbed::Kafka::shared().await.unwrap().bootstrap();
    let before = uncommitted(&scene, &workload, &brokers);
    zombie.signal(libc::SIGCONT);
    gives_way(&mut zombie).await;
    assert!(uncommitted(&scene, &workload, &brokers) == before, "the zombie wrote");
    scene.equals_the_journal(&workload).await;
    // And it does not come in the way of its successor later.
    scene.database.run("UPDATE w.ticks SET value = 0 WHERE id = -1").await;
    scene.database.acknowledged(scene.file.name(), LIMIT).await;
    zombie.kill9();
    successor.terminate().await.with_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_of_the_embedded_transport_keeps_its_lock_and_robbed_of_it_writes_nothing() {
    let mut scene = Scene::new("", &["w.*"]).await;
    let name = scene.database.name.clone();
    scene
        .database
        .run(&format!("ALTER DATABASE {name} SET wal_sender_timeout = '2s'"))
        .await;
    scene.file.set("checkpoint.every_events", json!(200));
    let mut workload = Workload::prepare(&scene.database, small_load(23)).await;
    workload.write();
    // It stops by itself with a transaction in its hands: appended, its commit the next thing to do.
    let mut zombie = scene.file.run_with(&[("HIGHWATER_STOP_AT", "before_commit:40")]);
    zombie.is_stopped(LIMIT).await;
    let store = scene.file.store();
    let mut twin = scene.file.twin();
    twin.set("transport.embedded.path", json!(store.display().to_string()));
    let mut successor = twin.run();
    successor.tells("waiting to lead", LIMIT).await;
    // The system keeps the locks of a stopped process: nobody takes over from it, however long it is stopped.
    scene.database.slot_is_free(scene.file.name(), LIMIT).await;
    workload.wrote(300).await;
    assert!(
        twin.status().await.is_none(),
        "the successor leads beside the stopped leader"
    );

    // Somebody who has lost patience takes the locks away: files with the same content that nobody has locked.
    for lock in ["leader.lock", "LOCK", "schemas/schemas.log"] {
        let (locked, copy) = (store.join(lock), store.join("copy"));
        std::fs::copy(&locked, &copy).unwrap();
        std::fs::rename(copy, locked).unwrap();
    }
    successor.kill9();
    let mut successor = twin.run();
    scene.acknowledged(&mut successor).await;
    // The successor rests: what changes from here on is the zombie's doing.
    successor.signal(libc::SIGSTOP);
    successor.is_stopped(LIMIT).await;
    let before = content(&store);
    zombie.signal(libc::SIGCONT);
    gives_way(&mut zombie).await;
    let after = content(&store);
    let wrote: Vec<&PathBuf> = after
        .keys()
        .chain(before.keys())
        .filter(|file| after.get(*file) != before.get(*file))
        .collect();
    assert!(wrote.is_empty(), "the zombie wrote {wrote:?}");
    successor.signal(libc::SIGCONT);
    workload.wrote(100).await;
    workload.stop().await;
    scene.acknowledged(&mut successor).await;
    zombie.kill9();
    successor.terminate().await.with_code(0);
    scene.equals_the_journal(&workload).await;
}

/// The files of a store, with their content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

/// Waits until a former leader knows that it was replaced: it ends with exit code 75, or it stands by and says so.
async fn gives_way(zombie: &mut Process) {
    wait::until(LIMIT, "the zombie's resignation", || {
        let given_way = !zombie.is_running() || zombie.err().contains("another copy leads now; standing by");
        async move { Ok(given_way.then_some(())) }
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", zombie.err_tail()));
    if !zombie.is_running() {
        let ended = zombie.ended(LIMIT).await.with_code(75);
        assert!(ended.err.contains("another"), "{}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_from_a_killed_leader_in_kafka() {
    let scene = Scene::kafka(15, "", &["w.*"]).await;
    take_over(scene, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_from_a_killed_leader_in_the_embedded_transport() {
    let scene = Scene::new("", &["w.*"]).await;
    let store = scene.file.store().display().to_string();
    take_over(scene, Some(store)).await;
}

async fn take_over(scene: Scene, shared_store: Option<String>) {
    let mut workload = Workload::prepare(&scene.database, small_load(22)).await;
    workload.write();
    let mut twin = scene.file.twin();
    if let Some(store) = shared_store {
        twin.set("transport.embedded.path", json!(store));
    }
    let mut leader = scene.run();
    scene.copied(&mut leader).await;
    let mut standby = twin.run();
    standby.tells("waiting to lead", LIMIT).await;
    workload.wrote(300).await;
    assert!(twin.status().await.is_none(), "both copies lead");
    leader.kill9();
    wait::until(LIMIT, "the standby to lead", || async { Ok(twin.status().await) })
        .await
        .unwrap();
    workload.wrote(300).await;
    // The killed one comes back and is now the one that waits.
    let mut late = scene.run();
    late.tells("waiting to lead", LIMIT).await;
    workload.stop().await;
    scene.database.acknowledged(scene.file.name(), LIMIT).await;
    // What the killed one had copied and not committed is copied again.
    let is_whole = |status: &Value| has_copied(status) && copies(status).all(|copy| !runs(copy));
    wait::until(LIMIT, "the end of the copies", || async {
        Ok(twin.status().await.filter(is_whole))
    })
    .await
    .unwrap();
    assert!(scene.file.status().await.is_none(), "the late copy leads too");
    late.terminate().await.with_code(0);
    let ended = tokio::time::timeout(Duration::from_secs(30), standby.terminate())
        .await
        .unwrap();
    ended.with_code(0);
    scene.equals_the_journal(&workload).await;
}
