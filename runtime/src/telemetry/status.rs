// SPDX-License-Identifier: Apache-2.0
//! What a pipeline is doing, for `/status`, the local socket and the progress bars of the demo.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use highwater_core::Error;
use highwater_core::dblog::action::Report;
use highwater_core::dblog::copy::SnapshotProgress;
use serde::{Deserialize, Serialize};

/// What the pipeline is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has not begun.
    #[default]
    Starting,
    /// Another copy leads; this one waits for it to go.
    Standby,
    /// It opens its writer, checkpoint and log.
    Opening,
    /// It captures.
    Running,
    /// Something is down; it tries again from its checkpoint.
    Retrying,
    /// It commits what was captured, then ends.
    Draining,
    /// It has ended.
    Stopped,
}

/// An error as an operator needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What happened.
    pub message: String,
    /// What mends it, where known.
    pub fix: Option<String>,
    /// `retryable`, `user` or `fatal`.
    pub class: String,
    /// Microseconds since 1970.
    pub at_us: i64,
}

impl Failure {
    /// An error that happened at `at_us`.
    pub fn of(error: &Error, at_us: i64) -> Self {
        let mut message = error.message().to_owned();
        for (name, value) in error.context() {
            message.push_str(&format!(", {name}: {value}"));
        }
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Failure {
            message,
            fix: error.fix().map(str::to_owned),
            class: format!("{:?}", error.class()).to_lowercase(),
            at_us,
        }
    }
}

/// How far the copy of one table is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Rows in finished chunks of the copies that run or ended last.
    pub rows_read: u64,
    /// The server's own estimate of its rows, where it has one.
    pub rows_estimate: Option<u64>,
    /// Whether a copy of it runs.
    pub copying: bool,
    /// Whether a whole copy of it was finished, in this run or an earlier one.
    pub copied: bool,
    /// Events of it encoded since the process began.
    pub events: u64,
    /// Seconds until its copy is done at the present pace, where that can be told.
    pub seconds_left: Option<f64>,
}

/// Where a table stands whose log was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalState {
    /// It is copied whole.
    #[default]
    Copying,
    /// Its copy was cancelled: what is stale or gone stays in its topic until a copy of all its rows is made.
    Cancelled,
    /// The keys of its topic are compared with those that the copy and the log brought.
    Comparing,
    /// Its topic has what the table has.
    Done,
}

/// How a table whose log was lost comes to be right again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RenewalStatus {
    /// Where it stands.
    pub state: RenewalState,
    /// Keys that were alive in the topic before the gap, in what was compared so far.
    pub keys_compared: u64,
    /// Of them, those that left as deletes.
    pub keys_removed: u64,
    /// Of them, those written when the table's key looked otherwise: they were left alone.
    pub other_keys: u64,
}

/// Everything there is to see at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The pipeline's name.
    pub pipeline: String,
    /// The connector's kind.
    pub connector: String,
    /// What it is doing.
    pub state: State,
    /// The position up to which the log was read.
    pub read_position: Option<String>,
    /// The position that the source was told is durable.
    pub acknowledged_position: Option<String>,
    /// How far the source is ahead, in bytes of its log.
    pub lag_bytes: Option<u64>,
    /// Age of the newest event when it was encoded, in seconds.
    pub source_lag_seconds: f64,
    /// Events encoded since the process began.
    pub events: u64,
    /// Windows open.
    pub windows_open: u64,
    /// Why no further chunks are read for now: the source's limits that are passed.
    #[serde(default)]
    pub overload: Option<String>,
    /// By table: `schema.table`.
    pub tables: BTreeMap<String, TableStatus>,
    /// Copies that run, then those that ended last.
    pub snapshots: Vec<SnapshotProgress>,
    /// Tables whose log was lost, by `schema.table`; those that are right again stay for as long as the process lives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub renewals: BTreeMap<String, RenewalStatus>,
    /// The last error, also when it was mended since.
    pub last_error: Option<Failure>,
    /// Reports of the engine, newest last, up to a limit.
    pub reports: Vec<Report>,
    /// Address of the admin pages, where there are any.
    pub admin: Option<std::net::SocketAddr>,
    /// When this was true, microseconds since 1970.
    pub at_us: i64,
}

/// Reports that a status keeps.
pub(crate) const REPORTS_MAX: usize = 100;

/// The one place where the present [`Status`] stands.
#[derive(Debug, Default)]
pub struct StatusBoard {
    status: Mutex<Status>,
}

impl StatusBoard {
    /// A board of a pipeline that has not begun.
    pub fn new(pipeline: &str, connector: &str) -> Self {
        StatusBoard {
            status: Mutex::new(Status {
                pipeline: pipeline.to_owned(),
                connector: connector.to_owned(),
                ..Status::default()
            }),
        }
    }

    /// A copy of what stands there.
    pub fn read(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the pipeline is doing, without copying the rest.
    pub fn state(&self) -> State {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).state
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes that the pipeline does something else now.
    pub fn enter(&self, state: State) {
        self.update(|status| status.state = state);
    }

    /// Notes an error.
    pub fn fail(&self, error: &Error, at_us: i64) {
        self.update(|status| status.last_error = Some(Failure::of(error, at_us)));
    }
}
