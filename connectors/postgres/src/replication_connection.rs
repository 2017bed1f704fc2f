// SPDX-License-Identifier: Apache-2.0
//! The walsender's side of a connection: replication commands, then the stream.

use crate::connection::{Connection, Purpose, TextRow, server_failure};
use crate::failure::{INTERNAL_ERROR, OBJECT_IN_USE, protocol_error, sqlstate};
use crate::log_reader::text_rows::TEXT_FORM;
use crate::protocol::framing::FrameBatch;
use crate::protocol::replication::{
    IDENTIFY_SYSTEM, POSTGRES_EPOCH_UNIX_US, SlotOptions, SlotSnapshot, StartReplication, StatusUpdate, StreamMessage,
    alter_slot_command, create_slot_command, drop_slot_command, parse_stream_message,
};
use crate::protocol::{Lsn, ProtocolError};
use crate::server_version::ServerVersion;
use crate::settings::Settings;
use crate::start_snapshot::without_limits;
use highwater_core::{Class, Error, ErrorKind, Result};
use postgres_protocol::message::frontend;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// How long a slot's present user is waited for: the server may not have missed our own predecessor yet.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(5);
const SLOT_WAIT_STEP: Duration = Duration::from_millis(50);

/// How long the first bytes of a timeline are waited for: they are there, unless the server was promoted just now.
const FIRST_BYTES_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often it is told that a slot that is being made waits. A primary that has something to do tells its standbys every 15 s
/// which transactions run.
const RUNNING_XACTS_TOLD: Duration = Duration::from_secs(20);

/// Who the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Unique to the cluster.
    pub system_id: String,
    /// Raised by each promotion.
    pub timeline: u32,
    /// How far the log is flushed.
    pub position: Lsn,
}

/// A slot that was just created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// From here on it sends every change.
    pub position: Lsn,
    /// The name of the snapshot of that moment, if it was exported: until this connection's next command.
    pub snapshot: Option<String>,
}

/// A connection that takes replication commands.
#[derive(Debug)]
pub struct ReplicationConnection {
    connection: Connection,
}

impl ReplicationConnection {
    /// Connects to the walsender of the settings' database.
    pub async fn open(settings: &Settings) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(settings, Purpose::Replication, "highwater log").await?,
        })
    }

    /// The server's version, for what differs between versions.
    pub fn server_version(&self) -> ServerVersion {
        self.connection.server_version()
    }

    /// Asks who the server is.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity> {
        let what = "identifying the server";
        let rows = self.connection.batch(IDENTIFY_SYSTEM, what).await?;
        Ok(SystemIdentity {
            system_id: first_row(&rows, 0, what)?,
            timeline: first_row(&rows, 1, what)?,
            position: first_row(&rows, 2, what)?,
        })
    }

    /// The history file of a timeline behind the first.
    pub(crate) async fn timeline_history(&mut self, timeline: u32) -> Result<String> {
        let what = format!("reading the history of timeline {timeline}");
        let rows = self
            .connection
            .batch(&format!("TIMELINE_HISTORY {timeline}"), &what)
            .await?;
        first_row(&rows, 1, &what)
    }

    /// The first `count` bytes of the log itself from `begin` on; `None` where the server has recycled them, or has not
    /// that many yet.
    pub(crate) async fn first_bytes(mut self, timeline: u32, begin: Lsn, count: usize) -> Result<Option<Vec<u8>>> {
        let what = format!("reading the begin of timeline {timeline}");
        let command = format!("START_REPLICATION PHYSICAL {begin} TIMELINE {timeline}");
        match self.try_start(&command, &what).await {
            Err(error) if error.kind() == ErrorKind::PositionLost => return Ok(None),
            started => started?,
        }
        let reading = async {
            let mut bytes = Vec::new();
            while bytes.len() < count {
                let (tag, body) = self.connection.receive(&what).await?;
                match tag {
                    b'd' => {
                        let message = parse_stream_message(&body).map_err(|error| protocol_error(error, &what))?;
                        if let StreamMessage::XLogData(data) = message {
                            bytes.extend(data.payload);
                        }
                    }
                    // A file that went while it was opened is told only here.
                    b'E' => match server_failure(&body, &what) {
                        error if error.kind() == ErrorKind::PositionLost => return Ok(None),
                        error => return Err(error),
                    },
                    b'N' | b'S' => {}
                    _ => return Ok(None),
                }
            }
            bytes.truncate(count);
            Ok(Some(bytes))
        };
        tokio::time::timeout(FIRST_BYTES_WAIT_MAX, reading)
            .await
            .unwrap_or(Ok(None))
    }

    /// Creates the slot. Waits for transactions that run now; on a
    /// standby (`in_recovery`) also for the primary to tell which run.
    pub async fn create_slot(
        &mut self,
        name: &str,
        snapshot: SlotSnapshot,
        options: SlotOptions,
        in_recovery: bool,
    ) -> Result<CreatedSlot> {
        let version = self.connection.server_version();
        let command = create_slot_command(name, false, snapshot, options, version);
        let what = format!("creating replication slot \"{name}\"");
        if snapshot == SlotSnapshot::Export {
            // This session is idle in the transaction that exports it until its next command.
            self.connection.batch(without_limits(version), &what).await?;
        }
        let creating = self.connection.batch(&command, &what);
        tokio::pin!(creating);
        let rows = loop {
            match tokio::time::timeout(RUNNING_XACTS_TOLD, &mut creating).await {
                Ok(created) => break created?,
                Err(_) if in_recovery => tracing::warn!(
                    slot = %name,
                    "the slot waits for the primary to tell which transactions run, and for these to end; an idle primary tells \
                     nothing by itself: run SELECT pg_log_standby_snapshot() there"
                ),
                Err(_) => tracing::warn!(slot = %name, "the slot waits for transactions to end that run since before"),
            }
        };
        Ok(CreatedSlot {
            position: first_row(&rows, 1, &what)?,
            snapshot: rows.into_iter().next().and_then(|row| row.into_iter().nth(2).flatten()),
        })
    }

    /// Has standbys keep the slot in step from now on. One that is in use is waited for a few seconds.
    pub async fn keep_in_step(&mut self, name: &str) -> Result<()> {
        let what = format!("making replication slot \"{name}\" one that outlives a failover");
        let command = alter_slot_command(name);
        let altering = self.connection.batch(&command, &what);
        match tokio::time::timeout(SLOT_WAIT_MAX, altering).await {
            Ok(altered) => altered.map(|_| ()),
            Err(_) => Err(Error::new(ErrorKind::Unsuitable, format!("{what}: the slot is in use"))
                .with_class(Class::Retryable)
                .with_fix("stop its other user, or choose another name in `slot.name`")),
        }
    }

    /// Drops the slot, after its present user has let go of it.
    pub async fn drop_slot(&mut self, name: &str) -> Result<()> {
        let command = drop_slot_command(name, true);
        self.connection
            .batch(&command, &format!("dropping replication slot \"{name}\""))
            .await
            .map(|_| ())
    }

    /// Settles the text of values, for a server that sends no other form.
    pub async fn settle_text(&mut self) -> Result<()> {
        self.connection
            .batch(TEXT_FORM, "setting up a stream of text")
            .await
            .map(|_| ())
    }

    /// Begins to stream. A slot that is in use is waited for a few seconds.
    pub async fn start(mut self, start: &StartReplication<'_>) -> Result<ReplicationStream> {
        let what = format!("streaming from replication slot \"{}\"", start.slot);
        let deadline = Instant::now() + SLOT_WAIT_MAX;
        loop {
            match self.try_start(&start.command(), &what).await {
                Err(error) if sqlstate(&error) == Some(OBJECT_IN_USE) && Instant::now() < deadline => {
                    self.connection.take_ready(&what).await?;
                    tokio::time::sleep(SLOT_WAIT_STEP).await;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    let connection = self.connection;
                    return Ok(ReplicationStream {
                        connection,
                        what,
                        written: start.start,
                        flushed: Lsn::ZERO,
                    });
                }
            }
        }
    }

    async fn try_start(&mut self, command: &str, what: &str) -> Result<()> {
        let invalid = |_| ProtocolError::Malformed {
            message: "START_REPLICATION",
            what: "zero byte in a name",
        };
        frontend::query(command, self.connection.out()).map_err(|error| protocol_error(invalid(error), what))?;
        self.connection.flush().await?;
        loop {
            let (tag, body) = self.connection.receive(what).await?;
            match tag {
                b'W' => return Ok(()),
                b'E' => return Err(server_failure(&body, what)),
                b'N' | b'S' => {}
                tag => {
                    let state = "in answer to START_REPLICATION";
                    return Err(protocol_error(ProtocolError::Unexpected { tag, state }, what));
                }
            }
        }
    }
}

/// A stream of changes.
#[derive(Debug)]
pub struct ReplicationStream {
    connection: Connection,
    what: String,
    written: Lsn,
    flushed: Lsn,
}

impl ReplicationStream {
    /// The server's version, for what differs between versions.
    pub fn server_version(&self) -> ServerVersion {
        self.connection.server_version()
    }

    /// What this stream is doing, for messages.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Takes every message that has arrived, waiting for at least one. Cancel-safe.
    pub async fn read_frames(&mut self) -> Result<FrameBatch> {
        self.connection.receive_batch(&self.what).await
    }

    /// Notes that everything before `position` was received.
    pub fn received(&mut self, position: Lsn) {
        self.written = self.written.max(position);
    }

    /// Notes that everything before `position` is durable at our side; the next status update says so.
    pub fn acknowledged(&mut self, position: Lsn) {
        self.flushed = self.flushed.max(position);
        self.received(position);
    }

    /// Sends a status update; with `reply`, the server answers at once with how far it is. Cancel-safe.
    pub async fn send_status(&mut self, reply: bool) -> Result<()> {
        let update = StatusUpdate {
            written: self.written,
            flushed: self.flushed,
            sent_us: postgres_now_us(),
            reply_requested: reply,
        };
        update.encode(self.connection.out());
        self.connection.flush().await
    }
}

/// A column of the one row that answers a replication command, from its text form.
fn first_row<T: FromStr>(rows: &[TextRow], column: usize, what: &str) -> Result<T> {
    let text = rows.first().and_then(|row| row.get(column)?.as_deref());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let what = format!("{what}: column {} of the answer is not what was asked for", column + 1);
        Error::new(ErrorKind::CorruptMessage, what)
    })
}

/// The error in an ErrorResponse that ended a stream.
pub(crate) fn stream_failure(body: &[u8], what: &str) -> Error {
    let error = server_failure(body, what);
    match sqlstate(&error) {
        Some(INTERNAL_ERROR) => error.with_fix(
            "upgrade the server to its newest minor release; `streaming: off` avoids errors of some releases in large \
             transactions that change tables and roll that back",
        ),
        _ => error,
    }
}

/// Microseconds since 2000-01-01 UTC. The server only shows it.
fn postgres_now_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros())
        .unwrap_or(i64::MAX)
        .saturating_sub(POSTGRES_EPOCH_UNIX_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_inside_of_the_server_names_what_avoids_it() {
        let fix = |body: &[u8]| stream_failure(body, "streaming").fix().map(str::to_owned);
        let internal = fix(b"SERROR\0CXX000\0Mcould not map filenode\0\0").unwrap();
        assert!(internal.contains("streaming: off"), "{internal}");
        assert_eq!(fix(b"SERROR\0C57P01\0Mterminating\0\0"), None);
    }
}
