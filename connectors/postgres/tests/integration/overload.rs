// SPDX-License-Identifier: Apache-2.0
//! What the server is doing, against the limits of the settings.

use crate::fixture::{LIMIT, connector, open};
use crate::on_each_major;
use highwater_core::connector::LogReader;
use highwater_postgres::log_reader::PgLogReader;
use highwater_testbed::backend::Backend;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testbed::{PgOptions, Postgres, skip};
use serde_json::json;
use std::time::Duration;

on_each_major!(a_busy_server_and_a_late_standby_are_seen);

/// Waits until the reason is as wanted.
async fn shows(log: &PgLogReader, what: &str, wanted: impl Fn(Option<&str>) -> bool) {
    tokio::time::timeout(LIMIT, async {
        while !wanted(log.overload().as_deref()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}: {:?}", log.overload()));
}

async fn a_busy_server_and_a_late_standby_are_seen(major: u16) {
    let server = Postgres::start(PgOptions::major(major)).await.expect("a server");
    if server.backend() != Backend::Process {
        skip::counted("a standby", &"containers do not reach one another");
        return;
    }
    let standby = server.standby(&[]).await.expect("a standby");
    let (client, follower) = (server.connect().await.unwrap(), standby.connect().await.unwrap());
    client
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY)")
        .await
        .unwrap();
    let log = open(&connector(json!({
        "host": server.host(), "port": server.port(), "user": ROLE, "password": ROLE_PASSWORD, "database": "postgres",
        "tables": {"include": ["public.*"]}, "throttle": {"active_sessions_max": 0, "replica_lag_max_ms": 500},
    })))
    .await;
    shows(&log, "a server at rest", |reason| reason.is_none()).await;
    let busy = server.connect().await.unwrap();
    let cancel = busy.cancel_token();
    let works = tokio::spawn(async move { busy.batch_execute("SELECT pg_sleep(600)").await });
    shows(&log, "a session that works", |reason| {
        reason == Some("active sessions 1 (limit 0)")
    })
    .await;
    cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    works.await.unwrap().unwrap_err();
    shows(&log, "a server at rest again", |reason| reason.is_none()).await;
    follower.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    shows(&log, "a late standby", |reason| {
        reason.is_some_and(|reason| reason.starts_with("lag of a standby ") && reason.ends_with(" (limit 500 ms)"))
    })
    .await;
    follower.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    shows(&log, "a standby that is no longer late", |reason| reason.is_none()).await;
}
