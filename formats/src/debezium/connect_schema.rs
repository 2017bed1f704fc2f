// SPDX-License-Identifier: Apache-2.0
//! Kafka Connect's schema model, as far as change events need it. Avro and JSON schemas are two renderings of it.

/// A schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectSchema {
    pub(crate) kind: ConnectKind,
    pub(crate) optional: bool,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<u32>,
    pub(crate) doc: Option<&'static str>,
    pub(crate) parameters: Vec<(&'static str, String)>,
    /// Only strings have defaults here.
    pub(crate) default: Option<&'static str>,
}

/// What a schema describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectKind {
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Boolean,
    String,
    Bytes,
    Struct(Vec<ConnectField>),
    Array(Box<ConnectSchema>),
    /// Keys, which are not text, and values.
    Map(Box<ConnectSchema>, Box<ConnectSchema>),
}

/// A field of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectField {
    pub(crate) name: String,
    pub(crate) schema: ConnectSchema,
}

impl ConnectSchema {
    /// A required schema without a name.
    pub(crate) fn new(kind: ConnectKind) -> Self {
        ConnectSchema {
            kind,
            optional: false,
            name: None,
            version: None,
            doc: None,
            parameters: Vec::new(),
            default: None,
        }
    }

    /// A semantic type: a name with version 1.
    pub(crate) fn semantic(kind: ConnectKind, name: &str) -> Self {
        Self::new(kind).named(name).versioned(1)
    }

    pub(crate) fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    pub(crate) fn versioned(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    pub(crate) fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    pub(crate) fn parameter(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    /// A field of this schema.
    pub(crate) fn field(self, name: impl Into<String>) -> ConnectField {
        ConnectField {
            name: name.into(),
            schema: self,
        }
    }
}
