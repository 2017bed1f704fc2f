// SPDX-License-Identifier: Apache-2.0
//! Column types: which are carried, what they mean, and how their binary form is read.
//!
//! A type that is not listed here is refused by name. Nothing is guessed: a value that cannot be carried without loss is
//! an error, never a null.

mod array;
pub mod bits;
mod built_in;
mod cursor;
mod extension;
pub mod forms;
pub mod list;
pub mod network;
pub mod numeric;
pub mod pg_type;
pub mod record;
pub mod scalar;
mod server_text;
pub mod shape;
pub mod text;
pub mod time;
pub mod vector;

pub use built_in::CARRIED_OIDS;
pub use extension::CARRIED_EXTENSION_TYPES;
pub use forms::{NumericForm, ValueForms};
pub use pg_type::{Attribute, PgType, TypeForm};

use highwater_core::value::{ColumnDecoder, RecordField, RecordType, ValueType};
use server_text::nested::{Array, Composite, Multirange, Range};
use server_text::{AsText, ServerText, as_decoded};
use std::sync::Arc;

/// A column's meaning and its decoder.
#[derive(Debug, Clone)]
pub struct Carried {
    /// What the decoder writes.
    pub value_type: ValueType,
    /// Reads the binary form; the text of a type that the server has no binary form of.
    pub decoder: Arc<dyn ColumnDecoder>,
}

/// Why a type is not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason, for a message that goes on after table, column and type.
    pub reason: String,
}

impl Refused {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// How values of `of` with the modifier `type_modifier` (-1 for none) are carried.
pub fn resolve(of: &PgType, type_modifier: i32, forms: &ValueForms) -> Result<Carried, Refused> {
    if let Some(base) = of.sent_as_text() {
        return sent_text(base);
    }
    if forms.as_text(of) {
        return carried_text(of);
    }
    match &of.form {
        TypeForm::Domain { base, type_modifier } => resolve(base, *type_modifier, forms),
        TypeForm::Enum { labels } => {
            let allowed = labels.clone();
            Ok(carried(ValueType::Enum { allowed }, text::Text))
        }
        TypeForm::Array { item, .. } => {
            let items = resolve_inner(item, type_modifier, forms)?;
            let (item_oid, lower) = (item.oid, 1);
            Ok(list(items, item_oid, lower))
        }
        TypeForm::Composite { attributes } => composite(of, attributes, forms),
        TypeForm::Range { .. } | TypeForm::Multirange { .. } => carried_text(of),
        TypeForm::Base {
            extension: Some(name), ..
        } => extension::resolve(name, &of.name),
        TypeForm::Base { extension: None, .. } => built_in::resolve(of.oid, type_modifier, forms),
        TypeForm::Pseudo => Err(Refused::new("pseudo-types have no values of their own")),
    }
}

/// Every type as the server's own text.
pub fn resolve_text(of: &PgType) -> Result<Carried, Refused> {
    match of.sent_as_text() {
        Some(base) => sent_text(base),
        None => carried_text(of),
    }
}

/// A type without a binary form comes as text in the log, and is asked for as text in chunks.
fn sent_text(of: &PgType) -> Result<Carried, Refused> {
    if built_in::is_internal(of.oid) {
        return Err(Refused::new("the type is internal to the server"));
    }
    Ok(carried(ValueType::String, text::Text))
}

fn carried_text(of: &PgType) -> Result<Carried, Refused> {
    Ok(carried(ValueType::String, AsText(server_text(of)?)))
}

fn carried(value_type: ValueType, decoder: impl ColumnDecoder + 'static) -> Carried {
    Carried {
        value_type,
        decoder: Arc::new(decoder),
    }
}

fn list(items: Carried, item_oid: u32, lower: i32) -> Carried {
    carried(
        ValueType::List {
            items: Arc::new(items.value_type),
        },
        list::List {
            item_oid,
            items: items.decoder,
            lower,
        },
    )
}

fn composite(of: &PgType, attributes: &[Attribute], forms: &ValueForms) -> Result<Carried, Refused> {
    let (mut fields, mut decoders) = (Vec::new(), Vec::new());
    for attribute in attributes {
        let field = resolve_inner(&attribute.of, attribute.type_modifier, forms)?;
        fields.push(RecordField {
            name: attribute.name.clone(),
            value_type: field.value_type,
        });
        decoders.push((attribute.of.oid, field.decoder));
    }
    let record = RecordType {
        schema: of.schema.clone(),
        name: of.name.clone(),
        fields,
    };
    Ok(carried(
        ValueType::Record(Arc::new(record)),
        record::Record { fields: decoders },
    ))
}

/// A type inside of another, which must have a binary form: the server fails to send the whole without.
fn resolve_inner(of: &PgType, type_modifier: i32, forms: &ValueForms) -> Result<Carried, Refused> {
    with_binary_form(of)?;
    resolve(of, type_modifier, forms).map_err(|refused| Refused {
        reason: format!("its part of type {}: {}", of.sql_name, refused.reason),
    })
}

fn with_binary_form(of: &PgType) -> Result<(), Refused> {
    match of.sent_as_text() {
        None => Ok(()),
        Some(_) => Err(Refused::new(format!(
            "its part of type {} has no binary form, so the server cannot send the whole",
            of.sql_name
        ))),
    }
}

/// The text of a type that has a binary form.
fn server_text(of: &PgType) -> Result<Arc<dyn ServerText>, Refused> {
    let inner = |of: &PgType| {
        with_binary_form(of)?;
        server_text(of)
    };
    Ok(match &of.form {
        TypeForm::Domain { base, .. } => server_text(base)?,
        TypeForm::Enum { .. } => as_decoded(text::Text),
        TypeForm::Array { item, delimiter } => Arc::new(Array {
            items: inner(item)?,
            item_oid: item.oid,
            delimiter: *delimiter,
        }),
        TypeForm::Composite { attributes } => {
            let fields = attributes
                .iter()
                .map(|attribute| Ok((attribute.of.oid, inner(&attribute.of)?)));
            Arc::new(Composite {
                fields: fields.collect::<Result<_, Refused>>()?,
            })
        }
        TypeForm::Range { subtype } => Arc::new(Range {
            subtype: inner(subtype)?,
        }),
        TypeForm::Multirange { subtype } => Arc::new(Multirange {
            range: Range {
                subtype: inner(subtype)?,
            },
        }),
        TypeForm::Base {
            extension: Some(name), ..
        } => extension::server_text(name, &of.name)?,
        TypeForm::Base { extension: None, .. } => built_in::server_text(of.oid)?,
        TypeForm::Pseudo => return Err(Refused::new("pseudo-types have no values of their own")),
    })
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "made_tests.rs"]
mod made_tests;
