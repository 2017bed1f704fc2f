// SPDX-License-Identifier: Apache-2.0
//! The pipeline file, version 1.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::error::SpecError;
use crate::secret::Environment;

/// The version of the file's form that this release reads.
pub const VERSION: u32 = 1;

/// A pipeline: one source captured into one transport. Times are in milliseconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The version of the file's form: [`VERSION`].
    pub version: u32,
    /// The pipeline's name: it names the writer that the transport fences, so it must be unique within one transport.
    /// Letters, digits, `-` and `_`.
    pub name: String,
    /// What is captured.
    pub source: SourceSpec,
    /// Where events go.
    pub transport: TransportSpec,
    /// How topics are named and made.
    #[serde(default)]
    pub topics: TopicsSpec,
    /// How events are written.
    #[serde(default)]
    pub format: Format,
    /// Where schemas are registered.
    #[serde(default)]
    pub registry: RegistrySpec,
    /// How tables are copied.
    #[serde(default)]
    pub snapshot: SnapshotSpec,
    /// How often events are committed.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
    /// What happens while a server is down.
    #[serde(default)]
    pub retry: RetrySpec,
    /// How a running pipeline is watched and steered.
    #[serde(default)]
    pub admin: AdminSpec,
}

/// What is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// The kind of database: `postgres`.
    pub connector: String,
    /// The connector's own settings; see its page under `docs/operations`.
    #[serde(default)]
    pub settings: Document,
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportSpec {
    /// A durable log in a folder of this machine, used by one process. Its settings are the transport's own.
    Embedded(Document),
    /// Kafka. Its settings are the transport's own.
    Kafka(Document),
    /// Nowhere: events are encoded and dropped. For measurements.
    Discard,
}

/// How topics are named and made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsSpec {
    /// First part of every topic: `<prefix>.<schema>.<table>`. The pipeline's name where it is left out.
    pub prefix: Option<String>,
    /// Partitions of a topic that is created; 1 where it is left out.
    pub partitions: Option<u32>,
    /// How old records leave a topic that is created.
    pub cleanup: TopicCleanup,
    /// Age after which records may leave; the transport's default where it is left out.
    pub retention_ms: Option<u64>,
}

/// How old records leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicCleanup {
    /// By age and size.
    #[default]
    Delete,
    /// At least the last record of each key stays.
    Compact,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Avro in Confluent's wire format, with the Debezium envelope.
    #[default]
    Avro,
    /// JSON with the Debezium envelope, without a schema.
    Json,
}

/// Where schemas are registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrySpec {
    /// In a file of this machine.
    Embedded(EmbeddedRegistrySpec),
    /// A server that speaks the Confluent REST API. Its settings are the client's own.
    Confluent(Document),
}

impl Default for RegistrySpec {
    fn default() -> Self {
        RegistrySpec::Embedded(EmbeddedRegistrySpec::default())
    }
}

/// A registry in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedRegistrySpec {
    /// The folder that holds `schemas.log`. Where it is left out: `schemas` in the folder of the embedded transport, else `<name>.schemas` beside
    /// the pipeline file.
    pub path: Option<PathBuf>,
}

/// How tables are copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotSpec {
    /// Whether tables are copied when they are first captured.
    pub mode: SnapshotMode,
    /// Most windows open at once, over all tables. 1 to 64.
    pub windows_max: u32,
    /// Chunks read at once, each over a connection of its own. 1 to 64.
    pub readers: u32,
    /// Rows of a chunk at most; chunks adapt below it.
    pub chunk_rows_max: u32,
    /// Bytes of a chunk's values at most, about.
    pub chunk_bytes_max: u64,
    /// How long a chunk's read should take; chunks shrink or grow towards it.
    pub chunk_target_ms: u64,
    /// Where the first copies of tables are read.
    pub first_load: FirstLoad,
    /// The longest that the one snapshot is held; what is not copied by then goes on between marks.
    pub first_load_minutes_max: u64,
}

/// Where the first copies of tables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstLoad {
    /// In the snapshot that the log's start has, where the source can give one.
    OneSnapshot,
    /// Each chunk in a snapshot of its own, between marks in the log.
    #[default]
    Windows,
}

/// Whether tables are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotMode {
    /// When they are first captured.
    #[default]
    Initial,
    /// Only when a person asks.
    Never,
}

impl Default for SnapshotSpec {
    fn default() -> Self {
        SnapshotSpec {
            mode: SnapshotMode::Initial,
            windows_max: 8,
            readers: 4,
            chunk_rows_max: 16_384,
            chunk_bytes_max: 2 << 20,
            chunk_target_ms: 200,
            first_load: FirstLoad::default(),
            first_load_minutes_max: 60,
        }
    }
}

/// How often events are committed. A commit is due as soon as one of these is reached; while one is under way, events
/// gather for the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// The longest that an event waits for others while no commit is under way.
    pub every_ms: u64,
    /// Events of one commit.
    pub every_events: u64,
    /// Bytes of one commit.
    pub every_bytes: u64,
    /// How often an idle source's progress is committed.
    pub idle_ms: u64,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        CheckpointSpec {
            every_ms: 5,
            every_events: 50_000,
            every_bytes: 16 << 20,
            idle_ms: 1_000,
        }
    }
}

/// What happens while a server is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// First wait; doubled after each failure.
    pub backoff_ms: u64,
    /// Longest wait.
    pub backoff_max_ms: u64,
    /// After this long without any progress the process ends with exit code 75; 0: at the first failure.
    pub give_up_after_ms: u64,
}

impl Default for RetrySpec {
    fn default() -> Self {
        RetrySpec {
            backoff_ms: 100,
            backoff_max_ms: 10_000,
            give_up_after_ms: 600_000,
        }
    }
}

/// How a running pipeline is watched and steered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSpec {
    /// Address of metrics, health and status over HTTP; none where it is left out. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// The local socket; `<name>.sock` in the folder of the pipeline file where it is left out.
    pub socket: Option<PathBuf>,
    /// The longest that a shutdown may take to commit what was captured.
    pub shutdown_ms_max: u64,
}

impl Default for AdminSpec {
    fn default() -> Self {
        AdminSpec {
            listen: None,
            socket: None,
            shutdown_ms_max: 20_000,
        }
    }
}

impl Pipeline {
    /// Reads a pipeline from YAML. References to secrets are looked up in every part but `source.settings`, which
    /// [`Pipeline::connector_settings`] looks up.
    ///
    /// # Errors
    /// The first mistake, with its path, line and the nearest name that would have been right.
    pub fn from_yaml(text: &str, environment: &dyn Environment) -> Result<Self, SpecError> {
        let written = Document::from_yaml(text)?;
        let version = written.get("version").ok_or_else(|| {
            SpecError::new("setting \"version\" is missing").with_suggestion(format!("add \"version: {VERSION}\""))
        })?;
        let number: u32 = version.read("version")?;
        if number != VERSION {
            return Err(SpecError::new(format!("version {number} is not known to this release"))
                .with_suggestion(format!("write \"version: {VERSION}\""))
                .within("version")
                .at_line(version.line()));
        }
        let mut pipeline: Pipeline = Self::without_connector_settings(&written)
            .resolve("", environment)?
            .read("")?;
        pipeline.keep_lines(&written, environment)?;
        pipeline.validate().map_err(|error| {
            let line = line_at(&written, &error.path());
            error.at_line(line)
        })?;
        Ok(pipeline)
    }

    /// The connector's settings keep their references, so that a pipeline can be stored and shown.
    fn without_connector_settings(written: &Document) -> Document {
        let mut rest = written.clone();
        if let Some(mut source) = rest.get("source").cloned()
            && let Some(settings) = source.get("settings")
        {
            let mut place = Document::empty();
            place.line = settings.line;
            source.set("settings", place);
            rest.set("source", source);
        }
        rest
    }

    /// Settings that others read later come with their lines.
    fn keep_lines(&mut self, written: &Document, environment: &dyn Environment) -> Result<(), SpecError> {
        let part = |path: &[&str]| path.iter().try_fold(written, |part, name| part.get(name));
        if let Some(settings) = part(&["source", "settings"]) {
            self.source.settings = settings.clone();
        }
        let transport: (&[&str], _) = match &mut self.transport {
            TransportSpec::Embedded(settings) => (&["transport", "embedded"], Some(settings)),
            TransportSpec::Kafka(settings) => (&["transport", "kafka"], Some(settings)),
            TransportSpec::Discard => (&[], None),
        };
        let registry: (&[&str], _) = match &mut self.registry {
            RegistrySpec::Confluent(settings) => (&["registry", "confluent"], Some(settings)),
            RegistrySpec::Embedded(_) => (&[], None),
        };
        for (path, place) in [transport, registry] {
            if let (Some(place), Some(settings)) = (place, part(path)) {
                *place = settings.resolve(&path.join("."), environment)?;
            }
        }
        Ok(())
    }

    /// The connector's settings with their references looked up.
    ///
    /// # Errors
    /// A reference that leads nowhere.
    pub fn connector_settings(&self, environment: &dyn Environment) -> Result<Document, SpecError> {
        self.source.settings.resolve("source.settings", environment)
    }

    /// First part of every topic.
    pub fn prefix(&self) -> &str {
        self.topics.prefix.as_deref().unwrap_or(&self.name)
    }

    fn validate(&self) -> Result<(), SpecError> {
        let wrong = |path: &[&str], message: String| {
            Err(path
                .iter()
                .rev()
                .fold(SpecError::new(message), |error, segment| error.within(segment)))
        };
        let name_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.name.is_empty() || self.name.len() > 100 || !self.name.chars().all(name_letter) {
            return wrong(
                &["name"],
                "a name is 1 to 100 letters, digits, \"-\" and \"_\"".to_owned(),
            );
        }
        let prefix = self.prefix();
        if prefix.is_empty() || prefix.len() > 100 || !prefix.chars().all(|c| name_letter(c) || c == '.') {
            return wrong(
                &["topics", "prefix"],
                "a prefix is 1 to 100 letters, digits, \".\", \"-\" and \"_\"".to_owned(),
            );
        }
        if self.topics.partitions == Some(0) {
            return wrong(&["topics", "partitions"], "a topic has at least 1 partition".to_owned());
        }
        if !(1..=64).contains(&self.snapshot.windows_max) {
            return wrong(
                &["snapshot", "windows_max"],
                "1 to 64 windows can be open at once".to_owned(),
            );
        }
        for (name, value) in [
            ("chunk_rows_max", u64::from(self.snapshot.chunk_rows_max)),
            ("chunk_bytes_max", self.snapshot.chunk_bytes_max),
            ("chunk_target_ms", self.snapshot.chunk_target_ms),
            ("first_load_minutes_max", self.snapshot.first_load_minutes_max),
        ] {
            if value == 0 {
                return wrong(&["snapshot", name], "must not be 0".to_owned());
            }
        }
        for (name, value) in [
            ("every_events", self.checkpoint.every_events),
            ("every_bytes", self.checkpoint.every_bytes),
            ("idle_ms", self.checkpoint.idle_ms),
        ] {
            if value == 0 {
                return wrong(&["checkpoint", name], "must not be 0".to_owned());
            }
        }
        Ok(())
    }
}

/// The line of the deepest part on `path` that the file has.
fn line_at(written: &Document, path: &str) -> u32 {
    let mut part = written;
    for segment in path.split('.') {
        match part.get(segment) {
            Some(deeper) => part = deeper,
            None => break,
        }
    }
    part.line()
}
