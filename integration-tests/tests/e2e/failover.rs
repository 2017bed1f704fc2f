// SPDX-License-Identifier: Apache-2.0
//! A primary that dies under writes and a standby that takes its place: the same process goes on, and what is read back at
//! the end is what was committed.

use highwater_integration_tests::database::{Database, text};
use highwater_integration_tests::workload::Workload;
use highwater_testbed::backend::Backend;
use highwater_testbed::{FaultProxy, PgOptions, Postgres, skip, wait};
use serde_json::json;

use crate::scene::{LIMIT, Scene, small_load};

/// Waits until a query of the server says `t`.
async fn until(database: &Database, question: &str) {
    let client = database.connect().await;
    wait::until(LIMIT, question, || async {
        Ok((text(&client, question).await == "t").then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_under_writes_loses_and_repeats_nothing() {
    let primary = Postgres::start(PgOptions::major(17)).await.unwrap();
    if primary.backend() != Backend::Process {
        skip::counted("a promotion", &"containers do not reach one another");
        return;
    }
    let standby = primary.standby(&[]).await.unwrap();
    let name = standby.standby_name().unwrap();
    // What is committed, and what is delivered, is on the standby.
    for setting in ["synchronous_standby_names", "synchronized_standby_slots"] {
        let sql = format!("ALTER SYSTEM SET {setting} = '{name}'");
        Database::on(&primary).run(&sql).await;
    }
    Database::on(&primary).run("SELECT pg_reload_conf()").await;
    let waits = format!("SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = '{name}'");
    until(&Database::on(&primary), &waits).await;

    // The application finds its server behind one address, the pipeline by the list of its hosts.
    let address = |server: &Postgres| format!("127.0.0.1:{}", server.port());
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
    until(&Database::on(&standby), &kept).await;
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
