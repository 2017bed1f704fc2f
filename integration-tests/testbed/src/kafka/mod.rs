// SPDX-License-Identifier: Apache-2.0
//! A real Kafka for a test: one node, KRaft.

mod configuration;
mod contained;
mod options;
pub(crate) mod programs;
mod shared;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::backend::{self, Backend, Choice};
use crate::cache;
use crate::certificates::Authority;
use crate::command;
use crate::error::{Error, Result};
use crate::java_server::{JavaProcess, JavaServer};
use crate::run_dir::RunDir;
use crate::versions::{KAFKA, KAFKA_IMAGE};

use configuration::Configuration;
pub use options::{KAFKA_PASSWORD, KAFKA_USER, KafkaOptions, Security};
use programs::Programs;

/// Time for a broker to serve, on a machine that also compiles.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Time for an orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The broker's own words when it serves.
const READY: &str = "Kafka Server started";

/// A running broker on 127.0.0.1, killed and removed when dropped; its directory is kept when the test fails.
#[derive(Debug)]
pub struct Kafka {
    server: JavaServer,
    /// Of a native broker.
    programs: Option<Programs>,
    // After the server: nobody else may get its ports before it is gone.
    configuration: Configuration,
}

impl Kafka {
    /// Starts a broker: a few seconds.
    pub async fn start(options: KafkaOptions) -> Result<Self> {
        let began = Instant::now();
        let configuration = Configuration::new(options)?;
        let dir = RunDir::new()?;
        let this = match backend::choose("HIGHWATER_IMAGE_KAFKA", KAFKA_IMAGE).await? {
            Choice::Process => Self::start_process(configuration, dir).await?,
            Choice::Container { docker, image } => {
                if let Some(authority) = configuration.authority() {
                    cache::write(&dir.path().join("ca.pem"), authority.ca_pem())?;
                }
                let container = contained::start((docker, image), &configuration, dir).await?;
                Self {
                    server: JavaServer::Container(Box::new(container)),
                    programs: None,
                    configuration,
                }
            }
        };
        eprintln!(
            "testbed: kafka {KAFKA} ({}, pid {}) at {} in {} ms",
            this.backend(),
            this.pid().unwrap_or_default(),
            this.bootstrap(),
            began.elapsed().as_millis()
        );
        Ok(this)
    }

    /// Fetches the broker, so that a test has not to wait for it. Blocks; returns the exact version.
    pub fn fetch() -> Result<String> {
        Programs::fetch().map(|_| KAFKA.to_owned())
    }

    async fn start_process(configuration: Configuration, dir: RunDir) -> Result<Self> {
        let programs = tokio::task::spawn_blocking(Programs::fetch)
            .await
            .map_err(|e| Error::during("preparing kafka", e))??;
        let data = dir.path().join("data");
        command::output(Command::new("cp").arg("-r").arg(programs.template()).arg(data))?;
        for (name, content) in configuration.files("127.0.0.1", &dir.path().display().to_string())? {
            cache::write(&dir.path().join(name), content)?;
        }
        let process = JavaProcess::new(format!("kafka {KAFKA}"), dir);
        let this = Self {
            server: JavaServer::Process(Box::new(process)),
            programs: Some(programs),
            configuration,
        };
        this.boot().await?;
        Ok(this)
    }

    async fn boot(&self) -> Result<()> {
        self.server.check_ended()?;
        match (&self.server, &self.programs) {
            (JavaServer::Container(container), _) => contained::start_again(container).await,
            (JavaServer::Process(process), Some(programs)) => {
                let mut java = programs.java();
                java.args(self.configuration.java()).arg("kafka.Kafka");
                java.arg(process.dir().join("server.properties"));
                let serves = |log: String| async move { log.contains(READY).then_some(()) };
                process
                    .start(java, START_LIMIT, |process| serves(process.log_of_this_run()))
                    .await
            }
            (JavaServer::Process(_), None) => Err(Error::new("a native kafka without its programs")),
        }
    }

    /// The plain listener: `127.0.0.1:PORT`.
    pub fn bootstrap(&self) -> String {
        self.bootstrap_of(Security::Plaintext).unwrap_or_default()
    }

    /// The listener of one kind, if the broker has it.
    pub fn bootstrap_of(&self, security: Security) -> Option<String> {
        let (_, port) = self.configuration.ports().find(|(kind, _)| *kind == security)?;
        Some(format!("127.0.0.1:{port}"))
    }

    /// The certificate of the authority that signed the broker's, in PEM, if it has a TLS listener.
    pub fn ca_pem(&self) -> Option<&str> {
        self.configuration.authority().map(Authority::ca_pem)
    }

    /// The file with [`Kafka::ca_pem`].
    pub fn ca_path(&self) -> Option<PathBuf> {
        self.ca_pem().map(|_| self.dir().join("ca.pem"))
    }

    /// The authority of the broker's certificate, which also signs those of clients that it trusts, if it has a TLS
    /// listener.
    pub fn authority(&self) -> Option<&Authority> {
        self.configuration.authority()
    }

    /// Stops the broker in an orderly way.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop(STOP_LIMIT).await
    }

    /// Kills the broker.
    pub async fn kill9(&self) -> Result<()> {
        self.server.kill9().await
    }

    /// Starts the broker again on its data and ports; an orderly stop comes first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// Freezes the broker: connections stay open and silent.
    pub async fn pause(&self) -> Result<()> {
        self.server.pause().await
    }

    /// Lets a frozen broker go on.
    pub async fn resume(&self) -> Result<()> {
        self.server.resume().await
    }

    /// How the broker runs.
    pub fn backend(&self) -> Backend {
        self.server.backend()
    }

    /// The broker's process id, if it runs; in a container, as the engine's machine sees it.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The exact version that the test-bed pins; an image of `HIGHWATER_IMAGE_KAFKA` may have another.
    pub fn version(&self) -> &'static str {
        KAFKA
    }

    /// The broker's log file; a container's is written when the directory is kept.
    pub fn log_path(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// The run directory: `log`, and of a native broker `data` and `server.properties`.
    pub fn dir(&self) -> &Path {
        self.server.dir().path()
    }

    /// Keeps the run directory when the broker goes, for a test that fails without a panic.
    pub fn keep_dir(&self) {
        self.server.dir().keep();
    }

    fn end(&self) {
        self.server.end();
    }
}
