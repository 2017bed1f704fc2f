// SPDX-License-Identifier: Apache-2.0
//! The proof: what the topics say, replayed, against what the tables hold, key by key and column by column.

use std::collections::HashMap;
use std::fmt;

use highwater_core::Result;
use highwater_runtime::control::Live;
use highwater_runtime::tail::{Tail, TailEvent, TailRequest};
use serde_json::Value;
use tokio_postgres::Client;

use super::failed;
use super::screen::grouped;

/// A table, its key's columns, and a query that gives every column as the events have it, as text.
struct Table {
    name: &'static str,
    key: &'static [&'static str],
    columns: &'static [&'static str],
    query: &'static str,
}

const TABLES: [Table; 3] = [
    Table {
        name: "movies",
        key: &["id"],
        columns: &["id", "title", "year", "rating", "added"],
        query: "SELECT id::text, title, year::text, rating::text, (extract(epoch FROM added) * 1000000)::bigint::text
                FROM movies",
    },
    Table {
        name: "people",
        key: &["id"],
        columns: &["id", "name", "born"],
        query: "SELECT id::text, name, (born - date '1970-01-01')::text FROM people",
    },
    Table {
        name: "cast",
        key: &["movie_id", "person_id"],
        columns: &["movie_id", "person_id", "role"],
        query: "SELECT movie_id::text, person_id::text, role FROM \"cast\"",
    },
];

type Row = Vec<Option<String>>;
type Rows = HashMap<Row, Row>;

/// What a comparison found.
pub struct Proof {
    keys: u64,
    tables: usize,
    differences: Vec<(&'static str, u64)>,
}

impl Proof {
    /// Keys that topics and tables do not agree about.
    pub fn differences(&self) -> u64 {
        self.differences.iter().map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differences = self.differences();
        let (keys, tables) = (grouped(self.keys), self.tables);
        write!(
            f,
            "verified: {keys} keys in {tables} tables, {} differences",
            grouped(differences)
        )?;
        for (table, count) in self.differences.iter().filter(|(_, count)| *count > 0) {
            write!(f, "; {table}: {count}")?;
        }
        Ok(())
    }
}

/// Replays the topics of `prefix` and compares them with the tables, which nobody changes meanwhile.
pub async fn verify(live: &Live, client: &Client, prefix: &str) -> Result<Proof> {
    let mut proof = Proof {
        keys: 0,
        tables: TABLES.len(),
        differences: Vec::new(),
    };
    for table in &TABLES {
        let said = replay(live, prefix, table).await?;
        let held = select(client, table).await?;
        proof.keys += held.len() as u64;
        proof.differences.push((table.name, differences(&said, &held)));
    }
    Ok(proof)
}

fn differences(said: &Rows, held: &Rows) -> u64 {
    let wrong = held.iter().filter(|(key, row)| said.get(*key) != Some(*row)).count();
    let extra = said.keys().filter(|key| !held.contains_key(*key)).count();
    (wrong + extra) as u64
}

async fn select(client: &Client, table: &Table) -> Result<Rows> {
    let rows = client
        .query(table.query, &[])
        .await
        .map_err(|error| failed("its tables", error))?;
    let rows = rows
        .iter()
        .map(|row| -> Row { (0..row.len()).map(|column| row.get(column)).collect() });
    Ok(rows.map(|row| (row[..table.key.len()].to_vec(), row)).collect())
}

async fn replay(live: &Live, prefix: &str, table: &Table) -> Result<Rows> {
    let request = TailRequest {
        topic: format!("{prefix}.public.{}", table.name),
        from_beginning: true,
        max: None,
        until_end: true,
    };
    let mut tail = Tail::open(&*live.transport, live.registry.clone(), live.format, &request).await?;
    let mut rows = Rows::new();
    while let Some(event) = tail.next().await? {
        apply(table, event, &mut rows);
    }
    Ok(rows)
}

fn apply(table: &Table, event: TailEvent, rows: &mut Rows) {
    let key = event.key.as_ref().map(|key| row(key, table.key));
    let after = event
        .value
        .as_ref()
        .and_then(|value| value.get("after"))
        .filter(|after| !after.is_null());
    match (key, after) {
        (Some(key), Some(after)) => {
            rows.insert(key, row(after, table.columns));
        }
        // A delete or its tombstone.
        (Some(key), None) => {
            rows.remove(&key);
        }
        // A truncation.
        (None, _) => rows.clear(),
    }
}

fn row(record: &Value, columns: &[&str]) -> Row {
    let cell = |column: &&str| match &record[*column] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    columns.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(key: Value, value: Value) -> TailEvent {
        TailEvent {
            topic: "demo.public.people".to_owned(),
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: Some(key).filter(|key| !key.is_null()),
            value: Some(value).filter(|value| !value.is_null()),
            unchanged: Vec::new(),
        }
    }

    #[test]
    fn a_replay_that_misses_changes_or_invents_a_row_is_found_out() {
        let people = &TABLES[1];
        let person = |id: u32, name: &str| json!({ "after": { "id": id, "name": name, "born": null } });
        let mut said = Rows::new();
        for (id, name) in [(1, "a"), (2, "b"), (3, "c"), (2, "changed")] {
            apply(people, event(json!({ "id": id }), person(id, name)), &mut said);
        }
        apply(people, event(json!({ "id": 3 }), json!(null)), &mut said);
        let cell = |text: &str| Some(text.to_owned());
        let held_row = |id: &str, name: &str| (vec![cell(id)], vec![cell(id), cell(name), None]);
        let held: Rows = [held_row("1", "a"), held_row("2", "changed")].into();
        assert_eq!(differences(&said, &held), 0);
        let stale: Rows = [held_row("1", "a"), held_row("2", "b")].into();
        assert_eq!(differences(&said, &stale), 1, "another value");
        let more: Rows = [held_row("1", "a"), held_row("2", "changed"), held_row("4", "d")].into();
        assert_eq!(differences(&said, &more), 1, "a missing key");
        let fewer: Rows = [held_row("1", "a")].into();
        assert_eq!(differences(&said, &fewer), 1, "a key too many");
    }
}
