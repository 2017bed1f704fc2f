// SPDX-License-Identifier: Apache-2.0
//! Going on from a checkpoint, and refusing where history is gone.

use crate::fixture::{Fixture, RUN, changes, connector, lines, open, open_from, read_commits, read_until};
use crate::on_each_major;
use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::position::{InsideTransaction, Lineage, Position, ResumePoint};
use highwater_core::{Class, ErrorKind};
use highwater_postgres::PgPosition;
use highwater_postgres::protocol::Lsn;
use serde_json::json;

on_each_major!(
    the_log_goes_on_behind_the_checkpoint,
    a_split_transaction_goes_on_in_its_middle,
    a_slot_that_was_advanced_or_dropped_is_a_lost_position,
    a_slot_in_use_is_worth_a_retry,
    slot_and_publication_are_taken_as_they_are,
);

fn ends_of(items: &[crate::fixture::Item]) -> Vec<PgPosition> {
    let end = |item: &crate::fixture::Item| match item {
        LogItem::Commit { position, .. } => Some(*position),
        _ => None,
    };
    items.iter().filter_map(end).collect()
}

async fn the_log_goes_on_behind_the_checkpoint(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.movies"]);
    let mut log = open(&connector).await;
    for id in 1..=4 {
        fixture.sql(&format!("INSERT INTO movies VALUES ({id})")).await;
    }
    let items = read_commits(&mut log, 4).await;
    let [first, second, ..] = ends_of(&items)[..] else {
        panic!("four commits")
    };
    // The server knows of the first only, the checkpoint of the second.
    log.acknowledge(&first).await.unwrap();
    drop(log);
    let decoded = PgPosition::decode(&second.encode()).unwrap();
    let mut log = open_from(&connector, Some(&ResumePoint::at(decoded))).await;
    assert_eq!(*log.start(), second);
    assert_eq!(
        lines(&read_commits(&mut log, 2).await),
        ["Create movies -> {id=3}", "Create movies -> {id=4}"]
    );
}

async fn a_split_transaction_goes_on_in_its_middle(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.movies"]);
    let mut log = open(&connector).await;
    let start = *log.start();
    fixture
        .sql("BEGIN; INSERT INTO movies SELECT generate_series(1, 5); INSERT INTO movies VALUES (6); COMMIT")
        .await;
    let items = read_commits(&mut log, 1).await;
    drop(log);
    let third = changes(&items)[2];
    let inside = InsideTransaction {
        transaction: third.transaction,
        change: third.position,
        ordinal: third.ordinal,
    };
    let point = ResumePoint {
        position: start,
        inside: Some(inside.clone()),
        lineage: Lineage::default(),
    };
    let mut log = open_from(&connector, Some(&point)).await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(
        lines(&items),
        [
            "Create movies -> {id=4}",
            "Create movies -> {id=5}",
            "Create movies -> {id=6}"
        ]
    );
    assert_eq!(changes(&items)[0].ordinal, 4);
    drop(log);

    let other = InsideTransaction {
        change: PgPosition(Lsn(1)),
        ..inside
    };
    let mut log = open_from(
        &connector,
        Some(&ResumePoint {
            position: start,
            inside: Some(other),
            lineage: Lineage::default(),
        }),
    )
    .await;
    let error = loop {
        if let Err(error) = log.next(&mut Vec::new()).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::PositionLost);
}

async fn a_slot_that_was_advanced_or_dropped_is_a_lost_position(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.movies"]);
    let log = open(&connector).await;
    let point = ResumePoint::at(*log.start());
    drop(log);
    fixture.sql("INSERT INTO movies VALUES (1)").await;
    let slot = fixture.slot();
    wait_until_free(&fixture).await;
    fixture
        .sql(&format!(
            "SELECT pg_replication_slot_advance('{slot}', pg_current_wal_flush_lsn())"
        ))
        .await;
    let error = connector
        .open_log(Some(&point), RUN)
        .await
        .expect_err("the slot is ahead");
    assert_eq!(error.kind(), ErrorKind::PositionLost);
    assert!(error.to_string().contains("confirmed_flush_lsn"), "{error}");

    fixture.sql(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    let error = connector
        .open_log(Some(&point), RUN)
        .await
        .expect_err("the slot is gone");
    assert_eq!(error.kind(), ErrorKind::PositionLost);
    let count = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'");
    assert_eq!(fixture.ask(&count).await, "0", "no new slot pretends to go on");
}

async fn wait_until_free(fixture: &Fixture) {
    let active = format!(
        "SELECT active FROM pg_replication_slots WHERE slot_name = '{}'",
        fixture.slot()
    );
    tokio::time::timeout(crate::fixture::LIMIT, async {
        while fixture.ask(&active).await == "t" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the slot is free");
}

async fn a_slot_in_use_is_worth_a_retry(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.movies"]);
    let log = open(&connector).await;
    let error = connector.open_log(None, RUN).await.expect_err("the slot is in use");
    assert_eq!((error.kind(), error.class()), (ErrorKind::Unsuitable, Class::Retryable));
    assert!(error.to_string().contains(&fixture.slot()), "{error}");
    drop(log);
    let mut log = open(&connector).await;
    fixture.sql("INSERT INTO movies VALUES (1)").await;
    read_until(&mut log, |item| matches!(item, LogItem::Change(_))).await;
}

async fn slot_and_publication_are_taken_as_they_are(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE movies (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)")
        .await;
    let mut settings = fixture.json(&["public.movies"]);
    settings["publication"] = json!({"name": "theirs", "create": false});
    settings["slot"]["create"] = json!(false);
    let connector = connector(settings);
    let error = connector.open_log(None, RUN).await.expect_err("no publication");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.fix().unwrap().contains("CREATE PUBLICATION"), "{error}");
    fixture.sql("CREATE PUBLICATION theirs FOR ALL TABLES").await;
    let error = connector.open_log(None, RUN).await.expect_err("no slot");
    assert!(
        error.fix().unwrap().contains("pg_create_logical_replication_slot"),
        "{error}"
    );
    fixture
        .sql(&format!(
            "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
            fixture.slot()
        ))
        .await;
    fixture.sql("INSERT INTO movies VALUES (1)").await;
    let mut log = open(&connector).await;
    fixture
        .sql("INSERT INTO other VALUES (1); INSERT INTO movies VALUES (2)")
        .await;
    let items = read_until(&mut log, |item| matches!(item, LogItem::Change(change) if change.transaction.0 > 0 && lines(&[LogItem::Change(change.clone())])[0].contains("id=2"))).await;
    assert_eq!(
        lines(&items),
        ["Create movies -> {id=1}", "Create movies -> {id=2}"],
        "since the slot, and chosen tables only"
    );
}
