// SPDX-License-Identifier: Apache-2.0
//! What the log delivers.

use crate::fixture::{Fixture, LIMIT, changes, connector, lines, open, read_commits, read_until, render};
use crate::on_each_major;
use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::schema::TableName;
use highwater_core::value::ValueType;
use highwater_core::{ErrorKind, Scope};
use serde_json::json;
use std::time::Duration;

on_each_major!(
    changes_arrive_in_order_with_their_keys,
    a_key_change_tells_the_old_key_and_identity_full_the_whole_row,
    a_value_that_did_not_change_is_left_out_and_never_null,
    a_schema_change_is_seen_at_its_own_position,
    a_label_that_is_added_to_an_enumeration_is_listed_before_the_first_row_that_has_it,
    a_table_is_added_while_the_log_runs,
    partitions_are_captured_as_their_table,
    a_large_transaction_arrives_whole,
    dropped_futures_lose_nothing,
    an_idle_database_still_makes_progress,
    a_column_that_cannot_be_carried_is_refused_by_name,
    rows_of_rolled_back_transactions_never_come,
);
on_each_major!(since 15; row_filters_and_column_lists_hold);

async fn changes_arrive_in_order_with_their_keys(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE movies (id int PRIMARY KEY, title text, year int)")
        .await;
    let mut log = open(&fixture.connector(&["public.movies"])).await;
    fixture.sql("BEGIN; INSERT INTO movies VALUES (1, 'Metropolis', 1927), (2, 'M', NULL); UPDATE movies SET year = 1931 WHERE id = 2; COMMIT").await;
    fixture.sql("DELETE FROM movies WHERE id = 1").await;
    fixture.sql("TRUNCATE movies").await;
    let items = read_commits(&mut log, 3).await;
    assert_eq!(
        lines(&items),
        [
            "Create movies -> {id=1,title=Metropolis,year=1927}",
            "Create movies -> {id=2,title=M,year=null}",
            "Update movies -> {id=2,title=M,year=1931}",
            "Delete movies {id=1}",
            "Truncate movies",
        ]
    );
    let ordinals: Vec<u64> = changes(&items).iter().map(|change| change.ordinal).collect();
    assert_eq!(ordinals, [1, 2, 3, 1, 1]);
    let xid: u64 = fixture
        .ask("SELECT pg_snapshot_xmax(pg_current_snapshot())")
        .await
        .parse()
        .unwrap();
    assert!(
        changes(&items)
            .iter()
            .all(|change| change.transaction.0 < xid && change.transaction.0 + 50 > xid)
    );
    let commits: Vec<_> = changes(&items).iter().map(|change| change.commit).collect();
    assert!(commits.is_sorted() && commits[0] == commits[2] && commits[2] < commits[3]);
    let now: i64 = fixture
        .ask("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
        .await
        .parse()
        .unwrap();
    assert!(
        changes(&items)
            .iter()
            .all(|change| (now - change.source_time_us).abs() < 60_000_000)
    );
}

async fn a_key_change_tells_the_old_key_and_identity_full_the_whole_row(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE plain (a int, b text, c int, PRIMARY KEY (b, a)); \
             CREATE TABLE whole (id int PRIMARY KEY, v text); ALTER TABLE whole REPLICA IDENTITY FULL; \
             CREATE TABLE indexed (id int PRIMARY KEY, code text NOT NULL UNIQUE, v int); \
             ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_code_key; \
             INSERT INTO plain VALUES (1, 'x', 5); INSERT INTO whole VALUES (1, 'old'); INSERT INTO indexed VALUES (1, 'k', 2)",
        )
        .await;
    let mut log = open(&fixture.connector(&["public.*"])).await;
    fixture.sql("UPDATE plain SET a = 2").await;
    fixture.sql("UPDATE whole SET v = 'new'").await;
    fixture.sql("DELETE FROM whole").await;
    fixture.sql("DELETE FROM indexed").await;
    let items = read_commits(&mut log, 4).await;
    assert_eq!(
        lines(&items),
        [
            "Update plain {a=1,b=x} -> {a=2,b=x,c=5}",
            "Update whole {id=1,v=old} -> {id=1,v=new}",
            "Delete whole {id=1,v=new}",
            "Delete indexed {code=k}",
        ]
    );
    let changes = changes(&items);
    assert!(changes[0].old_key().is_some(), "the row moved");
    assert_eq!(changes[0].schema.key, [1, 0], "in the order of the primary key");
    assert!(changes[1].old_key().is_none(), "the key is the same");
    assert!(changes[3].key().is_some(), "the index stands in for the key");
}

async fn a_value_that_did_not_change_is_left_out_and_never_null(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE documents (id int PRIMARY KEY, body text, n int); \
             ALTER TABLE documents ALTER body SET STORAGE EXTERNAL; \
             CREATE TABLE archived (LIKE documents INCLUDING ALL); ALTER TABLE archived REPLICA IDENTITY FULL; \
             INSERT INTO documents SELECT 1, repeat('x', 9000), 0; INSERT INTO archived SELECT * FROM documents",
        )
        .await;
    let mut log = open(&fixture.connector(&["public.*"])).await;
    fixture.sql("UPDATE documents SET n = 1").await;
    fixture.sql("UPDATE archived SET n = 1").await;
    let items = read_commits(&mut log, 2).await;
    assert_eq!(lines(&items)[0], "Update documents -> {id=1,body=unchanged,n=1}");
    let changes = changes(&items);
    assert!(changes[0].is_partial());
    assert!(!changes[1].is_partial(), "the row before has it");
    assert!(lines(&items)[1].ends_with(&format!("-> {{id=1,body={},n=1}}", "x".repeat(9000))));
}

async fn a_schema_change_is_seen_at_its_own_position(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE movies (id int PRIMARY KEY, title text)")
        .await;
    let mut log = open(&fixture.connector(&["public.movies"])).await;
    fixture.sql("INSERT INTO movies VALUES (1, 'a')").await;
    fixture.sql("ALTER TABLE movies ADD COLUMN year int DEFAULT 7").await;
    fixture.sql("INSERT INTO movies VALUES (2, 'b', 8)").await;
    fixture
        .sql("BEGIN; INSERT INTO movies VALUES (3, 'c', 9); ALTER TABLE movies DROP COLUMN title; INSERT INTO movies VALUES (4, 10); COMMIT")
        .await;
    let items = read_until(
        &mut log,
        |item| matches!(item, LogItem::Change(change) if change.ordinal == 2),
    )
    .await;
    assert_eq!(
        lines(&items),
        [
            "Create movies -> {id=1,title=a}",
            "Create movies -> {id=2,title=b,year=8}",
            "Create movies -> {id=3,title=c,year=9}",
            "Create movies -> {id=4,year=10}",
        ]
    );
    let schemas = items.iter().filter(|item| matches!(item, LogItem::Schema(_))).count();
    assert!(schemas >= 3, "each shape was announced before its first row");
}

async fn a_label_that_is_added_to_an_enumeration_is_listed_before_the_first_row_that_has_it(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE people (id int PRIMARY KEY, now mood)")
        .await;
    let mut log = open(&fixture.connector(&["public.people"])).await;
    fixture.sql("INSERT INTO people VALUES (1, 'sad')").await;
    let mut items = read_commits(&mut log, 1).await;
    fixture.sql("ALTER TYPE mood ADD VALUE 'glad' BEFORE 'ok'").await;
    fixture
        .sql("BEGIN; INSERT INTO people VALUES (2, 'ok'), (3, 'glad'); UPDATE people SET now = 'glad' WHERE id = 1; COMMIT")
        .await;
    items.extend(read_commits(&mut log, 1).await);
    // In the catalogue the label has another name by the time that its row is read: it is looked up once, and carried.
    for sql in [
        "ALTER TYPE mood ADD VALUE 'bad'",
        "INSERT INTO people VALUES (4, 'bad'), (5, 'bad')",
        "ALTER TYPE mood RENAME VALUE 'bad' TO 'blue'",
        "INSERT INTO people VALUES (6, 'blue')",
    ] {
        fixture.sql(sql).await;
    }
    items.extend(read_commits(&mut log, 2).await);
    let told: Vec<String> = items
        .iter()
        .filter_map(|item| match item {
            LogItem::Schema(schema) => match &schema.columns[1].value_type {
                ValueType::Enum { allowed } => Some(allowed.join(",")),
                other => panic!("{other:?}"),
            },
            LogItem::Change(change) => {
                let row = render(&change.schema, change.after.as_ref().unwrap());
                Some(format!("{} {row}", change.ordinal))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            "sad,ok",
            "1 {id=1,now=sad}",
            "1 {id=2,now=ok}",
            "sad,glad,ok",
            "2 {id=3,now=glad}",
            "3 {id=1,now=glad}",
            "sad,glad,ok,blue",
            "1 {id=4,now=bad}",
            "2 {id=5,now=bad}",
            "1 {id=6,now=blue}",
        ]
    );
}

async fn row_filters_and_column_lists_hold(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE people (id int PRIMARY KEY, name text, secret gtsvector); \
             CREATE PUBLICATION theirs FOR TABLE people (id, name) WHERE (id > 10)",
        )
        .await;
    let mut settings = fixture.json(&["public.people"]);
    settings["publication"] = json!({"name": "theirs", "create": false});
    let mut log = open(&connector(settings)).await;
    fixture
        .sql("INSERT INTO people VALUES (1, 'hidden', NULL), (11, 'shown', NULL)")
        .await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items), ["Create people -> {id=11,name=shown}"]);
}

async fn a_table_is_added_while_the_log_runs(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE movies (id int PRIMARY KEY); CREATE TABLE people (id int PRIMARY KEY)")
        .await;
    let connector = fixture.connector(&["public.movies"]);
    let mut log = open(&connector).await;
    fixture.sql("INSERT INTO people VALUES (1)").await;
    connector
        .add_tables(&[TableName::new("public", "people")])
        .await
        .expect("added");
    fixture.sql("INSERT INTO people VALUES (2)").await;
    let items = read_until(&mut log, |item| matches!(item, LogItem::Change(_))).await;
    assert_eq!(lines(&items), ["Create people -> {id=2}"]);

    fixture.sql("CREATE TABLE keyless (v int)").await;
    let error = connector
        .add_tables(&[TableName::new("public", "keyless")])
        .await
        .expect_err("no identity");
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    fixture
        .sql("INSERT INTO keyless VALUES (1); UPDATE keyless SET v = 2")
        .await;
    let error = connector
        .add_tables(&[TableName::new("public", "nowhere")])
        .await
        .expect_err("no such table");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

async fn partitions_are_captured_as_their_table(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE sales (id int, year int, PRIMARY KEY (id, year)) PARTITION BY LIST (year); \
             CREATE TABLE sales_1 PARTITION OF sales FOR VALUES IN (1); \
             CREATE TABLE sales_2 PARTITION OF sales FOR VALUES IN (2)",
        )
        .await;
    let mut log = open(&fixture.connector(&["public.*"])).await;
    fixture.sql("INSERT INTO sales VALUES (1, 1), (2, 2)").await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(
        lines(&items),
        ["Create sales -> {id=1,year=1}", "Create sales -> {id=2,year=2}"]
    );
}

async fn a_large_transaction_arrives_whole(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE many (id int PRIMARY KEY, filler text)").await;
    let mut log = open(&fixture.connector(&["public.many"])).await;
    fixture
        .sql("INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series(1, 200000) i")
        .await;
    let items = read_commits(&mut log, 1).await;
    let changes = changes(&items);
    assert_eq!(changes.len(), 200_000);
    assert!(
        changes
            .iter()
            .zip(1..)
            .all(|(change, ordinal)| change.ordinal == ordinal)
    );
}

async fn dropped_futures_lose_nothing(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE many (id int PRIMARY KEY); CREATE TABLE later (id int PRIMARY KEY)")
        .await;
    let mut log = open(&fixture.connector(&["public.*"])).await;
    for start in 0..20 {
        let (from, to) = (start * 500 + 1, start * 500 + 500);
        fixture
            .sql(&format!(
                "INSERT INTO many SELECT generate_series({from}, {to}); INSERT INTO later VALUES ({start})"
            ))
            .await;
    }
    let mut items = Vec::new();
    let reading = async {
        let mut patience = 1_u64;
        while changes(&items).len() < 10_020 {
            patience = patience % 40 + 1;
            let limit = Duration::from_micros(patience * 25);
            let _ = tokio::time::timeout(limit, log.next(&mut items)).await;
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("all rows");
    let ids = |table: &str| -> Vec<String> {
        let of = |line: &String| line.contains(table);
        lines(&items).into_iter().filter(of).collect()
    };
    let expected: Vec<String> = (1..=10_000).map(|id| format!("Create many -> {{id={id}}}")).collect();
    assert_eq!(ids(" many "), expected);
    assert_eq!(ids(" later ").len(), 20);
}

async fn an_idle_database_still_makes_progress(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let mut settings = fixture.json(&["public.movies"]);
    settings["heartbeat"] = json!({"interval_ms": 100});
    let mut log = open(&connector(settings)).await;
    let other = fixture.database.server().connect().await.unwrap();
    other.batch_execute("CREATE TABLE IF NOT EXISTS elsewhere (v text); INSERT INTO elsewhere SELECT repeat('z', 1000) FROM generate_series(1, 2000)").await.unwrap();
    let end = fixture.ask("SELECT pg_current_wal_flush_lsn()").await;
    let end: highwater_postgres::protocol::Lsn = end.parse().unwrap();
    let reached = |item: &crate::fixture::Item| matches!(item, LogItem::Progress(position) if position.0 >= end);
    let items = read_until(&mut log, reached).await;
    let Some(LogItem::Progress(position)) = items.last() else {
        panic!("no progress")
    };
    let confirmed = format!(
        "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{}'",
        fixture.slot()
    );
    assert_eq!(fixture.ask(&confirmed).await, "f", "nothing is acknowledged by itself");
    log.acknowledge(position).await.unwrap();
    tokio::time::timeout(LIMIT, async {
        while fixture.ask(&confirmed).await != "t" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the slot advances");
    tokio::time::timeout(LIMIT, async {
        while log.lag_bytes().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the server says how far it is");
}

async fn a_column_that_cannot_be_carried_is_refused_by_name(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE places (id int PRIMARY KEY, at gtsvector)")
        .await;
    let mut log = open(&fixture.connector(&["public.places"])).await;
    fixture.sql("INSERT INTO places VALUES (1, NULL)").await;
    let error = tokio::time::timeout(LIMIT, async {
        loop {
            if let Err(error) = log.next(&mut Vec::new()).await {
                return error;
            }
        }
    })
    .await
    .expect("a refusal");
    assert_eq!(
        (error.kind(), error.scope()),
        (ErrorKind::UnsupportedValue, Scope::Table)
    );
    let text = error.to_string();
    assert!(
        text.contains("public.places") && text.contains("\"at\"") && text.contains("gtsvector"),
        "{text}"
    );
}

async fn rows_of_rolled_back_transactions_never_come(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let mut log = open(&fixture.connector(&["public.movies"])).await;
    fixture.sql("BEGIN; INSERT INTO movies VALUES (1); ROLLBACK").await;
    fixture
        .sql("BEGIN; INSERT INTO movies VALUES (2); SAVEPOINT s; INSERT INTO movies VALUES (3); ROLLBACK TO s; COMMIT")
        .await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items), ["Create movies -> {id=2}"]);
}
