// SPDX-License-Identifier: Apache-2.0
//! How far the server's log is, what it keeps of it for the slot, and whether the server has enough to do: asked for now and
//! then by a task of its own, for the stream itself does not say it.

use super::overload::Load;
use super::partitions::Partitions;
use super::retention::{Notice, SlotState, Watch};
use crate::catalog_row::{CatalogRow, Parameter, only_row};
use crate::protocol::Lsn;
use crate::query_connection::QueryConnection;
use crate::selection::Selection;
use crate::settings::{Settings, ThrottleSettings};
use highwater_core::Result;
use highwater_core::connector::{Retention, UnloggedChange};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Partitions are looked at once in so many intervals.
const PARTITIONS_EVERY: u64 = 5;

/// A question that takes longer is given up: nothing waits for it, and a server that is busy is not to be held up by it.
const SET_UP: &str = "SET statement_timeout = '10s'";

/// One row, whether the slot exists or not. Parameter: its name.
const STATE: &str = "\
    SELECT l.end, s.restart_lsn, s.safe_wal_size, l.in_recovery \
      FROM (SELECT CASE WHEN r.standby THEN GREATEST(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()) \
                        ELSE pg_catalog.pg_current_wal_flush_lsn() END, r.standby \
              FROM (SELECT pg_catalog.pg_is_in_recovery()) r (standby)) l (\"end\", in_recovery) \
      LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1";

/// What the server said a moment ago.
#[derive(Debug, Clone, Default)]
struct Known {
    end: Option<Lsn>,
    retention: Option<Retention>,
    /// It takes writes.
    takes_writes: bool,
    /// Whether it was asked what it is doing, or is never to be asked.
    asked_load: bool,
    overload: Option<Arc<str>>,
}

/// What the log did not tell, and from which transaction on it is not known what partitions came.
type Unlogged = (Vec<UnloggedChange>, u64);

/// Knows how far the server's log is.
#[derive(Debug)]
pub(super) struct ServerEnd {
    known: watch::Receiver<Known>,
    unlogged: mpsc::UnboundedReceiver<Unlogged>,
    asking: JoinHandle<()>,
}

impl ServerEnd {
    /// Begins to ask, over a connection of its own. A failure leaves the last answer standing: the stream finds out by
    /// itself when the server is gone. Partitions that came before transaction `partitions_unseen_since` are known.
    pub(super) fn watch(settings: Arc<Settings>, selection: Arc<Selection>, partitions_unseen_since: u64) -> Self {
        let (told, known) = watch::channel(Known {
            asked_load: settings.throttle.is_off(),
            ..Known::default()
        });
        let (tell, unlogged) = mpsc::unbounded_channel();
        let looks = PartitionLooks {
            partitions: Partitions::new(partitions_unseen_since),
            selection,
            tell,
            failed: false,
        };
        let asking = tokio::spawn(ask(settings, looks, told));
        Self {
            known,
            unlogged,
            asking,
        }
    }

    pub(super) fn get(&self) -> Option<Lsn> {
        self.known.borrow().end.filter(|end| end.is_valid())
    }

    /// Whether the server is known to take writes.
    pub(super) fn takes_writes(&self) -> bool {
        self.known.borrow().takes_writes
    }

    pub(super) fn retention(&self) -> Option<Retention> {
        self.known.borrow().retention
    }

    /// Waits for the first answer about what the server is doing, where there are limits to it.
    pub(super) async fn load_known(&mut self) {
        // The task that asks lives as long as `self`.
        let _ = self.known.wait_for(|known| known.asked_load).await;
    }

    /// What the log does not tell, since the last look whose outcome was not yet returned; and from which transaction on
    /// it is not known, once all of that is durable, what partitions came.
    pub(super) fn unlogged_changes(&mut self) -> Option<Unlogged> {
        self.unlogged.try_recv().ok()
    }

    pub(super) fn overload(&self) -> Option<Arc<str>> {
        self.known.borrow().overload.clone()
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn ask(settings: Arc<Settings>, mut looks: PartitionLooks, told: watch::Sender<Known>) {
    let slot = settings.slot.name.clone();
    let limits = settings.throttle.clone();
    let mut connection = QueryConnection::new(settings.clone(), "highwater lag", SET_UP);
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut watch = Watch::default();
    for tick in 0_u64.. {
        ticks.tick().await;
        // First what the log waits for.
        if !limits.is_off() {
            let overload = overload(&mut connection, &limits).await;
            told.send_modify(|known| (known.asked_load, known.overload) = (true, overload));
        }
        match read(&mut connection, &slot).await {
            Ok((state, in_recovery)) => {
                let retention = watch.note(Instant::now(), state);
                if let Some(retention) = &retention
                    && let Some(notice) = watch.notice(retention)
                {
                    tell(&slot, notice, retention);
                }
                told.send_modify(|known| {
                    (known.end, known.retention) = (Some(state.end), retention);
                    known.takes_writes = !in_recovery;
                });
            }
            Err(error) => tracing::debug!(%error, "the end of the server's log is not known"),
        }
        if tick % PARTITIONS_EVERY == 0 {
            looks.look(&mut connection, &settings).await;
        }
    }
}

/// Looks at partitions now and then, and tells the log's reader.
#[derive(Debug)]
struct PartitionLooks {
    partitions: Partitions,
    selection: Arc<Selection>,
    tell: mpsc::UnboundedSender<Unlogged>,
    /// The last look failed.
    failed: bool,
}

impl PartitionLooks {
    async fn look(&mut self, connection: &mut QueryConnection, settings: &Settings) {
        let before = self.partitions.unseen_since();
        match self.partitions.look(connection, settings, &self.selection).await {
            Ok(changes) => {
                self.failed = false;
                let unseen_since = self.partitions.unseen_since();
                if !changes.is_empty() || unseen_since != before {
                    let _ = self.tell.send((changes, unseen_since));
                }
            }
            Err(error) if self.failed => tracing::debug!(%error, "the partitions of captured tables are not known"),
            Err(error) => {
                self.failed = true;
                tracing::warn!(%error, "the partitions of captured tables are not known; rows that come with one are copied later");
            }
        }
    }
}

/// Why copies are to wait. A server that cannot say it in time has enough to do, or is gone: both are a reason.
async fn overload(connection: &mut QueryConnection, limits: &ThrottleSettings) -> Option<Arc<str>> {
    match Load::read(connection).await {
        Ok(load) => load.past(limits).map(Arc::from),
        Err(error) => Some(format!("what the server is doing is not known: {error}").into()),
    }
}

async fn read(connection: &mut QueryConnection, slot: &str) -> Result<(SlotState, bool)> {
    let what = "reading the end of the server's log";
    let parameters: [Parameter<'_>; 1] = [(&slot, Type::TEXT)];
    let row = only_row(connection.query(STATE, &parameters, what).await?, what)?;
    let state = SlotState {
        end: row.column(0)?,
        restart: row.column(1)?,
        safe_bytes: row.column(2)?,
    };
    Ok((state, row.flag(3)?))
}

fn tell(slot: &str, notice: Notice, retention: &Retention) {
    let (kept_bytes, left_bytes) = (retention.kept_bytes, retention.left_bytes.unwrap_or_default());
    let hours_left = retention.left.map(|left| left.as_secs_f64() / 3_600.0);
    match notice {
        Notice::Tight => tracing::warn!(
            %slot, kept_bytes, left_bytes, hours_left,
            "more than half of the log that the server may keep for the replication slot is used, and when all is the slot is \
             lost: see why nothing is acknowledged (a large transaction, a slow transport), or raise max_slot_wal_keep_size"
        ),
        Notice::Roomy => tracing::info!(%slot, kept_bytes, left_bytes, "the replication slot has room again"),
    }
}
