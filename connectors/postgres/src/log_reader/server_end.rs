// SPDX-License-Identifier: Apache-2.0
//! How far the server's log is and what it keeps of it for the slot, asked for now and then by a task of its own: the
//! stream itself does not say it.

use super::retention::{Notice, SlotState, Watch};
use crate::catalog_row::{CatalogRow, Parameter, only_row};
use crate::protocol::Lsn;
use crate::query_connection::QueryConnection;
use crate::settings::Settings;
use highwater_core::Result;
use highwater_core::connector::Retention;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(2);

/// A question that takes longer is given up: nothing waits for it, and a server that is busy is not to be held up by it.
const SET_UP: &str = "SET statement_timeout = '10s'";

/// One row, whether the slot exists or not. Parameter: its name.
const STATE: &str = "\
    SELECT l.end, s.restart_lsn, s.safe_wal_size FROM (SELECT pg_catalog.pg_current_wal_flush_lsn()) l (\"end\") \
      LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1";

/// The end of the server's log and what it keeps of it, as of a moment ago.
#[derive(Debug, Clone, Copy)]
struct Known {
    end: Lsn,
    retention: Option<Retention>,
}

/// Knows how far the server's log is.
#[derive(Debug)]
pub(super) struct ServerEnd {
    known: watch::Receiver<Option<Known>>,
    asking: JoinHandle<()>,
}

impl ServerEnd {
    /// Begins to ask, over a connection of its own. A failure leaves the last answer standing: the stream finds out by
    /// itself when the server is gone.
    pub(super) fn watch(settings: Arc<Settings>) -> Self {
        let (told, known) = watch::channel(None);
        let asking = tokio::spawn(ask(settings, told));
        Self { known, asking }
    }

    pub(super) fn get(&self) -> Option<Lsn> {
        let known = *self.known.borrow();
        known.map(|known| known.end).filter(|end| end.is_valid())
    }

    pub(super) fn retention(&self) -> Option<Retention> {
        let known = *self.known.borrow();
        known.and_then(|known| known.retention)
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn ask(settings: Arc<Settings>, told: watch::Sender<Option<Known>>) {
    let slot = settings.slot.name.clone();
    let mut connection = QueryConnection::new(settings, "highwater lag", SET_UP);
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut watch = Watch::default();
    loop {
        ticks.tick().await;
        match read(&mut connection, &slot).await {
            Ok(state) => {
                let retention = watch.note(Instant::now(), state);
                if let Some(retention) = &retention
                    && let Some(notice) = watch.notice(retention)
                {
                    tell(&slot, notice, retention);
                }
                told.send_replace(Some(Known {
                    end: state.end,
                    retention,
                }));
            }
            Err(error) => tracing::debug!(%error, "the end of the server's log is not known"),
        }
    }
}

async fn read(connection: &mut QueryConnection, slot: &str) -> Result<SlotState> {
    let what = "reading the end of the server's log";
    let parameters: [Parameter<'_>; 1] = [(&slot, Type::TEXT)];
    let row = only_row(connection.query(STATE, &parameters, what).await?, what)?;
    Ok(SlotState {
        end: row.column(0)?,
        restart: row.column(1)?,
        safe_bytes: row.column(2)?,
    })
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
