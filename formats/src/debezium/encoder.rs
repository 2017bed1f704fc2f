// SPDX-License-Identifier: Apache-2.0
//! From changes to records.

use std::sync::Arc;

use highwater_core::change::Change;
use highwater_core::clock::Clock;
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::source_block::SourceBlock;
use highwater_core::transport::RecordBatch;
use highwater_core::{Error, Result};

use super::settings::EncoderSettings;
use super::topic::topic_name;
use crate::registry::SchemaRegistry;

/// What [`Encoder::encode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// This many records were appended: 0 when the settings skip the change.
    Appended(usize),
    /// Nothing was appended. Call [`Encoder::prepare`] with the change's schema and encode the same change again: the
    /// shape is new, or a column that the catalogue calls NOT NULL holds a NULL and needs a wider schema.
    Prepare,
}

/// Writes changes as records, each table by a plan that [`Encoder::prepare`] compiles once.
///
/// ```text
/// while encoder.encode(&change, batch)? == Outcome::Prepare {
///     encoder.prepare(&change.schema).await?;
/// }
/// ```
pub struct Encoder<P> {
    settings: EncoderSettings,
    source: Arc<dyn SourceBlock<P>>,
    registry: Arc<dyn SchemaRegistry>,
    clock: Arc<dyn Clock>,
}

impl<P> Encoder<P> {
    /// An encoder without any plan. JSON never asks the registry.
    ///
    /// # Errors
    /// [`highwater_core::ErrorKind::Configuration`] when the settings cannot be followed.
    pub fn new(
        settings: EncoderSettings,
        source: Arc<dyn SourceBlock<P>>,
        registry: Arc<dyn SchemaRegistry>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        settings.validate()?;
        Ok(Encoder {
            settings,
            source,
            registry,
            clock,
        })
    }

    /// Whether changes of this shape can be encoded now. Cheap: by fingerprint.
    pub fn is_prepared(&self, schema: &TableSchema) -> bool {
        let _ = schema;
        false
    }

    /// Registers the schemas of a table's keys and values and compiles its plan. Does nothing for a shape that is
    /// prepared. Cancel-safe: a table is prepared whole or not at all.
    ///
    /// # Errors
    /// Those of [`SchemaRegistry::register`]; [`highwater_core::ErrorKind::UnsupportedValue`] for a table whose columns
    /// cannot be told apart in the format; [`highwater_core::ErrorKind::Configuration`] when two tables share a topic.
    pub async fn prepare(&mut self, schema: &Arc<TableSchema>) -> Result<()> {
        let _ = (&self.source, &self.registry, &self.clock);
        Err(Error::bug(format!("no format can write table {} yet", schema.name)))
    }

    /// Appends the records of a change: one, or two for a delete with its tombstone, or three when the key changed. All
    /// go to the topic of the change's table.
    ///
    /// # Errors
    /// [`highwater_core::ErrorKind::UnsupportedValue`], scope table, for a value that the format cannot carry. Nothing is
    /// appended then.
    pub fn encode(&mut self, change: &Change<P>, out: &mut RecordBatch) -> Result<Outcome> {
        let _ = (change, out);
        Ok(Outcome::Prepare)
    }

    /// The topic of a table.
    pub fn topic(&mut self, table: &TableName) -> Arc<str> {
        topic_name(&self.settings.topic_prefix, table).into()
    }
}
