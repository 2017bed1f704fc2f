// SPDX-License-Identifier: Apache-2.0
//! The snapshot that a slot is created with, and what becomes of it.

use crate::fixture::{Fixture, Item, LIMIT, RUN, changes, connector, range, read_until, render};
use crate::on_each_major;
use highwater_core::change::LogItem;
use highwater_core::connector::{ChunkReader, ChunkRequest, LogReader, SourceConnector, StartSnapshot};
use highwater_core::image::CellRef;
use highwater_core::position::ReadView;
use highwater_core::schema::{Key, TableSchema};
use highwater_core::{Class, Result};
use highwater_postgres::PostgresConnector;
use highwater_postgres::chunk_reader::PgChunkReader;
use highwater_postgres::log_reader::PgLogReader;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

on_each_major!(
    a_transaction_is_in_the_snapshot_or_in_the_log,
    a_reader_takes_it_up_again_and_without_its_keeper_it_is_lost,
    a_table_that_was_changed_since_gives_it_up,
    rows_that_a_policy_hides_are_an_error_there_too,
    it_ends_with_its_log,
);

fn at_start(table: &str, after: Option<Key>, rows_max: u32) -> ChunkRequest {
    ChunkRequest {
        at_start: true,
        ..range(table, after, rows_max)
    }
}

const ROWS: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v text, w int); \
                    INSERT INTO t SELECT i, 'then', i FROM generate_series(1, 500) i";

async fn filled(major: u16) -> Fixture {
    let fixture = Fixture::new(major).await;
    fixture.sql(ROWS).await;
    fixture
}

async fn open(fixture: &Fixture) -> (PgLogReader, PgChunkReader) {
    open_with(&fixture.connector(&["public.t"])).await
}

async fn open_with(connector: &PostgresConnector) -> (PgLogReader, PgChunkReader) {
    let log = connector.open_log_with_snapshot(RUN).await.expect("an open log");
    assert!(matches!(log.start_snapshot(), StartSnapshot::Held(_)));
    (log, connector.open_chunks().await.expect("a reader"))
}

async fn walk(reader: &mut PgChunkReader) -> Vec<String> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let chunk = reader.read(&at_start("t", after, 100)).await.expect("a chunk");
        rows.extend(chunk.rows.iter().map(|row| render(&chunk.schema, row)));
        if chunk.exhausted {
            return rows;
        }
        after = chunk.last_key;
    }
}

fn id(schema: &TableSchema, key: &Key) -> i64 {
    assert_eq!(schema.key, [0]);
    let bytes = key.columns().and_then(|columns| columns[0].map(<[u8]>::to_vec));
    i64::from_be_bytes(bytes.expect("a key").try_into().expect("eight bytes"))
}

async fn a_transaction_is_in_the_snapshot_or_in_the_log(major: u16) {
    let fixture = filled(major).await;
    let is_copied = AtomicBool::new(false);
    // Each writes on until the copy is made, and gives the ids that it wrote.
    let writers = (0..4).map(|writer| {
        let (database, is_copied) = (&fixture.database, &is_copied);
        async move {
            let client = database.connect().await.expect("a session");
            let mut ids = Vec::new();
            let mut is_last = false;
            while !is_last {
                is_last = is_copied.load(Ordering::Relaxed);
                let id = 1_001 + writer + 4 * ids.len() as i64;
                let row = format!("INSERT INTO t VALUES ({id}, 'meanwhile')");
                client.batch_execute(&row).await.expect("a row");
                ids.push(id);
            }
            ids
        }
    });
    let mut writers: Vec<_> = writers.map(Box::pin).collect();
    let [a, b, c, d] = &mut writers[..] else { unreachable!() };
    let copy = async {
        // Rows come before the slot is made, while it is, and while they are read.
        while fixture.ask("SELECT count(*) > 600 FROM t").await != "t" {}
        let (log, mut reader) = open(&fixture).await;
        let (mut copied, mut after) = (BTreeSet::new(), None);
        loop {
            let chunk = reader.read(&at_start("t", after, 100)).await.expect("a chunk");
            let StartSnapshot::Held(moment) = log.start_snapshot() else {
                panic!("it is held")
            };
            assert!(matches!(chunk.view, ReadView::At(at) if at == moment && at < *log.start()));
            let keys = chunk.rows.iter().map(|row| chunk.schema.key_of(row).expect("a key"));
            copied.extend(keys.map(|key| id(&chunk.schema, &key)));
            if chunk.exhausted {
                is_copied.store(true, Ordering::Relaxed);
                return (log, copied);
            }
            after = chunk.last_key;
        }
    };
    let everything = async { tokio::join!(a, b, c, d, copy) };
    let (a, b, c, d, (mut log, copied)) = tokio::time::timeout(LIMIT, everything).await.expect("in time");
    let written = [a, b, c, d].concat();
    fixture.sql("INSERT INTO t VALUES (-1, 'last')").await;
    let is_last = |item: &Item| match item {
        LogItem::Change(change) => change
            .after
            .as_ref()
            .is_some_and(|row| row.cell(1) == CellRef::Value(b"last")),
        _ => false,
    };
    let items = read_until(&mut log, is_last).await;
    let logged: Vec<i64> = changes(&items)
        .iter()
        .map(|change| id(&change.schema, &change.key().expect("a key")))
        .filter(|id| *id > 0)
        .collect();
    let in_log: BTreeSet<i64> = logged.iter().copied().collect();
    assert_eq!(in_log.len(), logged.len(), "the log has nothing twice");
    assert!(copied.is_disjoint(&in_log), "a transaction is in both");
    assert!(
        copied.len() > 500 + 100 && !in_log.is_empty(),
        "rows were written before and after"
    );
    let both: BTreeSet<i64> = copied.union(&in_log).copied().collect();
    let missing: Vec<i64> = (1..=500).chain(written).filter(|id| !both.contains(id)).collect();
    assert!(missing.is_empty(), "{} rows are in neither", missing.len());
}

/// Ends the sessions of this name and waits until they are gone.
async fn end_sessions(fixture: &Fixture, name: &str) {
    let own = format!("datname = current_database() AND application_name = '{name}'");
    let ended = fixture
        .ask(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {own}"
        ))
        .await;
    assert_ne!(ended, "0", "there is a session named {name}");
    let gone = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE {own}");
    let waited = async { while fixture.ask(&gone).await != "t" {} };
    tokio::time::timeout(LIMIT, waited).await.expect("sessions that end");
}

async fn a_reader_takes_it_up_again_and_without_its_keeper_it_is_lost(major: u16) {
    let fixture = filled(major).await;
    // Its sessions are idle for as long as copies take; the server's limit for forgotten ones is not for them.
    let limit = format!(
        "ALTER DATABASE \"{}\" SET idle_in_transaction_session_timeout = '1ms'",
        fixture.database.name()
    );
    fixture.sql(&limit).await;
    let (log, mut reader) = open(&fixture).await;
    fixture.sql("UPDATE t SET v = 'now'").await;
    let rows = walk(&mut reader).await;
    assert_eq!(rows.len(), 500);
    assert!(rows.iter().all(|row| row.contains("v=then")), "{}", rows[0]);
    end_sessions(&fixture, "highwater first load").await;
    let broken = reader
        .read(&at_start("t", None, 10))
        .await
        .expect_err("its session was ended");
    assert_eq!(broken.class(), Class::Retryable);
    assert_eq!(walk(&mut reader).await, rows);
    end_sessions(&fixture, "highwater snapshot").await;
    assert_eq!(walk(&mut reader).await, rows, "who reads in it goes on");
    end_sessions(&fixture, "highwater first load").await;
    let reads: Vec<Result<_>> = [
        reader.read(&at_start("t", None, 10)).await,
        reader.read(&at_start("t", None, 10)).await,
    ]
    .into();
    assert!(
        reads
            .iter()
            .all(|read| read.as_ref().is_err_and(|error| error.class() == Class::Retryable))
    );
    let StartSnapshot::Lost(why) = log.start_snapshot() else {
        panic!("it is lost")
    };
    assert!(why.contains("the snapshot of the slot is gone"), "{why}");
    fixture
        .sql(&limit.replace("SET idle_in_transaction_session_timeout = '1ms'", "RESET ALL"))
        .await;
    let now = reader.read(&range("t", None, 1_000)).await.expect("a chunk of now");
    assert!(render(&now.schema, &now.rows[0]).contains("v=now"));
}

async fn a_table_that_was_changed_since_gives_it_up(major: u16) {
    let fixture = filled(major).await;
    let changes = [
        ("ALTER TABLE t ADD COLUMN x int NOT NULL DEFAULT 7", true),
        // A child that inherits is a table of its own.
        ("TRUNCATE child", true),
        (
            "ALTER TABLE t RENAME COLUMN v TO x; ALTER TABLE t RENAME COLUMN w TO v",
            false,
        ),
        ("ALTER TABLE t ALTER COLUMN w TYPE bigint", false),
        ("ALTER TABLE t ALTER COLUMN v TYPE varchar(20)", false),
        ("ALTER TABLE t DROP COLUMN v", false),
        ("TRUNCATE t", false),
        (
            "ALTER TABLE t RENAME TO old; CREATE TABLE t (LIKE old INCLUDING ALL)",
            false,
        ),
    ];
    for (number, (change, is_same)) in changes.into_iter().enumerate() {
        let child = "CREATE TABLE child () INHERITS (t); INSERT INTO child VALUES (1)";
        fixture
            .sql(&format!("DROP TABLE IF EXISTS child, t, old; {ROWS}; {child}"))
            .await;
        let mut settings = fixture.json(&["public.t"]);
        settings["slot"]["name"] = format!("{}_{number}", fixture.slot()).into();
        let (log, mut reader) = open_with(&connector(settings)).await;
        let first = reader.read(&at_start("t", None, 100)).await.expect("a chunk");
        // The lock of a chunk ends with it.
        fixture.sql(&format!("SET lock_timeout = '20s'; {change}")).await;
        let second = reader.read(&at_start("t", first.last_key.clone(), 100)).await;
        if is_same {
            let second = second.expect(change);
            let shapes = (second.schema.fingerprint(), first.schema.fingerprint());
            assert_eq!((second.rows.len(), shapes.0), (100, shapes.1), "{change}");
            assert!(matches!(log.start_snapshot(), StartSnapshot::Held(_)));
            continue;
        }
        let error = second.expect_err(change);
        assert_eq!(error.class(), Class::Retryable, "{change}: {error}");
        assert!(matches!(log.start_snapshot(), StartSnapshot::Lost(_)), "{change}");
    }
}

async fn rows_that_a_policy_hides_are_an_error_there_too(major: u16) {
    let fixture = filled(major).await;
    let role = format!("plain_{}", fixture.database.name());
    let made = format!(
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'plain'; GRANT SELECT ON t TO {role}; \
         CREATE PUBLICATION made FOR TABLE t WITH (publish_via_partition_root = true)"
    );
    fixture.sql(&made).await;
    let mut settings = fixture.json(&["public.t"]);
    settings["user"] = role.as_str().into();
    settings["password"] = "plain".into();
    settings["publication"] = serde_json::json!({ "name": "made" });
    let (log, mut reader) = open_with(&connector(settings)).await;
    reader.read(&at_start("t", None, 100)).await.expect("a chunk");
    fixture
        .sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY low ON t USING (id < 150)")
        .await;
    let error = reader
        .read(&at_start("t", None, 100))
        .await
        .expect_err("rows are hidden");
    assert_eq!(error.class(), Class::Retryable, "{error}");
    assert!(matches!(log.start_snapshot(), StartSnapshot::Lost(_)), "{error}");
    let error = reader.read(&range("t", None, 100)).await.expect_err("rows are hidden");
    assert_eq!(error.class(), Class::User, "{error}");
    drop((log, reader));
    fixture
        .sql(&format!("REVOKE ALL ON t FROM {role}; DROP ROLE {role}"))
        .await;
}

async fn it_ends_with_its_log(major: u16) {
    let fixture = filled(major).await;
    let (mut log, mut reader) = open(&fixture).await;
    reader.read(&at_start("t", None, 10)).await.expect("a chunk");
    log.release_snapshot();
    assert_eq!(log.start_snapshot(), StartSnapshot::None);
    reader.read(&at_start("t", None, 10)).await.expect_err("it was let go");
    let held = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name IN ('highwater snapshot', 'highwater first load')";
    let waited = async { while fixture.ask(held).await != "t" {} };
    tokio::time::timeout(LIMIT, waited).await.expect("sessions that end");
    // The slot is there now: another log begins without a snapshot.
    drop(log);
    let log = fixture
        .connector(&["public.t"])
        .open_log_with_snapshot(RUN)
        .await
        .expect("an open log");
    assert_eq!(log.start_snapshot(), StartSnapshot::None);
}
