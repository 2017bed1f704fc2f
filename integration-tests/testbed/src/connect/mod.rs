// SPDX-License-Identifier: Apache-2.0
//! Kafka Connect on one node with Debezium's plug-in for Postgres: the peer that benchmarks compare with. A process only;
//! its figures would mean nothing behind a container's network.

pub(crate) mod programs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cache;
use crate::error::{Error, Result};
use crate::http;
use crate::java_server::{JavaProcess, JavaServer};
use crate::kafka::programs::Programs;
use crate::ports::Port;
use crate::run_dir::RunDir;
use crate::versions::{DEBEZIUM, KAFKA};

/// Time for the worker to serve, on a machine that also compiles.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Time for an orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The class of the connector.
const CONNECTOR: &str = "io.debezium.connector.postgresql.PostgresConnector";
/// The virtual machine's memory: the least and the most of its heap.
const HEAP: [&str; 2] = ["-Xms256m", "-Xmx1g"];

/// A running Kafka Connect on 127.0.0.1, killed and removed when dropped.
#[derive(Debug)]
pub struct Connect {
    server: JavaServer,
    // After the server: nobody else may get the port before it is gone.
    port: Port,
}

impl Connect {
    /// Starts a worker that writes to the brokers, keys and values as JSON without their schemas.
    pub async fn start(brokers: &str) -> Result<Self> {
        let began = Instant::now();
        let (port, dir) = (Port::reserve()?, RunDir::new()?);
        let fetching = tokio::task::spawn_blocking(|| Ok((Programs::fetch()?, programs::fetch()?)));
        let (kafka, plugins) = fetching
            .await
            .map_err(|e| Error::during("preparing kafka connect", e))??;
        let file = dir.path().join("worker.properties");
        cache::write(&file, worker_properties(brokers, port.number(), dir.path(), &plugins))?;
        let process = JavaProcess::new(format!("kafka connect {KAFKA}"), dir);
        let mut java = kafka.java();
        java.args(HEAP).arg("-XX:+UseG1GC");
        java.arg("org.apache.kafka.connect.cli.ConnectStandalone").arg(file);
        process.start(java, START_LIMIT, |_| serves(port.number())).await?;
        let server = JavaServer::Process(Box::new(process));
        let this = Self { server, port };
        eprintln!(
            "testbed: kafka connect {KAFKA} with debezium {DEBEZIUM} (pid {}) in {} ms",
            this.pid().unwrap_or_default(),
            began.elapsed().as_millis()
        );
        Ok(this)
    }

    /// Fetches what is needed. Blocks; returns the exact version of Debezium.
    pub fn fetch() -> Result<String> {
        Programs::fetch()?;
        programs::fetch()?;
        Ok(DEBEZIUM.to_owned())
    }

    /// Starts a connector for Postgres with these options besides its class.
    pub async fn capture(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        let mut options = options.clone();
        options.insert("connector.class".to_owned(), CONNECTOR.to_owned());
        options.insert("tasks.max".to_owned(), "1".to_owned());
        let body = serde_json::to_string(&options).map_err(|e| Error::during("writing a connector's options", e))?;
        let path = format!("/connectors/{name}/config");
        let answer = http::request(self.port.number(), "PUT", &path, &body).await?;
        match answer.status {
            200 | 201 => Ok(()),
            status => Err(Error::new(format!(
                "kafka connect refused connector \"{name}\" ({status}): {}",
                answer.body
            ))),
        }
    }

    /// An error with the worker's own words if the connector or its task has failed.
    pub async fn check(&self, name: &str) -> Result<()> {
        let path = format!("/connectors/{name}/status");
        let answer = http::request(self.port.number(), "GET", &path, "").await?;
        if answer.body.contains("\"FAILED\"") {
            return Err(Error::new(format!("connector \"{name}\" has failed: {}", answer.body)));
        }
        Ok(())
    }

    /// Stops the worker in an orderly way.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop(STOP_LIMIT).await
    }

    /// The worker's process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The exact version of Debezium.
    pub fn version(&self) -> &'static str {
        DEBEZIUM
    }

    /// The worker's log file.
    pub fn log_path(&self) -> PathBuf {
        self.server.dir().path().join("log")
    }

    /// Keeps the run directory when the worker goes, for a run that fails without a panic.
    pub fn keep_dir(&self) {
        self.server.dir().keep();
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        self.server.end();
    }
}

async fn serves(port: u16) -> Option<()> {
    let answer = http::request(port, "GET", "/connectors", "").await.ok()?;
    (answer.status == 200).then_some(())
}

fn worker_properties(brokers: &str, port: u16, dir: &Path, plugins: &Path) -> String {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    format!(
        "bootstrap.servers={brokers}\n\
         listeners=http://127.0.0.1:{port}\n\
         rest.advertised.host.name=127.0.0.1\n\
         key.converter={json}\nkey.converter.schemas.enable=false\n\
         value.converter={json}\nvalue.converter.schemas.enable=false\n\
         offset.storage.file.filename={}\n\
         offset.flush.interval.ms=5000\n\
         plugin.path={}\n\
         plugin.discovery=service_load\n\
         connector.client.config.override.policy=All\n\
         topic.creation.enable=true\n",
        dir.join("offsets").display(),
        plugins.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_listens_on_this_machine_only() {
        let text = worker_properties("127.0.0.1:1", 2, Path::new("/dir"), Path::new("/plugins"));
        assert!(text.contains("\nlisteners=http://127.0.0.1:2\n"));
        assert!(text.contains("\nplugin.path=/plugins\n"));
    }
}
