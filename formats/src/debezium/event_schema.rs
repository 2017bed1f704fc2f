// SPDX-License-Identifier: Apache-2.0
//! The schemas of a table's keys and values, as Debezium builds them.

use highwater_core::schema::{SchemaKind, TableSchema};
use highwater_core::source_block::SourceField;
use highwater_core::{Error, ErrorKind, Result, Scope};

use super::connect_schema::{ConnectField, ConnectKind, ConnectSchema};
use super::settings::DecimalHandling;
use super::value_schema::ValueSchemas;

/// Values of the source block's `snapshot` field.
const SNAPSHOT_ALLOWED: &str = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental";

/// How the names of schemas and fields become names of the format.
pub(crate) type AdjustName = fn(&str) -> String;

/// What a table's schemas depend on besides its columns.
pub(crate) struct EventSchemas<'a> {
    pub(crate) topic: &'a str,
    /// First part of the names of composite types.
    pub(crate) prefix: &'a str,
    pub(crate) table: &'a TableSchema,
    /// Columns that may hold NULL, catalogue and experience together.
    pub(crate) nullable: &'a [bool],
    pub(crate) decimals: DecimalHandling,
    pub(crate) schema_names: AdjustName,
    pub(crate) field_names: AdjustName,
    pub(crate) source_name: &'a str,
    pub(crate) source_fields: &'a [SourceField],
}

impl EventSchemas<'_> {
    /// The key's schema; `None` for a table without a key.
    pub(crate) fn key(&self) -> Result<Option<ConnectSchema>> {
        if self.table.key.is_empty() {
            return Ok(None);
        }
        let fields = self.columns(self.table.key.iter().copied())?;
        Ok(Some(match self.table.kind {
            SchemaKind::Table => self.named(fields, "Key"),
            SchemaKind::Messages => self.of_messages(fields, "Key"),
        }))
    }

    /// The envelope's schema.
    pub(crate) fn envelope(&self) -> Result<ConnectSchema> {
        let fields = self.columns(0..self.table.columns.len())?;
        let long = || ConnectSchema::new(ConnectKind::Int64);
        let text = || ConnectSchema::new(ConnectKind::String);
        if self.table.kind == SchemaKind::Messages {
            let fields = vec![
                text().field("op"),
                long().optional(true).field("ts_ms"),
                self.source()?.field("source"),
                transaction().field("transaction"),
                self.of_messages(fields, "").field("message"),
            ];
            return Ok(self.of_messages(fields, "Value"));
        }
        let row = self.named(fields, "Value").optional(true);
        let fields = vec![
            row.clone().field("before"),
            row.field("after"),
            self.source()?.field("source"),
            transaction().field("transaction"),
            text().field("op"),
            long().optional(true).field("ts_ms"),
            long().optional(true).field("ts_us"),
            long().optional(true).field("ts_ns"),
        ];
        Ok(self.named(fields, "Envelope").versioned(2))
    }

    fn source(&self) -> Result<ConnectSchema> {
        let long = || ConnectSchema::new(ConnectKind::Int64);
        let text = || ConnectSchema::new(ConnectKind::String);
        let mut snapshot = ConnectSchema::semantic(ConnectKind::String, "io.debezium.data.Enum")
            .parameter("allowed", SNAPSHOT_ALLOWED)
            .optional(true);
        snapshot.default = Some("false");
        let mut fields = vec![
            text().field("version"),
            text().field("connector"),
            text().field("name"),
            long().field("ts_ms"),
            snapshot.field("snapshot"),
            text().field("db"),
            text().optional(true).field("sequence"),
            long().optional(true).field("ts_us"),
            long().optional(true).field("ts_ns"),
        ];
        for field in self.source_fields {
            let schema = self.value_schemas().of(&field.value_type).map_err(|_| {
                Error::bug(format!(
                    "source field {:?} has a type that no format writes",
                    field.name
                ))
            })?;
            fields.push(schema.optional(field.optional).field(field.name));
        }
        Ok(ConnectSchema::new(ConnectKind::Struct(fields)).named(self.source_name))
    }

    fn named(&self, fields: Vec<ConnectField>, suffix: &str) -> ConnectSchema {
        ConnectSchema::new(ConnectKind::Struct(fields)).named((self.schema_names)(&format!("{}.{suffix}", self.topic)))
    }

    /// A part of a message: named after the source's block, as Debezium has it, whatever the topic.
    fn of_messages(&self, fields: Vec<ConnectField>, suffix: &str) -> ConnectSchema {
        let of_source = self.source_name.strip_suffix("Source").unwrap_or(self.source_name);
        ConnectSchema::semantic(ConnectKind::Struct(fields), &format!("{of_source}Message{suffix}"))
    }

    fn columns(&self, indices: impl Iterator<Item = usize>) -> Result<Vec<ConnectField>> {
        let mut fields: Vec<ConnectField> = Vec::new();
        let mut values = self.value_schemas();
        for index in indices {
            let column = self.table.columns.get(index).ok_or_else(|| {
                Error::bug(format!(
                    "table {}: key names column {index}, which is not there",
                    self.table.name
                ))
            })?;
            let schema = values
                .of(&column.value_type)
                .map_err(|reason| self.refuse(&column.name, &reason).with("type", &column.database_type))?;
            let name = (self.field_names)(&column.name);
            if fields.iter().any(|field| field.name == name) {
                return Err(self
                    .refuse(&column.name, "another column has the same name in events")
                    .with("name", name));
            }
            fields.push(
                schema
                    .optional(self.nullable.get(index).copied().unwrap_or(true))
                    .field(name),
            );
        }
        Ok(fields)
    }

    fn value_schemas(&self) -> ValueSchemas<'_> {
        ValueSchemas::new(self.prefix, self.decimals, self.schema_names, self.field_names)
    }

    fn refuse(&self, column: &str, reason: &str) -> Error {
        Error::new(
            ErrorKind::UnsupportedValue,
            format!(
                "table {}: column {column:?} cannot be carried: {reason}",
                self.table.name
            ),
        )
        .with_scope(Scope::Table)
        .with_fix("leave the column out of the capture, or rename it or change its type")
    }
}

/// The place of an event in its transaction, which is not told.
fn transaction() -> ConnectSchema {
    let long = || ConnectSchema::new(ConnectKind::Int64);
    let fields = vec![
        ConnectSchema::new(ConnectKind::String).field("id"),
        long().field("total_order"),
        long().field("data_collection_order"),
    ];
    ConnectSchema::semantic(ConnectKind::Struct(fields), "event.block").optional(true)
}

/// The name as Avro allows it: letters, digits and `_` in parts that dots separate, no part starting with a digit.
/// Debezium's `schema.name.adjustment.mode=avro`.
pub(crate) fn avro_schema_name(name: &str) -> String {
    name.split('.').map(avro_field_name).collect::<Vec<_>>().join(".")
}

/// The name as Avro allows it for a field. Debezium's `field.name.adjustment.mode=avro`.
pub(crate) fn avro_field_name(name: &str) -> String {
    let mut adjusted: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if adjusted.is_empty() || adjusted.starts_with(|c: char| c.is_ascii_digit()) {
        adjusted.insert(0, '_');
    }
    adjusted
}
