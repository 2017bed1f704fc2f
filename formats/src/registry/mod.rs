// SPDX-License-Identifier: Apache-2.0
//! Where schemas are kept and compared before anything is written with them.
//!
//! Two implementations: [`confluent::ConfluentRegistry`] speaks to a server, [`embedded::EmbeddedRegistry`] keeps its own
//! file (or nothing, in memory). Both follow these clauses:
//! 1. *Idempotent*: registering a schema that the subject holds gives the id it has, whatever came after it.
//! 2. *Stable*: an id means one schema for ever, over restarts too.
//! 3. *Compatible*: a new schema of a subject can read what the subject's latest wrote (BACKWARD), or it is refused with
//!    [`highwater_core::ErrorKind::SchemaRejected`] and nothing is stored. A server may be set to other rules.

pub mod confluent;
pub mod embedded;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use highwater_core::Result;
use serde::{Deserialize, Serialize};

/// A schema's number, unique within one registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaId(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A schema as a subject holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// Its number.
    pub id: SchemaId,
    /// Its place in the subject, from 1.
    pub version: u32,
    /// The schema, as JSON text.
    pub schema: Arc<str>,
}

/// Whether a subject would take a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compatibility {
    /// It would.
    Compatible,
    /// It would not.
    Incompatible {
        /// Why, in the registry's words; may be empty where the registry does not say.
        reasons: Vec<String>,
    },
}

/// A schema registry. Safe to share; calls may run side by side.
#[async_trait]
pub trait SchemaRegistry: Send + Sync {
    /// Registers an Avro schema (JSON text) under a subject and gives its id.
    ///
    /// # Errors
    /// [`highwater_core::ErrorKind::SchemaRejected`] when the rules of the subject refuse it or it is no schema;
    /// [`highwater_core::ErrorKind::Unreachable`] when trying again may work.
    async fn register(&self, subject: &str, schema: &str) -> Result<SchemaId>;
    /// The schema of an id, as JSON text. [`highwater_core::ErrorKind::NotFound`] when there is none.
    async fn schema(&self, id: SchemaId) -> Result<Arc<str>>;
    /// The newest schema of a subject; `None` when the subject does not exist.
    async fn latest(&self, subject: &str) -> Result<Option<RegisteredSchema>>;
    /// Whether the subject would take the schema. A subject that does not exist takes every schema.
    async fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Compatibility>;
    /// All subjects, in alphabetical order.
    async fn subjects(&self) -> Result<Vec<String>>;
}
