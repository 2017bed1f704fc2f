// SPDX-License-Identifier: Apache-2.0
//! Connect's schema in JSON, as its JSON converter sends it along when `schemas.enable=true`.

use serde_json::{Map, Value};

use crate::debezium::connect_schema::{ConnectField, ConnectKind, ConnectSchema};

/// The schema as JSON text.
pub(crate) fn render(schema: &ConnectSchema) -> String {
    Value::Object(object(schema)).to_string()
}

fn object(schema: &ConnectSchema) -> Map<String, Value> {
    let mut rendered = Map::new();
    let kind = match &schema.kind {
        ConnectKind::Int16 => "int16",
        ConnectKind::Int32 => "int32",
        ConnectKind::Int64 => "int64",
        ConnectKind::Float32 => "float",
        ConnectKind::Float64 => "double",
        ConnectKind::Boolean => "boolean",
        ConnectKind::String => "string",
        ConnectKind::Bytes => "bytes",
        ConnectKind::Struct(_) => "struct",
        ConnectKind::Array(_) => "array",
        ConnectKind::Map(..) => "map",
    };
    rendered.insert("type".into(), kind.into());
    match &schema.kind {
        ConnectKind::Struct(fields) => {
            rendered.insert("fields".into(), fields.iter().map(field).collect());
        }
        ConnectKind::Array(items) => {
            rendered.insert("items".into(), object(items).into());
        }
        ConnectKind::Map(key, value) => {
            rendered.insert("keys".into(), object(key).into());
            rendered.insert("values".into(), object(value).into());
        }
        _ => {}
    }
    rendered.insert("optional".into(), schema.optional.into());
    if let Some(name) = &schema.name {
        rendered.insert("name".into(), name.as_str().into());
    }
    if let Some(version) = schema.version {
        rendered.insert("version".into(), version.into());
    }
    if let Some(doc) = schema.doc {
        rendered.insert("doc".into(), doc.into());
    }
    if !schema.parameters.is_empty() {
        let parameters = schema
            .parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()));
        rendered.insert("parameters".into(), Value::Object(parameters.collect()));
    }
    if let Some(default) = schema.default {
        rendered.insert("default".into(), default.into());
    }
    rendered
}

fn field(field: &ConnectField) -> Value {
    let mut rendered = object(&field.schema);
    rendered.insert("field".into(), field.name.as_str().into());
    Value::Object(rendered)
}
