// SPDX-License-Identifier: Apache-2.0
//! A real schema registry for a test: Apicurio, which speaks the Confluent API.

mod contained;
pub(crate) mod programs;
mod shared;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::backend::{self, Backend, Choice};
use crate::error::{Error, Result};
use crate::http;
use crate::java_server::{JavaProcess, JavaServer};
use crate::ports::Port;
use crate::run_dir::RunDir;
use crate::versions::{REGISTRY, REGISTRY_IMAGE};

/// Time for the registry to serve, on a machine that also compiles.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Time for an orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Time for one answer while the registry starts.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Where the Confluent API is.
const API: &str = "/apis/ccompat/v7";

/// A running registry on 127.0.0.1 with global compatibility BACKWARD, killed and removed when dropped; its directory
/// is kept when the test fails. Schemas and their ids survive [`Registry::kill9`] and [`Registry::restart`].
#[derive(Debug)]
pub struct Registry {
    server: JavaServer,
    /// Of a native registry.
    jar: Option<PathBuf>,
    // After the server: nobody else may get the port before it is gone.
    port: Port,
}

impl Registry {
    /// Starts a registry.
    pub async fn start() -> Result<Self> {
        let began = Instant::now();
        let (port, dir) = (Port::reserve()?, RunDir::new()?);
        let this = match backend::choose("HIGHWATER_IMAGE_REGISTRY", REGISTRY_IMAGE).await? {
            Choice::Process => Self::start_process(port, dir).await?,
            Choice::Container { docker, image } => {
                let container = contained::create((docker, image), port.number(), dir).await?;
                let this = Self {
                    server: JavaServer::Container(Box::new(container)),
                    jar: None,
                    port,
                };
                this.wait_ready().await?;
                this
            }
        };
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
            "testbed: registry {REGISTRY} ({}, pid {}) at {} in {} ms",
            this.backend(),
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

    async fn start_process(port: Port, dir: RunDir) -> Result<Self> {
        let jar = tokio::task::spawn_blocking(programs::fetch)
            .await
            .map_err(|e| Error::during("preparing the registry", e))??;
        let process = JavaProcess::new(format!("registry {REGISTRY}"), dir);
        let this = Self {
            server: JavaServer::Process(Box::new(process)),
            jar: Some(jar),
            port,
        };
        this.boot().await?;
        Ok(this)
    }

    async fn boot(&self) -> Result<()> {
        self.server.check_ended()?;
        match (&self.server, &self.jar) {
            (JavaServer::Container(container), _) => {
                container.start().await?;
                self.wait_ready().await
            }
            (JavaServer::Process(process), Some(jar)) => {
                let dir = process.dir().display().to_string();
                let mut java = Command::new("java");
                java.args(java_arguments("127.0.0.1", self.port(), &dir));
                java.arg("-jar").arg(jar);
                process.start(java, START_LIMIT, |_| serves(self.port())).await
            }
            (JavaServer::Process(_), None) => Err(Error::new("a native registry without its program")),
        }
    }

    async fn wait_ready(&self) -> Result<()> {
        match &self.server {
            JavaServer::Container(container) => container.wait_ready(START_LIMIT, || serves(self.port())).await,
            JavaServer::Process(_) => Ok(()),
        }
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
        self.server.stop(STOP_LIMIT).await
    }

    /// Kills the registry.
    pub async fn kill9(&self) -> Result<()> {
        self.server.kill9().await
    }

    /// Starts the registry again on its data and port; an orderly stop comes first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// Freezes the registry: connections stay open and silent.
    pub async fn pause(&self) -> Result<()> {
        self.server.pause().await
    }

    /// Lets a frozen registry go on.
    pub async fn resume(&self) -> Result<()> {
        self.server.resume().await
    }

    /// How the registry runs.
    pub fn backend(&self) -> Backend {
        self.server.backend()
    }

    /// The registry's process id, if it runs; in a container, as the engine's machine sees it.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The exact version that the test-bed pins; an image of `HIGHWATER_IMAGE_REGISTRY` may have another.
    pub fn version(&self) -> &'static str {
        REGISTRY
    }

    /// The registry's log file; a container's is written when the directory is kept.
    pub fn log_path(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// The run directory: the log, and of a native registry the schemas' database.
    pub fn dir(&self) -> &Path {
        self.server.dir().path()
    }

    /// Keeps the run directory when the registry goes, for a test that fails without a panic.
    pub fn keep_dir(&self) {
        self.server.dir().keep();
    }

    fn end(&self) {
        self.server.end();
    }
}

async fn serves(port: u16) -> Option<()> {
    let path = format!("{API}/subjects");
    let asked = http::request(port, "GET", &path, "");
    // A port that is mapped may take a connection before anybody answers behind it.
    let answer = tokio::time::timeout(ANSWER_LIMIT, asked).await.ok()?.ok()?;
    (answer.status == 200).then_some(())
}

/// The virtual machine's arguments for a registry that listens on `address` and keeps its schemas in `dir`.
fn java_arguments(address: &str, port: u16, dir: &str) -> Vec<String> {
    let machine = [
        "-Xms96m",
        "-Xmx384m",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
    ];
    let mut arguments: Vec<String> = machine.map(str::to_owned).into();
    arguments.extend([
        format!("-Dquarkus.http.host={address}"),
        format!("-Dquarkus.http.port={port}"),
        "-Dregistry.storage.kind=sql".to_owned(),
        // A file, so that ids survive a restart; WRITE_DELAY=0 keeps what was acknowledged through a kill.
        format!("-DREGISTRY_DATASOURCE_URL=jdbc:h2:file:{dir}/schemas;WRITE_DELAY=0"),
    ]);
    arguments
}
