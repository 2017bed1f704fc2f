// SPDX-License-Identifier: Apache-2.0
//! What leaves Highwater, as bytes: the Debezium envelope in Avro (Confluent wire format) or JSON, and the registry that
//! holds its schemas.
//!
//! ```text
//! TableSchema ──prepare──▶ key and value schema ──register──▶ id ─┐
//!                                                                 ▼
//! Change (the database's bytes) ────────encode──────────▶ compiled plan ──▶ RecordBatch
//! ```
//!
//! [`Encoder`] is the hot path: once a table is prepared, a row goes from the database's bytes to the record's bytes
//! without a map, a look-up by name or a tree of values in between. [`Decoder`] is the way back, for our own readers.

pub mod avro;
pub mod debezium;
mod decimal;
pub mod json;
pub mod registry;
pub mod wire;

pub use debezium::decoder::{DecodedEvent, Decoder};
pub use debezium::encoder::{Encoder, Outcome};
pub use debezium::settings::{DecimalHandling, EncoderSettings, Format, JsonDecimals, JsonSettings, Truncates};
pub use debezium::stored_key::Gone;
pub use registry::{Compatibility, RegisteredSchema, SchemaId, SchemaRegistry};
