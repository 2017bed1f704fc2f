// SPDX-License-Identifier: Apache-2.0
//! Partitions that come to a captured table with rows in them, and partitions that go: the log has no row change for
//! either, so the server's catalogue is compared with what it was.
//!
//! # What is guaranteed
//!
//! 1. *Rows that a partition had when it came are copied*, whenever it came after the first start: a checkpoint says since
//!    which transaction partitions are not known ([`Partitions::unseen_since`]), and so much is looked at again after it.
//! 2. *A partition that was made as one (`PARTITION OF`) is not copied*: the log brings its rows. One that was attached is
//!    known by its catalogue rows, of which the one that makes it a partition is of another transaction than the one that
//!    made it a table; or of the same, and rows were written between the two commands.
//!
//! *Not promised*: that a copy of a partition is the only one of its rows. After a crash, and where a row was locked since, it
//! may be copied without need. One that went while the pipeline did not run is not told.

use crate::catalog_row::{CatalogRow, FullXid, Parameter, only_row};
use crate::protocol::quoting::quote_identifier;
use crate::query_connection::QueryConnection;
use crate::selection::Selection;
use crate::settings::Settings;
use highwater_core::Result;
use highwater_core::connector::UnloggedChange;
use highwater_core::schema::TableName;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::Type;

/// The oldest transaction that may not have ended: what it did to the catalogue is perhaps not seen.
pub(crate) const OLDEST_RUNNING: &str = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())";

/// The partitioned tables of a publication and every partition of theirs, at any depth: a parent before what is below it.
/// Parameter: the publication's name.
const PARTITIONS: &str = "\
    SELECT n.nspname, r.relname, r.oid, t.relid::oid, t.parentrelid::oid, t.relid::pg_catalog.regclass::text, \
           CASE WHEN t.level > 0 THEN i.xmin::text::int8 END \
      FROM pg_catalog.pg_publication_tables p \
      JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname \
      JOIN pg_catalog.pg_class r ON r.relnamespace = n.oid AND r.relname = p.tablename AND r.relkind = 'p' \
      CROSS JOIN LATERAL pg_catalog.pg_partition_tree(r.oid) t \
      LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.relid \
     WHERE p.pubname = $1 ORDER BY t.level";

/// How a partition came to be one. System columns are catalogued with their table. Parameter: its id.
const ORIGIN: &str = "\
    SELECT i.xmin::text <> a.xmin::text, a.cmin::text::int8, i.cmin::text::int8, pg_catalog.pg_get_partition_constraintdef(i.inhrelid), \
           (SELECT coalesce(pg_catalog.sum(pg_catalog.pg_relation_size(t.relid)), 0)::int8 \
              FROM pg_catalog.pg_partition_tree(i.inhrelid) t) \
      FROM pg_catalog.pg_inherits i \
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.inhrelid AND a.attname = 'tableoid' \
     WHERE i.inhrelid = $1";

/// The most that is searched for rows that were there before their partition was one. More is copied unsearched.
const SEARCHED_BYTES_MAX: i64 = 64 << 20;

/// Checkpoints say anew since when partitions are not known once so many transactions went by, long before their ids of 32
/// bits come round.
const TRANSACTIONS_MAX: u64 = 1 << 30;

/// A partitioned table, or a partition, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Partition {
    root: TableName,
    root_oid: u32,
    oid: u32,
    parent: Option<u32>,
    name: String,
    /// The transaction that made it a partition; `None` of the root.
    by: Option<u32>,
}

/// How a partition came to be one.
#[derive(Debug)]
struct Origin {
    /// It was a table in a transaction before.
    attached: bool,
    /// The commands of its transaction that made it a table and a partition.
    commands: (i64, i64),
    /// What holds of its rows.
    bounds: String,
    bytes: i64,
}

/// The partitions of captured tables as they were when they were last looked at.
#[derive(Debug)]
pub(super) struct Partitions {
    known: Option<BTreeMap<u32, Partition>>,
    unseen_since: u64,
}

impl Partitions {
    /// Nothing was looked at yet. What transactions before `unseen_since` made partitions needs no copy.
    pub(super) fn new(unseen_since: u64) -> Self {
        Self {
            known: None,
            unseen_since,
        }
    }

    /// What any transaction from this one on makes a partition may not have been seen, or was and is seen again.
    pub(super) fn unseen_since(&self) -> u64 {
        self.unseen_since
    }

    /// Looks at them and says what the log does not.
    pub(super) async fn look(
        &mut self,
        connection: &mut QueryConnection,
        settings: &Settings,
        selection: &Selection,
    ) -> Result<Vec<UnloggedChange>> {
        let what = "reading the oldest transaction that runs";
        let oldest = only_row(connection.query(OLDEST_RUNNING, &[], what).await?, what)?;
        let oldest = oldest.column::<FullXid>(0)?.0;
        let now = read(connection, settings, selection).await?;
        let mut changes = Vec::new();
        // A part of what was attached comes with it.
        let mut with_rows = BTreeSet::new();
        for part in now.iter().filter(|part| self.is_new(part)) {
            let comes_with_its_parent = part.parent.is_some_and(|parent| with_rows.contains(&parent));
            let bounds = match comes_with_its_parent {
                true => None,
                false => rows_from_before(connection, part).await?,
            };
            if comes_with_its_parent || bounds.is_some() {
                with_rows.insert(part.oid);
            }
            changes.extend(bounds.map(|bounds| attached(part, bounds)));
        }
        changes.extend(self.remember(now, oldest));
        Ok(changes)
    }

    /// Whether it was no partition when they were last looked at, or not all the time since. The first copy of a table that
    /// was not captured then has what it is made of.
    fn is_new(&self, part: &Partition) -> bool {
        let Some(by) = part.by else { return false };
        match &self.known {
            // Ids below 3 are of no transaction.
            None => by > 2 && by.wrapping_sub(self.unseen_since as u32).cast_signed() >= 0,
            Some(known) => {
                let was_one = known.get(&part.oid).is_some_and(|known| known.by == part.by);
                known.contains_key(&part.root_oid) && !was_one
            }
        }
    }

    /// What is there now is known from here on. Says which are gone.
    fn remember(&mut self, now: Vec<Partition>, oldest: u64) -> Vec<UnloggedChange> {
        let some_are_new = now.iter().any(|part| self.is_new(part));
        let next: BTreeMap<u32, Partition> = now.into_iter().map(|part| (part.oid, part)).collect();
        let before = self.known.take().unwrap_or_default();
        let is_gone = |part: &&Partition| next.contains_key(&part.root_oid) && !next.contains_key(&part.oid);
        let gone: Vec<_> = before.values().filter(is_gone).map(gone_from).collect();
        if some_are_new || oldest.saturating_sub(self.unseen_since) > TRANSACTIONS_MAX {
            self.unseen_since = oldest;
        }
        self.known = Some(next);
        gone
    }
}

async fn read(connection: &mut QueryConnection, settings: &Settings, selection: &Selection) -> Result<Vec<Partition>> {
    let parameters: [Parameter<'_>; 1] = [(&settings.publication.name, Type::TEXT)];
    let rows = connection
        .query(PARTITIONS, &parameters, "reading the partitions")
        .await?;
    let mut partitions = Vec::new();
    for row in rows {
        let root = TableName::new(row.column::<String>(0)?, row.column::<String>(1)?);
        if selection.selects(&root) {
            partitions.push(Partition {
                root,
                root_oid: row.column(2)?,
                oid: row.column(3)?,
                parent: row.column(4)?,
                name: row.column(5)?,
                // A column of type `xid` has 32 bits.
                by: row.column::<Option<i64>>(6)?.map(|by| by as u32),
            });
        }
    }
    Ok(partitions)
}

/// The bounds of a partition that had rows, or may have had some, before it was one.
async fn rows_from_before(connection: &mut QueryConnection, part: &Partition) -> Result<Option<String>> {
    let what = "reading how a partition came to be one";
    let rows = connection.query(ORIGIN, &[(&part.oid, Type::OID)], what).await?;
    // It may have gone again.
    let Some(row) = rows.first() else { return Ok(None) };
    let origin = Origin {
        attached: row.flag(0)?,
        commands: (row.column(1)?, row.column(2)?),
        // A default partition without siblings has no bounds: everything may be in it.
        bounds: row.column::<Option<String>>(3)?.unwrap_or_else(|| "true".to_owned()),
        bytes: row.column(4)?,
    };
    let had = match &origin {
        Origin { bytes: 0, .. } => false,
        Origin { attached: true, .. } => true,
        Origin { bytes, .. } if *bytes > SEARCHED_BYTES_MAX => true,
        _ => {
            let what = "looking for rows that are older than their partition";
            let row = only_row(connection.query(&search(&part.root, &origin), &[], what).await?, what)?;
            row.flag(0)?
        }
    };
    Ok(had.then_some(origin.bounds))
}

/// Whether rows were written between the command that made their table and the one that made it a partition. A sub-transaction
/// has an id of its own but counts commands on; whoever locks a row leaves its own count in it.
fn search(root: &TableName, origin: &Origin) -> String {
    let (made, attached) = origin.commands;
    format!(
        "SELECT EXISTS (SELECT FROM {}.{} WHERE ({}) AND (xmax::text <> '0' OR cmin::text::int8 > {made} AND cmin::text::int8 < {attached}))",
        quote_identifier(&root.schema),
        quote_identifier(&root.table),
        origin.bounds
    )
}

fn attached(part: &Partition, bounds: String) -> UnloggedChange {
    let message = format!(
        "partition {} was attached to it: the log does not bring the rows that it had, so they are copied",
        part.name
    );
    UnloggedChange {
        table: part.root.clone(),
        code: "partition_attached",
        message,
        copy: Some(bounds),
    }
}

fn gone_from(part: &Partition) -> UnloggedChange {
    let message = format!(
        "partition {} is no longer part of it: the log has no deletes for the rows that went with it; where they are to be \
         deleted downstream, see \"Partitioned tables\" in docs/operations/postgres.md",
        part.name
    );
    UnloggedChange {
        table: part.root.clone(),
        code: "partition_gone",
        message,
        copy: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition of table 1, made one by a transaction.
    fn part(oid: u32, by: u32) -> Partition {
        Partition {
            root: TableName::new("public", "sales"),
            root_oid: 1,
            oid,
            parent: Some(1),
            name: format!("part_{oid}"),
            by: Some(by),
        }
    }

    fn root() -> Partition {
        Partition {
            parent: None,
            by: None,
            ..part(1, 0)
        }
    }

    fn new_ones(partitions: &Partitions, now: &[Partition]) -> Vec<u32> {
        now.iter()
            .filter(|part| partitions.is_new(part))
            .map(|part| part.oid)
            .collect()
    }

    #[test]
    fn what_came_since_the_checkpoint_is_new_and_then_what_was_not_there_or_came_again() {
        let mut partitions = Partitions::new((1 << 32) + 100);
        let mut now = vec![root(), part(2, 99), part(3, 100), part(4, 2), part(5, u32::MAX)];
        assert_eq!(new_ones(&partitions, &now), [3], "5 is of the epoch before");
        assert!(partitions.remember(now.clone(), (1 << 32) + 120).is_empty());
        assert_eq!(partitions.unseen_since(), (1 << 32) + 120, "3 is not copied again");
        assert_eq!(new_ones(&partitions, &now), [0; 0]);
        // 2 was detached and attached again between two looks.
        now[1] = part(2, 130);
        now.push(part(6, 110));
        assert_eq!(new_ones(&partitions, &now), [2, 6]);
        partitions.remember(now.clone(), (1 << 32) + 140);
        let gone = partitions.remember(now[..3].to_vec(), (1 << 32) + 150);
        let codes: Vec<_> = gone.iter().map(|change| (change.code, &change.copy)).collect();
        assert_eq!(codes, [("partition_gone", &None); 3]);
        assert!(gone[2].message.contains("part_6"));
        assert_eq!(partitions.unseen_since(), (1 << 32) + 140, "nothing came since");
        assert!(
            partitions.remember(Vec::new(), (1 << 32) + 150).is_empty(),
            "the whole table went"
        );
    }

    #[test]
    fn a_table_that_is_captured_later_has_its_partitions_in_its_first_copy() {
        let mut partitions = Partitions::new(100);
        partitions.remember(Vec::new(), 100);
        let now = [root(), part(2, 120)];
        assert_eq!(new_ones(&partitions, &now), [0; 0]);
        partitions.remember(now.to_vec(), 130);
        assert_eq!(new_ones(&partitions, &[root(), part(2, 120), part(3, 125)]), [3]);
    }

    #[test]
    fn ids_that_come_round_are_left_behind_in_time() {
        let mut partitions = Partitions::new(100);
        partitions.remember(vec![root()], 100 + TRANSACTIONS_MAX);
        assert_eq!(partitions.unseen_since(), 100);
        partitions.remember(vec![root()], 101 + TRANSACTIONS_MAX);
        assert_eq!(partitions.unseen_since(), 101 + TRANSACTIONS_MAX);
    }
}
