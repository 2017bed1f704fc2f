// SPDX-License-Identifier: Apache-2.0
//! What a user configures about the stream of changes: when large transactions are sent, and where they wait.

use crate::settings::{Settings, matches_glob};
use highwater_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The least that transactions may hold in memory: one message of a usual row has room in it many times.
const MEMORY_BYTES_MIN: u64 = 64 << 10;

/// When the server sends a transaction that is larger than its `logical_decoding_work_mem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streaming {
    /// When it has committed. Until then the server keeps it on its own disk.
    Off,
    /// While it runs, in pieces. It waits here until it commits.
    On,
    /// As `on`, and the server says where and when a transaction was rolled back. From version 16 on.
    Parallel,
}

/// Which changes are wanted, by where they were made first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginFilter {
    /// All.
    #[default]
    Any,
    /// Those made on this server; none that came to it by replication. From version 16 on.
    None,
}

/// What our own messages begin with.
const OWN_PREFIX: &str = "highwater.";

/// Which messages that programs write with `pg_logical_emit_message` are captured. From version 14 on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MessageSettings {
    /// Those whose prefix matches one of these patterns (`*` is any text, `?` any one character); none of our own, which
    /// begin with `highwater.`.
    pub prefixes: Vec<String>,
}

impl MessageSettings {
    /// Whether messages with `prefix` are captured.
    pub fn selects(&self, prefix: &str) -> bool {
        !prefix.starts_with(OWN_PREFIX) && self.prefixes.iter().any(|pattern| matches_glob(pattern, prefix))
    }

    /// Checks what can be checked without the server.
    pub(crate) fn validate(&self, streaming: Option<Streaming>) -> Result<()> {
        if !self.prefixes.is_empty() && matches!(streaming, Some(Streaming::On | Streaming::Parallel)) {
            let what = "with `messages.prefixes`, `streaming` must be off: in pieces of a transaction the server does not tell \
                        which messages were rolled back to a savepoint";
            return Err(Error::new(ErrorKind::Configuration, what).with_fix("leave `streaming` out"));
        }
        if let Some(pattern) = self.prefixes.iter().find(|pattern| pattern.starts_with(OWN_PREFIX)) {
            let what = format!("`messages.prefixes` names \"{pattern}\", and messages of our own are never captured");
            return Err(Error::new(ErrorKind::Configuration, what).with_fix("take it out"));
        }
        Ok(())
    }
}

/// Where transactions wait that were sent before they committed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpillSettings {
    /// The most that all of them hold in memory, in bytes; what is above goes to disk.
    pub memory_bytes_max: u64,
    /// A directory on disk; `/var/tmp` where that exists, else the system's place for temporary files.
    pub directory: Option<PathBuf>,
    /// The most that all of them hold on disk, in bytes.
    pub spill_bytes_max: u64,
}

impl Default for SpillSettings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 8 << 20,
            directory: None,
            spill_bytes_max: 64 << 30,
        }
    }
}

impl SpillSettings {
    /// The directory.
    pub fn directory(&self) -> PathBuf {
        // Not the system's first choice: that is memory on many systems.
        let on_disk = Path::new("/var/tmp");
        match &self.directory {
            Some(directory) => directory.clone(),
            None if on_disk.is_dir() => on_disk.to_owned(),
            None => std::env::temp_dir(),
        }
    }

    /// Checks what can be checked without the server.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.memory_bytes_max < MEMORY_BYTES_MIN {
            let what = format!("`spill.memory_bytes_max` is below {MEMORY_BYTES_MIN}");
            return Err(Error::new(ErrorKind::Configuration, what).with_fix("raise it, or leave it out"));
        }
        Ok(())
    }
}

/// What is asked of the server's output plug-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// Version of the protocol: the lowest that has what is asked for.
    pub protocol_version: u8,
    /// When large transactions are sent.
    pub streaming: Streaming,
    /// Prepared transactions are sent before they are decided.
    pub two_phase: bool,
    /// Which changes are wanted.
    pub origin: OriginFilter,
}

impl StreamOptions {
    /// What the settings ask of a server of this major version; an error where it does not have that.
    pub fn of(settings: &Settings, server_major: u32) -> Result<Self> {
        let needs = |setting: &str, major: u32, instead: &str| {
            if server_major >= major {
                return Ok(());
            }
            let what = format!("`{setting}` needs a server of version {major}, this one is {server_major}");
            Err(Error::new(ErrorKind::Unsuitable, what).with_fix(format!("{instead}, or upgrade the server")))
        };
        let streaming = match settings.streaming {
            Some(Streaming::On) => needs("streaming: on", 14, "set `streaming: off`").map(|()| Streaming::On)?,
            Some(Streaming::Parallel) => {
                needs("streaming: parallel", 16, "set `streaming: on`").map(|()| Streaming::Parallel)?
            }
            Some(Streaming::Off) => Streaming::Off,
            // See `log_reader::messages`.
            None if !settings.messages.prefixes.is_empty() => Streaming::Off,
            None => match server_major {
                ..14 => Streaming::Off,
                14 | 15 => Streaming::On,
                _ => Streaming::Parallel,
            },
        };
        if settings.slot.two_phase {
            needs("slot.two_phase", 15, "leave it out")?;
        }
        if !settings.messages.prefixes.is_empty() {
            needs("messages.prefixes", 14, "leave it out")?;
        }
        if settings.slot.failover {
            needs("slot.failover", 17, "leave it out")?;
        }
        if settings.origin == OriginFilter::None {
            needs("origin: none", 16, "leave it out")?;
        }
        let protocol_version = match (streaming, settings.slot.two_phase) {
            (Streaming::Parallel, _) => 4,
            (_, true) => 3,
            (Streaming::On, false) => 2,
            (Streaming::Off, false) => 1,
        };
        Ok(Self {
            protocol_version,
            streaming,
            two_phase: settings.slot.two_phase,
            origin: settings.origin,
        })
    }
}

#[cfg(test)]
#[path = "stream_settings_tests.rs"]
mod tests;
