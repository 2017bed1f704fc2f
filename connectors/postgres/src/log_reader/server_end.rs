// SPDX-License-Identifier: Apache-2.0
//! How far the server's log is, asked for now and then by a task of its own: the stream itself does not say it.

use crate::catalog_row::{CatalogRow, only_row};
use crate::protocol::Lsn;
use crate::query_connection::QueryConnection;
use crate::settings::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(2);

/// The end of the server's log, as of a moment ago.
#[derive(Debug)]
pub(super) struct ServerEnd {
    /// Zero: not known yet.
    end: Arc<AtomicU64>,
    asking: JoinHandle<()>,
}

impl ServerEnd {
    /// Begins to ask, over a connection of its own. A failure leaves the last answer standing: the stream finds out by
    /// itself when the server is gone.
    pub(super) fn watch(settings: Arc<Settings>) -> Self {
        let end = Arc::new(AtomicU64::new(0));
        let asking = tokio::spawn(ask(settings, end.clone()));
        Self { end, asking }
    }

    pub(super) fn get(&self) -> Option<Lsn> {
        Some(Lsn(self.end.load(Ordering::Relaxed))).filter(|end| end.is_valid())
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn ask(settings: Arc<Settings>, end: Arc<AtomicU64>) {
    let mut connection = QueryConnection::new(settings, "highwater lag", "");
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let sql = "SELECT pg_catalog.pg_current_wal_flush_lsn()";
        let what = "reading the end of the server's log";
        let rows = connection.query(sql, &[], what).await;
        let found = rows.and_then(|rows| only_row(rows, what)?.column::<Lsn>(0));
        match found {
            Ok(found) => end.store(found.0, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "the end of the server's log is not known"),
        }
    }
}
