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
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::types::Type;

/// Looks relations up, one at a time.
#[derive(Debug)]
pub(super) struct RelationLookup {
    catalog: Arc<Mutex<QueryConnection>>,
    publication: String,
    forms: ValueForms,
    running: Option<JoinHandle<Result<CapturedRelation>>>,
}

impl RelationLookup {
    pub(super) fn new(catalog: QueryConnection, publication: String, forms: ValueForms) -> Self {
        Self {
            catalog: Arc::new(Mutex::new(catalog)),
            publication,
            forms,
            running: None,
        }
    }

    /// Gives `relation` its schema. Cancel-safe: the next call, for the same relation, waits for the same work.
    pub(super) async fn captured(&mut self, relation: &Relation) -> Result<CapturedRelation> {
        let running = self.running.get_or_insert_with(|| {
            let (catalog, publication, relation) = (self.catalog.clone(), self.publication.clone(), relation.clone());
            let forms = self.forms.clone();
            tokio::spawn(async move { look_up(&mut *catalog.lock().await, &publication, &relation, &forms).await })
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

async fn look_up(
    catalog: &mut QueryConnection,
    publication: &str,
    relation: &Relation,
    forms: &ValueForms,
) -> Result<CapturedRelation> {
    let name = CapturedRelation::name_of(relation);
    let shapes = discover::read_shapes(catalog, publication, Some(&name)).await?;
    let catalogued = shapes.into_iter().find(|shape| shape.oid == relation.oid);
    let (mut columns, key) = TableShape::of_relation(relation, catalogued.as_ref());
    let types = discover::read_types(catalog, &discover::types_of(&columns)).await?;
    name_types(catalog, &mut columns).await?;
    schema::note_text_columns(&mut columns, &types);
    let schema = schema::build(relation.oid, &name, &columns, key, &types, forms)?;
    let text_columns = (0..=u16::MAX).zip(&columns).filter(|(_, column)| column.sent_as_text);
    let text_columns = text_columns.map(|(place, _)| place).collect();
    let captured = CapturedRelation::new(relation, schema, text_columns);
    if catalog.server_version().await?.sends_binary() {
        return Ok(captured);
    }
    let read_as = columns
        .iter()
        .map(|column| types.get(&column.type_oid).map_or(column.type_oid, read_as));
    Ok(captured.with_text(read_as.collect()))
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
