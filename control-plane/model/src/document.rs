// SPDX-License-Identifier: Apache-2.0
//! A part of a pipeline file as it was written, with its lines.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::error::SpecError;
use crate::reader;
use crate::secret::{self, Environment};

/// A tree of settings that remembers the line of each; what a connector's settings are until the connector reads them.
#[derive(Clone)]
pub struct Document {
    pub(crate) line: u32,
    pub(crate) node: Node,
}

#[derive(Clone)]
pub(crate) enum Node {
    Null,
    Scalar(Scalar),
    Sequence(Vec<Document>),
    Mapping(Vec<Entry>),
}

/// A scalar keeps its text, so that `password: 0123` stays what was typed where a text is wanted.
#[derive(Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes: may be read as a number or truth value.
    pub(crate) plain: bool,
    /// Holds what a reference was replaced by.
    pub(crate) secret: bool,
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u32,
    pub(crate) value: Document,
}

impl Document {
    /// Reads YAML (or JSON, which is YAML).
    ///
    /// # Errors
    /// Text that is not YAML, a repeated key, more than one document, nesting past 64 levels.
    pub fn from_yaml(text: &str) -> Result<Self, SpecError> {
        crate::yaml::read(text)
    }

    /// An empty mapping.
    pub fn empty() -> Self {
        Document {
            line: 0,
            node: Node::Mapping(Vec::new()),
        }
    }

    /// Reads the settings of `T` out of it. Errors carry paths that start with `root`.
    ///
    /// # Errors
    /// Unknown, missing or ill-typed settings, with path, line and the nearest known name.
    pub fn read<T: DeserializeOwned>(&self, root: &str) -> Result<T, SpecError> {
        T::deserialize(reader::Reader::new(self)).map_err(|error| {
            let error = error.at_line(self.line);
            if root.is_empty() { error } else { error.within(root) }
        })
    }

    /// Replaces every `${env:NAME}` and `${file:path}` in it.
    ///
    /// # Errors
    /// A variable that is not set, a file that cannot be read, a reference of another form. The error names the setting
    /// and the variable or file, never the value.
    pub fn resolve(&self, root: &str, environment: &dyn Environment) -> Result<Self, SpecError> {
        secret::resolve(self, environment).map_err(|error| if root.is_empty() { error } else { error.within(root) })
    }

    /// The part under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Document> {
        match &self.node {
            Node::Mapping(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// Sets a key of a mapping; does nothing to other parts.
    pub fn set(&mut self, key: &str, value: Document) {
        if let Node::Mapping(entries) = &mut self.node {
            entries.retain(|entry| entry.key != key);
            entries.push(Entry {
                key: key.to_owned(),
                line: value.line,
                value,
            });
        }
    }

    /// Takes a key out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<Document> {
        match &mut self.node {
            Node::Mapping(entries) => {
                let at = entries.iter().position(|entry| entry.key == key)?;
                Some(entries.remove(at).value)
            }
            _ => None,
        }
    }

    /// A text at a line.
    pub fn text(text: &str, line: u32) -> Self {
        Document {
            line,
            ..DocumentVisitor::scalar(text.to_owned(), false)
        }
    }

    /// The line in the file, from 1; 0 where it did not come from a file.
    pub fn line(&self) -> u32 {
        self.line
    }
}

impl fmt::Debug for Document {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Null => f.write_str("nothing"),
            Node::Scalar(_) => f.write_str("…"),
            Node::Sequence(items) => f.debug_list().entries(items).finish(),
            Node::Mapping(entries) => f
                .debug_map()
                .entries(entries.iter().map(|entry| (&entry.key, &entry.value)))
                .finish(),
        }
    }
}

impl PartialEq for Document {
    /// Lines do not count.
    fn eq(&self, other: &Self) -> bool {
        match (&self.node, &other.node) {
            (Node::Null, Node::Null) => true,
            (Node::Scalar(a), Node::Scalar(b)) => a.text == b.text && a.plain == b.plain,
            (Node::Sequence(a), Node::Sequence(b)) => a == b,
            (Node::Mapping(a), Node::Mapping(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key == b.key && a.value == b.value)
            }
            _ => false,
        }
    }
}

impl Eq for Document {}

impl Default for Document {
    fn default() -> Self {
        Self::empty()
    }
}

impl Serialize for Document {
    /// As written, references and all; what a reference was replaced by is written as `"***"`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.node {
            Node::Null => serializer.serialize_unit(),
            Node::Scalar(scalar) if scalar.secret => serializer.serialize_str("***"),
            Node::Scalar(scalar) => match scalar.value() {
                ScalarValue::Null => serializer.serialize_unit(),
                ScalarValue::Boolean(value) => serializer.serialize_bool(value),
                ScalarValue::Unsigned(value) => serializer.serialize_u64(value),
                ScalarValue::Signed(value) => serializer.serialize_i64(value),
                ScalarValue::Float(value) => serializer.serialize_f64(value),
                ScalarValue::Text(text) => serializer.serialize_str(text),
            },
            Node::Sequence(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Node::Mapping(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for entry in entries {
                    map.serialize_entry(&entry.key, &entry.value)?;
                }
                map.end()
            }
        }
    }
}

/// What a scalar means by YAML's core schema.
pub(crate) enum ScalarValue<'a> {
    Null,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    pub(crate) fn value(&self) -> ScalarValue<'_> {
        if self.plain && !self.secret {
            self.plain_value()
        } else {
            ScalarValue::Text(&self.text)
        }
    }

    /// As if it were written without quotes.
    pub(crate) fn plain_value(&self) -> ScalarValue<'_> {
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => return ScalarValue::Null,
            "true" | "True" | "TRUE" => return ScalarValue::Boolean(true),
            "false" | "False" | "FALSE" => return ScalarValue::Boolean(false),
            _ => {}
        }
        if let Ok(value) = self.text.parse::<u64>() {
            return ScalarValue::Unsigned(value);
        }
        if let Ok(value) = self.text.parse::<i64>() {
            return ScalarValue::Signed(value);
        }
        let number_like = self
            .text
            .starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
        match self.text.parse::<f64>() {
            Ok(value) if number_like => ScalarValue::Float(value),
            _ => ScalarValue::Text(&self.text),
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl DocumentVisitor {
    fn scalar(text: String, plain: bool) -> Document {
        Document {
            line: 0,
            node: Node::Scalar(Scalar {
                text,
                plain,
                secret: false,
            }),
        }
    }
}

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document {
            line: 0,
            node: Node::Null,
        })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Self::scalar(value.to_string(), true))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        Ok(Self::scalar(value.to_string(), true))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Self::scalar(value.to_string(), true))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Document, E> {
        Ok(Self::scalar(value.to_string(), true))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Self::scalar(value.to_owned(), false))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Document, A::Error> {
        let mut sequence = Vec::new();
        while let Some(item) = items.next_element()? {
            sequence.push(item);
        }
        Ok(Document {
            line: 0,
            node: Node::Sequence(sequence),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.push(Entry { key, line: 0, value });
        }
        Ok(Document {
            line: 0,
            node: Node::Mapping(entries),
        })
    }
}
