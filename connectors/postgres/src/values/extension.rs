// SPDX-License-Identifier: Apache-2.0
//! Types of extensions, known by the extension's name and their own. Those without a binary form need not be known: the
//! server sends their text.

use super::server_text::{self, AsText, ServerText, as_decoded, by};
use super::{Carried, Refused, carried, shape, text, vector};
use highwater_core::value::ValueType;
use std::sync::Arc;

/// The types of extensions that are carried and have a binary form.
pub const CARRIED_EXTENSION_TYPES: [(&str, &str); 11] = [
    ("citext", "citext"),
    ("cube", "cube"),
    ("hstore", "hstore"),
    ("ltree", "lquery"),
    ("ltree", "ltree"),
    ("ltree", "ltxtquery"),
    ("postgis", "geography"),
    ("postgis", "geometry"),
    ("vector", "halfvec"),
    ("vector", "sparsevec"),
    ("vector", "vector"),
];

/// How values of an extension's type are carried.
pub(super) fn resolve(extension: &str, name: &str) -> Result<Carried, Refused> {
    Ok(match (extension, name) {
        ("citext", "citext") => carried(ValueType::String, text::Text),
        ("hstore", "hstore") => carried(ValueType::Json, text::Hstore),
        ("ltree", "ltree") => carried(ValueType::Ltree, text::VersionedText),
        ("ltree", "lquery" | "ltxtquery") => carried(ValueType::String, text::VersionedText),
        ("postgis", "geometry") => carried(ValueType::Geometry, shape::Geometry),
        ("postgis", "geography") => carried(ValueType::Geography, shape::Geometry),
        ("vector", "vector") => carried(ValueType::DoubleVector, vector::Vector),
        ("vector", "halfvec") => carried(ValueType::FloatVector, vector::HalfVector),
        ("vector", "sparsevec") => carried(ValueType::SparseDoubleVector, vector::SparseVector),
        _ => carried(ValueType::String, AsText(server_text(extension, name)?)),
    })
}

/// The text of an extension's type.
pub(super) fn server_text(extension: &str, name: &str) -> Result<Arc<dyn ServerText>, Refused> {
    use server_text::{geometric, nested, vector};
    Ok(match (extension, name) {
        ("citext", "citext") => as_decoded(text::Text),
        ("cube", "cube") => by("cube", geometric::cube),
        ("hstore", "hstore") => by("hstore", nested::hstore),
        ("ltree", "ltree" | "lquery" | "ltxtquery") => as_decoded(text::VersionedText),
        ("postgis", "geometry" | "geography") => by("geometry", geometric::shape),
        ("vector", "vector") => by("vector", vector::vector),
        ("vector", "halfvec") => by("halfvec", vector::half_vector),
        ("vector", "sparsevec") => by("sparsevec", vector::sparse_vector),
        _ => {
            return Err(Refused::new(format!(
                "the binary form of this type of the extension \"{extension}\" is not known to this release"
            )));
        }
    })
}
