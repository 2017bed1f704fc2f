// SPDX-License-Identifier: Apache-2.0
//! The pipeline file of a test, in a folder of its own with everything that the pipeline keeps.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use serde_json::{Value, json};

use crate::database::Database;
use crate::process::Process;
use crate::socket;

/// A pipeline of Postgres into a transport. JSON is YAML, so it is written as that.
#[derive(Debug)]
pub struct PipelineFile {
    name: String,
    spec: Value,
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
}

static PIPELINES: AtomicU32 = AtomicU32::new(0);

impl PipelineFile {
    /// A pipeline of `tables` (patterns) into the embedded transport, with a name that no other test uses.
    pub fn embedded(database: &Database, tables: &[&str]) -> Self {
        let store = json!({ "embedded": { "path": "store" } });
        Self::new(database, tables, store)
    }

    /// A pipeline into Kafka with schemas in a registry.
    pub fn kafka(database: &Database, tables: &[&str], brokers: &str, registry: &str) -> Self {
        let mut file = Self::new(
            database,
            tables,
            json!({ "kafka": {
                "brokers": [brokers],
                // A killed copy is missed soon, so that the next one leads soon.
                "properties": { "session.timeout.ms": "1500", "heartbeat.interval.ms": "300" },
            }}),
        );
        file.set("registry", json!({ "confluent": { "url": registry } }));
        file
    }

    fn new(database: &Database, tables: &[&str], transport: Value) -> Self {
        let number = PIPELINES.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{number}", std::process::id());
        let folder = tempfile::Builder::new().prefix("hwit-").tempdir().expect("a folder");
        let path = folder.path().join("pipeline.yaml");
        let spec = json!({
            "version": 1,
            "name": name,
            "source": { "connector": "postgres", "settings": {
                "host": "127.0.0.1", "port": database.port, "user": ROLE, "password": ROLE_PASSWORD,
                "database": database.name, "tables": { "include": tables },
                "slot": { "name": name }, "publication": { "name": name },
                "heartbeat": { "interval_ms": 200 },
            }},
            "transport": transport,
            "checkpoint": { "idle_ms": 100 },
            "retry": { "backoff_ms": 50, "backoff_max_ms": 500 },
            "admin": { "listen": "127.0.0.1:0", "socket": "s" },
        });
        let file = PipelineFile {
            name,
            spec,
            folder: Some(folder),
            path,
        };
        file.write();
        file
    }

    /// The name of the pipeline, its slot and its publication, and the prefix of its topics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic of a table.
    pub fn topic(&self, schema: &str, table: &str) -> String {
        format!("{}.{schema}.{table}", self.name)
    }

    /// Sets a part of the file, by its path with points, and writes it.
    pub fn set(&mut self, path: &str, value: Value) {
        let mut part = &mut self.spec;
        for name in path.split('.') {
            part = &mut part[name];
        }
        *part = value;
        self.write();
    }

    /// A setting of the connector.
    pub fn set_source(&mut self, path: &str, value: Value) {
        self.set(&format!("source.settings.{path}"), value);
    }

    /// A pipeline of the same name, slot and topics in a folder of its own: its twin on another machine.
    pub fn twin(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("hwit-").tempdir().expect("a folder");
        let twin = PipelineFile {
            name: self.name.clone(),
            spec: self.spec.clone(),
            path: folder.path().join("pipeline.yaml"),
            folder: Some(folder),
        };
        twin.write();
        twin
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.path.parent().expect("invariant: the file lies in a folder")
    }

    /// The embedded transport's folder.
    pub fn store(&self) -> PathBuf {
        let path = self.spec["transport"]["embedded"]["path"].as_str().unwrap_or("store");
        self.folder().join(path)
    }

    /// Starts `highwater run`.
    pub fn run(&self) -> Process {
        self.run_with(&[])
    }

    /// Starts `highwater run` with variables in its environment.
    pub fn run_with(&self, environment: &[(&str, &str)]) -> Process {
        Process::start(self.folder(), &["run", &self.path.display().to_string()], environment)
    }

    /// What the running pipeline says of itself; `None` while none leads.
    pub async fn status(&self) -> Option<Value> {
        self.ask(json!({ "do": "status" })).await
    }

    /// Asks the running pipeline over its socket; what the answer ends with.
    pub async fn ask(&self, request: Value) -> Option<Value> {
        socket::ask(&self.folder().join("s"), &request)
            .await
            .map(|(_, end)| end)
    }

    /// Asks the running pipeline over its socket; the items of the answer.
    pub async fn list(&self, request: Value) -> Option<Vec<Value>> {
        socket::ask(&self.folder().join("s"), &request)
            .await
            .map(|(items, _)| items)
    }

    fn write(&self) {
        let text = serde_json::to_string_pretty(&self.spec).expect("a pipeline is JSON");
        std::fs::write(&self.path, text).expect("the pipeline file is written");
    }
}

impl Drop for PipelineFile {
    fn drop(&mut self) {
        if (std::thread::panicking() || std::env::var_os("HIGHWATER_KEEP").is_some())
            && let Some(folder) = self.folder.take()
        {
            eprintln!("kept {}", folder.keep().display());
        }
    }
}
