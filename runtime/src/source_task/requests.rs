// SPDX-License-Identifier: Apache-2.0
//! Copies that settings or people ask for, and what a running task is told.

use std::collections::BTreeSet;

use highwater_core::connector::{CatalogTable, LogReader, SourceConnector};
use highwater_core::dblog::action::Report;
use highwater_core::dblog::input::{Input, SnapshotRows, SnapshotScope};
use highwater_core::schema::{Key, TableName};
use highwater_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::capture::Capture;
use super::cuts::answer;
use super::{Command, Order};

/// A copy that a person asks for, in words of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// `schema.table`.
    pub table: String,
    /// Which rows; all where it is left out.
    #[serde(default)]
    pub rows: SnapshotRequestRows,
}

/// Which rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotRequestRows {
    /// All.
    #[default]
    All,
    /// Those whose key lies behind `after` and not behind `through`, each the texts of the key's columns.
    Range {
        /// Exclusive start.
        after: Option<Vec<String>>,
        /// Inclusive end.
        through: Option<Vec<String>>,
    },
    /// Those with these keys, each the texts of the key's columns.
    Keys(Vec<Vec<String>>),
    /// Those that meet a condition in the database's own language.
    Condition(String),
}

impl<C: SourceConnector> Capture<C> {
    /// Asks for a copy of every captured table that never had one. Large tables are cut first, so that they can be read
    /// by several readers side by side.
    pub(super) async fn request_first_copies(&mut self) -> Result<()> {
        self.make_all_topics().await?;
        if !self.settings.initial_snapshot {
            return Ok(());
        }
        let (mut first, mut later, mut large) = (Vec::new(), Vec::new(), Vec::new());
        for table in &self.catalog.tables {
            let name = &table.schema.name;
            if self.engine.known_tables().contains(name) || self.cuts.holds_first(name) {
                continue;
            }
            if self.is_large(table) {
                large.push(name.clone());
            } else {
                let scopes = if self.is_first(name) { &mut first } else { &mut later };
                scopes.push(all(name.clone(), Vec::new()));
            }
        }
        for table in large {
            self.cut_before_first_copy(table)?;
        }
        for input in [Input::FirstCopies(first), Input::Snapshot(later)] {
            self.step(input).await?;
        }
        Ok(())
    }

    /// Makes the topics of all captured tables at once. One by one, as the first event of each comes, they would be most of
    /// what the first events of many tables cost.
    async fn make_all_topics(&mut self) -> Result<()> {
        let tables: Vec<_> = self
            .catalog
            .tables
            .iter()
            .map(|table| table.schema.name.clone())
            .collect();
        self.make_topics(&tables).await
    }

    /// Whether a table's copy may be read where the log began. One that was added later has changed unseen since, and of one
    /// without a key nothing can be remembered.
    pub(super) fn is_first(&self, table: &TableName) -> bool {
        let mut tables = self.catalog.tables.iter();
        let has_key = tables.any(|known| known.schema.name == *table && !known.schema.key.is_empty());
        has_key && !self.added.contains(table)
    }

    /// Rows that came to a table without a change in the log are copied; of those that went a person is told.
    pub(super) async fn copy_unlogged(&mut self) -> Result<()> {
        for change in self.log.unlogged_changes() {
            self.report(&Report {
                table: change.table.clone(),
                chunk: None,
                code: change.code.to_owned(),
                message: change.message,
            });
            if let Some(condition) = change.copy {
                let (table, rows) = (change.table, SnapshotRows::Condition(condition));
                self.step(Input::Snapshot(vec![SnapshotScope { table, rows }])).await?;
            }
        }
        // A checkpoint that has the copies may say that they need not be found again.
        self.engine.reads_history(self.log.lineage());
        Ok(())
    }

    /// A copy failed for good. One that a person asked for is reported and no more; without its first copy a table would
    /// stay incomplete while everything looks well, so that ends the run. The next one asks for the copy again.
    pub(super) fn copy_failed(&mut self) -> Result<()> {
        let refused = self.refused.take();
        let known = self.engine.known_tables();
        let lacks =
            |table: &&CatalogTable| !known.contains(&table.schema.name) && !self.cuts.holds_first(&table.schema.name);
        let Some(table) = self
            .catalog
            .tables
            .iter()
            .find(|table| lacks(table) && (self.settings.initial_snapshot || self.is_renewed(&table.schema.name)))
        else {
            return Ok(());
        };
        Err(refused.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Unsuitable,
                format!("the first copy of table \"{}\" failed", table.schema.name),
            )
            .with_fix("see the reports before this line, mend what they name and start again")
        }))
    }

    fn is_renewed(&self, table: &TableName) -> bool {
        self.engine.renewals().iter().any(|renewal| renewal.table == *table)
    }

    /// Does what a person asks and answers.
    pub(super) async fn obey(&mut self, command: Command) -> Result<()> {
        let done = match command.order {
            Order::Snapshot(requests) => return self.copy_as_asked(requests, command.reply).await,
            Order::Control(control) => self
                .step(Input::Control(control))
                .await
                .map(|()| json!({ "done": true })),
            Order::Reload => self.reload().await,
        };
        answer(command.reply, done)
    }

    pub(super) fn scope(&self, request: SnapshotRequest) -> Result<SnapshotScope> {
        let table = self.captured(&request.table)?;
        let rows = match request.rows {
            SnapshotRequestRows::All => SnapshotRows::All { starts: Vec::new() },
            SnapshotRequestRows::Condition(condition) => SnapshotRows::Condition(condition),
            SnapshotRequestRows::Keys(keys) => SnapshotRows::Condition(keys_condition(table, &keys)?),
            SnapshotRequestRows::Range { after, through } => {
                SnapshotRows::Condition(range_condition(table, after.as_deref(), through.as_deref())?)
            }
        };
        Ok(SnapshotScope {
            table: table.schema.name.clone(),
            rows,
        })
    }

    fn captured(&self, name: &str) -> Result<&CatalogTable> {
        let tables = &self.catalog.tables;
        tables
            .iter()
            .find(|table| table.schema.name.to_string() == name)
            .ok_or_else(|| {
                let names: Vec<String> = tables.iter().map(|table| table.schema.name.to_string()).collect();
                let near = highwater_model::nearest(name, names.iter().map(String::as_str));
                let fix = match near {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "name a captured table as schema.table".to_owned(),
                };
                Error::new(ErrorKind::NotFound, format!("table \"{name}\" is not captured")).with_fix(fix)
            })
    }

    /// Tables that the settings name now are added to the running log, then copied.
    async fn reload(&mut self) -> Result<Value> {
        let changed = (self.make)()?;
        let catalog = changed.discover().await?;
        let have: BTreeSet<_> = self
            .catalog
            .tables
            .iter()
            .map(|table| table.schema.name.clone())
            .collect();
        let new: Vec<CatalogTable> = catalog
            .tables
            .into_iter()
            .filter(|table| !have.contains(&table.schema.name))
            .collect();
        let names: Vec<TableName> = new.iter().map(|table| table.schema.name.clone()).collect();
        if !names.is_empty() {
            self.connector.add_tables(&names).await?;
            tracing::info!(tables = names.len(), "tables added to the running log");
            self.catalog.tables.extend(new);
            self.added.extend(names.iter().cloned());
            self.request_first_copies().await?;
        }
        let names: Vec<String> = names.iter().map(TableName::to_string).collect();
        Ok(json!({ "added": names }))
    }
}

fn all(table: TableName, starts: Vec<Key>) -> SnapshotScope {
    SnapshotScope {
        table,
        rows: SnapshotRows::All { starts },
    }
}

/// Keys as people type them are compared by the server: it alone knows how its types read.
fn keys_condition(table: &CatalogTable, keys: &[Vec<String>]) -> Result<String> {
    if keys.is_empty() {
        return Err(Error::new(ErrorKind::Configuration, "no key is given").with_fix("name at least one key"));
    }
    let columns = key_columns(table)?;
    let rows = keys.iter().map(|key| values(table, key)).collect::<Result<Vec<_>>>()?;
    Ok(format!("{columns} IN ({})", rows.join(", ")))
}

fn range_condition(table: &CatalogTable, after: Option<&[String]>, through: Option<&[String]>) -> Result<String> {
    let columns = key_columns(table)?;
    let mut parts = Vec::new();
    if let Some(after) = after {
        parts.push(format!("{columns} > {}", values(table, after)?));
    }
    if let Some(through) = through {
        parts.push(format!("{columns} <= {}", values(table, through)?));
    }
    if parts.is_empty() {
        return Err(
            Error::new(ErrorKind::Configuration, "a range has neither start nor end")
                .with_fix("give after, through or both"),
        );
    }
    Ok(parts.join(" AND "))
}

fn key_columns(table: &CatalogTable) -> Result<String> {
    let schema = &table.schema;
    let names: Vec<String> = schema
        .key
        .iter()
        .filter_map(|&index| schema.columns.get(index))
        .map(|column| format!("\"{}\"", column.name.replace('"', "\"\"")))
        .collect();
    if names.is_empty() {
        return Err(
            Error::new(ErrorKind::Unsuitable, format!("table \"{}\" has no key", schema.name))
                .with_fix("give a condition instead of keys"),
        );
    }
    Ok(format!("({})", names.join(", ")))
}

fn values(table: &CatalogTable, key: &[String]) -> Result<String> {
    let columns = table.schema.key.len();
    if key.len() != columns {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!(
                "a key of table \"{}\" has {columns} columns, not {}",
                table.schema.name,
                key.len()
            ),
        )
        .with_fix("give one value for each key column, separated by commas"));
    }
    let values: Vec<String> = key
        .iter()
        .map(|value| format!("'{}'", value.replace('\'', "''")))
        .collect();
    Ok(format!("({})", values.join(", ")))
}
