// SPDX-License-Identifier: Apache-2.0
//! What the server keeps of its log for the slot, against the limit that it has.

use crate::fixture::{LIMIT, connector, open};
use crate::on_each_major;
use highwater_core::connector::{LogReader, Retention};
use highwater_postgres::log_reader::PgLogReader;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testbed::{PgOptions, Postgres};
use serde_json::{Value, json};

on_each_major!(what_the_slot_keeps_is_watched_against_its_limit);

fn settings_of(server: &Postgres) -> Value {
    json!({
        "host": server.host(), "port": server.port(), "user": ROLE, "password": ROLE_PASSWORD, "database": "postgres",
        "tables": {"include": ["public.*"]},
    })
}

/// Waits until what the reader knows is as wanted.
async fn known(log: &PgLogReader, wanted: impl Fn(&Retention) -> bool) -> Retention {
    tokio::time::timeout(LIMIT, async {
        loop {
            match log.retention() {
                Some(retention) if wanted(&retention) => return retention,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
    .expect("what the server keeps")
}

async fn what_the_slot_keeps_is_watched_against_its_limit(major: u16) {
    let options = PgOptions::major(major).with("max_slot_wal_keep_size", "64MB");
    let server = Postgres::start(options).await.expect("a server");
    let client = server.connect().await.unwrap();
    client
        .batch_execute("CREATE TABLE movies (id int PRIMARY KEY)")
        .await
        .unwrap();
    let log = open(&connector(settings_of(&server))).await;
    let first = known(&log, |_| true).await;
    let left = first.left_bytes.expect("a limit");
    assert!(first.kept_bytes < left, "{first:?}");
    for id in 0..3 {
        let segment = format!("INSERT INTO movies VALUES ({id}); SELECT pg_switch_wal()");
        client.batch_execute(&segment).await.unwrap();
    }
    // Nothing is acknowledged, so that three segments more are kept.
    let later = known(&log, |later| later.left.is_some() && later.kept_bytes > 32 << 20).await;
    assert!(
        later.left_bytes.expect("a limit") < later.kept_bytes,
        "{first:?} {later:?}"
    );
    let told = client
        .query_one("SELECT safe_wal_size FROM pg_replication_slots", &[])
        .await;
    let told: i64 = told.unwrap().get(0);
    let apart = later.left_bytes.unwrap().abs_diff(told.unsigned_abs());
    assert!(apart < 4 << 20, "the server says {told}: {later:?}");
}
