// SPDX-License-Identifier: Apache-2.0
//! The publication: which tables the server sends, and how it is brought in line with the settings.

use crate::catalog_row::{CatalogRow, FullXid};
use crate::protocol::pgoutput::ReplicaIdentity;
use crate::protocol::quoting::{quote_identifier, quote_qualified};
use crate::query_connection::QueryConnection;
use crate::selection::Selection;
use crate::settings::Settings;
use highwater_core::schema::TableName;
use highwater_core::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::types::Type;

/// A publication's own settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicationFacts {
    /// It publishes every table, also those to come.
    pub all_tables: bool,
    /// Inserts, updates, deletes and truncations: whether each is published.
    pub operations: [bool; 4],
    /// Changes of partitions are published as changes of the partitioned table.
    pub via_root: bool,
    /// The role owns it, or is a member of the role that does.
    pub owned: bool,
}

/// A table that could be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its object id.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// It is a partition of another table.
    pub is_partition: bool,
    /// It is a partitioned table.
    pub is_partitioned: bool,
    /// How its rows are identified in the log.
    pub replica_identity: ReplicaIdentity,
    /// It has a primary key.
    pub has_primary_key: bool,
    /// Policies hide rows of it from the role.
    pub row_security: bool,
    /// The role may select from it.
    pub may_select: bool,
    /// The role may use its schema.
    pub may_use_schema: bool,
    /// The role owns it, or is a member of the role that does.
    pub owned: bool,
}

impl Candidate {
    /// Whether publishing updates and deletes would make them fail in the application.
    pub fn lacks_identity(&self) -> bool {
        match self.replica_identity {
            ReplicaIdentity::Nothing => true,
            ReplicaIdentity::Default => !self.has_primary_key,
            ReplicaIdentity::Full | ReplicaIdentity::Index => false,
        }
    }
}

const CANDIDATES: &str = "\
    SELECT n.nspname, c.relname, c.relispartition, c.relkind = 'p', c.relreplident, \
           EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary), \
           pg_catalog.row_security_active(c.oid), \
           pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT'), \
           pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.pg_has_role(c.relowner, 'USAGE'), c.oid \
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' \
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_' \
     ORDER BY n.nspname, c.relname";

/// Reads the publication, if it exists.
pub async fn read_publication(connection: &mut QueryConnection, name: &str) -> Result<Option<PublicationFacts>> {
    let sql = "SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, \
                      pg_catalog.pg_has_role(pubowner, 'USAGE') \
                 FROM pg_catalog.pg_publication WHERE pubname = $1";
    let rows = connection
        .query(sql, &[(&name, Type::TEXT)], "reading the publication")
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(PublicationFacts {
        all_tables: row.flag(0)?,
        operations: [row.flag(1)?, row.flag(2)?, row.flag(3)?, row.flag(4)?],
        via_root: row.flag(5)?,
        owned: row.flag(6)?,
    }))
}

/// Reads the names of the tables that the publication sends.
pub async fn read_published(connection: &mut QueryConnection, name: &str) -> Result<BTreeSet<TableName>> {
    let sql = "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1";
    let rows = connection
        .query(sql, &[(&name, Type::TEXT)], "reading the publication's tables")
        .await?;
    rows.iter()
        .map(|row| Ok(TableName::new(row.column::<&str>(0)?, row.column::<&str>(1)?)))
        .collect()
}

/// A table that a publication names and nobody chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchosen {
    /// Its name.
    pub name: TableName,
    /// Its updates and deletes fail for being published.
    pub lacks_identity: bool,
}

/// Reads which tables the publication names, one by one, that are not among `candidates`. Partitions come and go with what
/// they are partitions of.
pub async fn read_unchosen(
    connection: &mut QueryConnection,
    name: &str,
    candidates: &[Candidate],
) -> Result<Vec<Unchosen>> {
    let sql = "SELECT n.nspname, c.relname, c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS \
                      (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) \
                 FROM pg_catalog.pg_publication p \
                 JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid \
                 JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                WHERE p.pubname = $1 AND NOT c.relispartition ORDER BY 1, 2";
    let rows = connection
        .query(sql, &[(&name, Type::TEXT)], "reading the publication's own tables")
        .await?;
    let chosen: BTreeSet<&TableName> = candidates.iter().map(|candidate| &candidate.name).collect();
    let mut unchosen = Vec::new();
    for row in rows {
        let name = TableName::new(row.column::<&str>(0)?, row.column::<&str>(1)?);
        if !chosen.contains(&name) {
            let lacks_identity = row.flag(2)?;
            unchosen.push(Unchosen { name, lacks_identity });
        }
    }
    Ok(unchosen)
}

/// Tables that may have been published while a transaction ran that still runs, and the id of the next transaction.
/// Parameter: the publication's name.
///
/// For tables that this process did not publish itself: before a restart, or by somebody else. What the row in the
/// catalogue tells is the id of the transaction that published, not where that committed. One that took its id in between
/// may have written to the table too: those within a margin of 100 ids are covered. So a table is missed that was published
/// in a transaction that ran while more than 100 others began, of which one still runs. Tables that are published by
/// their schema, or as all, have no row.
const YOUNG: &str = "\
    SELECT n.nspname, c.relname, pg_catalog.pg_snapshot_xmax(s.now) \
      FROM (SELECT pg_catalog.pg_current_snapshot()) s (now) \
      JOIN pg_catalog.pg_publication p ON p.pubname = $1 \
      JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid \
      JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE pg_catalog.age(r.xmin) <= 100 + pg_catalog.pg_snapshot_xmax(s.now)::text::int8 \
                                         - pg_catalog.pg_snapshot_xmin(s.now)::text::int8";

/// Has copies of tables that were published just now (`added`), or a short while ago (those that `concerns` names), wait for
/// the transactions that are open; see [`Selection::read_later`].
pub(crate) async fn let_older_transactions_end(
    connection: &mut QueryConnection,
    publication: &str,
    selection: &Selection,
    added: Vec<TableName>,
    concerns: impl Fn(&TableName) -> bool,
) -> Result<()> {
    if !added.is_empty() {
        selection.read_later(added, connection.next_transaction().await?);
    }
    let what = "reading which tables were published of late";
    let rows = connection.query(YOUNG, &[(&publication, Type::TEXT)], what).await?;
    let Some(first) = rows.first() else { return Ok(()) };
    let horizon = first.column::<FullXid>(2)?.0;
    let tables: Result<Vec<TableName>> = rows
        .iter()
        .map(|row| Ok(TableName::new(row.column::<&str>(0)?, row.column::<&str>(1)?)))
        .collect();
    let tables = tables?.into_iter().filter(concerns).collect();
    selection.read_later(tables, horizon);
    Ok(())
}

/// Reads the tables that exist and are chosen. A partition is chosen only where the settings name it: its partitioned
/// table stands for it else.
pub async fn read_candidates(
    connection: &mut QueryConnection,
    settings: &Settings,
    selection: &Selection,
) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for row in connection
        .query(CANDIDATES, &[], "reading the catalogue of tables")
        .await?
    {
        let candidate = Candidate {
            name: TableName::new(row.column::<&str>(0)?, row.column::<&str>(1)?),
            is_partition: row.flag(2)?,
            is_partitioned: row.flag(3)?,
            replica_identity: row.column(4)?,
            has_primary_key: row.flag(5)?,
            row_security: row.flag(6)?,
            may_select: row.flag(7)?,
            may_use_schema: row.flag(8)?,
            owned: row.flag(9)?,
            oid: row.column(10)?,
        };
        if selection.selects(&candidate.name) && (!candidate.is_partition || settings.is_named(&candidate.name)) {
            candidates.push(candidate);
        }
    }
    Ok(candidates)
}

/// The statement that creates the publication.
pub fn create_statement<'a>(name: &str, tables: impl IntoIterator<Item = &'a TableName>) -> String {
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
        quote_identifier(name),
        table_list(tables)
    )
}

/// The statement that adds tables to the publication.
pub fn add_statement<'a>(name: &str, tables: impl IntoIterator<Item = &'a TableName>) -> String {
    format!(
        "ALTER PUBLICATION {} ADD TABLE {}",
        quote_identifier(name),
        table_list(tables)
    )
}

/// The statement that takes tables out of the publication.
pub fn drop_statement<'a>(name: &str, tables: impl IntoIterator<Item = &'a TableName>) -> String {
    format!(
        "ALTER PUBLICATION {} DROP TABLE {}",
        quote_identifier(name),
        table_list(tables)
    )
}

/// Each table alone: by its bare name a table that others inherit from stands for these too, and a child that is published
/// without a replica identity fails its updates in the application. For a partitioned table the word changes nothing.
fn table_list<'a>(tables: impl IntoIterator<Item = &'a TableName>) -> String {
    let names = tables
        .into_iter()
        .map(|table| format!("ONLY {}", quote_qualified(&table.schema, &table.table)));
    names.collect::<Vec<_>>().join(", ")
}

/// Creates the publication, or adds to it what is chosen and not published, as far as the settings allow that.
///
/// A table whose updates would fail once it is published is refused instead: capturing must not break an application. Gives
/// the tables that were published.
pub async fn ensure_publication(
    connection: &mut QueryConnection,
    settings: &Settings,
    selection: &Selection,
) -> Result<Vec<TableName>> {
    let name = &settings.publication.name;
    let facts = read_publication(connection, name).await?;
    let published = match facts {
        Some(_) => read_published(connection, name).await?,
        None => BTreeSet::new(),
    };
    let candidates = read_candidates(connection, settings, selection).await?;
    if let Some(missing) = settings.unmet(candidates.iter().map(|found| &found.name)) {
        return Err(unknown_table(missing));
    }
    if facts.is_none() && candidates.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "no table matches `tables.include`")
            .with_fix("create the tables first, or correct the patterns"));
    }
    let missing: Vec<&Candidate> = candidates
        .iter()
        .filter(|table| !published.contains(&table.name))
        .collect();
    let missing_names: Vec<&TableName> = missing.iter().map(|table| &table.name).collect();
    let statement = match facts {
        None => create_statement(name, missing_names),
        Some(facts) if missing.is_empty() || facts.all_tables => return Ok(Vec::new()),
        Some(_) => add_statement(name, missing_names),
    };
    if !settings.publication.create {
        return match facts {
            None => Err(
                Error::new(ErrorKind::NotFound, format!("publication \"{name}\" does not exist"))
                    .with_fix(format!("run `{statement}`, or set `publication.create: true`")),
            ),
            // Patterns choose among what a foreign publication has; names demand.
            Some(_) => match missing
                .iter()
                .map(|found| &found.name)
                .find(|table| settings.is_named(table))
            {
                None => Ok(Vec::new()),
                Some(table) => {
                    let what = format!("table {table} is not in publication \"{name}\"");
                    Err(Error::new(ErrorKind::Unsuitable, what).with_fix(format!(
                        "run `{}`, or set `publication.create: true`",
                        add_statement(name, [table])
                    )))
                }
            },
        };
    }
    if let Some(table) = missing.iter().find(|table| table.lacks_identity()) {
        return Err(lacks_identity(&table.name));
    }
    connection
        .batch(&statement, &format!("preparing publication \"{name}\""))
        .await?;
    tracing::info!(publication = %name, tables = missing.len(), "publication prepared");
    Ok(missing.into_iter().map(|table| table.name.clone()).collect())
}

/// Adds `tables` to the publication, as far as the settings allow that, unless they are published already. Gives those that
/// were not.
pub async fn add_to_publication(
    connection: &mut QueryConnection,
    settings: &Arc<Settings>,
    tables: &[TableName],
) -> Result<Vec<TableName>> {
    let name = &settings.publication.name;
    let published = read_published(connection, name).await?;
    let missing: Vec<&TableName> = tables.iter().filter(|table| !published.contains(*table)).collect();
    let Some(first) = missing.first() else {
        return Ok(Vec::new());
    };
    let statement = add_statement(name, missing.iter().copied());
    if !settings.publication.create {
        let what = format!("table {first} is not in publication \"{name}\"");
        let fix = format!("run `{statement}`, or set `publication.create: true`");
        return Err(Error::new(ErrorKind::Unsuitable, what).with_fix(fix));
    }
    let selection = Selection::new(settings.clone());
    selection.add(tables);
    let candidates = read_candidates(connection, settings, &selection).await?;
    for table in &missing {
        match candidates.iter().find(|candidate| candidate.name == **table) {
            None => return Err(unknown_table(table)),
            Some(candidate) if candidate.lacks_identity() => return Err(lacks_identity(table)),
            Some(_) => {}
        }
    }
    connection
        .batch(&statement, &format!("adding tables to publication \"{name}\""))
        .await?;
    Ok(missing.into_iter().cloned().collect())
}

pub(crate) fn unknown_table(table: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("table {table} does not exist, or is temporary or unlogged"),
    )
    .with_fix("create it, or take it out of `tables.include`")
}

fn lacks_identity(table: &TableName) -> Error {
    let name = quote_qualified(&table.schema, &table.table);
    let what =
        format!("table {table} has no replica identity, so its updates and deletes would fail once it is published");
    Error::new(ErrorKind::Unsuitable, what).with_fix(format!(
        "add a primary key, run `ALTER TABLE {name} REPLICA IDENTITY FULL`, or exclude the table in `tables.exclude`"
    ))
}
