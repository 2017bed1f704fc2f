// SPDX-License-Identifier: Apache-2.0
//! A real schema registry for a test: Apicurio, which speaks the Confluent API.

pub(crate) mod programs;
mod shared;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::http;
use crate::ports::Port;
use crate::run_dir::RunDir;
use crate::server_process::ServerProcess;
use crate::versions::REGISTRY;

/// Time for the registry to serve, on a machine that also compiles.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Time for an orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Where the Confluent API is.
const API: &str = "/apis/ccompat/v7";

/// A running registry on 127.0.0.1 with global compatibility BACKWARD, killed and removed when dropped; its directory
/// is kept when the test fails. Schemas and their ids survive [`Registry::kill9`] and [`Registry::restart`].
#[derive(Debug)]
pub struct Registry {
    jar: PathBuf,
    port: Port,
    process: Mutex<Option<ServerProcess>>,
    // Last: the directory goes after the process.
    dir: RunDir,
}

impl Registry {
    /// Starts a registry.
    pub async fn start() -> Result<Self> {
        let began = Instant::now();
        let jar = tokio::task::spawn_blocking(programs::fetch)
            .await
            .map_err(|e| Error::during("preparing the registry", e))??;
        let this = Self {
            jar,
            port: Port::reserve()?,
            process: Mutex::new(None),
            dir: RunDir::new()?,
        };
        this.boot().await?;
        let answer = http::request(
            this.port(),
            "PUT",
            &format!("{API}/config"),
            r#"{"compatibility":"BACKWARD"}"#,
        )
        .await?;
        if answer.status != 200 {
            return Err(Error::new(format!(
                "the registry refused its compatibility ({}): {}",
                answer.status, answer.body
            )));
        }
        eprintln!(
            "testbed: registry {REGISTRY} (process, pid {}) at {} in {} ms",
            this.pid().unwrap_or_default(),
            this.url(),
            began.elapsed().as_millis()
        );
        Ok(this)
    }

    /// Fetches the registry, so that a test has not to wait for it. Blocks; returns the exact version.
    pub fn fetch() -> Result<String> {
        programs::fetch().map(|_| REGISTRY.to_owned())
    }

    async fn boot(&self) -> Result<()> {
        if self.pid().is_some() {
            return Err(Error::new("this registry runs already: stop it first"));
        }
        let mut java = Command::new("java");
        java.args([
            "-Xms96m",
            "-Xmx384m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xshare:auto",
        ]);
        java.args([
            "-Dquarkus.http.host=127.0.0.1",
            &format!("-Dquarkus.http.port={}", self.port()),
        ]);
        java.arg("-Dregistry.storage.kind=sql");
        // A file, so that ids survive a restart; WRITE_DELAY=0 keeps what was acknowledged through a kill.
        let file = self.dir.path().join("schemas");
        java.arg(format!(
            "-DREGISTRY_DATASOURCE_URL=jdbc:h2:file:{};WRITE_DELAY=0",
            file.display()
        ));
        java.arg("-jar").arg(&self.jar);
        let mut process = ServerProcess::start(&format!("registry {REGISTRY}"), java, &self.log_path(), libc::SIGKILL)?;
        let port = self.port();
        process
            .wait_ready(START_LIMIT, |_| async move {
                let answer = http::request(port, "GET", &format!("{API}/subjects"), "").await.ok()?;
                (answer.status == 200).then_some(())
            })
            .await?;
        *self.slot() = Some(process);
        Ok(())
    }

    /// The address of the Confluent API: what a client takes as `schema.registry.url`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port())
    }

    /// The TCP port, the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Stops the registry in an orderly way.
    pub async fn stop(&self) -> Result<()> {
        let process = self.slot().take();
        match process {
            Some(mut process) => process.stop(libc::SIGTERM, STOP_LIMIT).await,
            None => Ok(()),
        }
    }

    /// Kills the registry.
    pub async fn kill9(&self) -> Result<()> {
        self.slot().take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// Starts the registry again on its data and port; an orderly stop comes first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// Freezes the registry: connections stay open and silent.
    pub async fn pause(&self) -> Result<()> {
        self.slot().as_ref().map_or(Ok(()), ServerProcess::pause)
    }

    /// Lets a frozen registry go on.
    pub async fn resume(&self) -> Result<()> {
        if let Some(process) = self.slot().as_ref() {
            process.resume();
        }
        Ok(())
    }

    /// The registry's process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.slot()
            .as_mut()
            .and_then(|process| process.is_running().then(|| process.pid()))
    }

    /// The exact version.
    pub fn version(&self) -> &'static str {
        REGISTRY
    }

    /// The registry's log file.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The run directory: the schemas' database and the log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the run directory when the registry goes, for a test that fails without a panic.
    pub fn keep_dir(&self) {
        self.dir.keep();
    }

    fn end(&self) {
        if let Some(mut process) = self.slot().take() {
            let _ = process.kill9();
        }
        self.dir.dispose();
    }

    fn slot(&self) -> MutexGuard<'_, Option<ServerProcess>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
