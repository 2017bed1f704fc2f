// SPDX-License-Identifier: Apache-2.0
//! What a leading pipeline lets others reach: its transport, its registry, its loop.

use std::sync::Arc;

use highwater_core::dblog::input::{Control, SnapshotId};
use highwater_core::transport::Transport;
use highwater_core::{Error, ErrorKind, Result};
use highwater_formats::{Format, SchemaRegistry};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::request::Request;
use crate::source_task::{Command, Order};

/// The parts of a pipeline that leads.
#[derive(Clone)]
pub struct Live {
    /// Where events go.
    pub transport: Arc<dyn Transport>,
    /// Where schemas are.
    pub registry: Arc<dyn SchemaRegistry>,
    /// How records are written.
    pub format: Format,
    /// First part of topics.
    pub prefix: String,
    /// The loop's ear.
    pub commands: mpsc::Sender<Command>,
}

impl Live {
    /// Asks the loop and waits for its answer.
    ///
    /// # Errors
    /// What the loop answers; [`ErrorKind::Unreachable`] when it ends before.
    pub async fn order(&self, order: Order) -> Result<Value> {
        let ended = || Error::new(ErrorKind::Unreachable, "the pipeline ended before it answered");
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command { order, reply })
            .await
            .map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// The order behind a request, where the loop is the one to answer.
pub(super) fn order_of(request: &Request) -> Option<Order> {
    let control = |control| Some(Order::Control(control));
    match request {
        Request::Snapshot { requests } => Some(Order::Snapshot(requests.clone())),
        Request::Pause { snapshot } => control(Control::Pause(SnapshotId(*snapshot))),
        Request::Resume { snapshot } => control(Control::Resume(SnapshotId(*snapshot))),
        Request::Cancel { snapshot } => control(Control::Cancel(SnapshotId(*snapshot))),
        Request::Throttle { windows_max } => control(Control::Throttle {
            windows_max: *windows_max,
        }),
        Request::Reload => Some(Order::Reload),
        Request::Status | Request::Topics | Request::Tail(_) | Request::Certificates { .. } => None,
    }
}
