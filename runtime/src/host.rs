// SPDX-License-Identifier: Apache-2.0
//! A pipeline as a process has it: stands by, leads, is watched and steered, stops.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_core::clock::Clock;
use highwater_core::transport::Transport;
use highwater_core::{Class, Error, ErrorKind, Result};
use highwater_formats::SchemaRegistry;
use highwater_model::{Document, Pipeline, ProcessEnvironment, TransportSpec, nearest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin_http::{AdminParts, AdminServer};
use crate::clock::SystemClock;
use crate::components;
use crate::connector::{Connector, ReadSettings, TaskParts, configuration};
use crate::control::{Live, Server};
use crate::leases::Lease;
use crate::shutdown::Shutdown;
use crate::source_task::{BegunAnew, COMMANDS_MAX, Order, RetrySettings, retry::Backoff};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::{State, StatusBoard};

/// A pipeline file and where it lies.
#[derive(Debug, Clone)]
pub struct PipelineFile {
    /// What it says.
    pub pipeline: Pipeline,
    /// Where relative paths begin.
    pub folder: PathBuf,
    path: Option<PathBuf>,
}

impl PipelineFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it cannot be read, [`ErrorKind::Configuration`] with path and line of a mistake.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(
                ErrorKind::NotFound,
                format!("cannot read pipeline file \"{}\"", path.display()),
            )
            .with_fix("name a file that exists and that this user can read")
            .with_source(error)
        })?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut file = Self::from_text(&text, &folder).map_err(|error| {
            let told = Error::new(error.kind(), format!("{}: {}", path.display(), error.message()));
            match error.fix() {
                Some(fix) => told.with_fix(fix),
                None => told,
            }
        })?;
        file.path = Some(path.to_owned());
        Ok(file)
    }

    /// Reads a text; relative paths begin at `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] with path and line of a mistake.
    pub fn from_text(text: &str, folder: &Path) -> Result<Self> {
        let pipeline = Pipeline::from_yaml(text, &ProcessEnvironment).map_err(configuration)?;
        Ok(PipelineFile {
            pipeline,
            folder: folder.to_owned(),
            path: None,
        })
    }

    /// The connector's settings with their references looked up.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a reference that leads nowhere.
    pub fn connector_settings(&self) -> Result<Document> {
        self.pipeline
            .connector_settings(&ProcessEnvironment)
            .map_err(configuration)
    }

    /// The pipeline's local socket.
    pub fn socket(&self) -> PathBuf {
        components::socket_path(&self.pipeline, &self.folder)
    }

    /// The connector that the file names.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] with the nearest known name.
    pub fn connector(&self, connectors: &[Arc<dyn Connector>]) -> Result<Arc<dyn Connector>> {
        let kind = &self.pipeline.source.connector;
        let found = connectors.iter().find(|connector| connector.kind() == kind);
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = connectors.iter().map(|connector| connector.kind()).collect();
            let fix = match nearest(kind, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known: {}", known.join(", ")),
            };
            Error::new(
                ErrorKind::Configuration,
                format!("source.connector: unknown connector \"{kind}\""),
            )
            .with_fix(fix)
        })
    }

    /// Reads the file again each time it is called; a pipeline without a file stays as it is.
    fn settings_reader(&self) -> ReadSettings {
        let this = self.clone();
        Arc::new(move || match &this.path {
            Some(path) => PipelineFile::read(path)?.connector_settings(),
            None => this.connector_settings(),
        })
    }
}

/// A pipeline in this process.
pub struct PipelineHost {
    file: PipelineFile,
    connector: Arc<dyn Connector>,
    clock: Arc<dyn Clock>,
    board: Arc<StatusBoard>,
    metrics: Arc<Metrics>,
    live: watch::Sender<Option<Live>>,
}

impl PipelineHost {
    /// A pipeline that has not begun.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when no connector of the list fits the file or its settings cannot be read.
    pub fn new(file: PipelineFile, connectors: &[Arc<dyn Connector>]) -> Result<Self> {
        let connector = file.connector(connectors)?;
        connector.validate(&file.connector_settings()?)?;
        components::validate(&file.pipeline, &file.folder)?;
        let name = &file.pipeline.name;
        Ok(PipelineHost {
            board: Arc::new(StatusBoard::new(name, connector.kind())),
            metrics: Arc::new(Metrics::new(name)),
            clock: Arc::new(SystemClock::default()),
            live: watch::Sender::new(None),
            connector,
            file,
        })
    }

    /// Where its status stands.
    pub fn board(&self) -> Arc<StatusBoard> {
        self.board.clone()
    }

    /// Its metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Its parts while it leads.
    pub fn live(&self) -> watch::Receiver<Option<Live>> {
        self.live.subscribe()
    }

    /// Stands by until it leads, then captures until the wish to stop; a leader that another copy replaced stands by
    /// again.
    ///
    /// # Errors
    /// Errors of class user and fatal at once; a retryable one when it lasted longer than the settings allow.
    pub async fn run(&self, shutdown: &Shutdown) -> Result<()> {
        let _admin = self.start_admin().await?;
        let _reloader = self.reload_on_hangup()?;
        let mut lease = components::lease(&self.file.pipeline, &self.file.folder)?;
        let mut backoff = Backoff::new(self.retry());
        loop {
            self.board.enter(State::Standby);
            self.metrics.leader.set(0);
            tracing::info!(pipeline = %self.file.pipeline.name, "waiting to lead");
            let acquired = tokio::select! {
                acquired = lease.acquire() => acquired,
                () = shutdown.requested() => break,
            };
            if let Err(error) = acquired {
                self.pause_after(error, &mut backoff, shutdown).await?;
                continue;
            }
            backoff.succeeded();
            self.metrics.leader.set(1);
            let led = self.lead(&mut *lease, shutdown).await;
            self.live.send_replace(None);
            let released = lease.release().await;
            match led {
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    self.board.fail(&error, self.clock.now_us());
                    tracing::warn!(%error, "another copy leads now; standing by");
                }
                led => {
                    self.metrics.leader.set(0);
                    led?;
                    released?;
                    break;
                }
            }
            if shutdown.is_requested() {
                break;
            }
        }
        self.board.enter(State::Stopped);
        Ok(())
    }

    /// Gives up a position from which the source's log cannot be opened, by a person's decision: the next run makes every
    /// table right again. With `force`, also one that is not lost.
    ///
    /// # Errors
    /// [`ErrorKind::Unsuitable`] when the pipeline runs, has no checkpoint, or lost nothing; those of source and transport.
    pub async fn begin_anew(&self, force: bool) -> Result<BegunAnew> {
        let mut lease = components::lease(&self.file.pipeline, &self.file.folder)?;
        let runs = || {
            let what = format!("pipeline \"{}\" runs", self.file.pipeline.name);
            Error::new(ErrorKind::Unsuitable, what).with_fix("end it and its stand-by first")
        };
        leading(&mut *lease, runs, self.begin_anew_leading(force)).await
    }

    async fn begin_anew_leading(&self, force: bool) -> Result<BegunAnew> {
        let (transport, registry) = self.open_parts().await?;
        let (_commands, commands) = mpsc::channel(COMMANDS_MAX);
        let (_sender, shutdown) = crate::shutdown::channel();
        let parts = self.task_parts(transport, registry, commands, shutdown);
        let connector = &self.connector;
        connector.begin_anew(self.file.settings_reader(), parts, force).await
    }

    async fn open_parts(&self) -> Result<(Arc<dyn Transport>, Arc<dyn SchemaRegistry>)> {
        let (pipeline, folder) = (&self.file.pipeline, &self.file.folder);
        let transport = components::transport(pipeline, folder).await?;
        Ok((transport, components::registry(pipeline, folder).await?))
    }

    fn task_parts(
        &self,
        transport: Arc<dyn Transport>,
        registry: Arc<dyn SchemaRegistry>,
        commands: mpsc::Receiver<crate::source_task::Command>,
        shutdown: Shutdown,
    ) -> TaskParts {
        TaskParts {
            transport,
            registry,
            clock: self.clock.clone(),
            settings: components::task_settings(&self.file.pipeline, &self.file.folder),
            board: self.board.clone(),
            metrics: self.metrics.clone(),
            commands,
            shutdown,
        }
    }

    async fn lead(&self, lease: &mut dyn Lease, shutdown: &Shutdown) -> Result<()> {
        let Some((live, commands)) = self.open(shutdown).await? else {
            return Ok(());
        };
        let _server = Server::start(&self.file.socket(), self.board.clone(), live.clone())?;
        let transport = live.transport.clone();
        let registry = live.registry.clone();
        self.live.send_replace(Some(live));
        let parts = self.task_parts(transport, registry, commands, shutdown.clone());
        let task = self.connector.run(self.file.settings_reader(), parts);
        tokio::select! {
            ended = task => ended,
            () = lease.lost() => Err(Error::new(ErrorKind::Fenced, "another copy of the pipeline was chosen to lead")),
        }
    }

    /// Opens transport and registry, trying again while they are down. `None`: the wish to stop came first.
    async fn open(&self, shutdown: &Shutdown) -> Result<Option<(Live, mpsc::Receiver<crate::source_task::Command>)>> {
        let mut backoff = Backoff::new(self.retry());
        let pipeline = &self.file.pipeline;
        loop {
            self.board.enter(State::Opening);
            let opened = tokio::select! {
                opened = self.open_parts() => opened,
                () = shutdown.requested() => return Ok(None),
            };
            match opened {
                Ok((transport, registry)) => {
                    let (commands, received) = mpsc::channel(COMMANDS_MAX);
                    let live = Live {
                        transport,
                        registry,
                        format: components::format(pipeline),
                        prefix: pipeline.prefix().to_owned(),
                        commands,
                    };
                    return Ok(Some((live, received)));
                }
                Err(error) => self.pause_after(error, &mut backoff, shutdown).await?,
            }
            if shutdown.is_requested() {
                return Ok(None);
            }
        }
    }

    /// Waits before the next try, or gives the error back: it is not retryable, or it lasted too long.
    async fn pause_after(&self, error: Error, backoff: &mut Backoff, shutdown: &Shutdown) -> Result<()> {
        self.board.fail(&error, self.clock.now_us());
        if error.class() != Class::Retryable {
            return Err(error);
        }
        let Some(wait) = backoff.failed(self.clock.monotonic(), crate::chance::spread()) else {
            return Err(error);
        };
        self.metrics.retries.inc();
        self.board.enter(State::Retrying);
        tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "trying again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.requested() => {}
        }
        Ok(())
    }

    fn retry(&self) -> RetrySettings {
        let retry = &self.file.pipeline.retry;
        RetrySettings {
            first: Duration::from_millis(retry.backoff_ms),
            longest: Duration::from_millis(retry.backoff_max_ms),
            give_up_after: Duration::from_millis(retry.give_up_after_ms),
        }
    }

    async fn start_admin(&self) -> Result<Option<AdminServer>> {
        let Some(listen) = self.file.pipeline.admin.listen else {
            return Ok(None);
        };
        let parts = AdminParts {
            board: self.board.clone(),
            metrics: self.metrics.clone(),
            live: self.live.subscribe(),
        };
        let server = AdminServer::start(listen, parts).await?;
        let address = server.address();
        tracing::info!(%address, "admin pages: /metrics /health/live /health/ready /status /certificates");
        self.board.update(|status| status.admin = Some(address));
        Ok(Some(server))
    }

    /// SIGHUP reads the pipeline file again. The task ends with what is returned.
    fn reload_on_hangup(&self) -> Result<AbortOnDrop> {
        let mut hangup = signal(SignalKind::hangup())
            .map_err(|error| Error::new(ErrorKind::Bug, "cannot listen for SIGHUP").with_source(error))?;
        let live = self.live.subscribe();
        Ok(AbortOnDrop(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let leading = live.borrow().clone();
                let Some(leading) = leading else {
                    tracing::info!("SIGHUP: this copy does not lead; it reads the file when it does");
                    continue;
                };
                match leading.order(Order::Reload).await {
                    Ok(answer) => tracing::info!(%answer, "SIGHUP: pipeline file read again"),
                    Err(error) => tracing::error!(%error, "SIGHUP: the pipeline file was not taken over"),
                }
            }
        })))
    }

    /// Whether events go to a transport that can be read.
    pub fn is_readable(&self) -> bool {
        !matches!(self.file.pipeline.transport, TransportSpec::Discard)
    }
}

/// Does something while nobody else leads. That the lease cannot be given back afterwards takes nothing from what was done,
/// and hides no error of it: it ends with the process.
async fn leading<T>(
    lease: &mut dyn Lease,
    runs: impl FnOnce() -> Error,
    act: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(lease.free_after(), lease.acquire()).await {
        Ok(acquired) => acquired?,
        Err(_) => return Err(runs()),
    }
    let done = act.await;
    if let Err(error) = lease.release().await {
        tracing::warn!(%error, "the lease was not given back; it ends with this process");
    }
    done
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    /// A lease that is had, or not, and that cannot be given back.
    struct Stuck {
        free: bool,
    }

    #[async_trait]
    impl Lease for Stuck {
        async fn acquire(&mut self) -> Result<()> {
            match self.free {
                true => Ok(()),
                false => std::future::pending().await,
            }
        }

        fn free_after(&self) -> Duration {
            match self.free {
                true => Duration::from_secs(60),
                false => Duration::from_millis(1),
            }
        }

        async fn lost(&mut self) {
            std::future::pending().await
        }

        async fn release(&mut self) -> Result<()> {
            Err(Error::new(ErrorKind::Unreachable, "the broker is gone"))
        }
    }

    fn runs() -> Error {
        Error::new(ErrorKind::Unsuitable, "it runs")
    }

    async fn decide(done: Result<u8>) -> Result<u8> {
        let mut lease = Stuck { free: true };
        leading(&mut lease, runs, async { done }).await
    }

    #[tokio::test]
    async fn what_was_done_is_told_though_the_lease_cannot_be_given_back() {
        assert_eq!(decide(Ok(7)).await.unwrap(), 7);
        let error = decide(Err(Error::new(ErrorKind::Unsuitable, "not lost"))).await;
        assert_eq!(error.unwrap_err().message(), "not lost");
    }

    #[tokio::test]
    async fn nothing_is_done_while_another_copy_leads() {
        let mut lease = Stuck { free: false };
        let act = async { panic!("another copy leads") };
        let refused: Result<()> = leading(&mut lease, runs, act).await;
        assert_eq!(refused.unwrap_err().message(), "it runs");
    }
}
