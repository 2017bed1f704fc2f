// SPDX-License-Identifier: Apache-2.0
//! A primary that dies under writes and a standby that takes its place: the same process goes on, and what is read back at
//! the end is what was committed.

use highwater_integration_tests::database::{Database, text};
use highwater_integration_tests::journal_check::Extent;
use highwater_integration_tests::table::Table;
use highwater_integration_tests::workload::Workload;
use highwater_testbed::backend::Backend;
use highwater_testbed::{FaultProxy, PgOptions, Postgres, skip, wait};
use serde_json::json;

use crate::scene::{LIMIT, Scene, small_load};

fn address(server: &Postgres) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// A server of the test's own and a standby of it, unless they would run in containers.
async fn pair() -> Option<(Postgres, Postgres)> {
    let primary = Postgres::start(PgOptions::major(17)).await.unwrap();
    if primary.backend() != Backend::Process {
        skip::counted("a standby", &"containers do not reach one another");
        return None;
    }
    let standby = primary.standby(&[]).await.unwrap();
    Some((primary, standby))
}

/// Has the primary wait for the standby: what it commits, and what it delivers, is there.
async fn wait_for(primary: &Postgres, standby: &Postgres, settings: &[&str]) {
    let (database, name) = (Database::on(primary), standby.standby_name().unwrap());
    for setting in settings {
        database.run(&format!("ALTER SYSTEM SET {setting} = '{name}'")).await;
    }
    database.run("SELECT pg_reload_conf()").await;
    let waits = format!("SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = '{name}'");
    database.until(&waits, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_under_writes_loses_and_repeats_nothing() {
    let Some((primary, standby)) = pair().await else { return };
    wait_for(
        &primary,
        &standby,
        &["synchronous_standby_names", "synchronized_standby_slots"],
    )
    .await;
    // The application finds its server behind one address, the pipeline by the list of its hosts.
    let front = FaultProxy::start(&address(&primary)).await.unwrap();
    let database = Database {
        port: front.port(),
        ..Database::on(&primary)
    };
    let mut scene = Scene::at(database, "SELECT 1", &["w.*"]).await;
    scene.file.set_source("host", json!(""));
    scene
        .file
        .set_source("hosts", json!([address(&primary), address(&standby)]));
    scene.file.set_source("slot.failover", json!(true));
    let mut workload = Workload::prepare(&scene.database, small_load(0x000f_a110)).await;
    let mut process = scene.run();
    workload.write();
    scene.copied(&mut process).await;
    let slot = scene.file.name();
    let kept = format!(
        "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = '{slot}' AND synced AND NOT temporary"
    );
    Database::on(&standby).until(&kept, LIMIT).await;
    workload.wrote(300).await;

    primary.kill9().await.unwrap();
    process.tells("trying again", LIMIT).await;
    standby.promote().await.unwrap();
    front.set_upstream(&address(&standby)).unwrap();
    workload.wrote(300).await;
    workload.stop().await;
    workload.verify_tables().await;
    scene.finish(&mut process).await;
    scene.equals_the_journal(&workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_copied_and_read_under_writes_and_through_its_promotion() {
    let Some((primary, standby)) = pair().await else { return };
    wait_for(&primary, &standby, &["synchronous_standby_names"]).await;
    let front = FaultProxy::start(&address(&primary)).await.unwrap();
    let application = Database {
        port: front.port(),
        ..Database::on(&primary)
    };
    let mut scene = Scene::at(Database::on(&standby), "SELECT 1", &["w.*"]).await;
    scene.file.set_source("standby", json!(true));
    // Many windows, so that many marks have to find their place.
    scene
        .file
        .set("snapshot", json!({ "chunk_rows_max": 40, "windows_max": 3 }));
    let mut workload = Workload::prepare(&application, small_load(0x57a2_dbee)).await;
    let tables: Vec<String> = Table::ALL.iter().map(|table| format!("w.{}", table.name())).collect();
    let name = scene.file.name();
    application
        .run(&format!("CREATE PUBLICATION {name} FOR TABLE {}", tables.join(", ")))
        .await;
    let made = format!(
        "SELECT count(*) = {} FROM pg_publication_tables WHERE pubname = '{name}'",
        tables.len()
    );
    scene.database.until(&made, LIMIT).await;
    workload.write();
    let mut process = scene.run();
    // A slot on a standby begins where the primary tells which transactions run; by itself it does so every 15 s.
    let slot = format!("SELECT count(confirmed_flush_lsn) = 1 FROM pg_replication_slots WHERE slot_name = '{name}'");
    let follower = scene.database.connect().await;
    wait::until(LIMIT, &slot, || async {
        application.run("SELECT pg_log_standby_snapshot()").await;
        Ok((text(&follower, &slot).await == "t").then_some(()))
    })
    .await
    .unwrap();
    scene.copied(&mut process).await;
    workload.wrote(300).await;

    primary.kill9().await.unwrap();
    standby.promote().await.unwrap();
    front.set_upstream(&address(&standby)).unwrap();
    process.tells("was promoted", LIMIT).await;
    workload.wrote(300).await;
    workload.stop().await;
    workload.verify_tables().await;
    scene.finish(&mut process).await;
    let verdict = scene.compared(&workload, Extent::Whole).await;
    verdict.assert_right();
    assert!(verdict.reads > 0, "nothing was copied");
}
