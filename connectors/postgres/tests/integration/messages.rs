// SPDX-License-Identifier: Apache-2.0
//! Messages that other programs write into the log.

use crate::fixture::{Fixture, Item, changes, connector, lines, open, open_from, read_until};
use crate::on_each_major;
use highwater_core::ErrorKind;
use highwater_core::change::{LogItem, Op};
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::image::CellRef;
use highwater_core::position::{InsideTransaction, Lineage, ResumePoint};
use highwater_postgres::log_reader::PgLogReader;
use highwater_postgres::{PgPosition, PostgresConnector};
use serde_json::{Value, json};

on_each_major!(
    since 14;
    messages_come_at_their_place_and_never_from_what_was_rolled_back,
    messages_of_large_and_of_prepared_transactions_come_with_them,
    a_restart_at_any_place_brings_the_rest_once,
);
on_each_major!(a_server_without_messages_is_refused_by_name);

fn of(fixture: &Fixture, more: &[(&str, Value)]) -> PostgresConnector {
    let mut settings = fixture.json(&["public.*"]);
    settings["messages"] = json!({"prefixes": ["orders.*", "end"]});
    for (name, value) in more {
        settings[*name] = value.clone();
    }
    connector(settings)
}

fn text(cell: CellRef<'_>) -> String {
    match cell {
        CellRef::Value(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

/// Messages as `orders.new: content`, other changes as lines.
fn told(items: &[Item]) -> Vec<String> {
    let line =
        |(change, line): (&&highwater_core::change::Change<PgPosition>, String)| match (&change.op, &change.after) {
            (Op::Message, Some(message)) => format!("{}: {}", text(message.cell(0)), text(message.cell(1))),
            _ => line,
        };
    changes(items).iter().zip(lines(items)).map(line).collect()
}

/// Each of these in a transaction of its own.
async fn alone(fixture: &Fixture, statements: &[&str]) {
    for statement in statements {
        fixture.sql(statement).await;
    }
}

/// Reads up to the message with prefix `end`, and its commit.
async fn read_to_end(log: &mut PgLogReader) -> Vec<Item> {
    let mut ended = false;
    read_until(log, |item| {
        ended |= matches!(item, LogItem::Change(change) if change.op == Op::Message
            && change.after.as_ref().is_some_and(|message| text(message.cell(0)) == "end"));
        ended && matches!(item, LogItem::Commit { .. })
    })
    .await
}

async fn messages_come_at_their_place_and_never_from_what_was_rolled_back(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut log = open(&of(&fixture, &[])).await;
    alone(
        &fixture,
        &[
            "SELECT pg_logical_emit_message(false, 'orders.lone', 'before all')",
            "BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'orders.new', 'one'); \
             SAVEPOINT s; SELECT pg_logical_emit_message(true, 'orders.new', 'undone'); ROLLBACK TO s; \
             SELECT pg_logical_emit_message(true, 'others', 'not ours'); INSERT INTO t VALUES (2); COMMIT",
            "BEGIN; SELECT pg_logical_emit_message(true, 'orders.new', 'rolled back'); \
             SELECT pg_logical_emit_message(false, 'orders.lone', 'of no transaction'); ROLLBACK",
            "SELECT pg_logical_emit_message(true, 'highwater.mark', 'foreign')",
            "SELECT pg_logical_emit_message(true, 'orders.empty', '')",
            "SELECT pg_logical_emit_message(true, 'end', '')",
        ],
    )
    .await;
    let items = read_to_end(&mut log).await;
    assert_eq!(
        told(&items),
        [
            "orders.lone: before all",
            "Create t -> {id=1}",
            "orders.new: one",
            "Create t -> {id=2}",
            "orders.lone: of no transaction",
            "orders.empty: ",
            "end: ",
        ]
    );
    let changes = changes(&items);
    let ordinals: Vec<u64> = changes.iter().map(|change| change.ordinal).collect();
    assert_eq!(ordinals, [1, 1, 2, 3, 1, 1, 1], "only what is captured is counted");
    let in_transaction: Vec<bool> = changes.iter().map(|change| change.transaction.0 != 0).collect();
    assert_eq!(in_transaction, [false, true, true, true, false, true, true]);
    assert!(changes.windows(2).all(|pair| pair[0].commit <= pair[1].commit));
    assert!(changes[0].key().is_some() && changes[0].key() != changes[2].key());
}

async fn messages_of_large_and_of_prepared_transactions_come_with_them(major: u16) {
    let fixture = Fixture::new(major).await;
    let database = fixture.database.name().to_owned();
    fixture
        .sql(&format!(
            "ALTER DATABASE \"{database}\" SET logical_decoding_work_mem = '64kB'; CREATE TABLE t (id int PRIMARY KEY)"
        ))
        .await;
    let slot = json!({"name": fixture.slot(), "two_phase": major >= 15});
    let connector = of(&fixture, &[("slot", slot)]);
    let prepare = |what: &str| {
        format!(
            "BEGIN; SELECT pg_logical_emit_message(true, 'orders.prepared', '{what}'); \
             PREPARE TRANSACTION '{database} {what}'"
        )
    };
    let mut log = open(&connector).await;
    alone(
        &fixture,
        &[
            "BEGIN; SELECT pg_logical_emit_message(true, 'orders.big', 'first'); INSERT INTO t SELECT generate_series(1, 2000); \
             SAVEPOINT s; SELECT pg_logical_emit_message(true, 'orders.big', 'undone'); INSERT INTO t SELECT generate_series(3001, 5000); \
             ROLLBACK TO s; SELECT pg_logical_emit_message(true, 'orders.big', 'last'); COMMIT",
            &prepare("kept"),
            &prepare("dropped"),
            "SELECT pg_logical_emit_message(false, 'orders.lone', 'between')",
            &format!("ROLLBACK PREPARED '{database} dropped'"),
            &format!("COMMIT PREPARED '{database} kept'"),
            "SELECT pg_logical_emit_message(true, 'end', '')",
        ],
    )
    .await;
    let items = read_to_end(&mut log).await;
    let mut told = told(&items);
    told.retain(|line| !line.starts_with("Create"));
    let expected = [
        "orders.big: first",
        "orders.big: last",
        "orders.lone: between",
        "orders.prepared: kept",
        "end: ",
    ];
    assert_eq!(told, expected);
    let big = changes(&items)[0].transaction;
    let last = changes(&items).into_iter().rfind(|change| change.transaction == big);
    assert_eq!(last.unwrap().ordinal, 2002, "what was rolled back is not counted");
}

async fn a_restart_at_any_place_brings_the_rest_once(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let connector = of(&fixture, &[]);
    let mut log = open(&connector).await;
    let start = *log.start();
    alone(
        &fixture,
        &[
            "SELECT pg_logical_emit_message(false, 'orders.lone', '1')",
            "SELECT pg_logical_emit_message(false, 'orders.lone', '2')",
            "INSERT INTO t VALUES (1)",
            "SELECT pg_logical_emit_message(false, 'orders.lone', '3')",
            "SELECT pg_logical_emit_message(true, 'orders.new', '4')",
            "SELECT pg_logical_emit_message(true, 'end', '')",
        ],
    )
    .await;
    let items = read_to_end(&mut log).await;
    let all = told(&items);
    assert_eq!(all.len(), 6);
    drop(log);
    let ends: Vec<PgPosition> = items
        .iter()
        .filter_map(|item| match item {
            LogItem::Commit { position, .. } => Some(*position),
            _ => None,
        })
        .collect();
    let mut points = vec![(ResumePoint::at(start), 0)];
    for (behind, (change, end)) in changes(&items).iter().zip(&ends).enumerate() {
        let before = points[behind].0.position;
        // Cut right behind the change, whose end is not told yet.
        let inside = InsideTransaction {
            transaction: change.transaction,
            change: change.position,
            ordinal: change.ordinal,
        };
        let split = ResumePoint {
            position: before,
            inside: Some(inside),
            lineage: Lineage::default(),
        };
        let mut log = open_from(&connector, Some(&split)).await;
        if behind + 1 < all.len() {
            assert_eq!(
                told(&read_to_end(&mut log).await),
                all[behind + 1..],
                "split at {behind}"
            );
        }
        points.push((ResumePoint::at(*end), behind + 1));
    }
    // In order, for what is acknowledged on the way is not sent again.
    points.pop();
    for (point, delivered) in &points {
        let mut log = open_from(&connector, Some(point)).await;
        assert_eq!(
            told(&read_to_end(&mut log).await),
            all[*delivered..],
            "from {delivered}"
        );
        log.acknowledge(&point.position).await.unwrap();
    }
}

async fn a_server_without_messages_is_refused_by_name(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let connector = of(&fixture, &[]);
    let found = connector.preflight().await.unwrap();
    let found = found.iter().find(|finding| finding.code == "stream_options");
    if major >= 14 {
        assert!(found.is_none());
        return;
    }
    assert!(found.is_some_and(|finding| finding.what.contains("messages.prefixes")));
    let error = connector.open_log(None, crate::fixture::RUN).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    assert!(error.message().contains("messages.prefixes"), "{error}");
}
