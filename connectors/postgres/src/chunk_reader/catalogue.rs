// SPDX-License-Identifier: Apache-2.0
//! Queries of the catalogue in a chunk's own session and snapshot. Their rows read as tokio-postgres' do.

use crate::catalog_row::{BinaryRow, CatalogRow, Parameter, column_types};
use crate::connection::{Connection, server_failure};
use crate::failure::protocol_error;
use crate::protocol::ProtocolError;
use crate::protocol::data_row::{FieldDescription, parse_row_description};
use crate::protocol::quoting::quote_qualified;
use highwater_core::position::TransactionSnapshot;
use highwater_core::schema::TableName;
use highwater_core::{Error, ErrorKind, Result};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use std::io;
use std::sync::Arc;
use tokio_postgres::types;
use tokio_postgres::types::Type;

/// What the snapshot sees, the server's clock in microseconds since 1970, and whether the server is a standby.
pub(super) const VIEW: &str = "SELECT pg_catalog.pg_current_snapshot()::text, \
                                      (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint, \
                                      pg_catalog.pg_is_in_recovery()";

/// The answer to [`VIEW`].
pub(super) struct View {
    pub(super) snapshot: TransactionSnapshot,
    pub(super) time_us: i64,
    pub(super) in_recovery: bool,
}

/// Runs one statement. Not cancel-safe: a connection whose query was dropped is to be dropped too.
pub(super) async fn query(
    connection: &mut Connection,
    sql: &str,
    parameters: &[Parameter<'_>],
    what: &str,
) -> Result<Vec<BinaryRow>> {
    put_query(connection, sql, parameters, what)?;
    frontend::sync(connection.out());
    connection.flush().await?;
    let rows = take_rows(connection, what).await?;
    connection.take_ready(what).await?;
    Ok(rows)
}

/// Appends what opens a transaction, or a part of one, and locks the table as a SELECT does.
pub(super) fn put_lock(connection: &mut Connection, opening: &str, table: &TableName, what: &str) -> Result<()> {
    let table = quote_qualified(&table.schema, &table.table);
    let sql = format!("{opening}; LOCK TABLE {table} IN ACCESS SHARE MODE");
    frontend::query(&sql, connection.out()).map_err(|error| Error::bug(format!("{what}: {error}")))
}

/// Appends a statement without the Sync that ends it: Parse, Bind, Describe and Execute, all in the binary format.
pub(super) fn put_query(
    connection: &mut Connection,
    sql: &str,
    parameters: &[Parameter<'_>],
    what: &str,
) -> Result<()> {
    let out = connection.out();
    let mut put = || -> io::Result<()> {
        frontend::parse("", sql, parameters.iter().map(|(_, of)| of.oid()), out)?;
        let bound = frontend::bind(
            "",
            "",
            [1],
            parameters,
            |(value, of), buffer| {
                Ok(match value.to_sql_checked(of, buffer)? {
                    types::IsNull::Yes => IsNull::Yes,
                    types::IsNull::No => IsNull::No,
                })
            },
            [1],
            out,
        );
        bound.map_err(|_| io::Error::other("parameters that cannot be sent"))?;
        frontend::describe(b'P', "", out)?;
        frontend::execute("", 0, out)
    };
    put().map_err(|error| Error::bug(format!("{what}: {error}")))
}

/// Takes messages up to and including the next CommandComplete of a statement that was sent before.
pub(super) async fn take_rows(connection: &mut Connection, what: &str) -> Result<Vec<BinaryRow>> {
    let mut rows = Vec::new();
    let mut columns: Arc<[Type]> = Arc::default();
    loop {
        let (tag, body) = connection.receive(what).await?;
        match tag {
            b'T' => {
                let described = parse_row_description(&body).and_then(|fields| column_types(&fields));
                columns = described.map_err(|error| protocol_error(error, what))?;
            }
            b'D' => rows.push(BinaryRow::parse(&columns, body, what)?),
            b'C' | b'I' => return Ok(rows),
            b'E' => return Err(server_failure(&body, what)),
            // Ends of steps and of the message before, notices, changed parameters.
            b'N' | b'S' | b'A' | b'1' | b'2' | b'3' | b'n' | b't' | b'Z' => {}
            tag => {
                let state = "in answer to a query of the catalogue";
                return Err(protocol_error(ProtocolError::Unexpected { tag, state }, what));
            }
        }
    }
}

/// Appends Parse and Describe of a statement: what it would give, without running it.
pub(super) fn put_description(connection: &mut Connection, sql: &str, what: &str) -> Result<()> {
    let out = connection.out();
    let put = frontend::parse("", sql, [], out).and_then(|()| frontend::describe(b'S', "", out));
    put.map_err(|error| Error::bug(format!("{what}: {error}")))
}

/// Takes messages up to and including the description of a statement that was sent before.
pub(super) async fn take_description(connection: &mut Connection, what: &str) -> Result<Vec<FieldDescription>> {
    loop {
        let (tag, body) = connection.receive(what).await?;
        match tag {
            b'T' => return parse_row_description(&body).map_err(|error| protocol_error(error, what)),
            b'E' => return Err(server_failure(&body, what)),
            b'N' | b'S' | b'A' | b'1' | b'2' | b'3' | b't' | b'C' | b'Z' => {}
            tag => {
                let state = "in answer to a description";
                return Err(protocol_error(ProtocolError::Unexpected { tag, state }, what));
            }
        }
    }
}

/// Reads the row of [`VIEW`].
pub(super) fn parse_view(row: &impl CatalogRow) -> Result<View> {
    let snapshot = parse_snapshot(row.column(0)?).ok_or_else(|| {
        Error::new(
            ErrorKind::CorruptMessage,
            "pg_current_snapshot() is not of the form xmin:xmax:list",
        )
    })?;
    Ok(View {
        snapshot,
        time_us: row.column(1)?,
        in_recovery: row.flag(2)?,
    })
}

/// A snapshot as the server writes it.
pub(super) fn snapshot_text(snapshot: &TransactionSnapshot) -> String {
    let in_progress: Vec<String> = snapshot.in_progress.iter().map(u64::to_string).collect();
    format!("{}:{}:{}", snapshot.xmin, snapshot.xmax, in_progress.join(","))
}

/// `xmin:xmax:xip,xip,...`, all of 64 bits and ascending.
pub(super) fn parse_snapshot(text: &str) -> Option<TransactionSnapshot> {
    let mut parts = text.split(':');
    let xmin = parts.next()?.parse().ok()?;
    let xmax = parts.next()?.parse().ok()?;
    let list = parts.next()?;
    let ids = list.split(',').filter(|id| !id.is_empty());
    let in_progress: Vec<u64> = ids.map(|id| id.parse().ok()).collect::<Option<_>>()?;
    let whole = parts.next().is_none() && in_progress.is_sorted();
    whole.then_some(TransactionSnapshot {
        xmin,
        xmax,
        in_progress,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_as_the_server_writes_them() {
        let parsed = parse_snapshot("731:740:731,735").unwrap();
        assert_eq!(snapshot_text(&parsed), "731:740:731,735");
        assert_eq!(
            (parsed.xmin, parsed.xmax, parsed.in_progress),
            (731, 740, vec![731, 735])
        );
        assert_eq!(parse_snapshot("738:738:").unwrap().in_progress, Vec::<u64>::new());
        for text in ["", "1:2", "1:2:x", "1:2:3:4", "1:2:4,3", "-1:2:"] {
            assert!(parse_snapshot(text).is_none(), "{text}");
        }
    }
}
