// SPDX-License-Identifier: Apache-2.0
//! What a user configures: a versioned document, strict about names it does not know.

use crate::server_choice;
use crate::stream_settings::{MessageSettings, OriginFilter, SpillSettings, Streaming};
use crate::values::ValueForms;
use highwater_core::schema::TableName;
use highwater_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The version of this document's form.
pub const SETTINGS_VERSION: u32 = 1;

/// The longest name of a slot or publication, in bytes (`NAMEDATALEN - 1`).
pub const NAME_BYTES_MAX: usize = 63;

/// Everything the connector needs to know. All times are in milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The version of the document: [`SETTINGS_VERSION`].
    #[serde(default = "settings_version")]
    pub version: u32,
    /// Host name or address; a path (`/run/postgresql`) means the Unix socket in that directory.
    #[serde(default)]
    pub host: String,
    /// In place of `host`, the servers of a cluster as `host` or `host:port`: the first that serves is captured.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Whether a server in recovery, a hot standby, may be captured; else only one that takes writes.
    #[serde(default)]
    pub standby: bool,
    /// Port, where `hosts` names none.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The role, which needs LOGIN and REPLICATION.
    pub user: String,
    /// The role's password, where it needs one.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The database to capture.
    pub database: String,
    /// Encryption.
    #[serde(default)]
    pub tls: TlsSettings,
    /// The replication slot.
    #[serde(default)]
    pub slot: SlotSettings,
    /// The publication.
    #[serde(default)]
    pub publication: PublicationSettings,
    /// Which tables.
    pub tables: TableSettings,
    /// What happens while nothing happens.
    #[serde(default)]
    pub heartbeat: HeartbeatSettings,
    /// How tables are copied.
    #[serde(default)]
    pub chunks: ChunkSettings,
    /// When copies wait for the server to have less to do.
    #[serde(default)]
    pub throttle: ThrottleSettings,
    /// When large transactions are sent; the best that the server has where it is not set.
    #[serde(default)]
    pub streaming: Option<Streaming>,
    /// Where transactions wait that were sent before they committed.
    #[serde(default)]
    pub spill: SpillSettings,
    /// Which changes are wanted, by where they were made first.
    #[serde(default)]
    pub origin: OriginFilter,
    /// Which messages of other programs are captured.
    #[serde(default)]
    pub messages: MessageSettings,
    /// The form of values, where there is more than one.
    #[serde(default)]
    pub values: ValueForms,
    /// The longest that connecting may take, handshake included.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
}

/// A secret: written out, or named by the place where it lies. Never shown.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Secret {
    /// The secret itself.
    Literal(String),
    /// In an environment variable.
    Environment(SecretInEnvironment),
    /// In a file; one line break at its end is not part of it.
    File(SecretInFile),
}

/// The environment variable that holds a secret.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SecretInEnvironment {
    /// The variable's name.
    pub env: String,
}

/// The file that holds a secret.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SecretInFile {
    /// The file's path.
    pub file: PathBuf,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Secret(hidden)"),
            Self::Environment(place) => place.fmt(f),
            Self::File(place) => place.fmt(f),
        }
    }
}

impl Secret {
    /// Reads the secret.
    pub fn reveal(&self) -> Result<Vec<u8>> {
        match self {
            Self::Literal(secret) => Ok(secret.clone().into_bytes()),
            Self::Environment(place) => std::env::var(&place.env).map(String::into_bytes).map_err(|error| {
                Error::new(
                    ErrorKind::Configuration,
                    format!("environment variable \"{}\": {error}", place.env),
                )
                .with_fix("set the variable to the password, or name another in `password`")
            }),
            Self::File(place) => {
                let mut secret = std::fs::read(&place.file).map_err(|error| {
                    Error::new(
                        ErrorKind::Configuration,
                        format!("password file \"{}\": {error}", place.file.display()),
                    )
                    .with_fix("make the file readable, or name another in `password`")
                })?;
                if secret.last() == Some(&b'\n') {
                    secret.pop();
                }
                Ok(secret)
            }
        }
    }
}

/// Encryption of the connection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// How much is demanded.
    #[serde(default)]
    pub mode: TlsMode,
    /// Trusted roots in PEM; the operating system's where none is given.
    #[serde(default)]
    pub root_certificates: Option<PathBuf>,
    /// The client's certificate chain in PEM.
    #[serde(default)]
    pub client_certificate: Option<PathBuf>,
    /// The client's private key in PEM.
    #[serde(default)]
    pub client_key: Option<PathBuf>,
}

/// How much encryption is demanded, as libpq's `sslmode` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// None.
    Disable,
    /// Where the server offers it; the server is not verified.
    #[default]
    Prefer,
    /// Always; the server is not verified.
    Require,
    /// Always, and the certificate must come from a trusted root.
    VerifyCa,
    /// Always, from a trusted root, and made out for the host.
    VerifyFull,
}

/// The replication slot, which is this connector's place in the server's log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlotSettings {
    /// Its name: lower-case letters, digits and underscores.
    pub name: String,
    /// Whether it is created where it does not exist; else it is taken as it is.
    pub create: bool,
    /// Whether prepared transactions are sent when they are prepared, instead of when they commit. Either way they are
    /// delivered when they commit. A slot that once had it keeps it.
    pub two_phase: bool,
    /// Whether the server's standbys keep the slot in step, so that it outlives a failover. Since version 17.
    pub failover: bool,
}

impl Default for SlotSettings {
    fn default() -> Self {
        Self {
            name: "highwater".into(),
            create: true,
            two_phase: false,
            failover: false,
        }
    }
}

/// The publication, which says what the server sends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublicationSettings {
    /// Its name.
    pub name: String,
    /// Whether it is created and extended to the chosen tables; else it is taken as it is.
    pub create: bool,
}

impl Default for PublicationSettings {
    fn default() -> Self {
        Self {
            name: "highwater".into(),
            create: true,
        }
    }
}

/// Which tables are captured. A pattern is `schema.table`; in both parts `*` stands for any text and `?` for one
/// character.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSettings {
    /// Tables that match one of these...
    pub include: Vec<String>,
    /// ...and none of these.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// What happens while nothing happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatSettings {
    /// After this long without a message the server is asked how far it is, so that the slot advances on an idle
    /// database too.
    pub interval_ms: u64,
    /// After this long without any message, answers included, the connection counts as dead.
    pub silence_max_ms: u64,
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self {
            interval_ms: 1_000,
            silence_max_ms: 60_000,
        }
    }
}

/// How tables are copied.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkSettings {
    /// The longest that one statement of a chunk may take.
    pub statement_timeout_ms: u64,
    /// The longest that a chunk waits for a schema change to let go of the table.
    pub lock_timeout_ms: u64,
}

impl Default for ChunkSettings {
    fn default() -> Self {
        Self {
            statement_timeout_ms: 600_000,
            lock_timeout_ms: 30_000,
        }
    }
}

/// When copies wait for the server to have less to do: while one of these is passed no further chunk is read. The log is
/// read on. Nothing is limited that is not set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleSettings {
    /// Sessions of other programs that run a statement.
    pub active_sessions_max: Option<u64>,
    /// Sessions that wait for a lock.
    pub lock_waits_max: Option<u64>,
    /// How late the latest standby of the server shows what is committed, in milliseconds.
    pub replica_lag_max_ms: Option<u64>,
}

impl ThrottleSettings {
    /// Whether nothing is limited.
    pub fn is_off(&self) -> bool {
        self.active_sessions_max.is_none() && self.lock_waits_max.is_none() && self.replica_lag_max_ms.is_none()
    }
}

fn settings_version() -> u32 {
    SETTINGS_VERSION
}

fn default_port() -> u16 {
    5432
}

fn default_connect_timeout_ms() -> u64 {
    10_000
}

impl Settings {
    /// Reads settings from JSON and checks what can be checked without the server.
    pub fn from_json(value: serde_json::Value) -> Result<Self> {
        let settings: Self = serde_json::from_value(value).map_err(|error| {
            Error::new(ErrorKind::Configuration, format!("postgres settings: {error}"))
                .with_fix("see docs/operations/postgres.md for the settings and their names")
        })?;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks what can be checked without the server.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String, fix: &str| Err(Error::new(ErrorKind::Configuration, what).with_fix(fix));
        if self.version != SETTINGS_VERSION {
            return wrong(
                format!(
                    "postgres settings have version {}, not {SETTINGS_VERSION}",
                    self.version
                ),
                "set `version: 1`",
            );
        }
        server_choice::validate(self)?;
        let slot = &self.slot.name;
        let slot_letters = slot
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if slot.is_empty() || slot.len() > NAME_BYTES_MAX || !slot_letters {
            return wrong(
                format!("slot name \"{slot}\" is not one that Postgres allows"),
                "use 1 to 63 lower-case letters, digits and underscores",
            );
        }
        if self.publication.name.is_empty() || self.publication.name.len() > NAME_BYTES_MAX {
            return wrong(
                format!(
                    "publication name \"{}\" is not one that Postgres allows",
                    self.publication.name
                ),
                "use 1 to 63 bytes",
            );
        }
        if self.tables.include.is_empty() {
            return wrong(
                "`tables.include` is empty, so nothing would be captured".into(),
                "name tables, such as \"public.*\"",
            );
        }
        if let Some(pattern) = self
            .tables
            .include
            .iter()
            .chain(&self.tables.exclude)
            .find(|pattern| !pattern.contains('.'))
        {
            return wrong(
                format!("table pattern \"{pattern}\" names no schema"),
                "write it as \"schema.table\"",
            );
        }
        if self.tls.client_certificate.is_some() != self.tls.client_key.is_some() {
            return wrong(
                "a client certificate needs its key, and a key its certificate".into(),
                "set both `tls.client_certificate` and `tls.client_key`",
            );
        }
        if self.heartbeat.interval_ms == 0 || self.heartbeat.silence_max_ms <= self.heartbeat.interval_ms {
            return wrong(
                "`heartbeat.silence_max_ms` must be longer than `heartbeat.interval_ms`, which must not be 0".into(),
                "raise `heartbeat.silence_max_ms`",
            );
        }
        self.messages.validate(self.streaming)?;
        self.spill.validate()
    }

    /// Whether `table` is captured.
    pub fn selects(&self, table: &TableName) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches_table(pattern, table));
        any(&self.tables.include) && !any(&self.tables.exclude)
    }

    /// The `include` entries that name one table exactly: it is an error when the database lacks it. Schema and table with
    /// a dot between; the names may hold dots themselves.
    pub fn named_tables(&self) -> impl Iterator<Item = &str> + '_ {
        let exact = self.tables.include.iter();
        exact
            .map(String::as_str)
            .filter(|pattern| !pattern.contains(['*', '?']))
    }

    /// The first of [`Settings::named_tables`] that is none of `tables`.
    pub(crate) fn unmet<'a>(&self, tables: impl Iterator<Item = &'a TableName>) -> Option<&str> {
        let have: BTreeSet<String> = tables.map(TableName::to_string).collect();
        self.named_tables().find(|name| !have.contains(*name))
    }

    /// Whether a table is one of [`Settings::named_tables`].
    pub(crate) fn is_named(&self, table: &TableName) -> bool {
        let name = table.to_string();
        self.named_tables().any(|named| named == name)
    }

    /// The longest that connecting may take.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

fn matches_table(pattern: &str, table: &TableName) -> bool {
    // A schema's name may hold a dot; a pattern splits at any of its dots.
    pattern.match_indices('.').any(|(at, _)| {
        let (schema, name) = (&pattern[..at], &pattern[at + 1..]);
        matches_glob(schema, &table.schema) && matches_glob(name, &table.table)
    })
}

/// Whether `text` matches `pattern`, in which `*` is any text and `?` any character.
pub(crate) fn matches_glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while let Some(character) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == character => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = last_star else { return false };
                last_star = Some((star, from + 1));
                p = star + 1;
                t = from + 1;
            }
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|character| *character == '*')
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
