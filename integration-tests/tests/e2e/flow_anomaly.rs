// SPDX-License-Identifier: Apache-2.0
//! Commit order is not visibility order: a commit that waits for a standby is in the log long before a SELECT sees it.
//! The textbook's window then closes over a chunk that still has the old row, and emits that row last.

use highwater_integration_tests::database::Database;
use highwater_testbed::{PgOptions, Postgres, wait};
use serde_json::json;

use crate::scene::{LIMIT, Scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_new_state_is_in_the_log_but_not_yet_visible_never_leaves_stale() {
    for major in [15, 17] {
        // A standby that never comes; only who asks for it waits.
        let options = PgOptions::major(major)
            .with("synchronous_standby_names", "nobody")
            .with("synchronous_commit", "local");
        let server = Postgres::start(options).await.unwrap();
        never_stale(&server).await;
    }
}

async fn never_stale(server: &Postgres) {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old'), (2, 'other')";
    let mut scene = Scene::at(Database::on(server), sql, &["public.t"]).await;
    scene.file.set("snapshot.mode", json!("never"));
    let mut process = scene.run();
    scene
        .status_shows(&mut process, "a running pipeline", |status| {
            status["state"] == "running"
        })
        .await;

    let waiting = scene.database.connect().await;
    let cancel = waiting.cancel_token();
    let commit = tokio::spawn(async move {
        waiting
            .batch_execute("SET synchronous_commit = on; UPDATE t SET v = 'new' WHERE id = 1")
            .await
    });
    let sync = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let client = scene.database.connect().await;
    wait::until(LIMIT, "a commit that waits for its standby", || async {
        Ok((highwater_integration_tests::database::text(&client, sync).await == "1").then_some(()))
    })
    .await
    .unwrap();
    // Forwarded, and yet invisible.
    scene.database.acknowledged(scene.file.name(), LIMIT).await;
    assert_eq!(
        scene.database.text("SELECT v FROM t WHERE id = 1").await,
        "old",
        "the anomaly is not there"
    );

    scene
        .file
        .ask(json!({ "do": "snapshot", "requests": [{ "table": "public.t" }] }))
        .await
        .unwrap();
    // Its read is thrown away for as long as the commit is invisible; a restart must not forget why.
    scene
        .status_shows(&mut process, "a report of a view behind the log", |status| {
            let reports = status["reports"].as_array();
            reports.is_some_and(|reports| reports.iter().any(|report| report["code"] == "view_behind_log"))
        })
        .await;
    process.kill9();
    let mut process = scene.run();
    scene
        .status_shows(&mut process, "a running pipeline", |status| {
            status["state"] == "running"
        })
        .await;
    scene.database.acknowledged(scene.file.name(), LIMIT).await;
    assert_eq!(scene.database.text("SELECT v FROM t WHERE id = 1").await, "old");
    cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    commit.await.unwrap().unwrap();
    scene.finish(&mut process).await;

    let values: Vec<_> = scene
        .read("public", "t")
        .await
        .iter()
        .filter(|(_, event)| event.key == Some(json!({ "id": 1 })))
        .map(|(_, event)| (event.op().unwrap().to_owned(), event.after().unwrap()["v"].clone()))
        .collect();
    assert_eq!(values.first(), Some(&("u".to_owned(), json!("new"))));
    assert!(
        values.iter().all(|(_, value)| value == "new"),
        "a stale row left: {values:?}"
    );
    let ops = scene.ops("t").await;
    assert!(
        ops.contains(&"r 2".to_owned()),
        "the copy ended without the other row: {ops:?}"
    );
}
