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
//!
//! On a standby nothing can be written: there a mark is the place up to which the standby has received its log.

use crate::catalog_row::{CatalogRow, Parameter, only_row};
use crate::position::PgPosition;
use crate::protocol::Lsn;
use crate::query_connection::QueryConnection;
use crate::settings::Settings;
use highwater_core::connector::WatermarkWriter;
use highwater_core::position::{MarkId, MarkPlace, RunId};
use highwater_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
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
    /// The server is a standby.
    in_recovery: bool,
}

impl PgWatermarkWriter {
    /// A writer for `run`; `in_recovery` where the server is a standby.
    pub fn new(settings: Arc<Settings>, run: RunId, in_recovery: bool) -> Self {
        let slot = settings.slot.name.clone();
        Self {
            connection: QueryConnection::new(settings, "highwater marks", SET_UP),
            slot,
            run,
            in_recovery,
        }
    }

    /// Where a mark stands on a standby, once that has replayed up to there.
    ///
    /// Nothing can be written there, and rows become visible in the order of the log, while their commit is replayed. So the
    /// place is the end of what the standby has received: a record is on its disk before it is replayed, so nothing that is
    /// visible now lies behind it, not even what is being replayed and does not count as replayed yet. And once that is
    /// replayed, all that lies before is visible to every later read. The place is given as one byte before: a commit whose
    /// record begins just there is invisible, and comes behind the mark.
    ///
    /// Without a receiver (the log comes from an archive, or the primary is gone) the next record to be replayed is waited for.
    async fn place_on_standby(&mut self) -> Result<MarkPlace<PgPosition>> {
        let begun = Instant::now();
        let first = self.replayed().await?;
        let mut now = first;
        loop {
            let reached = match first.received {
                Some(received) if received >= first.replayed => (now.replayed >= received).then_some(received),
                _ => (now.replayed > first.replayed).then_some(now.replayed),
            };
            if let Some(end) = reached {
                return Ok(MarkPlace::AtPosition(PgPosition(Lsn(end.0.saturating_sub(1)))));
            }
            if begun.elapsed() > REPLAY_WAIT_MAX {
                let what = "the standby replays no log, so a mark has no place in it";
                return Err(Error::new(ErrorKind::Unreachable, what)
                    .with("replayed", now.replayed)
                    .with_fix("see whether its primary runs, and whether replay is paused or waits for a query"));
            }
            tokio::time::sleep(REPLAY_POLL).await;
            now = self.replayed().await?;
        }
    }

    async fn replayed(&mut self) -> Result<Replayed> {
        let what = "reading how far the standby is";
        let row = only_row(self.connection.query(REPLAYED, &[], what).await?, what)?;
        Ok(Replayed {
            replayed: row.column(0)?,
            received: row.column(1)?,
        })
    }
}

/// How far a standby is.
#[derive(Debug, Clone, Copy)]
struct Replayed {
    replayed: Lsn,
    /// What it has received from a primary; `None` while none sends.
    received: Option<Lsn>,
}

/// How far the standby is.
const REPLAYED: &str = "\
    SELECT pg_catalog.pg_last_wal_replay_lsn(), \
           CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) THEN pg_catalog.pg_last_wal_receive_lsn() END";
/// How long replay is waited for before a mark is given up, to be asked for again.
const REPLAY_WAIT_MAX: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const REPLAY_POLL: Duration = Duration::from_millis(5);

impl WatermarkWriter for PgWatermarkWriter {
    type Position = PgPosition;

    async fn mark(&mut self, mark: MarkId) -> Result<MarkPlace<PgPosition>> {
        if self.in_recovery {
            return self.place_on_standby().await;
        }
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
        if self.in_recovery {
            return Ok(None);
        }
        self.connection.oldest_transaction().await.map(Some)
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
