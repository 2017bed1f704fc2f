// SPDX-License-Identifier: Apache-2.0
//! A server in a container: made once, then started, stopped, killed and frozen on its own file system.

use std::time::{Duration, Instant};

use testcontainers::bollard::query_parameters::{KillContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use testcontainers::bollard::{Docker, body_full};
use testcontainers::core::ContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, CopyTargetOptions, GenericImage, ImageExt};
use tokio::sync::Mutex;

use crate::command;
use crate::container::engine;
use crate::error::{Error, Result};
use crate::ports::Port;
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
    /// Run by `sh`, in place of the image's own entry point: it ends in an `exec` of the server.
    pub(crate) script: &'static str,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Path, content and mode of files put into the container first.
    pub(crate) files: Vec<(String, Vec<u8>, u32)>,
    /// The server's port inside.
    pub(crate) port: u16,
}

/// A container and its published port, which stays the same over restarts.
pub(crate) struct Contained {
    name: String,
    docker: Docker,
    container: Mutex<Option<ContainerAsync<GenericImage>>>,
    id: String,
    port: Port,
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
        let port = Port::reserve()?;
        let mut request = engine::generic(&recipe.image)
            .with_entrypoint("sh")
            .with_exposed_port(ContainerPort::Tcp(recipe.port))
            .with_mapped_port(port.number(), ContainerPort::Tcp(recipe.port))
            .with_cmd(["-c", recipe.script])
            .with_startup_timeout(CREATE_LIMIT);
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
            port,
            dir,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
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
        if !self.is_running().await {
            return Ok(());
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

    /// The server's process id as the engine's machine sees it, if it runs.
    pub(crate) async fn process_id(&self) -> Option<u32> {
        let state = self.docker.inspect_container(&self.id, None).await.ok()?.state?;
        let pid = u32::try_from(state.pid?).ok()?;
        (state.running? && pid > 0).then_some(pid)
    }

    /// Waits until `ready` gives a value; fails early, with the log's tail, when the server ends.
    pub(crate) async fn wait_ready<T, F>(&self, limit: Duration, mut ready: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        let end = Instant::now() + limit;
        loop {
            if let Some(value) = ready().await {
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

    async fn log_tail(&self) -> String {
        let container = self.container.lock().await;
        let Some(container) = container.as_ref() else {
            return String::new();
        };
        let mut bytes = container.stdout_to_vec().await.unwrap_or_default();
        bytes.extend(container.stderr_to_vec().await.unwrap_or_default());
        command::tail(&String::from_utf8_lossy(&bytes), LOG_TAIL_LINES)
    }

    /// The end of this process: the container is removed, on a runtime of its own.
    pub(crate) fn end(&self) {
        let docker = self.docker.clone();
        let id = self.id.clone();
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            let options = testcontainers::bollard::query_parameters::RemoveContainerOptionsBuilder::default();
            runtime
                .block_on(docker.remove_container(&id, Some(options.force(true).v(true).build())))
                .ok()
        });
        let _ = removing.join();
        self.dir.dispose();
    }
}
