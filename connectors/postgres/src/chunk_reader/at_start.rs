// SPDX-License-Identifier: Apache-2.0
//! Chunks from the snapshot of the log's start.
//!
//! ```text
//! SAVEPOINT; LOCK TABLE t IN ACCESS SHARE MODE          in the transaction that holds the snapshot
//! is t still what it was in the snapshot?
//! SELECT …                                              as every chunk
//! ROLLBACK TO SAVEPOINT                                 which releases the lock
//! ```
//!
//! Between two chunks nothing keeps the table as it was. A snapshot shows old rows, but statements are read by the
//! catalogue of now, and a rewritten or truncated table shows an old snapshot no rows at all. So under each chunk's lock
//! the catalogue as the snapshot has it is compared with that of now, which RowDescription and `pg_relation_filenode` tell:
//! the table of that name, its columns, where its rows and those of its partitions lie. If anything differs, the snapshot
//! is given up, and the rest is read between marks, where lock and snapshot belong together.

use super::catalogue::{put_description, put_lock, put_query, take_description, take_rows};
use super::{PgChunkReader, chunk_rows, select};
use crate::catalog_row::{CatalogRow, Parameter, only_row};
use crate::connection::Connection;
use crate::discover::are_built_in;
use crate::position::PgPosition;
use crate::protocol::data_row::FieldDescription;
use crate::schema::TableShape;
use crate::start_snapshot::{StartSession, StartTable};
use highwater_core::connector::{ChunkRequest, ChunkRows};
use highwater_core::position::ReadView;
use highwater_core::schema::TableName;
use highwater_core::{Class, Error, ErrorKind, Result};
use postgres_protocol::message::frontend;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_postgres::types::Type;

const SAVEPOINT: &str = "SAVEPOINT chunk";
const LET_GO: &str = "ROLLBACK TO SAVEPOINT chunk; RELEASE SAVEPOINT chunk";

/// Whether the rows lie where they lay (of a partitioned table those of its partitions), the numbers of the columns in the snapshot, and the clock. Parameters: the table,
/// names of its columns.
const THEN: &str = "\
    WITH RECURSIVE tree(relid) AS (SELECT $1::oid UNION \
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.relid \
           JOIN pg_catalog.pg_class p ON p.oid = tree.relid WHERE p.relkind = 'p') \
    SELECT (SELECT pg_catalog.bool_and(pg_catalog.pg_relation_filenode(c.oid) IS NOT DISTINCT FROM \
                                       nullif(c.relfilenode, 0::oid)) \
              FROM pg_catalog.pg_class c JOIN tree ON c.oid = tree.relid), \
           ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute a \
                  WHERE a.attrelid = $1 AND a.attname::text = ANY ($2) ORDER BY a.attnum), \
           (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint";

impl PgChunkReader {
    /// Reads a chunk as of the log's start. A refusal of the server gives the snapshot up: between marks the same read says
    /// for certain what is the matter.
    pub(super) async fn read_at_start(&mut self, request: &ChunkRequest, what: &str) -> Result<ChunkRows<PgPosition>> {
        let mut session = self.start.session(&self.settings).await?;
        match self.read_in(&mut session, request, what).await {
            Ok(rows) => {
                self.start.give_back(session);
                Ok(rows)
            }
            Err(error) if error.class() == Class::User => {
                self.start.lose(error.message().to_owned());
                Err(error.with_class(Class::Retryable))
            }
            Err(error) => Err(error),
        }
    }

    async fn read_in(
        &mut self,
        session: &mut StartSession,
        request: &ChunkRequest,
        what: &str,
    ) -> Result<ChunkRows<PgPosition>> {
        let began = Instant::now();
        let known = session.tables.get(&request.table).cloned();
        let is_locked = known.is_none();
        let connection = &mut session.connection;
        let table = match known {
            Some(table) => {
                put_lock(connection, SAVEPOINT, &request.table, what)?;
                table
            }
            None => {
                let seen = self.begin(connection, SAVEPOINT, &request.table, what).await?;
                let (shape, schema) = (seen.shape, seen.schema);
                Arc::new(StartTable { shape, schema })
            }
        };
        if table.schema.key.is_empty() {
            return Err(changed(&request.table));
        }
        let time_us = unchanged(connection, &table.shape, is_locked, what).await?;
        session.tables.insert(request.table.clone(), table.clone());
        let connection = &mut session.connection;
        let fetched = self
            .fetch_scope(connection, &table.shape, &table.schema, request, what)
            .await?;
        connection.batch(LET_GO, what).await?;
        let view = ReadView::At(session.moment);
        Ok(chunk_rows(table.schema.clone(), fetched, view, time_us, began))
    }
}

/// Makes sure that the table is what it was in the snapshot; gives the server's clock. Under the lock, which is taken by
/// what was sent before unless `is_locked`.
async fn unchanged(connection: &mut Connection, shape: &TableShape, is_locked: bool, what: &str) -> Result<i64> {
    let names: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
    let parameters: [Parameter<'_>; 2] = [(&shape.oid, Type::OID), (&names, Type::TEXT_ARRAY)];
    put_query(connection, THEN, &parameters, what)?;
    put_description(connection, &select::of_columns(shape), what)?;
    frontend::sync(connection.out());
    connection.flush().await?;
    if !is_locked {
        // SAVEPOINT and LOCK, each with a CommandComplete.
        take_rows(connection, what).await?;
        take_rows(connection, what).await?;
    }
    let then = only_row(take_rows(connection, what).await?, what)?;
    let now = take_description(connection, what).await?;
    connection.take_ready(what).await?;
    let in_place = then.column::<Option<bool>>(0)?.unwrap_or_default();
    let numbers: Vec<i16> = then.column(1)?;
    if in_place && is_same(shape, &numbers, &now) {
        then.column(2)
    } else {
        Err(changed(&shape.name))
    }
}

/// Whether the columns that have these names now are those of the snapshot.
fn is_same(shape: &TableShape, numbers: &[i16], now: &[FieldDescription]) -> bool {
    let mut columns = shape.columns.iter().zip(numbers).zip(now);
    let same = columns.all(|((column, number), now)| {
        // Of a domain the server tells the type beneath it.
        let is_type = now.type_oid == column.type_oid || !are_built_in(&[column.type_oid].into());
        is_type && now.table_oid == shape.oid && i32::from(now.column) == i32::from(*number)
    });
    same && numbers.len() == shape.columns.len() && now.len() == shape.columns.len()
}

fn changed(table: &TableName) -> Error {
    Error::new(
        ErrorKind::Unsuitable,
        format!("table {table} was changed or rewritten since the snapshot of the slot"),
    )
}
