// SPDX-License-Identifier: Apache-2.0
//! Marks in the log: small logical messages, no table needed.
//!
//! A mark is written in a transaction of its own, because the log delivers a transactional message as soon as its commit
//! is flushed, where a non-transactional one waits for the WAL writer. The session does not wait for synchronous
//! standbys (`synchronous_commit = local`): a mark need not survive a failover, the run does not either.
//!
//! A server of version 13 writes the same messages and does not deliver them. There the mark is the place of its message,
//! which lies behind every commit that was made before, and the log passes it with the end of the message's own transaction,
//! which is delivered although it is empty: also where nobody writes.

use crate::catalog_row::{CatalogRow, FullXid, Parameter, only_row};
use crate::position::PgPosition;
use crate::query_connection::QueryConnection;
use crate::settings::Settings;
use highwater_core::connector::WatermarkWriter;
use highwater_core::position::{MarkId, MarkPlace, RunId};
use highwater_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio_postgres::types::Type;

/// The prefix of our messages.
pub const MARK_PREFIX: &str = "highwater.mark";
/// The form of a mark's content.
const MARK_VERSION: &str = "1";
/// Run on each session of the writer. A mark that takes longer is written anew.
const SET_UP: &str = "SET synchronous_commit = local; SET statement_timeout = '60s'";

/// Writes the marks of one run.
#[derive(Debug)]
pub struct PgWatermarkWriter {
    connection: QueryConnection,
    slot: String,
    run: RunId,
}

impl PgWatermarkWriter {
    /// A writer for `run`.
    pub fn new(settings: Arc<Settings>, run: RunId) -> Self {
        let slot = settings.slot.name.clone();
        Self {
            connection: QueryConnection::new(settings, "highwater marks", SET_UP),
            slot,
            run,
        }
    }
}

impl WatermarkWriter for PgWatermarkWriter {
    type Position = PgPosition;

    async fn mark(&mut self, mark: MarkId) -> Result<MarkPlace<PgPosition>> {
        let content = encode_mark(&self.slot, self.run, mark);
        let sql = "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)";
        let parameters: [Parameter<'_>; 2] = [(&MARK_PREFIX, Type::TEXT), (&content, Type::TEXT)];
        let what = "writing a mark into the log";
        let row = only_row(self.connection.query(sql, &parameters, what).await?, what)?;
        if self.connection.server_version().await?.sends_messages() {
            return Ok(MarkPlace::InLog(mark));
        }
        Ok(MarkPlace::AtPosition(PgPosition(row.column(0)?)))
    }

    async fn visibility_horizon(&mut self) -> Result<Option<u64>> {
        let sql = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())";
        let what = "reading the oldest transaction in progress";
        let row = only_row(self.connection.query(sql, &[], what).await?, what)?;
        Ok(Some(row.column::<FullXid>(0)?.0))
    }
}

fn encode_mark(slot: &str, run: RunId, mark: MarkId) -> String {
    format!("{MARK_VERSION} {slot} {run} {}", mark.0)
}

/// Whose mark a message of our prefix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Of this run.
    Ours(MarkId),
    /// Of another run, slot or version.
    Foreign,
}

/// Reads the content of a message with our prefix. Only one that bears our own slot and run and is malformed all the
/// same is an error.
pub(crate) fn decode_mark(content: &[u8], slot: &str, run: RunId) -> Result<Mark> {
    let Ok(text) = std::str::from_utf8(content) else {
        return Ok(Mark::Foreign);
    };
    let Some(number) = text.strip_prefix(&format!("{MARK_VERSION} {slot} {run} ")) else {
        return Ok(Mark::Foreign);
    };
    number.parse().map(|number| Mark::Ours(MarkId(number))).map_err(|_| {
        Error::new(ErrorKind::CorruptMessage, "a mark of this run in the log has no number").with("slot", slot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn own_marks_are_known_and_all_others_are_foreign() {
        let (run, other) = (RunId(7), RunId(8));
        let content = encode_mark("hw", run, MarkId(42));
        let decode = |content: &str, slot, run| decode_mark(content.as_bytes(), slot, run);
        assert_eq!(decode(&content, "hw", run).unwrap(), Mark::Ours(MarkId(42)));
        assert_eq!(decode(&content, "hw", other).unwrap(), Mark::Foreign);
        assert_eq!(decode(&content, "hw2", run).unwrap(), Mark::Foreign);
        assert_eq!(decode("2 hw", "hw", run).unwrap(), Mark::Foreign);
        assert_eq!(decode_mark(&[0xFF], "hw", run).unwrap(), Mark::Foreign);
        let damaged = format!("{content}x");
        assert_eq!(
            decode(&damaged, "hw", run).unwrap_err().kind(),
            ErrorKind::CorruptMessage
        );
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(content: Vec<u8>) {
            let _ = decode_mark(&content, "hw", RunId(1));
        }
    }
}
