// SPDX-License-Identifier: Apache-2.0
//! Avro schemas as Confluent's converter renders Connect schemas: names and namespaces, unions for optional values,
//! `connect.*` properties, all in the order in which Java writes them.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::debezium::connect_schema::{ConnectField, ConnectKind, ConnectSchema};

/// The name that Confluent's converter gives to the record of a map's entry.
const MAP_ENTRY: &str = "io.confluent.connect.avro.MapEntry";

/// The schema as JSON text.
pub(crate) fn render(schema: &ConnectSchema) -> String {
    Renderer::default().schema(schema, None).to_string()
}

#[derive(Default)]
struct Renderer {
    /// Full names of the records that were written out: from then on their name stands for them.
    defined: HashSet<String>,
}

impl Renderer {
    fn schema(&mut self, schema: &ConnectSchema, namespace: Option<&str>) -> Value {
        let base = match &schema.kind {
            ConnectKind::Struct(fields) => self.record(schema, fields, namespace),
            ConnectKind::Array(items) => {
                let items = self.schema(items, namespace);
                array(schema, items)
            }
            ConnectKind::Map(key, value) => {
                let entry = [key.clone().field("key"), value.clone().field("value")];
                let entry = ConnectSchema::new(ConnectKind::Struct(entry.into())).named(MAP_ENTRY);
                let entry = self.entry(&entry, namespace);
                array(schema, entry)
            }
            kind => primitive(schema, kind),
        };
        match (schema.optional, schema.default) {
            (false, _) => base,
            // A default must be of the union's first branch.
            (true, Some(_)) => json!([base, "null"]),
            (true, None) => json!(["null", base]),
        }
    }

    /// The record of a map's entries, which has no properties.
    fn entry(&mut self, schema: &ConnectSchema, enclosing: Option<&str>) -> Value {
        let mut entry = self.schema(schema, enclosing);
        if let Some(entry) = entry.as_object_mut() {
            entry.shift_remove("connect.name");
        }
        entry
    }

    fn record(&mut self, schema: &ConnectSchema, fields: &[ConnectField], enclosing: Option<&str>) -> Value {
        let full_name = schema.name.as_deref().unwrap_or("ConnectDefault");
        let (namespace, name) = match full_name.rsplit_once('.') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, full_name),
        };
        if !self.defined.insert(full_name.to_owned()) {
            return if namespace == enclosing {
                name.into()
            } else {
                full_name.into()
            };
        }
        let mut record = Map::new();
        record.insert("type".into(), "record".into());
        record.insert("name".into(), name.into());
        if namespace != enclosing {
            record.insert("namespace".into(), namespace.unwrap_or_default().into());
        }
        let fields = fields.iter().map(|field| self.field(field, namespace)).collect();
        record.insert("fields".into(), Value::Array(fields));
        connect_properties(schema, &mut record);
        Value::Object(record)
    }

    fn field(&mut self, field: &ConnectField, namespace: Option<&str>) -> Value {
        let mut rendered = Map::new();
        rendered.insert("name".into(), field.name.as_str().into());
        rendered.insert("type".into(), self.schema(&field.schema, namespace));
        if let Some(doc) = field.schema.doc {
            rendered.insert("doc".into(), doc.into());
        }
        match field.schema.default {
            Some(default) => drop(rendered.insert("default".into(), default.into())),
            None if field.schema.optional => drop(rendered.insert("default".into(), Value::Null)),
            None => {}
        }
        Value::Object(rendered)
    }
}

fn array(schema: &ConnectSchema, items: Value) -> Value {
    let mut array = Map::new();
    array.insert("type".into(), "array".into());
    array.insert("items".into(), items);
    connect_properties(schema, &mut array);
    Value::Object(array)
}

fn primitive(schema: &ConnectSchema, kind: &ConnectKind) -> Value {
    let name = match kind {
        ConnectKind::Int16 | ConnectKind::Int32 => "int",
        ConnectKind::Int64 => "long",
        ConnectKind::Float32 => "float",
        ConnectKind::Float64 => "double",
        ConnectKind::Boolean => "boolean",
        ConnectKind::String => "string",
        ConnectKind::Bytes | ConnectKind::Struct(_) | ConnectKind::Array(_) | ConnectKind::Map(..) => "bytes",
    };
    let mut properties = Map::new();
    let decimal = schema.name.as_deref() == Some("org.apache.kafka.connect.data.Decimal");
    if decimal {
        for (property, parameter) in [("scale", "scale"), ("precision", "connect.decimal.precision")] {
            let value = schema.parameters.iter().find(|(name, _)| *name == parameter);
            if let Some(value) = value.and_then(|(_, value)| value.parse::<u32>().ok()) {
                properties.insert(property.into(), value.into());
            }
        }
    }
    connect_properties(schema, &mut properties);
    if *kind == ConnectKind::Int16 {
        properties.insert("connect.type".into(), "int16".into());
    }
    if decimal {
        properties.insert("logicalType".into(), "decimal".into());
    }
    if properties.is_empty() {
        return name.into();
    }
    let mut rendered = Map::new();
    rendered.insert("type".into(), name.into());
    rendered.append(&mut properties);
    Value::Object(rendered)
}

fn connect_properties(schema: &ConnectSchema, properties: &mut Map<String, Value>) {
    if let Some(doc) = schema.doc {
        properties.insert("connect.doc".into(), doc.into());
    }
    if let Some(version) = schema.version {
        properties.insert("connect.version".into(), version.into());
    }
    if !schema.parameters.is_empty() {
        let parameters = schema
            .parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()));
        properties.insert("connect.parameters".into(), Value::Object(parameters.collect()));
    }
    if let Some(default) = schema.default {
        properties.insert("connect.default".into(), default.into());
    }
    if let Some(name) = &schema.name {
        properties.insert("connect.name".into(), name.as_str().into());
    }
}
