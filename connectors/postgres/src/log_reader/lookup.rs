// SPDX-License-Identifier: Apache-2.0
//! What the catalogue adds to a relation that the log announced: found out in a task, so that a caller who drops the
//! reader's future again and again still gets there.

use super::relation::CapturedRelation;
use crate::catalog_row::{CatalogRow, Parameter};
use crate::protocol::pgoutput::Relation;
use crate::query_connection::QueryConnection;
use crate::schema::{ShapeColumn, TableShape};
use crate::values::{PgType, TypeForm, ValueForms};
use crate::{discover, schema};
use highwater_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::types::Type;

/// Looks relations up, one at a time.
#[derive(Debug)]
pub(super) struct RelationLookup {
    catalog: Arc<Mutex<RelationCatalog>>,
    forms: ValueForms,
    running: Option<JoinHandle<Result<CapturedRelation>>>,
}

impl RelationLookup {
    pub(super) fn new(connection: QueryConnection, forms: ValueForms) -> Self {
        let types = BTreeMap::new();
        Self {
            catalog: Arc::new(Mutex::new(RelationCatalog { connection, types })),
            forms,
            running: None,
        }
    }

    /// Gives `relation` its schema. Cancel-safe: the next call, for the same relation, waits for the same work.
    pub(super) async fn captured(&mut self, relation: &Relation) -> Result<CapturedRelation> {
        let running = self.running.get_or_insert_with(|| {
            let (catalog, relation, forms) = (self.catalog.clone(), relation.clone(), self.forms.clone());
            tokio::spawn(async move { catalog.lock().await.look_up(&relation, &forms).await })
        });
        let result = running.await;
        self.running = None;
        result.unwrap_or_else(|error| Err(Error::bug("looking a relation up ended early").with_source(error)))
    }
}

impl Drop for RelationLookup {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// The catalogue, and what is known of it that cannot change.
#[derive(Debug)]
struct RelationCatalog {
    connection: QueryConnection,
    /// Built-in types.
    types: BTreeMap<u32, PgType>,
}

impl RelationCatalog {
    async fn look_up(&mut self, relation: &Relation, forms: &ValueForms) -> Result<CapturedRelation> {
        let name = CapturedRelation::name_of(relation);
        let mut catalogued = discover::read_present_shape(&mut self.connection, relation.oid).await?;
        // What the log announces is what is published of it.
        if let Some(shape) = &mut catalogued {
            let is_announced = |known: &ShapeColumn| relation.columns.iter().any(|column| column.name == known.name);
            shape.columns.retain(is_announced);
        }
        let (mut columns, key) = TableShape::of_relation(relation, catalogued.as_ref());
        let types = self.types_of(&columns).await?;
        name_types(&mut self.connection, &mut columns).await?;
        schema::note_text_columns(&mut columns, &types);
        let schema = schema::build(relation.oid, &name, &columns, key, &types, forms)?;
        let text_columns = (0..=u16::MAX).zip(&columns).filter(|(_, column)| column.sent_as_text);
        let text_columns = text_columns.map(|(place, _)| place).collect();
        let captured = CapturedRelation::new(relation, schema, text_columns);
        if self.connection.server_version().await?.sends_binary() {
            return Ok(captured);
        }
        let read_as = columns
            .iter()
            .map(|column| types.get(&column.type_oid).map_or(column.type_oid, read_as));
        Ok(captured.with_text(read_as.collect()))
    }

    /// The types of columns; where all of them are built in and known, nobody is asked.
    async fn types_of(&mut self, columns: &[ShapeColumn]) -> Result<BTreeMap<u32, PgType>> {
        let wanted = discover::types_of(columns);
        if !discover::are_built_in(&wanted) {
            return discover::read_types(&mut self.connection, &wanted).await;
        }
        if !wanted.iter().all(|oid| self.types.contains_key(oid)) {
            let found = discover::read_types(&mut self.connection, &wanted).await?;
            self.types.extend(found);
        }
        Ok(self.types.clone())
    }
}

/// The type that reads the text of values of `of`. Where the text is what the decoder reads, that is `text`: a label that
/// was renamed since is carried too.
fn read_as(of: &PgType) -> u32 {
    let of = of.beneath();
    match &of.form {
        TypeForm::Enum { .. } | TypeForm::Base { binary: false, .. } => Type::TEXT.oid(),
        _ => of.oid,
    }
}

/// Asks for the SQL names of types that the catalogue's present columns do not show: the log is behind it.
async fn name_types(catalog: &mut QueryConnection, columns: &mut [ShapeColumn]) -> Result<()> {
    for column in columns.iter_mut().filter(|column| column.database_type.is_empty()) {
        let sql = "SELECT pg_catalog.format_type($1, $2)";
        let parameters: [Parameter<'_>; 2] = [(&column.type_oid, Type::OID), (&column.type_modifier, Type::INT4)];
        let rows = catalog.query(sql, &parameters, "reading the name of a type").await?;
        let name = rows
            .first()
            .map(|row| row.column::<Option<_>>(0))
            .transpose()?
            .flatten();
        column.database_type = name.unwrap_or_else(|| "unknown".to_owned());
    }
    Ok(())
}
