// SPDX-License-Identifier: Apache-2.0
//! Clauses of the chunk reader.

use highwater_core::change::{ChunkId, LogItem};
use highwater_core::connector::{ChunkReader, ChunkRequest, ChunkRows, ChunkScope, SourceConnector};
use highwater_core::schema::{Key, TableName};

use crate::connector_suite::log::filled_connector;
use crate::connector_suite::{Harness, RUN, changes, collect, fill};

fn request(table: TableName, scope: ChunkScope, rows_max: u32) -> ChunkRequest {
    ChunkRequest {
        chunk: ChunkId(1),
        table,
        scope,
        rows_max,
        bytes_max: 1 << 20,
        at_start: false,
    }
}

fn range(after: Option<Key>, through: Option<Key>) -> ChunkScope {
    ChunkScope::Range {
        after,
        through,
        condition: None,
    }
}

fn keys_of<P>(rows: &ChunkRows<P>) -> Vec<Key> {
    rows.rows
        .iter()
        .map(|row| rows.schema.key_of(row).expect("a row has its key"))
        .collect()
}

/// Reads page after page, until the reader says that there is no more.
async fn page<R: ChunkReader>(
    chunks: &mut R,
    table: &TableName,
    mut after: Option<Key>,
    through: Option<Key>,
    rows_max: u32,
) -> Vec<Key> {
    let mut keys = Vec::new();
    loop {
        let rows = chunks
            .read(&request(table.clone(), range(after, through.clone()), rows_max))
            .await
            .unwrap();
        assert!(rows.rows.len() <= rows_max as usize, "more rows than asked for");
        let found = keys_of(&rows);
        assert_eq!(
            rows.last_key.as_ref(),
            found.last(),
            "the last key is not the last row's"
        );
        keys.extend(found);
        if rows.exhausted {
            return keys;
        }
        assert!(!rows.rows.is_empty(), "no row, and yet there are more");
        after = rows.last_key;
    }
}

pub(super) async fn pages_cover_every_row_once_and_in_an_order_of_their_own<H: Harness>(harness: &H) {
    let connector = filled_connector(harness, 23).await;
    let mut chunks = connector.open_chunks().await.unwrap();
    let whole = page(&mut chunks, &harness.table(), None, None, 100).await;
    for rows_max in [1, 5, 23] {
        assert_eq!(
            page(&mut chunks, &harness.table(), None, None, rows_max).await,
            whole,
            "{rows_max} rows a page"
        );
    }
    let mut sorted = whole.clone();
    sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    let mut expected: Vec<Key> = (1..=23).map(|id| harness.key(id)).collect();
    expected.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(sorted, expected, "not every row, or one twice");
}

pub(super) async fn bounds_are_exclusive_at_the_start_and_inclusive_at_the_end<H: Harness>(harness: &H) {
    let connector = filled_connector(harness, 12).await;
    let mut chunks = connector.open_chunks().await.unwrap();
    let whole = page(&mut chunks, &harness.table(), None, None, 100).await;
    let part = page(
        &mut chunks,
        &harness.table(),
        Some(whole[2].clone()),
        Some(whole[7].clone()),
        2,
    )
    .await;
    assert_eq!(part, whole[3..=7]);
}

pub(super) async fn keys_without_a_row_give_nothing<H: Harness>(harness: &H) {
    let connector = filled_connector(harness, 5).await;
    let mut chunks = connector.open_chunks().await.unwrap();
    let scope = ChunkScope::Keys(vec![harness.key(2), harness.key(77), harness.key(4)]);
    let rows = chunks.read(&request(harness.table(), scope, 3)).await.unwrap();
    let mut found = keys_of(&rows);
    found.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    let mut expected = vec![harness.key(2), harness.key(4)];
    expected.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(found, expected);
}

pub(super) async fn a_chunk_and_the_log_have_one_shape_and_equal_keys<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    let mut log = connector.open_log(None, RUN).await.unwrap();
    fill(harness, 3).await;
    let mut items = Vec::new();
    collect(&mut log, &mut items, "three changes", |items| changes(items) == 3).await;
    let mut chunks = connector.open_chunks().await.unwrap();
    let rows = chunks
        .read(&request(harness.table(), range(None, None), 10))
        .await
        .unwrap();
    let mut logged: Vec<Key> = Vec::new();
    for item in &items {
        let LogItem::Change(change) = item else { continue };
        assert_eq!(
            change.schema.fingerprint(),
            rows.schema.fingerprint(),
            "the same table in two shapes"
        );
        logged.extend(change.key());
    }
    let read = keys_of(&rows);
    assert!(
        logged.iter().all(|key| read.contains(key)),
        "a row's key has other bytes in the log than in a chunk"
    );
}

pub(super) async fn splits_cut_the_table_without_a_gap<H: Harness>(harness: &H) {
    let connector = filled_connector(harness, 40).await;
    let mut chunks = connector.open_chunks().await.unwrap();
    let starts = chunks.split(&harness.table(), 4).await.unwrap();
    assert!(
        starts.len() < 4,
        "{} starts cut the table into more than 4 parts",
        starts.len()
    );
    let whole = page(&mut chunks, &harness.table(), None, None, 100).await;
    let mut parts = Vec::new();
    for at in 0..=starts.len() {
        let after = at.checked_sub(1).map(|before| starts[before].clone());
        parts.extend(page(&mut chunks, &harness.table(), after, starts.get(at).cloned(), 100).await);
    }
    assert_eq!(parts, whole, "the parts are not the table in its order");
}

pub(super) async fn a_missing_table_is_an_error_that_names_it<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    let mut chunks = connector.open_chunks().await.unwrap();
    let missing = TableName::new(harness.table().schema, "no_such_table");
    let read = chunks.read(&request(missing, range(None, None), 1)).await;
    let message = read.expect_err("a table that does not exist was read").to_string();
    assert!(
        message.contains("no_such_table"),
        "the error does not name the table: {message}"
    );
}
