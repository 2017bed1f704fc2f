// SPDX-License-Identifier: Apache-2.0
//! A primary that is lost and a standby that takes its place.

use crate::fixture::{LIMIT, RUN, connector, lines, open, open_from, read_commits};
use highwater_core::connector::{LogReader, Severity, SourceConnector};
use highwater_core::position::ResumePoint;
use highwater_core::{Class, ErrorKind};
use highwater_postgres::PgPosition;
use highwater_testbed::backend::Backend;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testbed::{PgOptions, Postgres, skip, wait};
use serde_json::{Value, json};
use tokio_postgres::Client;

/// The standby's copy of the slot is one that stays.
const KEPT: &str =
    "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'highwater' AND synced AND NOT temporary";

/// A server of the test's own, unless it would run in a container.
pub async fn primary(major: u16) -> Option<Postgres> {
    let server = Postgres::start(PgOptions::major(major).with("autovacuum", "off")).await;
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            skip::counted(&format!("postgres {major}"), &error);
            return None;
        }
    };
    if server.backend() == Backend::Container {
        skip::counted("standbys", &"containers do not reach one another");
        return None;
    }
    Some(server)
}

fn settings(servers: &[&Postgres], failover: bool) -> Value {
    let hosts: Vec<String> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port()))
        .collect();
    json!({
        "hosts": hosts, "user": ROLE, "password": ROLE_PASSWORD, "database": "postgres",
        "tables": {"include": ["public.movies"]}, "slot": {"failover": failover}, "connect_timeout_ms": 60_000
    })
}

pub async fn sql(client: &Client, sql: &str) {
    client
        .batch_execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Waits until a query of one truth value says true.
pub async fn until(client: &Client, query: &str) {
    wait::until(LIMIT, query, || async {
        let row = client
            .query_one(query, &[])
            .await
            .unwrap_or_else(|error| panic!("{query}: {error:?}"));
        Ok(row.get::<_, Option<bool>>(0).unwrap_or_default().then_some(()))
    })
    .await
    .unwrap();
}

/// Everything that is committed on the primary is on the standby.
pub async fn in_step(primary: &Client, standby: &Client) {
    let end: String = primary
        .query_one("SELECT pg_current_wal_flush_lsn()::text", &[])
        .await
        .unwrap()
        .get(0);
    until(standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn")).await;
}

/// The point behind the last of `items`, as a checkpoint of this log would have it.
fn checkpoint(log: &impl LogReader<Position = PgPosition>, items: &[crate::fixture::Item]) -> ResumePoint<PgPosition> {
    let end = items.iter().rev().find_map(|item| match item {
        highwater_core::change::LogItem::Commit { position, .. } => Some(*position),
        _ => None,
    });
    ResumePoint {
        lineage: log.lineage(),
        ..ResumePoint::at(end.expect("a commit"))
    }
}

#[tokio::test]
async fn a_failover_slot_goes_on_where_it_was_and_a_chain_of_promotions_does_too() {
    let Some(first) = primary(17).await else { return };
    let second = first.standby(&[]).await.unwrap();
    let (client, follower) = (first.connect().await.unwrap(), second.connect().await.unwrap());
    sql(&client, "CREATE TABLE movies (id int PRIMARY KEY)").await;
    let source = connector(settings(&[&second, &first], true));
    let findings = source.preflight().await.unwrap();
    let warning = findings
        .iter()
        .find(|finding| finding.code == "synchronized_standby_slots");
    let warning = warning.expect("a warning that the standby is not waited for");
    assert_eq!(warning.severity, Severity::Warning);
    for statement in &warning.fix_sql {
        sql(&client, statement).await;
    }
    until(&client, "SELECT current_setting('synchronized_standby_slots') <> ''").await;
    assert_eq!(source.preflight().await.unwrap(), []);
    // A slot that was made without it becomes one.
    sql(
        &client,
        "SELECT pg_create_logical_replication_slot('highwater', 'pgoutput')",
    )
    .await;
    let findings = source.preflight().await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(
        (findings[0].severity, findings[0].code.as_str()),
        (Severity::Info, "slot_failover")
    );
    let mut log = open(&source).await;
    until(
        &client,
        "SELECT failover FROM pg_replication_slots WHERE slot_name = 'highwater'",
    )
    .await;
    let findings = source.preflight().await.unwrap();
    assert!(
        findings.iter().all(|finding| finding.code == "slot_active"),
        "{findings:?}"
    );
    sql(&client, "INSERT INTO movies VALUES (1)").await;
    let items = read_commits(&mut log, 1).await;
    let mut point = checkpoint(&log, &items);
    log.acknowledge(&point.position).await.unwrap();
    // The consumer has to advance for the standby's copy of the slot to become one that stays.
    point.position = advance_until(&client, &mut log, &follower, KEPT).await;
    sql(&client, "INSERT INTO movies VALUES (2)").await;
    in_step(&client, &follower).await;
    first.kill9().await.unwrap();
    second.promote().await.unwrap();
    sql(&follower, "INSERT INTO movies VALUES (3)").await;
    drop(log);
    let mut log = open_from(&source, Some(&point)).await;
    let items = read_commits(&mut log, 2).await;
    assert_eq!(lines(&items), ["Create movies -> {id=2}", "Create movies -> {id=3}"]);
    let mut second_point = checkpoint(&log, &items);
    log.acknowledge(&second_point.position).await.unwrap();

    let third = second.standby(&[]).await.unwrap();
    let last = third.connect().await.unwrap();
    second_point.position = advance_until(&follower, &mut log, &last, KEPT).await;
    in_step(&follower, &last).await;
    second.kill9().await.unwrap();
    third.promote().await.unwrap();
    sql(&last, "INSERT INTO movies VALUES (4)").await;
    drop(log);
    let source = connector(settings(&[&first, &second, &third], true));
    let mut log = open_from(&source, Some(&second_point)).await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items), ["Create movies -> {id=4}"]);
    drop(log);
    // The same position on the first timeline is one that this server never was at.
    let other = ResumePoint {
        lineage: point.lineage,
        ..second_point
    };
    let error = source.open_log(Some(&other), RUN).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::PositionLost, Class::User));
    assert!(error.to_string().contains("the server left timeline 1"), "{error}");
    assert!(error.fix().is_some());
}

/// Acknowledges what the server sends until the query says true on the standby; returns the last position.
async fn advance_until(
    primary: &Client,
    log: &mut impl LogReader<Position = PgPosition>,
    standby: &Client,
    query: &str,
) -> PgPosition {
    let mut acknowledged = *log.start();
    let advancing = async {
        loop {
            // The primary tells its standbys which transactions run, and decoding may forget what lies before.
            sql(primary, "SELECT pg_log_standby_snapshot()").await;
            let mut items = Vec::new();
            log.next(&mut items).await.unwrap();
            for item in items {
                if let highwater_core::change::LogItem::Progress(position) = item {
                    acknowledged = position;
                    log.acknowledge(&position).await.unwrap();
                }
            }
        }
    };
    tokio::select! {
        () = advancing => {}
        () = until(standby, query) => {}
    }
    acknowledged
}

#[tokio::test]
async fn a_checkpoint_of_one_promoted_standby_is_refused_by_another_that_was_promoted_besides() {
    let Some(first) = primary(17).await else { return };
    let (one, two) = (first.standby(&[]).await.unwrap(), first.standby(&[]).await.unwrap());
    let client = first.connect().await.unwrap();
    let (of_one, of_two) = (one.connect().await.unwrap(), two.connect().await.unwrap());
    sql(&client, "CREATE TABLE movies (id int PRIMARY KEY)").await;
    let mut log = open(&connector(settings(&[&first], true))).await;
    sql(&client, "INSERT INTO movies VALUES (1)").await;
    let items = read_commits(&mut log, 1).await;
    let mut point = checkpoint(&log, &items);
    log.acknowledge(&point.position).await.unwrap();
    for standby in [&of_one, &of_two] {
        point.position = point
            .position
            .max(advance_until(&client, &mut log, standby, KEPT).await);
    }
    sql(&client, "INSERT INTO movies VALUES (2)").await;
    in_step(&client, &of_one).await;
    in_step(&client, &of_two).await;
    drop(log);
    // A server that stops in order sends each standby its log to the end: both leave it at the same place.
    first.stop().await.unwrap();
    one.promote().await.unwrap();
    two.promote().await.unwrap();
    sql(&of_one, "INSERT INTO movies VALUES (3)").await;
    sql(&of_two, "INSERT INTO movies SELECT generate_series(4, 1000)").await;
    let source = connector(settings(&[&one], true));
    let mut log = open_from(&source, Some(&point)).await;
    let items = read_commits(&mut log, 2).await;
    assert_eq!(lines(&items), ["Create movies -> {id=2}", "Create movies -> {id=3}"]);
    let parted = checkpoint(&log, &items);
    drop(log);
    // Both bear the same number and began at the same place: their births alone tell them apart.
    let other = connector(settings(&[&two], true));
    let error = other.open_log(Some(&parted), RUN).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::PositionLost, Class::User));
    let told = error.to_string();
    assert!(
        told.contains("another timeline 2") && told.contains("promoted at the same place"),
        "{told}"
    );
    let slot = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'highwater'";
    until(&of_two, slot).await;
    // Also after a restart, when only what the log holds tells them apart.
    one.restart().await.unwrap();
    let mut log = open_from(&source, Some(&parted)).await;
    let client = one.connect().await.unwrap();
    sql(&client, "INSERT INTO movies VALUES (5)").await;
    assert_eq!(lines(&read_commits(&mut log, 1).await), ["Create movies -> {id=5}"]);
}

#[tokio::test]
async fn an_asynchronous_standby_that_is_promoted_without_what_was_delivered_is_refused_and_nothing_is_lost() {
    let Some(first) = primary(17).await else { return };
    let second = first.standby(&[]).await.unwrap();
    let (client, follower) = (first.connect().await.unwrap(), second.connect().await.unwrap());
    sql(&client, "CREATE TABLE movies (id int PRIMARY KEY)").await;
    let source = connector(settings(&[&first, &second], true));
    let mut log = open(&source).await;
    sql(&client, "INSERT INTO movies VALUES (1)").await;
    let items = read_commits(&mut log, 1).await;
    log.acknowledge(&checkpoint(&log, &items).position).await.unwrap();
    advance_until(&client, &mut log, &follower, KEPT).await;
    in_step(&client, &follower).await;

    // From here on the standby gets nothing, and nobody waits for it.
    sql(&follower, "ALTER SYSTEM SET primary_conninfo = ''").await;
    sql(&follower, "SELECT pg_reload_conf()").await;
    let cut = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')";
    until(&follower, cut).await;
    sql(&client, "INSERT INTO movies VALUES (2)").await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items), ["Create movies -> {id=2}"]);
    let point = checkpoint(&log, &items);
    drop(log);
    first.kill9().await.unwrap();
    second.promote().await.unwrap();
    // Its log goes on past the checkpoint, with other changes.
    sql(&follower, "INSERT INTO movies SELECT generate_series(3, 1000)").await;
    let error = source.open_log(Some(&point), RUN).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::PositionLost, Class::User));
    let told = error.to_string();
    assert!(
        told.contains("the server left timeline 1 at") && told.contains("what was delivered since is not in it"),
        "{told}"
    );
    assert!(error.fix().unwrap().contains("highwater renew"), "{error:?}");

    // The first comes back, and is the server that the checkpoint is of: as the fix says, it is named.
    first.restart().await.unwrap();
    let mut log = open_from(&connector(settings(&[&first], true)), Some(&point)).await;
    let client = first.connect().await.unwrap();
    sql(&client, "INSERT INTO movies VALUES (7)").await;
    assert_eq!(lines(&read_commits(&mut log, 1).await), ["Create movies -> {id=7}"]);
}
