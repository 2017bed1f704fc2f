// SPDX-License-Identifier: Apache-2.0
//! Version 13 sends values as text: what leaves the reader is the binary form all the same.

use crate::fixture::{Fixture, changes, lines, open, range, read_commits};
use crate::on_majors;
use crate::types::everyday_values_come_alike_from_log_and_chunk;
use highwater_core::connector::{ChunkReader, LogReader, SourceConnector};
use highwater_core::{Class, ErrorKind};

const TEXT_MAJOR: u16 = 13;

#[tokio::test]
async fn everyday_values_that_came_as_text_are_those_of_a_chunk() {
    on_majors(vec![TEXT_MAJOR], everyday_values_come_alike_from_log_and_chunk).await;
}

#[tokio::test]
async fn every_image_keeps_what_it_lacks() {
    on_majors(vec![TEXT_MAJOR], every_image_keeps_what_it_lacks_on).await;
}

async fn every_image_keeps_what_it_lacks_on(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE plain (id int PRIMARY KEY, big text, n int); \
             CREATE TABLE whole (id int PRIMARY KEY, big text, n int); \
             ALTER TABLE plain ALTER big SET STORAGE EXTERNAL; ALTER TABLE whole ALTER big SET STORAGE EXTERNAL; \
             ALTER TABLE whole REPLICA IDENTITY FULL",
        )
        .await;
    let connector = fixture.connector(&["public.plain", "public.whole"]);
    let mut log = open(&connector).await;
    for table in ["plain", "whole"] {
        fixture
            .sql(&format!(
                "BEGIN; INSERT INTO {table} VALUES (1, repeat('x', 5000), NULL); UPDATE {table} SET n = 7; \
                 UPDATE {table} SET id = 2, big = 'y'; DELETE FROM {table}; TRUNCATE {table}; COMMIT"
            ))
            .await;
    }
    let items = read_commits(&mut log, 2).await;
    let big = "x".repeat(5000);
    let expected = [
        format!("Create plain -> {{id=1,big={big},n=null}}"),
        "Update plain -> {id=1,big=unchanged,n=7}".to_owned(),
        "Update plain {id=1} -> {id=2,big=y,n=7}".to_owned(),
        "Delete plain {id=2}".to_owned(),
        "Truncate plain".to_owned(),
        format!("Create whole -> {{id=1,big={big},n=null}}"),
        format!("Update whole {{id=1,big={big},n=null}} -> {{id=1,big={big},n=7}}"),
        format!("Update whole {{id=1,big={big},n=7}} -> {{id=2,big=y,n=7}}"),
        "Delete whole {id=2,big=y,n=7}".to_owned(),
        "Truncate whole".to_owned(),
    ];
    assert_eq!(lines(&items), expected);
}

#[tokio::test]
async fn rows_of_many_shapes_and_sizes_keep_their_order() {
    on_majors(vec![TEXT_MAJOR], rows_of_many_shapes_and_sizes_keep_their_order_on).await;
}

async fn rows_of_many_shapes_and_sizes_keep_their_order_on(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY, v text)").await;
    let connector = fixture.connector(&["public.movies"]);
    let mut log = open(&connector).await;
    fixture
        .sql("INSERT INTO movies SELECT n, repeat('x', n % 700) FROM generate_series(1, 3000) n")
        .await;
    fixture
        .sql("ALTER TABLE movies ADD COLUMN rating numeric(3,1); INSERT INTO movies VALUES (3001, repeat('y', 3000000), 9.5)")
        .await;
    fixture
        .sql("ALTER TABLE movies DROP COLUMN v; INSERT INTO movies VALUES (3002, 1.5)")
        .await;
    let items = read_commits(&mut log, 3).await;
    let keys: Vec<_> = changes(&items).iter().filter_map(|change| change.key()).collect();
    let chunk = connector.open_chunks().await.unwrap();
    let rows = { chunk }.read(&range("movies", None, 10_000)).await.unwrap();
    let expected: Vec<_> = rows.rows.iter().filter_map(|row| rows.schema.key_of(row)).collect();
    assert_eq!(
        keys, expected,
        "the log's order is the keys', byte by byte those of the chunk"
    );
    assert_eq!(changes(&items).last().unwrap().after.as_ref(), rows.rows.last());
}

#[tokio::test]
async fn a_type_that_no_longer_reads_its_text_is_told_without_the_value() {
    on_majors(vec![TEXT_MAJOR], a_type_that_no_longer_reads_its_text_on).await;
}

async fn a_type_that_no_longer_reads_its_text_on(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TYPE mood AS ENUM ('dismal'); CREATE DOMAIN small AS int; \
             CREATE TABLE people (id int PRIMARY KEY, moods mood[], n small)",
        )
        .await;
    let connector = fixture.connector(&["public.people"]);
    let mut log = open(&connector).await;
    fixture
        .sql(
            "INSERT INTO people VALUES (1, NULL, 1000); DELETE FROM people; \
             ALTER DOMAIN small ADD CONSTRAINT low CHECK (VALUE < 10)",
        )
        .await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(
        changes(&items).len(),
        2,
        "a row that is older than a domain's constraint is a row still"
    );
    fixture
        .sql("INSERT INTO people VALUES (2, '{dismal}', 1); ALTER TYPE mood RENAME VALUE 'dismal' TO 'glum'")
        .await;
    let error = loop {
        if let Err(error) = log.next(&mut Vec::new()).await {
            break error;
        }
    };
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::UnsupportedValue, Class::User)
    );
    let told = format!("{error} {error:?} {:?}", error.fix());
    assert!(told.contains("public.people") && !told.contains("dismal"), "{told}");
}
