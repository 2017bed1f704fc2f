// SPDX-License-Identifier: Apache-2.0
//! The catalogue of published tables and of the types that they use.

use crate::catalog_row::{CatalogRow, Parameter};
use crate::publication::read_candidates;
use crate::query_connection::QueryConnection;
use crate::schema::{ShapeColumn, TableShape};
use crate::selection::Selection;
use crate::server_version::ServerVersion;
use crate::settings::Settings;
use crate::type_catalogue::{DEPTH_MAX, TYPES, TypeCatalogue};
use crate::values::PgType;
use highwater_core::connector::{Catalog, CatalogTable};
use highwater_core::schema::TableName;
use highwater_core::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::Type;

/// Types from this object id on differ from server to server.
const FIRST_USER_OID: u32 = 16_384;

macro_rules! shapes_of {
    ($row_filter:literal, $from:literal, $columns:literal, $where:literal) => {
        concat!(
            "SELECT c.oid, n.nspname, c.relname, c.relreplident, ",
            $row_filter,
            ", coalesce(k.indnkeyatts, 0), coalesce(r.indnkeyatts, 0), \
               a.attname, a.atttypid, a.atttypmod, a.attnotnull, pg_catalog.format_type(a.atttypid, a.atttypmod), \
               pg_catalog.array_position(k.indkey::int2[], a.attnum), \
               pg_catalog.array_position(r.indkey::int2[], a.attnum), c.relkind = 'p' FROM ",
            $from,
            " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND ",
            $columns,
            " LEFT JOIN pg_catalog.pg_index k ON k.indrelid = c.oid AND k.indisprimary \
              LEFT JOIN pg_catalog.pg_index r ON r.indrelid = c.oid AND r.indisreplident WHERE ",
            $where,
            " ORDER BY n.nspname, c.relname, a.attnum"
        )
    };
    (published $row_filter:literal, $columns:literal) => {
        shapes_of!(
            $row_filter,
            "pg_catalog.pg_publication_tables p \
               JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname \
               JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename",
            $columns,
            "p.pubname = $1 AND ($2 IS NULL OR (p.schemaname = $2 AND p.tablename = $3))"
        )
    };
}

/// One row a published column. Parameters, all texts: publication, and schema and table or NULL for all tables.
pub(crate) fn shapes_sql(version: ServerVersion) -> &'static str {
    if version.publishes_generated_columns() {
        return shapes_of!(published "p.rowfilter", "a.attname = ANY (p.attnames)");
    }
    // Generated columns are left out as pgoutput leaves them out; `pg_publication_tables` lists them up to version 15.
    if version.has_row_filters() {
        return shapes_of!(published "p.rowfilter", "a.attname = ANY (p.attnames) AND a.attgenerated = ''");
    }
    shapes_of!(published "NULL::text", "a.attgenerated = ''")
}

/// The same for tables that are not published yet. Parameter: object ids.
const UNPUBLISHED_SHAPES: &str = shapes_of!(
    "NULL::text",
    "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
    "a.attgenerated = ''",
    "c.oid = ANY ($1)"
);

/// The same for one table as it is now, published or not, all its columns. Parameter: its object id. Whoever knows what was
/// published otherwise has no need of `pg_publication_tables`, which goes through every table there is to answer for one.
const PRESENT_SHAPE: &str = shapes_of!(
    "NULL::text",
    "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
    "true",
    "c.oid = $1"
);

/// Reads the shape that a table has now.
pub(crate) async fn read_present_shape(connection: &mut QueryConnection, oid: u32) -> Result<Option<TableShape>> {
    let what = "reading the catalogue of a table";
    let rows = connection.query(PRESENT_SHAPE, &[(&oid, Type::OID)], what).await?;
    Ok(shapes(&rows)?.into_iter().next())
}

/// Folds the rows of [`shapes_sql`] into tables.
pub(crate) fn shapes(rows: &[impl CatalogRow]) -> Result<Vec<TableShape>> {
    let mut tables: Vec<TableShape> = Vec::new();
    for row in rows {
        let oid: u32 = row.column(0)?;
        if tables.last().is_none_or(|table| table.oid != oid) {
            tables.push(TableShape {
                oid,
                name: TableName::new(row.column::<&str>(1)?, row.column::<&str>(2)?),
                replica_identity: row.column(3)?,
                row_filter: row.column(4)?,
                columns: Vec::new(),
                primary_key_columns: count(row.column(5)?),
                identity_columns: count(row.column(6)?),
                partitioned: row.column(14)?,
            });
        }
        if let Some(table) = tables.last_mut() {
            table.columns.push(ShapeColumn {
                name: row.column(7)?,
                type_oid: row.column(8)?,
                type_modifier: row.column(9)?,
                nullable: !row.column::<bool>(10)?,
                database_type: row.column(11)?,
                primary_key_place: row.column::<Option<_>>(12)?.map(count),
                identity_place: row.column::<Option<_>>(13)?.map(count),
                sent_as_text: false,
            });
        }
    }
    Ok(tables)
}

/// A number of the catalogue that is never negative.
fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

/// Reads the shapes of the published tables.
pub async fn read_shapes(connection: &mut QueryConnection, publication: &str) -> Result<Vec<TableShape>> {
    let none: Option<&str> = None;
    let parameters: [Parameter<'_>; 3] = [(&publication, Type::TEXT), (&none, Type::TEXT), (&none, Type::TEXT)];
    let what = "reading the catalogue of published tables";
    let sql = shapes_sql(connection.server_version().await?);
    shapes(&connection.query(sql, &parameters, what).await?)
}

/// The types that `columns` use.
pub(crate) fn types_of<'a>(columns: impl IntoIterator<Item = &'a ShapeColumn>) -> BTreeSet<u32> {
    columns.into_iter().map(|column| column.type_oid).collect()
}

/// Whether all of `oids` are the same on every server, so that what is known of them cannot change.
pub(crate) fn are_built_in(oids: &BTreeSet<u32>) -> bool {
    oids.iter().all(|oid| *oid < FIRST_USER_OID)
}

/// Reads the types `oids` and those beneath them.
pub async fn read_types(connection: &mut QueryConnection, oids: &BTreeSet<u32>) -> Result<BTreeMap<u32, PgType>> {
    let mut found = TypeCatalogue::default();
    let mut wanted = oids.clone();
    for _ in 0..DEPTH_MAX {
        if wanted.is_empty() {
            break;
        }
        let list = Vec::from_iter(wanted.iter().copied());
        let what = "reading the catalogue of types";
        found.add(&connection.query(TYPES, &[(&list, Type::OID_ARRAY)], what).await?)?;
        let missing = found.missing();
        // A type that was asked for and is not there is gone.
        if missing == wanted {
            break;
        }
        wanted = missing;
    }
    Ok(found.types())
}

const ESTIMATES: &str = "\
    SELECT c.oid, pg_catalog.sum(greatest(l.reltuples, 0))::bigint, \
           pg_catalog.sum(pg_catalog.pg_total_relation_size(l.oid))::bigint \
      FROM pg_catalog.pg_class c \
      JOIN pg_catalog.pg_class l ON l.oid = c.oid OR (c.relkind = 'p' AND l.oid IN \
                                    (SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) t)) \
     WHERE c.oid = ANY ($1) GROUP BY c.oid";

/// Reads the shapes of the selected tables: as they are published, and where the settings let the publication be made or
/// extended, as they will be.
pub async fn read_selected_shapes(
    connection: &mut QueryConnection,
    settings: &Settings,
    selection: &Selection,
) -> Result<Vec<TableShape>> {
    let mut shapes = read_shapes(connection, &settings.publication.name).await?;
    shapes.retain(|shape| selection.selects(&shape.name));
    if settings.publication.create {
        let published: BTreeSet<u32> = shapes.iter().map(|shape| shape.oid).collect();
        let candidates = read_candidates(connection, settings, selection).await?;
        let unpublished: Vec<u32> = candidates
            .iter()
            .map(|table| table.oid)
            .filter(|oid| !published.contains(oid))
            .collect();
        if !unpublished.is_empty() {
            let what = "reading the catalogue of tables that are not published yet";
            let rows = connection
                .query(UNPUBLISHED_SHAPES, &[(&unpublished, Type::OID_ARRAY)], what)
                .await?;
            shapes.extend(self::shapes(&rows)?);
        }
    }
    Ok(shapes)
}

/// Reads the catalogue of the selected tables. One that the settings name and that cannot be captured is an error.
pub async fn read_catalog(
    connection: &mut QueryConnection,
    settings: &Settings,
    selection: &Selection,
) -> Result<Catalog> {
    let shapes = read_selected_shapes(connection, settings, selection).await?;
    if let Some(name) = settings.unmet(shapes.iter().map(|shape| &shape.name)) {
        let publication = &settings.publication.name;
        let what = format!("table {name} does not exist, or is not in publication \"{publication}\"");
        return Err(Error::new(ErrorKind::NotFound, what)
            .with_fix("create the table, add it to the publication, or take it out of `tables.include`"));
    }
    let types = read_types(connection, &types_of(shapes.iter().flat_map(|shape| &shape.columns))).await?;
    let oids: Vec<u32> = shapes.iter().map(|shape| shape.oid).collect();
    let mut estimates = BTreeMap::new();
    for row in connection
        .query(ESTIMATES, &[(&oids, Type::OID_ARRAY)], "estimating the sizes of tables")
        .await?
    {
        estimates.insert(row.column::<u32>(0)?, (estimate(&row, 1)?, estimate(&row, 2)?));
    }
    let tables = shapes.iter().map(|shape| {
        let (rows_estimate, bytes_estimate) = estimates.get(&shape.oid).copied().unwrap_or((None, None));
        Ok(CatalogTable {
            schema: shape.schema(&types, &settings.values)?,
            rows_estimate,
            bytes_estimate,
        })
    });
    Ok(Catalog {
        tables: tables.collect::<Result<_>>()?,
    })
}

pub(crate) fn estimate(row: &impl CatalogRow, column: usize) -> Result<Option<u64>> {
    let estimate: Option<i64> = row.column(column)?;
    Ok(estimate.and_then(|estimate| u64::try_from(estimate).ok()))
}
