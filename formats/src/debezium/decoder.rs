// SPDX-License-Identifier: Apache-2.0
//! From records back to events, for our own readers: `tail`, the demonstration's comparison, tests.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_core::transport::Record;
use highwater_core::{Error, ErrorKind, Result, Scope};
use serde_json::Value;

use super::encoder::UNCHANGED_HEADER;
use super::settings::Format;
use crate::avro::parsed::AvroSchema;
use crate::avro::reader;
use crate::registry::{SchemaId, SchemaRegistry};
use crate::wire;

/// How many schemas a decoder keeps before it begins anew.
const SCHEMAS_MAX: usize = 16_384;

/// A record of a table's topic.
///
/// Values: records as objects in the order of their fields, integers as numbers, everything else as Debezium defines the
/// type (days, microseconds, …). From Avro, decimals are plain text (`"-12.50"`) and octets base64 text; from JSON, what
/// the record holds.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedEvent {
    /// The key's columns; `None` for a record without a key.
    pub key: Option<Value>,
    /// The envelope; `None` for a tombstone.
    pub value: Option<Value>,
    /// Names of the columns that the log left out of `after` as unchanged (header `__highwater.unchanged`). Their values
    /// are placeholders.
    pub unchanged: Vec<String>,
}

impl DecodedEvent {
    /// The envelope's `op`: `c`, `u`, `d`, `r`, `t` or `m`; `None` for a tombstone.
    pub fn op(&self) -> Option<&str> {
        self.value.as_ref()?.get("op")?.as_str()
    }

    /// The row before; `None` where the event has none.
    pub fn before(&self) -> Option<&Value> {
        self.field("before")
    }

    /// The row after; `None` where the event has none.
    pub fn after(&self) -> Option<&Value> {
        self.field("after")
    }

    /// Prefix and content of a message; `None` where the event is none.
    pub fn message(&self) -> Option<&Value> {
        self.field("message")
    }

    /// The source block; `None` for a tombstone, and from a decoder that leaves it out.
    pub fn source(&self) -> Option<&Value> {
        self.field("source")
    }

    /// Whether the record is a key without a value.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.value.as_ref()?.get(name).filter(|value| !value.is_null())
    }
}

/// Reads records. Schemas are asked for once each and kept.
pub struct Decoder {
    format: Format,
    registry: Arc<dyn SchemaRegistry>,
    schemas: HashMap<SchemaId, Arc<AvroSchema>>,
    without: Option<&'static str>,
}

impl Decoder {
    /// A decoder of topics in this format. JSON never asks the registry.
    pub fn new(format: Format, registry: Arc<dyn SchemaRegistry>) -> Self {
        Decoder {
            format,
            registry,
            schemas: HashMap::new(),
            without: None,
        }
    }

    /// Leaves the source block out of events, for readers that compare rows and read many.
    pub fn without_source(mut self) -> Self {
        self.without = Some("source");
        self
    }

    /// Reads a record. Cancel-safe.
    ///
    /// # Errors
    /// [`highwater_core::ErrorKind::CorruptMessage`], scope record, for bytes that are not of the format; errors of the
    /// registry.
    pub async fn decode(&mut self, record: &Record) -> Result<DecodedEvent> {
        let decoded = self.parts(record).await;
        decoded.map_err(|error| {
            error
                .with("topic", &record.topic)
                .with("partition", record.partition)
                .with("offset", record.offset)
        })
    }

    /// Reads the bytes of one key or value, without a record around it.
    ///
    /// # Errors
    /// Those of [`Decoder::decode`].
    pub async fn decode_bytes(&mut self, bytes: &[u8]) -> Result<Value> {
        match self.format {
            Format::Json => parse_json(bytes, self.without),
            Format::Avro => {
                let (id, body) = wire::split(bytes)?;
                let schema = self.schema(id).await?;
                reader::read(&schema, body, self.without).map_err(|corrupt| Error::from(corrupt).with("schema id", id))
            }
        }
    }

    async fn parts(&mut self, record: &Record) -> Result<DecodedEvent> {
        let key = match &record.key {
            Some(key) => Some(self.decode_bytes(key).await?),
            None => None,
        };
        let value = match &record.value {
            Some(value) => Some(self.decode_bytes(value).await?),
            None => None,
        };
        Ok(DecodedEvent {
            key,
            value,
            unchanged: unchanged(record)?,
        })
    }

    async fn schema(&mut self, id: SchemaId) -> Result<Arc<AvroSchema>> {
        if let Some(schema) = self.schemas.get(&id) {
            return Ok(Arc::clone(schema));
        }
        let text = self.registry.schema(id).await?;
        let schema = Arc::new(AvroSchema::parse(&text).map_err(|error| error.with("schema id", id))?);
        if self.schemas.len() >= SCHEMAS_MAX {
            self.schemas.clear();
        }
        self.schemas.insert(id, Arc::clone(&schema));
        Ok(schema)
    }
}

/// With `schemas.enable=true` the payload is what counts.
fn parse_json(bytes: &[u8], without: Option<&str>) -> Result<Value> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| corrupt("is not JSON").with_source(error))?;
    let wrapped = value
        .as_object()
        .is_some_and(|object| object.len() == 2 && object.contains_key("schema") && object.contains_key("payload"));
    let mut value = match wrapped.then(|| value.get_mut("payload")).flatten() {
        Some(payload) => payload.take(),
        None => value,
    };
    if let (Some(name), Some(object)) = (without, value.as_object_mut()) {
        object.shift_remove(name);
    }
    Ok(value)
}

fn unchanged(record: &Record) -> Result<Vec<String>> {
    match record.headers.iter().find(|(name, _)| name == UNCHANGED_HEADER) {
        Some((_, names)) => {
            serde_json::from_slice(names).map_err(|error| corrupt("has a header that is not a list").with_source(error))
        }
        None => Ok(Vec::new()),
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::CorruptMessage, format!("message {what}"))
        .with_scope(Scope::Record)
        .with_fix("read the topic with the format it was written in: is it Avro?")
}
