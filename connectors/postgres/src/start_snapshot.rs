// SPDX-License-Identifier: Apache-2.0
//! The snapshot that a slot was created with, kept for the first copies of tables.
//!
//! ```text
//! walsender   CREATE_REPLICATION_SLOT … (SNAPSHOT 'export')  ─▶ START_REPLICATION …     its next command ends the export
//! keeper           └─▶ SET TRANSACTION SNAPSHOT, pg_export_snapshot() ─▶ idle ───────── until it is let go
//! readers                        └─▶ SET TRANSACTION SNAPSHOT, chunk, chunk, …          at any time while the keeper lives
//! ```
//!
//! # What is guaranteed
//!
//! 1. *A transaction is in the snapshot or in the log, never in both or neither*: the server takes the snapshot at the
//!    position from which the slot sends.
//! 2. *The log does not wait for readers*: the keeper takes the snapshot over and exports it again, in a transaction of its
//!    own, before the walsender goes on. A reader whose connection breaks takes it up again.
//! 3. *It is let go* when the log is dropped, when it is told so, and by the server when this process dies: the sessions
//!    are idle in transactions that end with their connections.
//! 4. *No lock outlives a chunk*: what a chunk locks is locked in a savepoint and released by rolling back to it.
//!
//! *Not promised*: that it lasts. Its sessions can be ended by an administrator or with the server. When a reader cannot
//! take it up any more, it is lost as a whole, and what is left of the copies is read between marks.

use crate::chunk_reader::{BEGIN, open_session};
use crate::connection::Connection;
use crate::failure::sqlstate;
use crate::position::PgPosition;
use crate::protocol::quoting::quote_literal;
use crate::schema::TableShape;
use crate::server_version::ServerVersion;
use crate::settings::Settings;
use highwater_core::connector::StartSnapshot;
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by the log, which holds it, and the readers.
#[derive(Debug, Default)]
pub struct StartSnapshotCell(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Held(Box<Held>),
    Lost(String),
}

#[derive(Debug)]
struct Held {
    /// What the server calls it.
    name: String,
    moment: PgPosition,
    /// The transaction that exports it.
    _keeper: Connection,
    /// Readers' transactions that nobody uses now.
    idle: Vec<StartSession>,
}

/// A reader's transaction in the snapshot.
#[derive(Debug)]
pub struct StartSession {
    pub(crate) connection: Connection,
    /// Every commit that the log delivers lies behind it.
    pub(crate) moment: PgPosition,
    /// Tables as they are in the snapshot.
    pub(crate) tables: HashMap<TableName, Arc<StartTable>>,
    name: String,
}

/// A table as it is in the snapshot.
#[derive(Debug)]
pub struct StartTable {
    pub(crate) shape: TableShape,
    pub(crate) schema: Arc<TableSchema>,
}

impl StartSnapshotCell {
    /// Takes over the snapshot `exported`, which was exported with the slot at `moment`.
    pub async fn hold(&self, settings: &Settings, exported: &str, moment: PgPosition) -> Result<()> {
        let mut keeper = open_session(settings, "highwater snapshot").await?;
        let what = "keeping the snapshot of the slot";
        import(&mut keeper, exported, what).await?;
        let rows = keeper.batch("SELECT pg_catalog.pg_export_snapshot()", what).await?;
        let name = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        let name = name.ok_or_else(|| Error::new(ErrorKind::CorruptMessage, format!("{what}: it has no name")))?;
        *self.state() = State::Held(Box::new(Held {
            name,
            moment,
            _keeper: keeper,
            idle: Vec::new(),
        }));
        Ok(())
    }

    /// How it stands.
    pub fn status(&self) -> StartSnapshot<PgPosition> {
        match &*self.state() {
            State::None => StartSnapshot::None,
            State::Held(held) => StartSnapshot::Held(held.moment),
            State::Lost(why) => StartSnapshot::Lost(why.clone()),
        }
    }

    /// Ends its transactions; one that is in use ends when it is given back.
    pub fn release(&self) {
        // Connections close outside of the lock.
        let _gone = mem::take(&mut *self.state());
    }

    /// Notes that it cannot be read any more.
    pub(crate) fn lose(&self, why: String) {
        let mut state = self.state();
        let _gone = matches!(*state, State::Held(_)).then(|| mem::replace(&mut *state, State::Lost(why)));
        drop(state);
    }

    /// A transaction in it: one that is idle, or a new one. It has to be given back, or dropped after a failure.
    pub(crate) async fn session(&self, settings: &Settings) -> Result<StartSession> {
        let (name, moment) = match &mut *self.state() {
            State::Held(held) => match held.idle.pop() {
                Some(session) => return Ok(session),
                None => (held.name.clone(), held.moment),
            },
            State::None => return Err(gone("it was let go")),
            State::Lost(why) => return Err(gone(why)),
        };
        let mut connection = open_session(settings, "highwater first load").await?;
        let what = "reading from the snapshot of the slot";
        if let Err(error) = import(&mut connection, &name, what).await {
            // The server's word, not a broken connection: the transaction that exports it is over.
            if sqlstate(&error).is_some() && error.kind() != ErrorKind::Unreachable {
                self.lose(format!("the snapshot of the slot is gone ({})", error.message()));
            }
            return Err(gone(error.message()).with_source(error));
        }
        Ok(StartSession {
            connection,
            moment,
            tables: HashMap::new(),
            name,
        })
    }

    /// Takes a transaction back that did not fail.
    pub(crate) fn give_back(&self, session: StartSession) {
        if let State::Held(held) = &mut *self.state()
            && held.name == session.name
        {
            held.idle.push(session);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the log has of the snapshot: dropping it lets go.
#[derive(Debug)]
pub(crate) struct HoldsSnapshot(Arc<StartSnapshotCell>);

impl HoldsSnapshot {
    pub(crate) fn new(cell: Arc<StartSnapshotCell>) -> Self {
        Self(cell)
    }

    pub(crate) fn cell(&self) -> &StartSnapshotCell {
        &self.0
    }
}

impl Drop for HoldsSnapshot {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// For sessions that hold the snapshot. They may stay idle for as long as the copies take: how long is limited on our side,
/// and the server's limits are meant for forgotten transactions.
pub(crate) fn without_limits(version: ServerVersion) -> &'static str {
    match version.has_transaction_timeout() {
        true => "SET idle_in_transaction_session_timeout = 0; SET transaction_timeout = 0",
        false => "SET idle_in_transaction_session_timeout = 0",
    }
}

/// Begins a transaction in an exported snapshot.
async fn import(connection: &mut Connection, name: &str, what: &str) -> Result<()> {
    connection
        .batch(without_limits(connection.server_version()), what)
        .await?;
    let begin = format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}", quote_literal(name));
    connection.batch(&begin, what).await.map(|_| ())
}

/// Another read of the chunk helps: between marks, once it is known that the snapshot is gone.
fn gone(why: &str) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!("the snapshot of the slot cannot be read: {why}"),
    )
}
