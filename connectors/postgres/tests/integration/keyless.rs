// SPDX-License-Identifier: Apache-2.0
//! Chunks of tables without a key: by blocks.

use crate::fixture::{Fixture, open, range, render};
use crate::on_each_major;
use highwater_core::connector::{ChunkReader, ChunkRequest, ChunkRows, ChunkScope, SourceConnector};
use highwater_core::schema::{Key, TableName};
use highwater_postgres::PgPosition;
use highwater_postgres::chunk_reader::PgChunkReader;
use std::collections::BTreeSet;

on_each_major!(
    a_walk_by_blocks_meets_every_row_that_stays_once_and_none_that_the_log_brings,
    rows_that_were_written_anew_are_not_read_by_places_of_before,
    partitions_without_a_key_are_read_through_their_root,
);

const LOOSE: &str = "CREATE TABLE loose (id int, v text); ALTER TABLE loose REPLICA IDENTITY FULL; \
                     INSERT INTO loose SELECT i, repeat('x', 200) FROM generate_series(1, 2000) i; ANALYZE loose";

async fn reader(fixture: &Fixture) -> PgChunkReader {
    let connector = fixture.connector(&["public.*"]);
    drop(open(&connector).await);
    connector.open_chunks().await.unwrap()
}

fn ids(chunk: &ChunkRows<PgPosition>) -> Vec<i32> {
    let id = |line: String| {
        let (_, behind) = line.split_once("{id=").expect("an id");
        behind[..behind.find([',', '}']).unwrap()].parse().unwrap()
    };
    chunk.rows.iter().map(|row| id(render(&chunk.schema, row))).collect()
}

/// Reads to the end from `after`; all ids, and how many reads it took.
async fn walk(reader: &mut PgChunkReader, table: &str, mut after: Option<Key>, rows_max: u32) -> (Vec<i32>, usize) {
    let (mut found, mut reads) = (Vec::new(), 0);
    loop {
        let chunk = reader.read(&range(table, after, rows_max)).await.expect("a chunk");
        found.extend(ids(&chunk));
        reads += 1;
        if chunk.exhausted {
            return (found, reads);
        }
        after = chunk.last_key;
    }
}

async fn a_walk_by_blocks_meets_every_row_that_stays_once_and_none_that_the_log_brings(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql(LOOSE).await;
    let mut reader = reader(&fixture).await;
    for rows_max in [100, 700, 100_000] {
        let (found, reads) = walk(&mut reader, "loose", None, rows_max).await;
        assert_eq!(found.len(), 2_000);
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 2_000);
        // A server without scans of ranges reads no more than 64 blocks at once, which are 59 here.
        assert_eq!(reads == 1, rows_max == 100_000, "{reads} reads of {rows_max}");
    }
    let first = reader.read(&range("loose", None, 100)).await.unwrap();
    let begun = ids(&first);
    // Everything that was not read yet is changed, deleted or moved; some of it goes to blocks that were read.
    fixture
        .sql("DELETE FROM loose WHERE id % 3 = 0; UPDATE loose SET v = 'new' WHERE id % 3 = 1; INSERT INTO loose VALUES (9999, 'new')")
        .await;
    fixture.sql("VACUUM loose").await;
    fixture
        .sql("INSERT INTO loose SELECT i, 'new' FROM generate_series(10000, 10100) i")
        .await;
    let (rest, _) = walk(&mut reader, "loose", first.last_key.clone(), 100).await;
    let expected: BTreeSet<i32> = (1..=2_000).filter(|id| id % 3 == 2 && !begun.contains(id)).collect();
    assert_eq!(rest.len(), expected.len());
    assert_eq!(rest.into_iter().collect::<BTreeSet<_>>(), expected);
    // The first chunk read again, up to its end, leaves out what is new since it was read first.
    let again = ChunkRequest {
        scope: ChunkScope::Range {
            after: None,
            through: first.last_key,
            condition: Some("id < 1000000".into()),
        },
        ..range("loose", None, 100_000)
    };
    let again = reader.read(&again).await.unwrap();
    assert!(again.exhausted);
    assert_eq!(
        ids(&again),
        begun.into_iter().filter(|id| id % 3 == 2).collect::<Vec<_>>()
    );
    assert!(
        reader
            .split(&TableName::new("public", "loose"), 4)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn rows_that_were_written_anew_are_not_read_by_places_of_before(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql(LOOSE).await;
    let mut reader = reader(&fixture).await;
    for rewrite in [
        "VACUUM FULL loose",
        "ALTER TABLE loose ALTER id TYPE bigint USING id; ALTER TABLE loose ALTER id TYPE int",
    ] {
        let first = reader.read(&range("loose", None, 100)).await.unwrap();
        fixture.sql(rewrite).await;
        let chunk = reader.read(&range("loose", first.last_key.clone(), 100)).await.unwrap();
        assert!(chunk.rows.is_empty() && !chunk.exhausted, "{rewrite}");
        let part = |key: Option<Key>| key.unwrap().columns().unwrap()[0].map(<[u8]>::to_vec);
        assert_ne!(part(chunk.last_key), part(first.last_key), "{rewrite}: other files");
        let (found, _) = walk(&mut reader, "loose", None, 500).await;
        assert_eq!(found.len(), 2_000, "{rewrite}: all rows of the copy that begins anew");
    }
}

async fn partitions_without_a_key_are_read_through_their_root(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id); \
             CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (500); \
             CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (500) TO (5000); \
             ALTER TABLE parts REPLICA IDENTITY FULL; ALTER TABLE parts_1 REPLICA IDENTITY FULL; \
             ALTER TABLE parts_2 REPLICA IDENTITY FULL; \
             INSERT INTO parts SELECT i, repeat('x', 100) FROM generate_series(1, 1999) i",
        )
        .await;
    let mut reader = reader(&fixture).await;
    let (found, reads) = walk(&mut reader, "parts", None, 300).await;
    assert_eq!(found.len(), 1_999);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 1_999);
    assert!(reads > 2, "{reads}");
    let first = reader.read(&range("parts", None, 300)).await.unwrap();
    fixture
        .sql(
            "CREATE TABLE parts_3 (id int, v text); INSERT INTO parts_3 VALUES (7000, 'came with it'); \
             ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM (5000) TO (9000)",
        )
        .await;
    let chunk = reader.read(&range("parts", first.last_key, 300)).await.unwrap();
    assert!(chunk.rows.is_empty() && !chunk.exhausted, "the copy begins anew");
    let (found, _) = walk(&mut reader, "parts", None, 300).await;
    assert!(found.contains(&7_000) && found.len() == 2_000);
}
