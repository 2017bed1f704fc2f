// SPDX-License-Identifier: Apache-2.0
//! Two-phase commits, and where transactions come from.

use crate::fixture::{Fixture, LIMIT, changes, connector, lines, open, open_from, read_commits};
use crate::on_each_major;
use highwater_core::ErrorKind;
use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::position::ResumePoint;
use highwater_postgres::{PgPosition, PostgresConnector};
use serde_json::json;
use tokio_postgres::Client;

on_each_major!(
    since 15;
    a_prepared_transaction_is_delivered_at_its_commit_with_and_without_two_phase,
    a_restart_between_prepare_and_commit_after_other_commits_loses_and_repeats_nothing,
    a_restart_between_a_commit_prepared_and_its_checkpoint_delivers_it_again,
    a_slot_with_two_phase_is_refused_unless_it_is_wanted,
);
on_each_major!(
    origins_are_told_and_can_be_left_out,
    a_transaction_whose_origin_has_no_name_is_delivered,
);

fn two_phase(fixture: &Fixture) -> PostgresConnector {
    let mut settings = fixture.json(&["public.*"]);
    settings["slot"]["two_phase"] = json!(true);
    settings["spill"] = json!({"memory_bytes_max": 65_536});
    connector(settings)
}

async fn fixture(major: u16) -> Fixture {
    let fixture = Fixture::new(major).await;
    let database = fixture.database.name().to_owned();
    fixture
        .sql(&format!(
            "ALTER DATABASE \"{database}\" SET logical_decoding_work_mem = '64kB'"
        ))
        .await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY, v text)").await;
    fixture
}

/// Prepares a transaction under a name that is this database's own.
async fn prepare(fixture: &Fixture, name: &str, sql: &str) {
    let gid = gid(fixture, name);
    fixture.sql(&format!("BEGIN; {sql}; PREPARE TRANSACTION '{gid}'")).await;
}

fn gid(fixture: &Fixture, name: &str) -> String {
    format!("{} {name}", fixture.database.name())
}

async fn decide(fixture: &Fixture, decision: &str, name: &str) {
    fixture
        .sql(&format!("{decision} PREPARED '{}'", gid(fixture, name)))
        .await;
}

fn end(items: &[crate::fixture::Item]) -> PgPosition {
    let position = items.iter().rev().find_map(|item| match item {
        LogItem::Commit { position, .. } => Some(*position),
        _ => None,
    });
    position.expect("a commit")
}

fn rows(from: u32, to: u32) -> String {
    format!("INSERT INTO movies SELECT i, repeat('y', 100) FROM generate_series({from}, {to}) i")
}

async fn a_prepared_transaction_is_delivered_at_its_commit_with_and_without_two_phase(major: u16) {
    let fixture = fixture(major).await;
    let plain = fixture.connector(&["public.*"]);
    drop(open(&plain).await);
    prepare(&fixture, "small", "INSERT INTO movies VALUES (1, 'a')").await;
    prepare(&fixture, "large", &rows(1_001, 4_000)).await;
    prepare(&fixture, "dropped", "INSERT INTO movies VALUES (3, 'c')").await;
    fixture.sql("INSERT INTO movies VALUES (4, 'd')").await;
    decide(&fixture, "COMMIT", "large").await;
    decide(&fixture, "ROLLBACK", "dropped").await;
    decide(&fixture, "COMMIT", "small").await;
    let mut ends = Vec::new();
    let mut found = Vec::new();
    for connector in [&plain, &two_phase(&fixture)] {
        let mut log = open(connector).await;
        let items = read_commits(&mut log, 3).await;
        ends.push(end(&items));
        found.push(lines(&items));
    }
    assert_eq!(found[0].len(), 3_002);
    assert_eq!(found[0].first().unwrap(), "Create movies -> {id=4,v=d}");
    assert_eq!(found[0].last().unwrap(), "Create movies -> {id=1,v=a}");
    assert!(found[0] == found[1] && ends[0] == ends[1], "the same either way");
}

async fn a_restart_between_prepare_and_commit_after_other_commits_loses_and_repeats_nothing(major: u16) {
    let fixture = fixture(major).await;
    let connector = two_phase(&fixture);
    let mut log = open(&connector).await;
    fixture.sql("INSERT INTO movies VALUES (1, 'a')").await;
    prepare(&fixture, "small", "INSERT INTO movies VALUES (2, 'b')").await;
    prepare(&fixture, "large", &rows(1_001, 4_000)).await;
    prepare(&fixture, "dropped", "INSERT INTO movies VALUES (3, 'c')").await;
    fixture.sql("INSERT INTO movies VALUES (4, 'd')").await;
    fixture.sql("INSERT INTO movies VALUES (5, 'e')").await;
    let items = read_commits(&mut log, 3).await;
    assert_eq!(lines(&items).len(), 3);
    let checkpoint = end(&items);
    log.acknowledge(&checkpoint).await.unwrap();
    confirmed(&fixture, |flushed, _| flushed < checkpoint).await;
    drop(log);

    // Twice, for what comes again must not be taken for new the second time either.
    for _ in 0..2 {
        let log = open_from(&connector, Some(&ResumePoint::at(checkpoint))).await;
        assert_eq!(*log.start(), checkpoint);
        drop(log);
    }
    decide(&fixture, "COMMIT", "large").await;
    decide(&fixture, "ROLLBACK", "dropped").await;
    fixture.sql("INSERT INTO movies VALUES (6, 'f')").await;
    let mut log = open_from(&connector, Some(&ResumePoint::at(checkpoint))).await;
    let items = read_commits(&mut log, 2).await;
    let found = lines(&items);
    assert_eq!(found.len(), 3_001);
    assert!(found[0].starts_with("Create movies -> {id=1001,"), "{}", found[0]);
    assert_eq!(found[3_000], "Create movies -> {id=6,v=f}");
    let second = end(&items);
    log.acknowledge(&second).await.unwrap();
    decide(&fixture, "COMMIT", "small").await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items), ["Create movies -> {id=2,v=b}"]);
    let third = end(&items);
    log.acknowledge(&third).await.unwrap();
    confirmed(&fixture, |flushed, _| flushed == third).await;
}

/// Waits until the slot's position is as wanted.
async fn confirmed(fixture: &Fixture, wanted: impl Fn(PgPosition, &str) -> bool) {
    let sql = format!(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        fixture.slot()
    );
    tokio::time::timeout(LIMIT, async {
        loop {
            let text = fixture.ask(&sql).await;
            if wanted(PgPosition(text.parse().expect("a position")), &text) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the slot's position");
}

async fn a_restart_between_a_commit_prepared_and_its_checkpoint_delivers_it_again(major: u16) {
    let fixture = fixture(major).await;
    let connector = two_phase(&fixture);
    let mut log = open(&connector).await;
    prepare(&fixture, "small", "INSERT INTO movies VALUES (2, 'b')").await;
    fixture.sql("INSERT INTO movies VALUES (4, 'd')").await;
    decide(&fixture, "COMMIT", "small").await;
    let items = read_commits(&mut log, 2).await;
    let first = items
        .iter()
        .find_map(|item| match item {
            LogItem::Commit { position, .. } => Some(*position),
            _ => None,
        })
        .unwrap();
    // Delivered is the prepared one too, durable is the other alone.
    log.acknowledge(&first).await.unwrap();
    drop(log);
    let mut log = open_from(&connector, Some(&ResumePoint::at(first))).await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items), ["Create movies -> {id=2,v=b}"]);
}

async fn a_slot_with_two_phase_is_refused_unless_it_is_wanted(major: u16) {
    let fixture = fixture(major).await;
    drop(open(&two_phase(&fixture)).await);
    let error = fixture
        .connector(&["public.*"])
        .open_log(None, crate::fixture::RUN)
        .await
        .expect_err("a slot with two_phase");
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    assert!(error.fix().unwrap().contains("slot.two_phase: true"), "{error}");
}

async fn origins_are_told_and_can_be_left_out(major: u16) {
    let fixture = fixture(major).await;
    let any = fixture.connector(&["public.*"]);
    drop(open(&any).await);
    let origin = format!("origin of {}", fixture.database.name());
    let remote = fixture.database.connect().await.unwrap();
    write_of_origin(&remote, &origin, "INSERT INTO movies VALUES (1, 'theirs')").await;
    fixture.sql("INSERT INTO movies VALUES (2, 'ours')").await;
    let mut log = open(&any).await;
    let items = read_commits(&mut log, 2).await;
    drop(log);
    let changes = changes(&items);
    let told = changes[0].origin.as_ref().expect("an origin");
    assert_eq!(told.name, origin);
    assert_eq!(told.position.unwrap().to_string(), "0/AB");
    assert!(changes[1].origin.is_none());

    let mut settings = fixture.json(&["public.*"]);
    settings["origin"] = json!("none");
    let own = connector(settings);
    if major < 16 {
        let error = own
            .open_log(None, crate::fixture::RUN)
            .await
            .expect_err("too old a server");
        assert!(error.message().contains("origin: none"), "{error}");
    } else {
        let mut log = open(&own).await;
        let items = read_commits(&mut log, 1).await;
        assert_eq!(lines(&items), ["Create movies -> {id=2,v=ours}"]);
    }
    let drop_origin = format!("SELECT pg_replication_origin_drop('{origin}')");
    remote.batch_execute(&drop_origin).await.unwrap();
}

/// Writes as replication from elsewhere does.
async fn write_of_origin(remote: &Client, origin: &str, sql: &str) {
    for statements in [
        format!("SELECT pg_replication_origin_create('{origin}')"),
        format!("SELECT pg_replication_origin_session_setup('{origin}')"),
        format!("BEGIN; SELECT pg_replication_origin_xact_setup('0/AB', now()); {sql}; COMMIT"),
        "SELECT pg_replication_origin_session_reset()".to_owned(),
    ] {
        remote.batch_execute(&statements).await.unwrap();
    }
}

/// The origin is as old as the transaction, so servers before version 15 do not find its name.
async fn a_transaction_whose_origin_has_no_name_is_delivered(major: u16) {
    let fixture = fixture(major).await;
    let connector = fixture.connector(&["public.*"]);
    drop(open(&connector).await);
    let origin = format!("new origin of {}", fixture.database.name());
    let remote = fixture.database.connect().await.unwrap();
    let statements = format!(
        "SELECT pg_replication_origin_create('{origin}'); SELECT pg_replication_origin_session_setup('{origin}'); BEGIN; \
         SELECT pg_replication_origin_xact_setup('0/AB', now()); INSERT INTO movies VALUES (1, 'theirs'); COMMIT; \
         SELECT pg_replication_origin_session_reset(); SELECT pg_replication_origin_drop('{origin}')"
    );
    remote.batch_execute(&statements).await.unwrap();
    let items = read_commits(&mut open(&connector).await, 1).await;
    assert_eq!(lines(&items), ["Create movies -> {id=1,v=theirs}"]);
    assert_eq!(changes(&items)[0].origin.is_none(), major < 15);
}
