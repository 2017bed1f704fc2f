// SPDX-License-Identifier: Apache-2.0
//! Schemas first, registered; then the plan that writes by them.

use std::sync::Arc;

use highwater_core::schema::TableSchema;
use highwater_core::source_block::SourceField;
use highwater_core::{Error, ErrorKind, Result, Scope};

use super::compile::{Compiler, Frame};
use super::connect_schema::ConnectSchema;
use super::event_schema::{AdjustName, EventSchemas, avro_field_name, avro_schema_name};
use super::plan::Plan;
use super::settings::{EncoderSettings, Format};
use super::slot::{DecimalForm, Forms};
use super::topic::subjects;
use crate::avro::parsed::AvroSchema;
use crate::avro::writer::Avro;
use crate::json::writer::Json;
use crate::registry::SchemaRegistry;
use crate::{avro, json, wire};

/// A table about to be prepared.
pub(crate) struct Preparation<'a> {
    pub(crate) settings: &'a EncoderSettings,
    pub(crate) schema: &'a Arc<TableSchema>,
    pub(crate) topic: Arc<str>,
    /// Columns that may hold NULL, catalogue and experience together.
    pub(crate) nullable: Vec<bool>,
    pub(crate) connector: &'a str,
    pub(crate) source_name: &'a str,
    pub(crate) source_fields: &'a [SourceField],
}

impl Preparation<'_> {
    /// Registers and compiles.
    pub(crate) async fn run(mut self, registry: &dyn SchemaRegistry) -> Result<Plan> {
        let (key, envelope) = self.schemas()?;
        let (key_frame, value_frame) = match self.settings.format {
            Format::Json => (self.json_frame(key.as_ref()), self.json_frame(Some(&envelope))),
            Format::Avro => {
                let (key_subject, value_subject) = subjects(&self.topic);
                let key_frame = match &key {
                    Some(key) => self.avro_frame(registry, &key_subject, key).await?,
                    None => Frame::default(),
                };
                (key_frame, self.value_frame(registry, &value_subject, &envelope).await?)
            }
        };
        let adjust = self.field_names();
        let compiler = Compiler {
            schema: self.schema,
            topic: Arc::clone(&self.topic),
            names: self.schema.columns.iter().map(|column| adjust(&column.name)).collect(),
            nullable: &self.nullable,
            forms: Forms {
                decimals: DecimalForm::new(
                    self.settings.format,
                    self.settings.decimals,
                    self.settings.json.decimals,
                ),
                field_names: adjust,
            },
            placeholder: &self.settings.unavailable_placeholder,
            version: &self.settings.source_version,
            connector: self.connector,
            prefix: &self.settings.topic_prefix,
            source_fields: self.source_fields,
            key_frame,
            value_frame,
        };
        match self.settings.format {
            Format::Avro => compiler.compile::<Avro>(),
            Format::Json => compiler.compile::<Json>(),
        }
    }

    /// Schemas of key and envelope.
    pub(crate) fn schemas(&self) -> Result<(Option<ConnectSchema>, ConnectSchema)> {
        let schemas = EventSchemas {
            topic: &self.topic,
            prefix: &self.settings.topic_prefix,
            table: self.schema,
            nullable: &self.nullable,
            decimals: self.settings.decimals,
            schema_names: match self.settings.format {
                Format::Avro => avro_schema_name,
                Format::Json => str::to_owned,
            },
            field_names: self.field_names(),
            source_name: self.source_name,
            source_fields: self.source_fields,
        };
        Ok((schemas.key()?, schemas.envelope()?))
    }

    fn field_names(&self) -> AdjustName {
        match self.settings.format {
            Format::Avro => avro_field_name,
            Format::Json => str::to_owned,
        }
    }

    /// Registers the envelope. One that is refused is tried once more with those columns optional that the latest schema
    /// has as optional or lacks: `SET NOT NULL`, and `ADD COLUMN … NOT NULL DEFAULT …`, would stop a table otherwise.
    async fn value_frame(
        &mut self,
        registry: &dyn SchemaRegistry,
        subject: &str,
        envelope: &ConnectSchema,
    ) -> Result<Frame> {
        let refused = match self.avro_frame(registry, subject, envelope).await {
            Err(error) if error.kind() == ErrorKind::SchemaRejected => error,
            registered => return registered,
        };
        let latest = registry.latest(subject).await.map_err(|error| self.name_table(error))?;
        match latest {
            Some(latest) if self.follow(&latest.schema) => {
                let (_, envelope) = self.schemas()?;
                self.avro_frame(registry, subject, &envelope).await
            }
            _ => Err(refused),
        }
    }

    /// Makes columns optional as a schema before has them; says whether that changed anything. The key stays as it is.
    fn follow(&mut self, latest: &str) -> bool {
        let Ok(latest) = AvroSchema::parse(latest) else {
            return false;
        };
        let Some(row) = latest.record(&latest.root).and_then(|fields| {
            let before = fields.iter().find(|field| field.name == "before")?;
            latest.record(&before.node)
        }) else {
            return false;
        };
        let adjust = self.field_names();
        let mut changed = false;
        for (index, (column, nullable)) in self.schema.columns.iter().zip(&mut self.nullable).enumerate() {
            let name = adjust(&column.name);
            let required = row.iter().any(|field| field.name == name && !field.node.is_optional());
            if !*nullable && !required && !self.schema.key.contains(&index) {
                *nullable = true;
                changed = true;
            }
        }
        changed
    }

    async fn avro_frame(&self, registry: &dyn SchemaRegistry, subject: &str, schema: &ConnectSchema) -> Result<Frame> {
        let text = avro::schema::render(schema);
        let id = registry
            .register(subject, &text)
            .await
            .map_err(|error| self.name_table(error))?;
        Ok(Frame {
            open: wire::header(id).to_vec(),
            close: Vec::new(),
        })
    }

    fn json_frame(&self, schema: Option<&ConnectSchema>) -> Frame {
        match schema {
            Some(schema) if self.settings.json.schemas => Frame {
                open: format!("{{\"schema\":{},\"payload\":", json::schema::render(schema)).into_bytes(),
                close: b"}".to_vec(),
            },
            _ => Frame::default(),
        }
    }

    /// A schema that is refused stops its table; a registry that is away stops everything.
    fn name_table(&self, error: Error) -> Error {
        let error = error.with("table", &self.schema.name);
        match error.kind() {
            ErrorKind::SchemaRejected => error.with_scope(Scope::Table),
            _ => error,
        }
    }
}
