// SPDX-License-Identifier: Apache-2.0
//! A registry of our own: one file, or memory only.
//!
//! The file is a log of registrations, a line each: eight hexadecimal digits of CRC-32, a space, and JSON. A registration
//! is answered once its line is on disk. A last line without its line end was never answered and is cut off on opening;
//! anything else that does not read back is an error, because ids that mean something else later would be worse.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::{Compatibility, RegisteredSchema, SchemaId, SchemaRegistry};
use crate::avro::compatibility::obstacles;
use crate::avro::parsed::AvroSchema;

/// Name of the registry's file in its folder.
pub const FILE_NAME: &str = "schemas.log";

/// A registry in a folder, or in memory. New schemas must be able to read what the subject's latest wrote (BACKWARD).
#[derive(Debug)]
pub struct EmbeddedRegistry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_id: BTreeMap<SchemaId, Arc<str>>,
    by_text: HashMap<Arc<str>, SchemaId>,
    /// Schemas of each subject, version 1 first.
    subjects: BTreeMap<String, Vec<SchemaId>>,
    log: Option<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
    /// Set when a failed write could not be undone: what the file ends with is unknown.
    broken: bool,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    subject: String,
    version: u32,
    id: SchemaId,
    schema: String,
}

impl EmbeddedRegistry {
    /// A registry that is gone with the process.
    pub fn in_memory() -> Self {
        EmbeddedRegistry {
            state: Mutex::new(State::default()),
        }
    }

    /// Opens the registry in a folder, which is created if need be. Blocks on the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] when the file cannot be opened, does not read back, or is open in another process.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let failed = |what: &str, error: std::io::Error| storage(&path, what).with_source(error);
        std::fs::create_dir_all(folder).map_err(|error| failed("its folder cannot be created", error))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .open(&path)
            .map_err(|error| failed("it cannot be opened", error))?;
        file.try_lock().map_err(|error| {
            storage(&path, "another process has it open")
                .with_source(error)
                .with_fix("stop the other process, or give this one a folder of its own")
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| failed("it cannot be read", error))?;
        let mut state = State::default();
        let length = state.replay(&path, &bytes)?;
        if length < bytes.len() as u64 {
            file.set_len(length)
                .map_err(|error| failed("its unfinished end cannot be cut off", error))?;
        }
        file.sync_all().map_err(|error| failed("it cannot be synced", error))?;
        sync_folder(folder).map_err(|error| failed("its folder cannot be synced", error))?;
        state.log = Some(Log {
            file,
            path,
            length,
            broken: false,
        });
        Ok(EmbeddedRegistry {
            state: Mutex::new(state),
        })
    }

    fn with_state<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        // Every change of the state happens after everything that can fail, so a panic elsewhere leaves it whole.
        action(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl SchemaRegistry for EmbeddedRegistry {
    async fn register(&self, subject: &str, schema: &str) -> Result<SchemaId> {
        self.with_state(|state| state.register(subject, schema))
    }

    async fn schema(&self, id: SchemaId) -> Result<Arc<str>> {
        self.with_state(|state| state.by_id.get(&id).cloned()).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("the embedded registry has no schema with id {id}"),
            )
            .with_fix("read the topic with the registry it was written with")
        })
    }

    async fn latest(&self, subject: &str) -> Result<Option<RegisteredSchema>> {
        Ok(self.with_state(|state| state.latest(subject)))
    }

    async fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Compatibility> {
        let (_, parsed) = canonical(subject, schema)?;
        let reasons = self.with_state(|state| state.obstacles(subject, &parsed))?;
        Ok(if reasons.is_empty() {
            Compatibility::Compatible
        } else {
            Compatibility::Incompatible { reasons }
        })
    }

    async fn subjects(&self) -> Result<Vec<String>> {
        Ok(self.with_state(|state| state.subjects.keys().cloned().collect()))
    }
}

impl State {
    fn register(&mut self, subject: &str, schema: &str) -> Result<SchemaId> {
        let (text, parsed) = canonical(subject, schema)?;
        let known = self.by_text.get(text.as_str()).copied();
        let versions = self.subjects.get(subject);
        if let (Some(id), Some(versions)) = (known, versions)
            && versions.contains(&id)
        {
            return Ok(id);
        }
        let reasons = self.obstacles(subject, &parsed)?;
        if !reasons.is_empty() {
            return Err(Error::new(
                ErrorKind::SchemaRejected,
                format!(
                    "subject {subject:?}: the new schema cannot read what the latest wrote: {}",
                    reasons.join("; ")
                ),
            )
            .with_fix(
                "undo the change of the table or make it a compatible one (new columns nullable, types only wider)",
            ));
        }
        let next = self.by_id.keys().next_back().map_or(1, |last| last.0.saturating_add(1));
        let registration = Registration {
            subject: subject.to_owned(),
            version: versions.map_or(0, Vec::len) as u32 + 1,
            id: known.unwrap_or(SchemaId(next)),
            schema: text,
        };
        if let Some(log) = &mut self.log {
            log.append(&registration)?;
        }
        let id = registration.id;
        self.apply(registration);
        Ok(id)
    }

    fn apply(&mut self, registration: Registration) {
        let text: Arc<str> = registration.schema.into();
        self.by_id.insert(registration.id, Arc::clone(&text));
        self.by_text.insert(text, registration.id);
        self.subjects
            .entry(registration.subject)
            .or_default()
            .push(registration.id);
    }

    fn latest(&self, subject: &str) -> Option<RegisteredSchema> {
        let versions = self.subjects.get(subject)?;
        let id = *versions.last()?;
        Some(RegisteredSchema {
            id,
            version: versions.len() as u32,
            schema: self.by_id.get(&id).cloned()?,
        })
    }

    fn obstacles(&self, subject: &str, schema: &AvroSchema) -> Result<Vec<String>> {
        match self.latest(subject) {
            Some(latest) => Ok(obstacles(schema, &AvroSchema::parse(&latest.schema)?)),
            None => Ok(Vec::new()),
        }
    }

    /// Reads the file; gives the length of its whole lines.
    fn replay(&mut self, path: &Path, bytes: &[u8]) -> Result<u64> {
        let mut length = 0u64;
        for (number, line) in (1..).zip(bytes.split_inclusive(|octet| *octet == b'\n')) {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            length += line.len() as u64 + 1;
            let registration = parse_line(line).ok_or_else(|| corrupt(path, number))?;
            let version = self.subjects.get(&registration.subject).map_or(0, Vec::len) + 1;
            let same_text = self
                .by_id
                .get(&registration.id)
                .is_none_or(|text| **text == registration.schema);
            if registration.version as usize != version || !same_text {
                return Err(corrupt(path, number));
            }
            self.apply(registration);
        }
        Ok(length)
    }
}

impl Log {
    fn append(&mut self, registration: &Registration) -> Result<()> {
        if self.broken {
            return Err(storage(&self.path, "an earlier write failed and could not be undone")
                .with_fix("free disk space and start again"));
        }
        let json = serde_json::to_string(registration)
            .map_err(|error| Error::bug("a registration cannot be written as JSON").with_source(error))?;
        let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        match self.write(line.as_bytes()) {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.broken = self
                    .file
                    .set_len(self.length)
                    .and_then(|()| self.file.sync_data())
                    .is_err();
                Err(storage(&self.path, "a schema cannot be stored")
                    .with_source(error)
                    .with_fix("free disk space or mend the disk; registering is tried again"))
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}

/// The schema without white space, and parsed: texts are compared in this form.
fn canonical(subject: &str, schema: &str) -> Result<(String, AvroSchema)> {
    let parsed = AvroSchema::parse(schema).map_err(|error| error.with("subject", subject))?;
    let value: serde_json::Value = serde_json::from_str(schema)
        .map_err(|error| Error::bug("a schema that was parsed is not JSON").with_source(error))?;
    Ok((value.to_string(), parsed))
}

fn parse_line(line: &[u8]) -> Option<Registration> {
    let (sum, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    if sum != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn storage(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Storage, format!("schema file {path:?}: {what}"))
}

fn corrupt(path: &Path, line: u64) -> Error {
    storage(path, "it is corrupt").with("line", line).with_fix(
        "restore the file from a backup; only if this is its last line and the machine lost power while it was written, \
         delete that line",
    )
}
