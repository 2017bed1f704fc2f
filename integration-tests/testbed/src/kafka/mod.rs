// SPDX-License-Identifier: Apache-2.0
//! A real Kafka for a test: one node, KRaft.

mod options;
pub(crate) mod programs;
mod shared;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cache;
use crate::certificates::{Authority, LOCAL_NAMES};
use crate::command;
use crate::error::{Error, Result};
use crate::ports::Port;
use crate::run_dir::RunDir;
use crate::server_process::ServerProcess;
use crate::versions::KAFKA;

use options::Listener;
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
    programs: Programs,
    options: KafkaOptions,
    listeners: Vec<(Security, Port)>,
    controller: Port,
    authority: Option<Authority>,
    process: Mutex<Option<ServerProcess>>,
    // Last: the directory goes after the process.
    dir: RunDir,
}

impl Kafka {
    /// Starts a broker: a few seconds.
    pub async fn start(options: KafkaOptions) -> Result<Self> {
        let began = Instant::now();
        let this = tokio::task::spawn_blocking(move || Self::prepare(options))
            .await
            .map_err(|e| Error::during("preparing kafka", e))??;
        this.boot().await?;
        eprintln!(
            "testbed: kafka {KAFKA} (process, pid {}) at {} in {} ms",
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

    fn prepare(options: KafkaOptions) -> Result<Self> {
        let programs = Programs::fetch()?;
        let dir = RunDir::new()?;
        command::output(
            Command::new("cp")
                .arg("-r")
                .arg(programs.template())
                .arg(dir.path().join("data")),
        )?;
        let mut kinds = vec![Security::Plaintext];
        kinds.extend(
            options
                .listeners
                .iter()
                .copied()
                .filter(|kind| *kind != Security::Plaintext),
        );
        let authority = kinds
            .iter()
            .any(|kind| kind.is_encrypted())
            .then(Authority::new)
            .transpose()?;
        let listeners = kinds
            .into_iter()
            .map(|kind| Ok((kind, Port::reserve()?)))
            .collect::<Result<Vec<_>>>()?;
        let this = Self {
            programs,
            options,
            listeners,
            controller: Port::reserve()?,
            authority,
            process: Mutex::new(None),
            dir,
        };
        this.configure()?;
        Ok(this)
    }

    fn configure(&self) -> Result<()> {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let mut over = vec![("log.dirs".to_owned(), at("data"))];
        if let Some(authority) = &self.authority {
            let server = authority.server(&LOCAL_NAMES)?;
            cache::write(&self.dir.path().join("ca.pem"), authority.ca_pem())?;
            cache::write(
                &self.dir.path().join("server.pem"),
                server.key_pem + &server.certificate_pem,
            )?;
            for (name, value) in [
                ("ssl.keystore.type", "PEM".to_owned()),
                ("ssl.keystore.location", at("server.pem")),
                ("ssl.truststore.type", "PEM".to_owned()),
                ("ssl.truststore.location", at("ca.pem")),
            ] {
                over.push((name.to_owned(), value));
            }
        }
        over.extend(self.options.settings.iter().cloned());
        let listeners: Vec<Listener> = self
            .listeners
            .iter()
            .map(|(security, port)| {
                let own = format!("127.0.0.1:{}", port.number());
                let advertised = match (&self.options.advertised, security) {
                    (Some(other), Security::Plaintext) => other.clone(),
                    _ => own,
                };
                Listener {
                    security: *security,
                    port: port.number(),
                    advertised,
                }
            })
            .collect();
        let text = options::properties(&listeners, self.controller.number(), &over);
        cache::write(&self.dir.path().join("server.properties"), text)
    }

    async fn boot(&self) -> Result<()> {
        if self.pid().is_some() {
            return Err(Error::new("this kafka runs already: stop it first"));
        }
        let mut java = self.programs.java();
        java.arg("-Xms128m").arg(format!("-Xmx{}m", self.options.heap_mb));
        if !self.options.full_speed {
            // Half the CPU of a start goes into compiling what a test never runs often.
            java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]);
        }
        java.arg("kafka.Kafka").arg(self.dir.path().join("server.properties"));
        let mut process = ServerProcess::start(&format!("kafka {KAFKA}"), java, &self.log_path(), libc::SIGKILL)?;
        process
            .wait_ready(START_LIMIT, |process| {
                let ready = process.log_of_this_run().contains(READY);
                async move { ready.then_some(()) }
            })
            .await?;
        *self.slot() = Some(process);
        Ok(())
    }

    /// The plain listener: `127.0.0.1:PORT`.
    pub fn bootstrap(&self) -> String {
        format!(
            "127.0.0.1:{}",
            self.listeners.first().map_or(0, |(_, port)| port.number())
        )
    }

    /// The listener of one kind, if the broker has it.
    pub fn bootstrap_of(&self, security: Security) -> Option<String> {
        let (_, port) = self.listeners.iter().find(|(kind, _)| *kind == security)?;
        Some(format!("127.0.0.1:{}", port.number()))
    }

    /// The certificate of the authority that signed the broker's, in PEM, if it has a TLS listener.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::ca_pem)
    }

    /// The file with [`Kafka::ca_pem`].
    pub fn ca_path(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(|_| self.dir.path().join("ca.pem"))
    }

    /// A command that runs a class of Kafka's tools, such as `org.apache.kafka.tools.TopicCommand`.
    pub fn tool(&self, class: &str) -> Command {
        let mut java = self.programs.java();
        java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=warn", class]);
        java
    }

    /// Stops the broker in an orderly way.
    pub async fn stop(&self) -> Result<()> {
        let process = self.slot().take();
        match process {
            Some(mut process) => process.stop(libc::SIGTERM, STOP_LIMIT).await,
            None => Ok(()),
        }
    }

    /// Kills the broker.
    pub async fn kill9(&self) -> Result<()> {
        self.slot().take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// Starts the broker again on its data and ports; an orderly stop comes first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// Freezes the broker: connections stay open and silent.
    pub async fn pause(&self) -> Result<()> {
        self.slot().as_ref().map_or(Ok(()), ServerProcess::pause)
    }

    /// Lets a frozen broker go on.
    pub async fn resume(&self) -> Result<()> {
        if let Some(process) = self.slot().as_ref() {
            process.resume();
        }
        Ok(())
    }

    /// The broker's process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.slot()
            .as_mut()
            .and_then(|process| process.is_running().then(|| process.pid()))
    }

    /// The exact version.
    pub fn version(&self) -> &'static str {
        KAFKA
    }

    /// The broker's log file.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The run directory: `data`, `server.properties`, `log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the run directory when the broker goes, for a test that fails without a panic.
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
