// SPDX-License-Identifier: Apache-2.0
//! The fake database server: shared, written to by tests, read by connectors.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_core::connector::{Reconcile, StartSnapshot};
use highwater_core::schema::TableName;
use tokio::sync::Notify;

use crate::model::{Database, ModelPosition, Write};

/// Which kind of source the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeWay {
    /// Marks in the log, views of transactions: Postgres.
    MarksInLog,
    /// Marks at positions, views of transactions.
    MarksAtPositions,
    /// Marks in the log, commit order is visibility order: MySQL.
    Ordered,
    /// No marks; chunks are read as of a moment: CockroachDB.
    Moments,
    /// No marks; cells carry their write times: Cassandra.
    WriteTimes,
}

impl FakeWay {
    /// How the engine reconciles it.
    pub fn reconcile(self) -> Reconcile {
        match self {
            FakeWay::MarksInLog | FakeWay::MarksAtPositions | FakeWay::Ordered => Reconcile::Window,
            FakeWay::Moments => Reconcile::AsOf,
            FakeWay::WriteTimes => Reconcile::Version,
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub database: Database,
    /// Connections of an earlier epoch are broken.
    pub epoch: u64,
    pub log_is_open: bool,
    /// The snapshot that was taken where the log began.
    pub start_snapshot: StartSnapshot<ModelPosition>,
    /// How many were taken.
    pub start_snapshots_taken: u64,
    /// Tables that were read in it.
    pub read_at_start: BTreeSet<TableName>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Notify,
}

/// The server. Clones are the same server.
#[derive(Debug, Clone)]
pub struct FakeServer(pub(super) Arc<Shared>);

impl FakeServer {
    /// A server with `tables` empty tables, `public.t0` and so on, of columns `id`, `a` and `big`.
    pub fn new(tables: usize) -> Self {
        let state = State {
            database: Database::new(tables, 10),
            epoch: 0,
            log_is_open: false,
            start_snapshot: StartSnapshot::None,
            start_snapshots_taken: 0,
            read_at_start: BTreeSet::new(),
        };
        FakeServer(Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the database, or changes it in ways that the other methods do not offer.
    pub fn with<T>(&self, act: impl FnOnce(&mut Database) -> T) -> T {
        let result = act(&mut self.state().database);
        self.0.changed.notify_waiters();
        result
    }

    /// One transaction, committed and visible at once.
    pub fn write(&self, writes: Vec<Write>) {
        self.with(|database| {
            let xid = database.begin(writes);
            database.commit(xid, true);
        });
    }

    /// One transaction that is in the log and invisible to reads until [`FakeServer::reveal`].
    pub fn write_invisibly(&self, writes: Vec<Write>) -> u64 {
        self.with(|database| {
            let xid = database.begin(writes);
            database.commit(xid, false);
            xid
        })
    }

    /// Makes a commit visible.
    pub fn reveal(&self, xid: u64) {
        self.with(|database| database.reveal(xid));
    }

    /// The snapshot of the log's start can be read no more.
    pub fn lose_start_snapshot(&self, why: &str) {
        self.state().start_snapshot = StartSnapshot::Lost(why.to_owned());
    }

    /// Whether that snapshot is held.
    pub fn holds_start_snapshot(&self) -> bool {
        matches!(self.state().start_snapshot, StartSnapshot::Held(_))
    }

    /// How many such snapshots were taken, held or not.
    pub fn start_snapshots_taken(&self) -> u64 {
        self.state().start_snapshots_taken
    }

    /// Tables that were read in it.
    pub fn read_at_start(&self) -> BTreeSet<TableName> {
        self.state().read_at_start.clone()
    }

    /// Breaks every connection: calls on readers that are open fail as unreachable.
    pub fn drop_connections(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.log_is_open = false;
        state.start_snapshot = StartSnapshot::None;
        drop(state);
        self.0.changed.notify_waiters();
    }
}
