// SPDX-License-Identifier: Apache-2.0
//! Partitions that come to a captured table with rows in them, and partitions that go: the log has no row change for
//! either, so the server's catalogue is compared with what it was.
//!
//! A partition that was made as one (`PARTITION OF`) has no row that the log does not bring. One that was attached may: it
//! is known by its catalogue rows, of which the one that makes it a partition is of another transaction than the one that
//! made it a table.

use crate::catalog_row::{CatalogRow, Parameter};
use crate::query_connection::QueryConnection;
use crate::selection::Selection;
use crate::settings::Settings;
use highwater_core::Result;
use highwater_core::connector::UnloggedChange;
use highwater_core::schema::TableName;
use std::collections::BTreeMap;
use tokio_postgres::types::Type;

/// Every partition, at any depth, of the partitioned tables of a publication: a parent before what is below it. System
/// columns are made with their table. Parameter: the publication's name.
const PARTITIONS: &str = "\
    SELECT r.oid, n.nspname, r.relname, t.relid::oid, t.parentrelid::oid, t.relid::pg_catalog.regclass::text, \
           i.xmin IS DISTINCT FROM a.xmin, NOT t.isleaf OR pg_catalog.pg_relation_size(t.relid) > 0, \
           pg_catalog.pg_get_partition_constraintdef(t.relid) \
      FROM pg_catalog.pg_publication_tables p \
      JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname \
      JOIN pg_catalog.pg_class r ON r.relnamespace = n.oid AND r.relname = p.tablename AND r.relkind = 'p' \
      CROSS JOIN LATERAL pg_catalog.pg_partition_tree(r.oid) t \
      JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.relid \
      JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relid AND a.attname = 'tableoid' \
     WHERE p.pubname = $1 AND t.level > 0 ORDER BY t.level";

/// A partition as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Partition {
    root: TableName,
    oid: u32,
    parent: u32,
    name: String,
    attached: bool,
    /// It has rows, or may have some below it.
    has_rows: bool,
    /// What holds of its rows.
    bounds: Option<String>,
}

/// The partitions of captured tables as they were when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: Option<BTreeMap<u32, (TableName, String)>>,
}

impl Partitions {
    /// Looks at them and says what the log does not: nothing the first time.
    pub(super) async fn look(
        &mut self,
        connection: &mut QueryConnection,
        settings: &Settings,
        selection: &Selection,
    ) -> Result<Vec<UnloggedChange>> {
        let parameters: [Parameter<'_>; 1] = [(&settings.publication.name, Type::TEXT)];
        let rows = connection
            .query(PARTITIONS, &parameters, "reading the partitions")
            .await?;
        let mut now = Vec::new();
        for row in rows {
            let root = TableName::new(row.column::<String>(1)?, row.column::<String>(2)?);
            if selection.selects(&root) {
                now.push(Partition {
                    root,
                    oid: row.column(3)?,
                    parent: row.column(4)?,
                    name: row.column(5)?,
                    attached: row.flag(6)?,
                    has_rows: row.flag(7)?,
                    bounds: row.column(8)?,
                });
            }
        }
        Ok(self.compare(now))
    }

    fn compare(&mut self, now: Vec<Partition>) -> Vec<UnloggedChange> {
        let next = now
            .iter()
            .map(|part| (part.oid, (part.root.clone(), part.name.clone())));
        let next: BTreeMap<_, _> = next.collect();
        let Some(before) = self.known.replace(next) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        // A part of what was attached comes with it.
        let mut with_rows: Vec<u32> = Vec::new();
        for part in now.iter().filter(|part| !before.contains_key(&part.oid)) {
            let comes_with_its_parent = with_rows.contains(&part.parent);
            if comes_with_its_parent || (part.attached && part.has_rows) {
                with_rows.push(part.oid);
            }
            if !comes_with_its_parent && part.attached && part.has_rows {
                changes.push(attached(part));
            }
        }
        let gone = before
            .iter()
            .filter(|(oid, _)| !now.iter().any(|part| part.oid == **oid));
        changes.extend(gone.map(|(_, (root, name))| gone_from(root, name)));
        changes
    }
}

fn attached(part: &Partition) -> UnloggedChange {
    let message = format!(
        "partition {} was attached to it: the log does not bring the rows that it had, so they are copied",
        part.name
    );
    UnloggedChange {
        table: part.root.clone(),
        code: "partition_attached",
        message,
        // A default partition without siblings has no bounds: everything may be in it.
        copy: Some(part.bounds.clone().unwrap_or_else(|| "true".to_owned())),
    }
}

fn gone_from(root: &TableName, name: &str) -> UnloggedChange {
    let message = format!(
        "partition {name} is no longer part of it: the log has no deletes for the rows that went with it; where they are to \
         be deleted downstream, see \"Partitioned tables\" in docs/operations/postgres.md"
    );
    UnloggedChange {
        table: root.clone(),
        code: "partition_gone",
        message,
        copy: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(oid: u32, parent: u32, attached: bool, has_rows: bool) -> Partition {
        Partition {
            root: TableName::new("public", "sales"),
            oid,
            parent,
            name: format!("part_{oid}"),
            attached,
            has_rows,
            bounds: Some(format!("year = {oid}")),
        }
    }

    fn codes(changes: &[UnloggedChange]) -> Vec<(&str, Option<&str>)> {
        let of = |change| -> (&str, Option<&str>) {
            let change: &UnloggedChange = change;
            (change.code, change.copy.as_deref())
        };
        changes.iter().map(of).collect()
    }

    #[test]
    fn what_is_attached_with_rows_is_copied_once_and_what_goes_is_told() {
        let mut partitions = Partitions::default();
        let first = vec![part(1, 9, true, true), part(2, 9, false, true)];
        assert!(partitions.compare(first.clone()).is_empty(), "what was there is known");
        assert!(partitions.compare(first.clone()).is_empty());
        let mut more = first;
        more.extend([
            part(3, 9, false, true), // made as a partition, and filled through the table
            part(4, 9, true, false), // attached, and empty
            part(5, 9, true, true),  // attached with rows
            part(6, 9, true, true),  // a tree attached
            part(7, 6, false, true), // ...and its parts
            part(8, 7, true, true),
        ]);
        let changes = partitions.compare(more.clone());
        assert_eq!(
            codes(&changes),
            [
                ("partition_attached", Some("year = 5")),
                ("partition_attached", Some("year = 6"))
            ]
        );
        assert!(partitions.compare(more.clone()).is_empty());
        more.remove(0);
        let changes = partitions.compare(more);
        assert_eq!(codes(&changes), [("partition_gone", None)]);
        assert!(changes[0].message.contains("part_1"));
    }
}
