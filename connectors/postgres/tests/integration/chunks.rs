// SPDX-License-Identifier: Apache-2.0
//! Chunks of tables.

use crate::fixture::{Fixture, changes, connector, open, range, read_commits, render};
use crate::on_each_major;
use highwater_core::connector::{ChunkReader, ChunkRequest, ChunkScope, SourceConnector};
use highwater_core::position::ReadView;
use highwater_core::schema::{Key, TableName};
use highwater_core::{Class, ErrorKind, Scope};
use highwater_postgres::chunk_reader::PgChunkReader;
use serde_json::json;
use std::collections::BTreeSet;

on_each_major!(
    a_walk_by_key_meets_every_row_once_in_the_servers_order,
    a_chunk_ends_at_its_bounds,
    chosen_keys_are_read_and_missing_ones_are_not,
    a_chunk_and_the_log_show_one_row_alike,
    the_view_lists_what_the_read_could_not_see,
    a_schema_is_that_of_the_reads_own_snapshot,
    tables_that_cannot_be_read_are_named,
    a_table_is_split_into_even_parts,
    a_table_that_is_added_is_read_once_older_transactions_have_ended_and_these_are_found_by_what_is_printed,
);
on_each_major!(since 15; what_the_log_filters_the_chunk_filters);

/// A reader once the publication is there.
async fn reader(fixture: &Fixture, tables: &[&str]) -> PgChunkReader {
    let connector = fixture.connector(tables);
    drop(open(&connector).await);
    connector.open_chunks().await.unwrap()
}

async fn walk(reader: &mut PgChunkReader, table: &str, rows_max: u32) -> Vec<String> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let chunk = reader.read(&range(table, after, rows_max)).await.expect("a chunk");
        assert!(chunk.rows.len() <= rows_max as usize);
        rows.extend(chunk.rows.iter().map(|row| render(&chunk.schema, row)));
        if chunk.exhausted {
            return rows;
        }
        after = Some(chunk.last_key.expect("a chunk that is not the last has rows"));
    }
}

async fn a_walk_by_key_meets_every_row_once_in_the_servers_order(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TYPE mood AS ENUM ('sad', 'happy'); \
             CREATE TABLE words (w text COLLATE \"und-x-icu\", m mood, n numeric, v text, PRIMARY KEY (m, w, n)); \
             INSERT INTO words SELECT chr(64 + i % 60) || chr(97 + i % 26), (ARRAY['sad','happy'])[i % 2 + 1]::mood, i / 7.0, 'v' FROM generate_series(1, 1000) i",
        )
        .await;
    let mut reader = reader(&fixture, &["public.words"]).await;
    let expected = fixture
        .client
        .query(
            "SELECT w, m::text, n::text FROM words ORDER BY words.m, words.w, words.n",
            &[],
        )
        .await
        .unwrap();
    for rows_max in [1_000, 999, 37, 1_001] {
        let rows = walk(&mut reader, "words", rows_max).await;
        assert_eq!(rows.len(), 1_000);
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), 1_000);
        for (row, expected) in rows.iter().zip(&expected) {
            let start = format!(
                "{{w={},m={},",
                expected.get::<_, String>(0),
                expected.get::<_, String>(1)
            );
            assert!(row.starts_with(&start), "{row} is not {start}");
        }
    }
    fixture.sql("TRUNCATE words").await;
    let chunk = reader.read(&range("words", None, 10)).await.unwrap();
    assert!(chunk.exhausted && chunk.rows.is_empty() && chunk.last_key.is_none());
}

async fn a_chunk_ends_at_its_bounds(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE wide (id int PRIMARY KEY, filler text); INSERT INTO wide SELECT i, repeat('x', 1000) FROM generate_series(1, 3000) i").await;
    let mut reader = reader(&fixture, &["public.wide"]).await;
    let request = ChunkRequest {
        bytes_max: 100_000,
        at_start: false,
        ..range("wide", None, 2_500)
    };
    for _ in 0..2 {
        let chunk = reader.read(&request).await.unwrap();
        assert!((95..=101).contains(&chunk.rows.len()), "{} rows", chunk.rows.len());
        assert!(!chunk.exhausted);
    }
    let all = reader.read(&range("wide", None, 5_000)).await.unwrap();
    assert!(all.exhausted && all.rows.len() == 3_000);
    let key = |id: i32| Key::from_columns(&[Some(id.to_be_bytes())]);
    let scope = ChunkScope::Range {
        after: Some(key(10)),
        through: Some(key(20)),
        condition: Some("id % 2 = 0 -- even".into()),
    };
    let chunk = reader
        .read(&ChunkRequest {
            scope,
            ..range("wide", None, 100)
        })
        .await
        .unwrap();
    assert_eq!(chunk.rows.len(), 5);
    assert!(chunk.exhausted);
    assert_eq!(chunk.last_key, Some(key(20)));
}

async fn chosen_keys_are_read_and_missing_ones_are_not(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY, t text); INSERT INTO movies SELECT i, 't' FROM generate_series(1, 2000) i").await;
    let mut reader = reader(&fixture, &["public.movies"]).await;
    let key = |id: i32| Key::from_columns(&[Some(id.to_be_bytes())]);
    let keys: Vec<Key> = (1_001..3_000).map(key).collect();
    let chunk = reader
        .read(&ChunkRequest {
            scope: ChunkScope::Keys(keys),
            ..range("movies", None, 10)
        })
        .await
        .unwrap();
    assert_eq!(chunk.rows.len(), 1_000);
    assert!(chunk.exhausted);
}

async fn a_chunk_and_the_log_show_one_row_alike(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE movies (id int, at timestamptz, price numeric(9,2), note text, PRIMARY KEY (at, id))")
        .await;
    let connector = fixture.connector(&["public.movies"]);
    let mut log = open(&connector).await;
    fixture
        .sql("INSERT INTO movies VALUES (1, '2026-01-02 03:04:05.678+01', 12.5, NULL)")
        .await;
    let items = read_commits(&mut log, 1).await;
    let change = changes(&items)[0];
    let chunk = connector
        .open_chunks()
        .await
        .unwrap()
        .read(&range("movies", None, 10))
        .await
        .unwrap();
    assert_eq!(chunk.schema.fingerprint(), change.schema.fingerprint());
    assert_eq!(Some(&chunk.rows[0]), change.after.as_ref());
    assert_eq!(chunk.last_key, change.key());
    assert_eq!(
        render(&chunk.schema, &chunk.rows[0]),
        "{id=1,at=2026-01-02T02:04:05.678Z,price=1250,note=null}"
    );
    let catalog = connector.discover().await.unwrap();
    assert_eq!(catalog.tables[0].schema.fingerprint(), change.schema.fingerprint());
}

async fn the_view_lists_what_the_read_could_not_see(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.movies"]);
    let mut log = open(&connector).await;
    let mut reader = connector.open_chunks().await.unwrap();
    let writer = fixture.database.connect().await.unwrap();
    writer
        .batch_execute("BEGIN; INSERT INTO movies VALUES (1)")
        .await
        .unwrap();
    fixture.sql("INSERT INTO movies VALUES (2)").await;
    let chunk = reader.read(&range("movies", None, 10)).await.unwrap();
    writer.batch_execute("COMMIT").await.unwrap();
    let items = read_commits(&mut log, 2).await;
    let ReadView::Transactions(view) = &chunk.view else {
        panic!("not a list of transactions")
    };
    let seen: Vec<bool> = changes(&items)
        .iter()
        .map(|change| view.sees(change.transaction))
        .collect();
    assert_eq!(seen, [true, false], "the second commit was in progress");
    assert_eq!(chunk.rows.len(), 1);
    let now: i64 = fixture
        .ask("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
        .await
        .parse()
        .unwrap();
    assert!((now - chunk.read_time_us).abs() < 60_000_000);
}

async fn what_the_log_filters_the_chunk_filters(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE people (id int PRIMARY KEY, name text, secret gtsvector); \
             INSERT INTO people VALUES (1, 'hidden', NULL), (11, 'shown', NULL); \
             CREATE PUBLICATION theirs FOR TABLE people (id, name) WHERE (id > 10 AND name <> 'x')",
        )
        .await;
    let mut settings = fixture.json(&["public.people"]);
    settings["publication"] = json!({"name": "theirs", "create": false});
    let mut reader = connector(settings).open_chunks().await.unwrap();
    assert_eq!(walk(&mut reader, "people", 10).await, ["{id=11,name=shown}"]);
}

async fn a_schema_is_that_of_the_reads_own_snapshot(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE movies (id int PRIMARY KEY, v int); INSERT INTO movies VALUES (1, 2)")
        .await;
    let mut reader = reader(&fixture, &["public.movies"]).await;
    let before = reader.read(&range("movies", None, 10)).await.unwrap();
    // A change of type rewrites the table: a snapshot from before would find it empty.
    fixture
        .sql("ALTER TABLE movies ALTER v TYPE text, ADD w int DEFAULT 3")
        .await;
    let after = reader.read(&range("movies", None, 10)).await.unwrap();
    assert_ne!(before.schema.fingerprint(), after.schema.fingerprint());
    assert_eq!(render(&after.schema, &after.rows[0]), "{id=1,v=2,w=3}");
}

async fn tables_that_cannot_be_read_are_named(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE places (id int PRIMARY KEY, at gtsvector); CREATE TABLE gone (id int PRIMARY KEY); \
             CREATE TABLE fine (id int PRIMARY KEY)",
        )
        .await;
    let mut reader = reader(&fixture, &["public.*"]).await;
    fixture
        .sql("DROP TABLE gone; CREATE TABLE unpublished (id int PRIMARY KEY)")
        .await;
    for (table, kind) in [
        ("places", ErrorKind::UnsupportedValue),
        ("gone", ErrorKind::NotFound),
        ("unpublished", ErrorKind::NotFound),
    ] {
        let error = reader.read(&range(table, None, 10)).await.expect_err(table);
        assert_eq!((error.kind(), error.scope()), (kind, Scope::Table), "{error}");
        assert!(error.to_string().contains(table), "{error}");
        // The reader is good for the next table all the same.
        assert!(reader.read(&range("fine", None, 10)).await.unwrap().exhausted);
    }
}

async fn a_table_is_split_into_even_parts(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE many (id bigint PRIMARY KEY, v text); INSERT INTO many SELECT i, repeat('x', 50) FROM generate_series(1, 100000) i; ANALYZE many").await;
    let mut reader = reader(&fixture, &["public.many"]).await;
    let keys = reader.split(&TableName::new("public", "many"), 4).await.unwrap();
    let ids: Vec<i64> = keys
        .iter()
        .map(|key| i64::from_be_bytes(key.columns().unwrap()[0].unwrap().try_into().unwrap()))
        .collect();
    assert_eq!(ids.len(), 3);
    for (id, ideal) in ids.iter().zip([25_000, 50_000, 75_000]) {
        assert!((id - ideal).abs() < 15_000, "{ids:?}");
    }
    fixture.sql("TRUNCATE many; ANALYZE many").await;
    assert!(
        reader
            .split(&TableName::new("public", "many"), 4)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_table_that_is_added_is_read_once_older_transactions_have_ended_and_these_are_found_by_what_is_printed(
    major: u16,
) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE movies (id int PRIMARY KEY); CREATE TABLE late (id int PRIMARY KEY)")
        .await;
    let connector = fixture.connector(&["public.movies"]);
    let _log = open(&connector).await;
    let session = fixture.database.connect().await.unwrap();
    session
        .batch_execute("BEGIN; INSERT INTO late VALUES (1)")
        .await
        .unwrap();
    let gid = format!("gid of {}", fixture.database.name());
    fixture
        .sql(&format!(
            "BEGIN; INSERT INTO late VALUES (2); PREPARE TRANSACTION '{gid}'"
        ))
        .await;
    connector.add_tables(&[TableName::new("public", "late")]).await.unwrap();
    let mut reader = connector.open_chunks().await.unwrap();
    let request = range("late", None, 10);
    for (end, whose) in [
        ("COMMIT".to_owned(), "session"),
        (format!("COMMIT PREPARED '{gid}'"), "prepared"),
    ] {
        let error = reader.read(&request).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class()),
            (ErrorKind::Unreachable, Class::Retryable)
        );
        let statement = error
            .fix()
            .and_then(|fix| fix.strip_prefix("end them: "))
            .expect("a statement");
        let found = fixture.client.query(statement, &[]).await.unwrap();
        let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        let own = match whose {
            "session" => format!("session {}", pid(&session).await),
            _ => format!("prepared {gid}"),
        };
        assert!(found.contains(&own), "{own}: {found:?}");
        session.batch_execute(&end).await.unwrap();
    }
    // Others write to the same server: what matters is that both rows come once the table is read.
    let rows = loop {
        match reader.read(&request).await {
            Ok(chunk) => break chunk.rows.len(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}"),
        }
    };
    assert_eq!(rows, 2);
}

async fn pid(session: &tokio_postgres::Client) -> i32 {
    session.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}
