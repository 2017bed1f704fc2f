// SPDX-License-Identifier: Apache-2.0
//! An Avro schema, parsed: for reading data and for comparing schemas.

use std::collections::HashMap;

use highwater_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// How deep a schema may nest: schemas come from servers, and recursion must end before the stack does.
const DEPTH_MAX: usize = 64;

/// A schema with the named types it defines.
#[derive(Debug, Clone)]
pub(crate) struct AvroSchema {
    pub(crate) root: Node,
    pub(crate) named: Vec<Named>,
}

/// A type.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// Bytes that hold an unscaled number.
    Decimal {
        scale: i32,
    },
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    /// A place in [`AvroSchema::named`].
    Named(usize),
}

/// A type with a name.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) full_name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) shape: Shape,
}

/// What a named type is.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Record(Vec<Field>),
    Enum { symbols: Vec<String>, default: bool },
    Fixed { size: usize, scale: Option<i32> },
}

/// A field of a record.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) node: Node,
    pub(crate) has_default: bool,
}

impl AvroSchema {
    /// Reads a schema's JSON text.
    ///
    /// # Errors
    /// [`ErrorKind::SchemaRejected`], saying what is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |reason: String| Error::new(ErrorKind::SchemaRejected, format!("not an Avro schema: {reason}"));
        let value: Value = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let mut parser = Parser::default();
        let root = parser.node(&value, None, 0).map_err(invalid)?;
        Ok(AvroSchema {
            root,
            named: parser.named,
        })
    }

    /// The fields of a record, or of the only record of a union.
    pub(crate) fn record(&self, node: &Node) -> Option<&[Field]> {
        match node {
            Node::Named(at) => match &self.named.get(*at)?.shape {
                Shape::Record(fields) => Some(fields),
                Shape::Enum { .. } | Shape::Fixed { .. } => None,
            },
            Node::Union(branches) => branches.iter().find_map(|branch| match branch {
                Node::Named(_) => self.record(branch),
                _ => None,
            }),
            _ => None,
        }
    }
}

impl Node {
    /// Whether null is among the values.
    pub(crate) fn is_optional(&self) -> bool {
        match self {
            Node::Null => true,
            Node::Union(branches) => branches.iter().any(|branch| matches!(branch, Node::Null)),
            _ => false,
        }
    }
}

#[derive(Default)]
struct Parser {
    named: Vec<Named>,
    names: HashMap<String, usize>,
}

type Parsed<T> = std::result::Result<T, String>;

impl Parser {
    fn node(&mut self, value: &Value, namespace: Option<&str>, depth: usize) -> Parsed<Node> {
        if depth > DEPTH_MAX {
            return Err(format!("it nests deeper than {DEPTH_MAX} levels"));
        }
        match value {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => self.union(branches, namespace, depth),
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.object(kind, value, namespace, depth),
                Some(inner) => self.node(inner, namespace, depth + 1),
                None => Err("an object without \"type\"".to_owned()),
            },
            _ => Err("a type must be a name, an object or an array".to_owned()),
        }
    }

    fn by_name(&self, name: &str, namespace: Option<&str>) -> Parsed<Node> {
        if let Some(node) = primitive(name) {
            return Ok(node);
        }
        let qualified = qualify(name, namespace);
        let found = self.names.get(&qualified).or_else(|| self.names.get(name));
        found
            .map(|at| Node::Named(*at))
            .ok_or_else(|| format!("unknown type {name:?}"))
    }

    fn union(&mut self, branches: &[Value], namespace: Option<&str>, depth: usize) -> Parsed<Node> {
        let mut nodes = Vec::with_capacity(branches.len());
        for branch in branches {
            match self.node(branch, namespace, depth + 1)? {
                Node::Union(_) => return Err("a union directly inside a union".to_owned()),
                node => nodes.push(node),
            }
        }
        Ok(Node::Union(nodes))
    }

    fn object(&mut self, kind: &str, value: &Value, namespace: Option<&str>, depth: usize) -> Parsed<Node> {
        let inner = |name: &str| value.get(name).ok_or_else(|| format!("{kind} without {name:?}"));
        match kind {
            "array" => Ok(Node::Array(Box::new(self.node(
                inner("items")?,
                namespace,
                depth + 1,
            )?))),
            "map" => Ok(Node::Map(Box::new(self.node(
                inner("values")?,
                namespace,
                depth + 1,
            )?))),
            "record" | "error" | "enum" | "fixed" => self.named(kind, value, namespace, depth),
            "bytes" => Ok(decimal_scale(value)?.map_or(Node::Bytes, |scale| Node::Decimal { scale })),
            name => self.by_name(name, namespace),
        }
    }

    fn named(&mut self, kind: &str, value: &Value, namespace: Option<&str>, depth: usize) -> Parsed<Node> {
        let name = text(value, "name").ok_or_else(|| format!("{kind} without \"name\""))?;
        let own_namespace = match (name.rsplit_once('.'), text(value, "namespace")) {
            (Some((namespace, _)), _) => Some(namespace),
            (None, Some("")) => None,
            (None, Some(namespace)) => Some(namespace),
            (None, None) => namespace,
        };
        let full_name = qualify(name, own_namespace);
        if !full_name.split('.').all(is_name) {
            return Err(format!("{full_name:?} is not a name"));
        }
        let at = self.named.len();
        if self.names.insert(full_name.clone(), at).is_some() {
            return Err(format!("{full_name:?} is defined twice"));
        }
        let aliases = aliases(value)
            .iter()
            .map(|alias| qualify(alias, own_namespace))
            .collect();
        // The place is taken before the fields are read, which may refer to it.
        self.named.push(Named {
            full_name: full_name.clone(),
            aliases,
            shape: Shape::Record(Vec::new()),
        });
        let shape = match kind {
            "enum" => enumeration(value)?,
            "fixed" => Shape::Fixed {
                size: value
                    .get("size")
                    .and_then(Value::as_u64)
                    .and_then(|size| usize::try_from(size).ok())
                    .ok_or_else(|| format!("fixed {full_name:?} without a size"))?,
                scale: decimal_scale(value)?,
            },
            _ => Shape::Record(self.fields(value, &full_name, own_namespace, depth)?),
        };
        if let Some(named) = self.named.get_mut(at) {
            named.shape = shape;
        }
        Ok(Node::Named(at))
    }

    fn fields(&mut self, value: &Value, record: &str, namespace: Option<&str>, depth: usize) -> Parsed<Vec<Field>> {
        let fields = value.get("fields").and_then(Value::as_array);
        let mut parsed: Vec<Field> = Vec::new();
        for field in fields.ok_or_else(|| format!("record {record:?} without fields"))? {
            let name = text(field, "name").ok_or_else(|| format!("a field of {record:?} without a name"))?;
            if !is_name(name) || parsed.iter().any(|field| field.name == name) {
                return Err(format!("field {name:?} of {record:?} is not a name or comes twice"));
            }
            let node = field
                .get("type")
                .ok_or_else(|| format!("field {name:?} of {record:?} without a type"))?;
            parsed.push(Field {
                name: name.to_owned(),
                aliases: aliases(field),
                node: self.node(node, namespace, depth + 1)?,
                has_default: field.get("default").is_some(),
            });
        }
        Ok(parsed)
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::String,
        _ => return None,
    })
}

fn enumeration(value: &Value) -> Parsed<Shape> {
    let symbols = value
        .get("symbols")
        .and_then(Value::as_array)
        .ok_or("enum without symbols")?;
    let symbols: Option<Vec<String>> = symbols
        .iter()
        .map(|symbol| symbol.as_str().map(str::to_owned))
        .collect();
    Ok(Shape::Enum {
        symbols: symbols.ok_or("an enum's symbols must be strings")?,
        default: value.get("default").is_some(),
    })
}

fn decimal_scale(value: &Value) -> Parsed<Option<i32>> {
    if text(value, "logicalType") != Some("decimal") {
        return Ok(None);
    }
    let scale = value.get("scale").map_or(Some(0), Value::as_i64);
    let scale = scale
        .and_then(|scale| i32::try_from(scale).ok())
        .filter(|scale| *scale >= 0);
    scale
        .map(Some)
        .ok_or_else(|| "a decimal's scale must be a number from 0 on".to_owned())
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn aliases(value: &Value) -> Vec<String> {
    let aliases = value.get("aliases").and_then(Value::as_array);
    aliases
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn qualify(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if !name.contains('.') => format!("{namespace}.{name}"),
        _ => name.to_owned(),
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_with_a_schema_is_named() {
        let reason = |schema: &str| AvroSchema::parse(schema).unwrap_err().to_string();
        assert!(reason("\"lonk\"").contains("unknown type \"lonk\""));
        assert!(reason(r#"{"type":"record","name":"a b","fields":[]}"#).contains("\"a b\" is not a name"));
        assert!(reason(r#"{"type":"record","name":"a","fields":[{"name":"x"}]}"#).contains("field \"x\" of \"a\""));
        assert!(reason(r#"[["int"]]"#).contains("union"));
        let deep = format!(
            "{}\"int\"{}",
            "{\"type\":\"array\",\"items\":".repeat(80),
            "}".repeat(80)
        );
        assert!(reason(&deep).contains("deeper than 64"));
    }

    #[test]
    fn a_record_may_refer_to_itself() {
        let schema = AvroSchema::parse(
            r#"{"type":"record","name":"n.List","fields":[{"name":"next","type":["null","List"],"default":null}]}"#,
        );
        assert_eq!(schema.unwrap().named[0].full_name, "n.List");
    }

    proptest! {
        #[test]
        fn foreign_text_is_refused_without_a_panic(text: String) {
            let _ = AvroSchema::parse(&text);
        }
    }
}
