// SPDX-License-Identifier: Apache-2.0
//! A server in a container: made once, then started, stopped, killed and frozen on its own file system.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures::StreamExt;
use testcontainers::bollard::models::{ContainerState, HostConfig};
use testcontainers::bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use testcontainers::bollard::{Docker, body_full};
use testcontainers::core::ContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, CopyTargetOptions, GenericImage, ImageExt};
use tokio::sync::Mutex;

use crate::command;
use crate::container::{engine, owner, sweep};
use crate::error::{Error, Result};
use crate::run_dir::RunDir;
use crate::wait;

/// Time for the engine to make and start a container.
const CREATE_LIMIT: Duration = Duration::from_secs(120);
/// Time for a killed container to be reported as ended.
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// Lines of a container's log that an error shows.
const LOG_TAIL_LINES: usize = 30;
/// Where the test-bed's files lie in every container.
pub(crate) const HOME: &str = "/hwtb";

/// What a container is made from.
pub(crate) struct Recipe {
    /// The server in messages.
    pub(crate) name: String,
    pub(crate) docker: Docker,
    pub(crate) image: String,
    /// Run by root's `sh`, in place of the image's own entry point: it ends in an `exec` of the server.
    pub(crate) script: &'static str,
    /// The script's arguments.
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Path, content and mode of files put into the container first.
    pub(crate) files: Vec<(String, Vec<u8>, u32)>,
    /// Ports of this machine, which their owner reserved, and those inside that they lead to.
    pub(crate) ports: Vec<(u16, u16)>,
}

/// A container, with published ports that stay the same over restarts.
pub(crate) struct Contained {
    name: String,
    docker: Docker,
    container: Mutex<Option<ContainerAsync<GenericImage>>>,
    id: String,
    pid: std::sync::Mutex<Option<u32>>,
    dir: RunDir,
}

impl std::fmt::Debug for Contained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contained")
            .field("name", &self.name)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Contained {
    /// Makes a container and starts it; the server inside is not yet ready.
    pub(crate) async fn create(recipe: Recipe, dir: RunDir) -> Result<Self> {
        sweep::once(&recipe.docker).await;
        let mut command = vec!["-c".to_owned(), recipe.script.to_owned(), "server".to_owned()];
        command.extend(recipe.arguments);
        let mut request = engine::generic(&recipe.image)
            .with_entrypoint("sh")
            .with_cmd(command)
            .with_user("root")
            .with_label(owner::LABEL, owner::this_process())
            .with_host_config_modifier(on_loopback_only)
            .with_startup_timeout(CREATE_LIMIT);
        for (outside, inside) in &recipe.ports {
            request = request.with_mapped_port(*outside, ContainerPort::Tcp(*inside));
        }
        for (name, value) in &recipe.environment {
            request = request.with_env_var(*name, value);
        }
        for (path, content, mode) in recipe.files {
            request = request.with_copy_to(CopyTargetOptions::new(path).with_mode(mode), content);
        }
        let container = request
            .start()
            .await
            .map_err(|e| Error::during(format!("cannot start {} from image {:?}", recipe.name, recipe.image), e))?;
        let id = container.id().to_owned();
        Ok(Self {
            name: recipe.name,
            docker: recipe.docker,
            container: Mutex::new(Some(container)),
            id,
            pid: std::sync::Mutex::new(None),
            dir,
        })
    }

    pub(crate) fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Starts the ended container again.
    pub(crate) async fn start(&self) -> Result<()> {
        let container = self.container.lock().await;
        let container = container
            .as_ref()
            .ok_or_else(|| Error::new(format!("{} is gone", self.name)))?;
        container
            .start()
            .await
            .map_err(|e| Error::during(format!("cannot start {} again", self.name), e))
    }

    /// Puts a file into the container, which may be stopped; `path` is absolute.
    pub(crate) async fn write(&self, path: &str, content: &str) -> Result<()> {
        let stage = self.dir.path().join("upload");
        let file = stage.join(path.trim_start_matches('/'));
        crate::cache::create_dir(file.parent().unwrap_or(&stage))?;
        crate::cache::write(&file, content)?;
        let archive = self.dir.path().join("upload.tar");
        command::output(
            std::process::Command::new("tar")
                .arg("-cf")
                .arg(&archive)
                .arg("-C")
                .arg(&stage)
                .arg("."),
        )?;
        let bytes =
            std::fs::read(&archive).map_err(|e| Error::during(format!("cannot read {}", archive.display()), e))?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        self.docker
            .upload_to_container(&self.id, Some(options), body_full(bytes.into()))
            .await
            .map_err(|e| Error::during(format!("cannot write {path} into {}", self.name), e))
    }

    /// Sends the server a signal and waits for its end.
    pub(crate) async fn end_with(&self, signal: &str, limit: Duration) -> Result<()> {
        self.set_pid(None);
        let Some(state) = self.state().await.filter(|state| state.pid.is_some_and(|pid| pid > 0)) else {
            return Ok(());
        };
        if state.paused == Some(true) {
            self.resume().await?;
        }
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        self.docker
            .kill_container(&self.id, Some(options))
            .await
            .map_err(|e| Error::during(format!("cannot send {signal} to {}", self.name), e))?;
        let what = format!("the end of {} after {signal}", self.name);
        wait::until(limit, &what, || async { Ok((!self.is_running().await).then_some(())) }).await
    }

    /// SIGKILL for everything in the container.
    pub(crate) async fn kill9(&self) -> Result<()> {
        self.end_with("SIGKILL", KILL_LIMIT).await
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        let paused = self.docker.pause_container(&self.id).await;
        paused.map_err(|e| Error::during(format!("cannot pause {}", self.name), e))
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        let resumed = self.docker.unpause_container(&self.id).await;
        resumed.map_err(|e| Error::during(format!("cannot resume {}", self.name), e))
    }

    pub(crate) async fn is_running(&self) -> bool {
        self.process_id().await.is_some()
    }

    /// The server's process id as the engine's machine sees it, from when it was ready until it was told to end.
    pub(crate) fn pid(&self) -> Option<u32> {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_pid(&self, pid: Option<u32>) {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }

    async fn process_id(&self) -> Option<u32> {
        let state = self.state().await?;
        let pid = u32::try_from(state.pid?).ok()?;
        (state.running? && pid > 0).then_some(pid)
    }

    async fn state(&self) -> Option<ContainerState> {
        self.docker.inspect_container(&self.id, None).await.ok()?.state
    }

    /// Waits until `ready` gives a value; fails early, with the log's tail, when the server ends.
    pub(crate) async fn wait_ready<T, F>(&self, limit: Duration, mut ready: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        let end = Instant::now() + limit;
        loop {
            if let Some(value) = ready().await {
                self.set_pid(self.process_id().await);
                return Ok(value);
            }
            if !self.is_running().await {
                return Err(Error::new(format!("{} died while starting", self.name)).with_log(self.log_tail().await));
            }
            if Instant::now() >= end {
                let late = Error::new(format!("waited {limit:?} for {} to be ready", self.name));
                return Err(late.with_log(self.log_tail().await));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the server wrote so far, in all its runs.
    pub(crate) async fn log(&self) -> String {
        let container = self.container.lock().await;
        let Some(container) = container.as_ref() else {
            return String::new();
        };
        let mut bytes = container.stdout_to_vec().await.unwrap_or_default();
        bytes.extend(container.stderr_to_vec().await.unwrap_or_default());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn log_tail(&self) -> String {
        command::tail(&self.log().await, LOG_TAIL_LINES)
    }

    /// The end of this process: the container is removed.
    pub(crate) fn end(&self) {
        self.save_log();
        self.remove();
        self.dir.dispose();
    }

    fn remove(&self) {
        let id = self.id.clone();
        aside(|docker| async move {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            if let Err(error) = docker.remove_container(&id, Some(options)).await {
                eprintln!("testbed: container {id} stays: {error}");
            }
        });
    }

    /// Writes the log where a native server has its own, if the directory is kept.
    fn save_log(&self) {
        if !self.dir.is_kept() {
            return;
        }
        let (id, path) = (self.id.clone(), self.dir.path().join("log"));
        aside(|docker| async move {
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
            let mut parts = docker.logs(&id, Some(options));
            let mut log = Vec::new();
            while let Some(Ok(part)) = parts.next().await {
                log.extend_from_slice(&part.into_bytes());
            }
            let _ = std::fs::write(&path, log);
        });
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.save_log();
        self.remove();
        // Its own drop would wait on this thread's parker and eat a wake-up that another part of the same task needs:
        // a test that joins two servers would hang when the first is dropped.
        std::mem::forget(self.container.get_mut().take());
    }
}

/// Runs a task to its end on a thread, a runtime and a connection of its own: where there is no runtime, or none that
/// may be blocked.
fn aside<F>(task: impl FnOnce(Docker) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    let working = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::during("cannot make a runtime", e))?;
        runtime.block_on(async {
            task(engine::connect()?).await;
            Ok::<(), Error>(())
        })
    });
    if let Ok(Err(error)) = working.join() {
        eprintln!("testbed: {error}");
    }
}

/// Publishes ports on 127.0.0.1, where the handles look, and nowhere else.
fn on_loopback_only(config: &mut HostConfig) {
    for bindings in config.port_bindings.iter_mut().flat_map(|ports| ports.values_mut()) {
        for binding in bindings.iter_mut().flatten() {
            binding.host_ip = Some("127.0.0.1".to_owned());
        }
    }
}
