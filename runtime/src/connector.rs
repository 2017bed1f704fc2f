// SPDX-License-Identifier: Apache-2.0
//! Databases as a program's list holds them: object-safe outside, generic inside, so that the loop of each is compiled
//! for it alone.

use std::sync::Arc;

use futures::future::BoxFuture;
use highwater_core::clock::Clock;
use highwater_core::connector::{Finding, SourceConnector};
use highwater_core::transport::Transport;
use highwater_core::{Error, ErrorKind, Result};
use highwater_formats::SchemaRegistry;
use highwater_model::{Document, SpecError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::shutdown::Shutdown;
use crate::source_task::{BegunAnew, Command, SourceTask, TaskSettings};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::StatusBoard;

/// What a check found out about a database.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    /// What is to be mended or known.
    pub findings: Vec<Finding>,
    /// Captured tables with the server's estimate of their rows.
    pub tables: Vec<(String, Option<u64>)>,
}

/// Reads the connector's settings as they are now.
pub type ReadSettings = Arc<dyn Fn() -> Result<Document> + Send + Sync>;

/// What a connector needs to run as a task.
pub struct TaskParts {
    /// Where events go.
    pub transport: Arc<dyn Transport>,
    /// Where schemas are registered.
    pub registry: Arc<dyn SchemaRegistry>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Its settings.
    pub settings: TaskSettings,
    /// Where its status stands.
    pub board: Arc<StatusBoard>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// What people ask.
    pub commands: mpsc::Receiver<Command>,
    /// The wish to stop.
    pub shutdown: Shutdown,
}

/// A kind of database that pipelines can capture.
pub trait Connector: Send + Sync {
    /// Its name in pipeline files: `postgres`.
    fn kind(&self) -> &'static str;
    /// Whether these settings can be read at all; connects to nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] with path, line and the nearest known name.
    fn validate(&self, settings: &Document) -> Result<()>;
    /// Checks settings and database; changes nothing.
    fn check(&self, settings: Document) -> BoxFuture<'static, Result<Checked>>;
    /// Does [`SourceTask::begin_anew`].
    fn begin_anew(
        &self,
        settings: ReadSettings,
        parts: TaskParts,
        force: bool,
    ) -> BoxFuture<'static, Result<BegunAnew>>;
    /// Runs [`SourceTask::run`].
    fn run(&self, settings: ReadSettings, parts: TaskParts) -> BoxFuture<'static, Result<()>>;
}

/// A line of a program's list: the connector's kind, and how it is made from its settings.
pub fn connector<S, C>(kind: &'static str, make: fn(S) -> Result<C>) -> Arc<dyn Connector>
where
    S: DeserializeOwned + 'static,
    C: SourceConnector,
{
    Arc::new(Factory { kind, make })
}

struct Factory<S, C> {
    kind: &'static str,
    make: fn(S) -> Result<C>,
}

impl<S: DeserializeOwned + 'static, C: SourceConnector> Factory<S, C> {
    fn connect(&self, settings: &Document) -> Result<C> {
        let settings = settings.read("source.settings").map_err(configuration)?;
        (self.make)(settings)
    }

    fn task(&self, settings: ReadSettings, parts: TaskParts) -> Result<SourceTask<C>> {
        let factory = Factory {
            kind: self.kind,
            make: self.make,
        };
        let make = Arc::new(move || factory.connect(&settings()?));
        Ok(SourceTask {
            connector: Arc::new(make()?),
            make,
            transport: parts.transport,
            registry: parts.registry,
            clock: parts.clock,
            settings: parts.settings,
            board: parts.board,
            metrics: parts.metrics,
            commands: parts.commands,
            shutdown: parts.shutdown,
        })
    }
}

impl<S, C> Connector for Factory<S, C>
where
    S: DeserializeOwned + 'static,
    C: SourceConnector,
{
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn validate(&self, settings: &Document) -> Result<()> {
        self.connect(settings).map(drop)
    }

    fn check(&self, settings: Document) -> BoxFuture<'static, Result<Checked>> {
        let connected = self.connect(&settings);
        Box::pin(async move {
            let connector = connected?;
            let findings = connector.preflight().await?;
            let tables = match connector.discover().await {
                Ok(catalog) => catalog
                    .tables
                    .iter()
                    .map(|table| (table.schema.name.to_string(), table.rows_estimate))
                    .collect(),
                // The findings say why, and how to mend it.
                Err(_) if !findings.is_empty() => Vec::new(),
                Err(error) => return Err(error),
            };
            Ok(Checked { findings, tables })
        })
    }

    fn begin_anew(
        &self,
        settings: ReadSettings,
        parts: TaskParts,
        force: bool,
    ) -> BoxFuture<'static, Result<BegunAnew>> {
        let task = self.task(settings, parts);
        Box::pin(async move { task?.begin_anew(force).await })
    }

    fn run(&self, settings: ReadSettings, parts: TaskParts) -> BoxFuture<'static, Result<()>> {
        let task = self.task(settings, parts);
        Box::pin(async move { task?.run().await })
    }
}

/// A mistake in a file as an error of class user.
pub(crate) fn configuration(error: SpecError) -> Error {
    let mut message = String::new();
    if let Some(line) = error.line() {
        message.push_str(&format!("line {line}: "));
    }
    let path = error.path();
    if !path.is_empty() {
        message.push_str(&format!("{path}: "));
    }
    message.push_str(error.message());
    let told = Error::new(ErrorKind::Configuration, message);
    match error.suggestion() {
        Some(suggestion) => told.with_fix(suggestion),
        None => told,
    }
}
