// SPDX-License-Identifier: Apache-2.0
//! How the embedded transport keeps its files.

use std::path::PathBuf;

use highwater_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// When written data is forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fsync {
    /// Before each commit returns: a commit survives a power failure.
    Commit,
    /// Every so many milliseconds: a commit survives the end of the process, and a power failure once that time has passed.
    IntervalMs(u64),
    /// When the operating system likes: a commit survives the end of the process.
    Never,
}

/// Settings of the embedded transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedSettings {
    /// Version of these settings: 1.
    pub version: u32,
    /// The folder; made when it is missing. One process at a time uses it.
    pub path: PathBuf,
    /// When written data is forced to the disk.
    pub fsync: Fsync,
    /// Size in bytes at which a partition begins a new segment file. Retention and compaction work on closed segments.
    pub segment_bytes: u64,
    /// Age in milliseconds after which records may leave a topic that names none; `None`: they stay.
    pub retention_ms: Option<u64>,
    /// Size in bytes of one partition above which its oldest segments leave; `None`: no limit. Compacted topics are exempt.
    pub retention_bytes: Option<u64>,
    /// Time between two rounds of retention and compaction, in milliseconds.
    pub upkeep_interval_ms: u64,
    /// Memory in bytes that an open transaction may use; the rest of it waits in a file.
    pub transaction_memory_bytes_max: usize,
    /// The largest record in bytes, key, value and headers together.
    pub record_bytes_max: usize,
    /// Memory in bytes for the keys of one round of compaction of one partition.
    pub compaction_memory_bytes_max: usize,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        EmbeddedSettings {
            version: 1,
            path: PathBuf::from("highwater-data"),
            fsync: Fsync::Commit,
            segment_bytes: 64 << 20,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            upkeep_interval_ms: 30_000,
            transaction_memory_bytes_max: 16 << 20,
            record_bytes_max: 64 << 20,
            compaction_memory_bytes_max: 32 << 20,
        }
    }
}

impl EmbeddedSettings {
    /// Refuses values that cannot work.
    pub fn check(&self) -> Result<()> {
        let refused = |name: &str, fix: &str| {
            Err(Error::new(
                ErrorKind::Configuration,
                format!("transport setting \"{name}\" is out of range"),
            )
            .with_fix(fix))
        };
        if self.version != 1 {
            return refused(
                "version",
                "set it to 1, or run the version of Highwater that the file was written for",
            );
        }
        if self.path.as_os_str().is_empty() {
            return refused("path", "name a folder");
        }
        if !(1..=1 << 32).contains(&self.segment_bytes) {
            return refused("segment_bytes", "set 1 to 4294967296");
        }
        if !(1..=1 << 30).contains(&self.record_bytes_max) {
            return refused("record_bytes_max", "set 1 to 1073741824");
        }
        if self.upkeep_interval_ms == 0 || self.fsync == Fsync::IntervalMs(0) {
            return refused("upkeep_interval_ms or fsync.interval_ms", "set 1 or more");
        }
        Ok(())
    }
}
