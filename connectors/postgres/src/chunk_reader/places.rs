// SPDX-License-Identifier: Apache-2.0
//! Chunks of a table without a key: its rows by the blocks they lie in (`ctid`).
//!
//! ```text
//! first read: snapshot S, blocks 0 to E      every read: rows of blocks a to b that S saw come into being (xmin), and
//!                                            that its own snapshot still sees
//! ```
//!
//! Why that is enough: a row version never moves but by a rewrite. A version that S did not see is of a transaction that
//! committed after S was taken, so the log, which began before, brings it: the chunks leave it out. A version that S saw
//! lies below E, and is read by exactly one chunk, unless it is gone by then, which the log tells. What goes between
//! a chunk's read and its leaving is taken out by the engine.
//!
//! A rewrite (VACUUM FULL, CLUSTER, TRUNCATE, ALTER TABLE) gives the table other files, and a partition that comes or goes
//! another set of them. Places of before mean nothing then; the place says which files it is of, and the engine begins the
//! copy anew, with another S.
//!
//! Of a sub-transaction that ran when S was taken, and on a standby of any transaction, S does not say so: what it wrote comes
//! from the log and from a chunk. Ids of transactions are compared in the 32 bits that a row has: once a server has used more,
//! and where the log leaves rows out by origin, nothing is left out here, and rows that came into being during the copy may
//! come twice.

use super::catalogue::{parse_snapshot, query, snapshot_text};
use super::select::{self, parenthesised};
use super::{Bounds, Fetched, PgChunkReader, Seen, chunk_rows};
use crate::catalog_row::{CatalogRow, only_row};
use crate::connection::Connection;
use crate::position::PgPosition;
use crate::stream_settings::OriginFilter;
use highwater_core::connector::{ChunkRequest, ChunkRows, ChunkScope};
use highwater_core::position::TransactionSnapshot;
use highwater_core::schema::Key;
use highwater_core::{Error, ErrorKind, Result};
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// Rows in a block where the server has no estimate.
const ROWS_PER_BLOCK: u64 = 64;
/// Blocks of one read where every place in them is named, since the server has no scan of a range of them.
const NAMED_BLOCKS_MAX: u64 = 64;

/// The files of a table, or of all its partitions: which they are, blocks of the longest, rows and bytes of all.
const FILES: &str = "\
    SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(l.oid || ':' || pg_catalog.pg_relation_filenode(l.oid), ',' \
                                                         ORDER BY l.oid), '')), \
           coalesce(max(pg_catalog.pg_relation_size(l.oid) / pg_catalog.current_setting('block_size')::bigint), 0)::bigint, \
           coalesce(sum(greatest(l.reltuples, 0)), 0)::bigint, coalesce(sum(pg_catalog.pg_table_size(l.oid)), 0)::bigint \
      FROM pg_catalog.pg_class l \
     WHERE l.relkind = 'r' AND (l.oid = $1 OR l.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1) t))";

struct Files {
    which: String,
    blocks: u64,
    rows: u64,
    bytes: u64,
}

/// Between blocks of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// Which files.
    files: String,
    /// Rows in blocks before were read.
    block: u64,
    /// The blocks end here that were there when the copy began.
    end: u64,
    /// What was visible then.
    seen: TransactionSnapshot,
}

impl Place {
    fn key(&self) -> Key {
        let seen = snapshot_text(&self.seen);
        let numbers = [self.block.to_be_bytes(), self.end.to_be_bytes()];
        Key::from_columns(&[
            Some(self.files.as_bytes()),
            Some(numbers[0].as_slice()),
            Some(numbers[1].as_slice()),
            Some(seen.as_bytes()),
        ])
    }

    fn of(key: &Key) -> Result<Self> {
        let read = || {
            let columns = key.columns()?;
            let [Some(files), Some(block), Some(end), Some(seen)] = columns.as_slice() else {
                return None;
            };
            Some(Self {
                files: std::str::from_utf8(files).ok()?.to_owned(),
                block: u64::from_be_bytes((*block).try_into().ok()?),
                end: u64::from_be_bytes((*end).try_into().ok()?),
                seen: parse_snapshot(std::str::from_utf8(seen).ok()?)?,
            })
        };
        read().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsuitable,
                "a place of a table without a key cannot be read: did it have one before?",
            )
            .with_fix("take a new snapshot of the table")
        })
    }
}

impl PgChunkReader {
    /// Reads the next blocks of a table without a key.
    pub(super) async fn read_places(
        &mut self,
        connection: &mut Connection,
        request: &ChunkRequest,
        seen: Seen,
        began: Instant,
        what: &str,
    ) -> Result<ChunkRows<PgPosition>> {
        let files = self.files(connection, &seen, what).await?;
        let ChunkScope::Range {
            after,
            through,
            condition,
        } = &request.scope
        else {
            let what = format!("rows of table {} cannot be read by key: it has none", request.table);
            return Err(Error::new(ErrorKind::Unsuitable, what).with_fix("give a condition instead of keys"));
        };
        let (after, through) = (after.as_ref().map(Place::of), through.as_ref().map(Place::of));
        let (after, through) = (after.transpose()?, through.transpose()?);
        // The first chunk that is read again has its beginning from its end.
        let known = after.as_ref().or(through.as_ref());
        let origin = Place {
            files: files.which.clone(),
            block: 0,
            end: known.map_or(files.blocks, |place| place.end),
            seen: known.map_or_else(|| seen.snapshot.clone(), |place| place.seen.clone()),
        };
        let moved = known.is_some_and(|place| place.files != files.which);
        let from = after.as_ref().map_or(0, |place| place.block);
        let last = through.as_ref().map_or(origin.end, |place| place.block);
        let range_scans = connection.server_version().scans_block_ranges();
        let to = last.min(from.saturating_add(files.blocks_for(request, range_scans)));
        let mut fetched = Fetched::default();
        // Nothing is read by places that mean nothing: the engine learns of it by the place that comes back.
        if !moved && from < to {
            let mut conditions = vec![block_range(from, to, range_scans)];
            conditions.extend(self.came_before(&origin.seen));
            conditions.extend(condition.as_deref().map(parenthesised));
            let select = select::of_places(&seen.shape, &seen.schema, conditions);
            let bounds = Bounds {
                rows_max: i32::MAX as u32,
                bytes_max: u64::MAX,
            };
            fetched = self.fetch(connection, &select, bounds, Some(64), what).await?;
        }
        connection.batch("COMMIT", what).await?;
        Ok(ChunkRows {
            last_key: Some(Place { block: to, ..origin }.key()),
            exhausted: !moved && to >= last,
            ..chunk_rows(seen.schema, fetched, seen.view, seen.time_us, began)
        })
    }

    async fn files(&self, connection: &mut Connection, seen: &Seen, what: &str) -> Result<Files> {
        let row = only_row(
            query(connection, FILES, &[(&seen.shape.oid, Type::OID)], what).await?,
            what,
        )?;
        let count = |column| Ok(u64::try_from(row.column::<i64>(column)?).unwrap_or_default());
        Ok(Files {
            which: row.column(0)?,
            blocks: count(1)?,
            rows: count(2)?,
            bytes: count(3)?,
        })
    }

    /// The condition that a row version was there when the copy began, where ids of transactions can say so.
    fn came_before(&self, seen: &TransactionSnapshot) -> Option<String> {
        let comparable = seen.xmax <= u64::from(u32::MAX) && self.settings.origin == OriginFilter::Any;
        let seen = snapshot_text(seen);
        comparable.then(|| format!("pg_catalog.pg_visible_in_snapshot(xmin::text::xid8, '{seen}')"))
    }
}

impl Files {
    /// How many blocks hold about as much as is wanted.
    fn blocks_for(&self, request: &ChunkRequest, range_scans: bool) -> u64 {
        let blocks = self.blocks.max(1);
        let rows = if self.rows == 0 {
            ROWS_PER_BLOCK
        } else {
            self.rows.div_ceil(blocks)
        };
        let by_rows = u64::from(request.rows_max) / rows;
        let by_bytes = request.bytes_max / self.bytes.div_ceil(blocks).max(1);
        let most = if range_scans {
            u64::from(u32::MAX)
        } else {
            NAMED_BLOCKS_MAX
        };
        by_rows.min(by_bytes).clamp(1, most)
    }
}

/// The condition that a row lies in these blocks. Where the server has no scan of a range it gets each place in them.
fn block_range(from: u64, to: u64, range_scans: bool) -> String {
    if range_scans {
        // The last block number of all is none of a block.
        let to = to.min(u64::from(u32::MAX - 1));
        return format!("ctid >= '({from},0)' AND ctid < '({to},0)'");
    }
    let last = to - 1;
    format!(
        "ctid = ANY (ARRAY(SELECT pg_catalog.format('(%s,%s)', b, o)::tid FROM pg_catalog.generate_series({from}, {last}) b, \
         pg_catalog.generate_series(1, (pg_catalog.current_setting('block_size')::int - 24) / 28) o))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files(blocks: u64, rows: u64, bytes: u64) -> Files {
        let which = String::new();
        Files {
            which,
            blocks,
            rows,
            bytes,
        }
    }

    #[test]
    fn a_read_takes_as_many_blocks_as_hold_what_is_wanted() {
        let mut request = ChunkRequest {
            chunk: highwater_core::change::ChunkId(1),
            table: highwater_core::schema::TableName::new("s", "t"),
            scope: ChunkScope::Keys(Vec::new()),
            rows_max: 1_000,
            bytes_max: 1 << 20,
            at_start: false,
        };
        assert_eq!(files(100, 10_000, 819_200).blocks_for(&request, true), 10);
        assert_eq!(files(100, 10_000, 100 << 20).blocks_for(&request, true), 1, "by bytes");
        assert_eq!(files(0, 0, 0).blocks_for(&request, true), 1_000 / ROWS_PER_BLOCK);
        request.rows_max = 1_000_000;
        assert_eq!(files(100, 100, 8_192).blocks_for(&request, false), NAMED_BLOCKS_MAX);
    }

    #[test]
    fn a_range_is_named_as_the_server_can_scan_it() {
        assert_eq!(block_range(3, 7, true), "ctid >= '(3,0)' AND ctid < '(7,0)'");
        assert!(block_range(3, 7, false).contains("generate_series(3, 6)"));
    }

    proptest! {
        #[test]
        fn places_read_back_and_foreign_bytes_are_none(files: String, block: u64, end: u64, xmin: u64, bytes: Vec<u8>) {
            let seen = TransactionSnapshot { xmin, xmax: xmin.saturating_add(9), in_progress: vec![xmin] };
            let place = Place { files, block, end, seen };
            prop_assert_eq!(Place::of(&place.key()).unwrap(), place);
            prop_assert!(Place::of(&Key::from_bytes(bytes.into())).is_err());
        }
    }
}
