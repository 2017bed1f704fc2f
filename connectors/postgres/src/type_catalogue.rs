// SPDX-License-Identifier: Apache-2.0
//! What the catalogue says about types, and about the types that they are made of.

use crate::catalog_row::CatalogRow;
use crate::values::{Attribute, PgType, TypeForm};
use highwater_core::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// How deep types made of others may lie in one another.
pub(crate) const DEPTH_MAX: usize = 32;

/// One row a type, a JSON document. Parameter: object ids.
pub(crate) const TYPES: &str = "\
    SELECT pg_catalog.json_build_object( \
             'oid', t.oid::int8, 'schema', n.nspname, 'name', t.typname, \
             'sql_name', pg_catalog.format_type(t.oid, NULL), 'kind', t.typtype, 'extension', e.extname, \
             'binary', t.typsend <> 0::oid, 'base', t.typbasetype::int8, 'modifier', t.typtypmod, \
             'item', i.oid::int8, 'delimiter', i.typdelim, \
             'labels', CASE t.typtype WHEN 'e' THEN \
               (SELECT pg_catalog.json_agg(l.enumlabel ORDER BY l.enumsortorder) \
                  FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid) END, \
             'attributes', CASE t.typtype WHEN 'c' THEN \
               (SELECT pg_catalog.json_agg(pg_catalog.json_build_object( \
                         'name', a.attname, 'type', a.atttypid::int8, 'modifier', a.atttypmod) ORDER BY a.attnum) \
                  FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END, \
             'subtype', CASE t.typtype \
               WHEN 'r' THEN (SELECT r.rngsubtype::int8 FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid) \
               WHEN 'm' THEN (SELECT r.rngsubtype::int8 FROM pg_catalog.pg_range r \
                               WHERE pg_catalog.to_jsonb(r) ->> 'rngmultitypid' = t.oid::text) END)::text \
      FROM pg_catalog.pg_type t \
      JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
      LEFT JOIN pg_catalog.pg_type i ON i.oid = t.typelem AND i.typarray = t.oid \
      LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid \
                                      AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e' \
      LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid \
     WHERE t.oid = ANY ($1)";

/// What is known of types so far: complete once nothing is [`TypeCatalogue::missing`].
#[derive(Debug, Default)]
pub(crate) struct TypeCatalogue {
    entries: BTreeMap<u32, Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    oid: u32,
    schema: String,
    name: String,
    sql_name: String,
    kind: char,
    extension: Option<String>,
    binary: bool,
    base: u32,
    modifier: i32,
    item: Option<u32>,
    delimiter: Option<char>,
    labels: Option<Vec<String>>,
    attributes: Option<Vec<AttributeEntry>>,
    subtype: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct AttributeEntry {
    name: String,
    #[serde(rename = "type")]
    of: u32,
    modifier: i32,
}

impl Entry {
    /// The types that this one is made of.
    fn parts(&self) -> impl Iterator<Item = u32> + '_ {
        let base = (self.kind == 'd').then_some(self.base);
        let attributes = self.attributes.iter().flatten().map(|attribute| attribute.of);
        base.into_iter().chain(self.item).chain(self.subtype).chain(attributes)
    }
}

impl TypeCatalogue {
    /// Takes in the rows of [`TYPES`].
    pub(crate) fn add(&mut self, rows: &[impl CatalogRow]) -> Result<()> {
        let unreadable = |error| Error::bug("a type's description is not what was asked for").with_source(error);
        for row in rows {
            let entry: Entry = serde_json::from_str(row.column(0)?).map_err(unreadable)?;
            self.entries.insert(entry.oid, entry);
        }
        Ok(())
    }

    /// Types that others are made of and that were not read yet.
    pub(crate) fn missing(&self) -> BTreeSet<u32> {
        let parts = self.entries.values().flat_map(Entry::parts);
        parts.filter(|oid| !self.entries.contains_key(oid)).collect()
    }

    /// The types by object id.
    pub(crate) fn types(&self) -> BTreeMap<u32, PgType> {
        let oids = self.entries.keys();
        oids.filter_map(|oid| Some((*oid, self.of(*oid, DEPTH_MAX)?))).collect()
    }

    fn of(&self, oid: u32, depth: usize) -> Option<PgType> {
        let entry = self.entries.get(&oid)?;
        Some(PgType {
            oid,
            schema: entry.schema.clone(),
            name: entry.name.clone(),
            sql_name: entry.sql_name.clone(),
            form: self.form(entry, depth.checked_sub(1)?)?,
        })
    }

    fn form(&self, entry: &Entry, depth: usize) -> Option<TypeForm> {
        let part = |oid: u32| self.of(oid, depth).map(Box::new);
        Some(match (entry.kind, entry.item) {
            ('b', Some(item)) => TypeForm::Array {
                item: part(item)?,
                delimiter: entry.delimiter.unwrap_or(','),
            },
            ('b', None) => TypeForm::Base {
                extension: entry.extension.clone(),
                binary: entry.binary,
            },
            ('e', _) => TypeForm::Enum {
                labels: entry.labels.clone().unwrap_or_default().into(),
            },
            ('d', _) => TypeForm::Domain {
                base: part(entry.base)?,
                type_modifier: entry.modifier,
            },
            ('c', _) => TypeForm::Composite {
                attributes: self.attributes(entry, depth)?,
            },
            ('r', _) => TypeForm::Range {
                subtype: part(entry.subtype?)?,
            },
            ('m', _) => TypeForm::Multirange {
                subtype: part(entry.subtype?)?,
            },
            _ => TypeForm::Pseudo,
        })
    }

    fn attributes(&self, entry: &Entry, depth: usize) -> Option<Vec<Attribute>> {
        let attributes = entry.attributes.iter().flatten().map(|attribute| {
            Some(Attribute {
                name: attribute.name.clone(),
                of: self.of(attribute.of, depth)?,
                type_modifier: attribute.modifier,
            })
        });
        attributes.collect()
    }
}
