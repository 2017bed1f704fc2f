// SPDX-License-Identifier: Apache-2.0
//! Types as the catalogue describes them.

use std::sync::Arc;

/// What a type's values look like, from `pg_type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgType {
    /// Object id.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name: `int4`, `_int4`.
    pub name: String,
    /// The name that SQL has for it: `integer`, `integer[]`.
    pub sql_name: String,
    /// What kind of type it is.
    pub form: TypeForm,
}

/// The kinds of types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeForm {
    /// A base type: built in, or from the named extension.
    Base {
        /// The extension that it belongs to.
        extension: Option<String>,
        /// Whether the server has a binary form of it; else it sends its text.
        binary: bool,
    },
    /// An enumeration.
    Enum {
        /// Its labels in sort order.
        labels: Arc<[String]>,
    },
    /// A domain: another type with constraints.
    Domain {
        /// The type beneath.
        base: Box<PgType>,
        /// The modifier that the domain gives to the type beneath.
        type_modifier: i32,
    },
    /// An array.
    Array {
        /// The type of its items.
        item: Box<PgType>,
        /// What stands between items in its text.
        delimiter: char,
    },
    /// A composite type.
    Composite {
        /// Its attributes in order.
        attributes: Vec<Attribute>,
    },
    /// A range.
    Range {
        /// The type of its bounds.
        subtype: Box<PgType>,
    },
    /// A multirange.
    Multirange {
        /// The type of its ranges' bounds.
        subtype: Box<PgType>,
    },
    /// A type that no column can have.
    Pseudo,
}

/// An attribute of a composite type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its type.
    pub of: PgType,
    /// Its type modifier, -1 for none.
    pub type_modifier: i32,
}

impl PgType {
    /// A built-in base type with a binary form, as tests need them.
    pub fn built_in(oid: u32) -> Self {
        Self {
            oid,
            schema: "pg_catalog".into(),
            name: String::new(),
            sql_name: String::new(),
            form: TypeForm::Base {
                extension: None,
                binary: true,
            },
        }
    }

    /// The base type, if the server has no binary form of this type's values and sends their text.
    pub fn sent_as_text(&self) -> Option<&PgType> {
        match &self.form {
            TypeForm::Base { binary: false, .. } => Some(self),
            TypeForm::Domain { base, .. } => base.sent_as_text(),
            _ => None,
        }
    }

    /// The type that is no domain, beneath this one or itself.
    pub fn beneath(&self) -> &PgType {
        match &self.form {
            TypeForm::Domain { base, .. } => base.beneath(),
            _ => self,
        }
    }
}
