// SPDX-License-Identifier: Apache-2.0
//! Metrics, health and status over HTTP, on an address that the pipeline file names.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus' text form |
//! | `/health/live` | 200 while the process works |
//! | `/health/ready` | 200 while the pipeline captures (or stands by, ready to take over), else 503 and the last error |
//! | `/status` | [`Status`] as JSON |
//! | `/certificates` | JSON array of the certificates of finished chunks, oldest first; 503 on a copy that stands by |

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use highwater_core::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::control::Live;
use crate::tail::certificates;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::{State, StatusBoard};

#[cfg(doc)]
use crate::telemetry::status::Status;

/// What the pages show.
#[derive(Clone)]
pub struct AdminParts {
    /// Status.
    pub board: Arc<StatusBoard>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The parts of the pipeline while it leads.
    pub live: watch::Receiver<Option<Live>>,
}

/// The server. Dropping it ends it.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    /// [`ErrorKind::Unsuitable`] when the address cannot be used.
    pub async fn start(listen: SocketAddr, parts: AdminParts) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Unsuitable,
                format!("cannot listen on admin address {listen}"),
            )
            .with_fix("set admin.listen to a free address, or to port 0 for any free port")
            .with_source(error)
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, pages(parts)).await {
                tracing::error!(%error, "the admin server ended");
            }
        });
        Ok(AdminServer { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn pages(parts: AdminParts) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/status", get(status))
        .route("/certificates", get(certificates_page))
        .with_state(parts)
}

async fn metrics(Shared(parts): Shared<AdminParts>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], parts.metrics.encode()).into_response()
}

async fn ready(Shared(parts): Shared<AdminParts>) -> Response {
    let status = parts.board.read();
    match status.state {
        State::Running | State::Standby => (StatusCode::OK, "ready\n").into_response(),
        state => {
            let body = json!({ "state": state, "last_error": status.last_error });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn status(Shared(parts): Shared<AdminParts>) -> Response {
    Json(parts.board.read()).into_response()
}

async fn certificates_page(Shared(parts): Shared<AdminParts>) -> Response {
    let live = parts.live.borrow().clone();
    let read = match &live {
        Some(live) => certificates(&*live.transport, &live.prefix).await,
        None => Err(Error::new(ErrorKind::Unreachable, "this copy does not lead")),
    };
    match read {
        Ok(certificates) => Json(certificates).into_response(),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "error": error.to_string() })),
        )
            .into_response(),
    }
}
