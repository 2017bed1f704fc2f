// SPDX-License-Identifier: Apache-2.0
//! One session that changes rows until it is told to stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::database::Database;
use crate::journal::{Change, Journal, KeyId};
use crate::table::{Revision, Table};
use crate::workload::{FIRST, Mode, WorkloadSettings};

/// Wait before another attempt to reach a server that is away.
const RECONNECT_EVERY: Duration = Duration::from_millis(50);

/// A writer with the keys whose number it is congruent to.
pub(crate) struct Writer {
    number: u64,
    settings: WorkloadSettings,
    database: Database,
    journal: Arc<Journal>,
    rng: StdRng,
    /// The rows that are there, of the keys that are this writer's.
    live: HashMap<KeyId, Revision>,
    revision: i64,
    /// Transactions begun.
    transactions: u64,
}

/// A transaction as it is being made up.
#[derive(Default)]
struct Draft {
    sql: String,
    changes: Vec<(KeyId, Change)>,
    live: HashMap<KeyId, Option<Revision>>,
}

impl Writer {
    pub(crate) fn new(
        number: u64,
        settings: WorkloadSettings,
        database: Database,
        journal: Arc<Journal>,
        rng: StdRng,
    ) -> Self {
        let mut live = HashMap::new();
        for table in Table::ALL {
            for key in (0..settings.rows).filter(|key| owner(table, *key, settings.writers) == number) {
                live.insert((table, key), FIRST);
            }
        }
        Writer {
            number,
            settings,
            database,
            journal,
            rng,
            live,
            revision: FIRST.number,
            transactions: 0,
        }
    }

    pub(crate) async fn run(&mut self, mode: &mut watch::Receiver<Mode>, idle: &watch::Sender<u64>) {
        let mut client = None;
        loop {
            let now = *mode.borrow_and_update();
            match now {
                Mode::Stop => return,
                Mode::Pause => {
                    idle.send_modify(|count| *count += 1);
                    if mode.changed().await.is_err() {
                        return;
                    }
                    idle.send_modify(|count| *count -= 1);
                }
                Mode::Write => {
                    let draft = self.draft();
                    self.execute(&mut client, draft).await;
                    let pause = self.rng.random_range(0..=self.settings.pause_ms_max);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    }

    /// Makes up a transaction.
    fn draft(&mut self) -> Draft {
        let mut draft = Draft::default();
        if self.rng.random_range(0..1000) < self.settings.large_per_mille {
            let table = [Table::Items, Table::Lines, Table::People][self.rng.random_range(0..3)];
            for _ in 0..self
                .rng
                .random_range(self.settings.large_rows_max / 3..=self.settings.large_rows_max)
            {
                self.change(table, &mut draft);
            }
            return draft;
        }
        let changes = if self.rng.random_ratio(1, 20) { 60 } else { 6 };
        for _ in 0..self.rng.random_range(1..=changes) {
            let table = Table::ALL[self.rng.random_range(0..Table::ALL.len())];
            if table == Table::Ticks && self.number != 0 {
                continue;
            }
            self.change(table, &mut draft);
        }
        if self.number == 0 && self.settings.truncates && self.rng.random_ratio(1, 200) {
            self.truncate(Table::Ticks, &mut draft);
        }
        draft
    }

    /// Adds a change of a key by chance; what it can be depends on whether the row is there.
    fn change(&mut self, table: Table, draft: &mut Draft) {
        let key = self.any_key(table);
        let Some(present) = self.present((table, key), draft) else {
            return self.insert(table, key, draft);
        };
        match self.rng.random_range(0..100) {
            0..15 => self.delete(table, key, draft),
            15..25 if table.moves_keys() => {
                let to = self.any_key(table);
                if self.present((table, to), draft).is_none() {
                    self.update(table, key, to, present, draft);
                } else {
                    self.update(table, key, key, present, draft);
                }
            }
            _ => self.update(table, key, key, present, draft),
        }
    }

    fn insert(&mut self, table: Table, key: u64, draft: &mut Draft) {
        let number = self.next_revision();
        let revision = Revision { number, wide: number };
        let cells: Vec<_> = table.key(key).into_iter().chain(table.content(key, revision)).collect();
        let names: Vec<&str> = cells.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> = cells.iter().map(|(_, cell)| cell.sql()).collect();
        let name = self.name(table);
        draft.sql += &format!(
            "INSERT INTO {name} ({}) VALUES ({});",
            names.join(", "),
            values.join(", ")
        );
        draft.put((table, key), revision);
    }

    /// Writes every column but the key where it stays and, two times of three, the wide one. A row that moves takes its
    /// wide value along only if it is written anew: the value is a function of the key.
    fn update(&mut self, table: Table, from: u64, to: u64, present: Revision, draft: &mut Draft) {
        let number = self.next_revision();
        let leave_wide = table.has_wide() && from == to && self.rng.random_ratio(2, 3);
        let wide = if leave_wide { present.wide } else { number };
        let revision = Revision { number, wide };
        let mut cells = if from == to { Vec::new() } else { table.key(to) };
        cells.extend(table.content(to, revision));
        let sets: Vec<String> = cells
            .iter()
            .filter(|(name, _)| !(leave_wide && (*name == "wide" || *name == "wide_rev")))
            .map(|(name, cell)| format!("{name} = {}", cell.sql()))
            .collect();
        draft.sql += &format!(
            "UPDATE {} SET {} WHERE {};",
            self.name(table),
            sets.join(", "),
            table.key_condition(from)
        );
        if from != to {
            draft.gone((table, from), Change::Delete);
        }
        draft.put((table, to), revision);
    }

    fn delete(&mut self, table: Table, key: u64, draft: &mut Draft) {
        draft.sql += &format!("DELETE FROM {} WHERE {};", self.name(table), table.key_condition(key));
        draft.gone((table, key), Change::Delete);
    }

    fn truncate(&mut self, table: Table, draft: &mut Draft) {
        draft.sql += &format!("TRUNCATE {};", self.name(table));
        for key in 0..self.settings.key_space() {
            if self.present((table, key), draft).is_some() {
                draft.gone((table, key), Change::Truncate);
            }
        }
    }

    /// Executes a transaction and records it once its fate is known.
    async fn execute(&mut self, session: &mut Option<Client>, draft: Draft) {
        if draft.sql.is_empty() {
            return;
        }
        let client = match session.take() {
            Some(client) => client,
            None => self.reconnect().await,
        };
        self.transactions += 1;
        let count = format!(
            "UPDATE {} SET last = {} WHERE writer = {}",
            self.counts(),
            self.transactions,
            self.number
        );
        let begin = format!("BEGIN; SELECT pg_current_xact_id(); {} {count}", draft.sql);
        let transaction = match client.simple_query(&begin).await {
            Ok(messages) => first_number(&messages),
            // The connection broke before the commit: nothing of it stays.
            Err(error) if error.code().is_none() || error.as_db_error().is_some_and(is_shutdown) => return,
            Err(error) => panic!("the workload's own statement failed: {error:?}"),
        };
        if self.rng.random_ratio(1, 25) {
            if client.batch_execute("ROLLBACK").await.is_ok() {
                *session = Some(client);
            }
            return;
        }
        let committed = match client.batch_execute("COMMIT").await {
            Ok(()) => {
                *session = Some(client);
                true
            }
            Err(_) => self.look_up().await,
        };
        if committed {
            self.journal.record(transaction, &draft.changes);
            for (key, revision) in draft.live {
                match revision {
                    Some(revision) => self.live.insert(key, revision),
                    None => self.live.remove(&key),
                };
            }
        }
    }

    /// Whether the transaction whose commit had no answer was committed. A crashed server may give its number again, so
    /// it is known by the writer's own count; the lock waits for a session that is still about to commit.
    async fn look_up(&self) -> bool {
        let question = format!(
            "SELECT last FROM {} WHERE writer = {} FOR UPDATE",
            self.counts(),
            self.number
        );
        loop {
            let client = self.reconnect().await;
            if let Ok(messages) = client.simple_query(&question).await {
                return first_number(&messages) == self.transactions;
            }
            tokio::time::sleep(RECONNECT_EVERY).await;
        }
    }

    /// The table of the writers' counts, which no pipeline captures.
    fn counts(&self) -> String {
        counts(&self.settings.schema)
    }

    async fn reconnect(&self) -> Client {
        loop {
            match self.database.try_connect().await {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(RECONNECT_EVERY).await,
            }
        }
    }

    fn present(&self, key: KeyId, draft: &Draft) -> Option<Revision> {
        match draft.live.get(&key) {
            Some(drafted) => *drafted,
            None => self.live.get(&key).copied(),
        }
    }

    fn any_key(&mut self, table: Table) -> u64 {
        let space = self.settings.key_space();
        if table == Table::Ticks {
            return self.rng.random_range(0..space);
        }
        // Half of the changes go to a few keys, so that each has a history.
        let space = if self.rng.random_bool(0.5) {
            space.min(60)
        } else {
            space
        };
        self.rng.random_range(0..space / self.settings.writers) * self.settings.writers + self.number
    }

    fn next_revision(&mut self) -> i64 {
        self.revision += 1;
        self.revision
    }

    fn name(&self, table: Table) -> String {
        format!("{}.{}", self.settings.schema, table.name())
    }
}

impl Draft {
    fn put(&mut self, key: KeyId, revision: Revision) {
        self.changes.push((key, Change::Put(revision)));
        self.live.insert(key, Some(revision));
    }

    fn gone(&mut self, key: KeyId, change: Change) {
        self.changes.push((key, change));
        self.live.insert(key, None);
    }
}

/// The table of the writers' counts of a schema's workload.
pub(crate) fn counts(schema: &str) -> String {
    format!("{schema}_counts.writers")
}

/// Who writes a key. The truncated table is the first writer's alone.
fn owner(table: Table, key: u64, writers: u64) -> u64 {
    if table == Table::Ticks { 0 } else { key % writers }
}

fn first_number(messages: &[SimpleQueryMessage]) -> u64 {
    messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        })
        .expect("the transaction's number")
}

/// The server ends or starts: class 57 (operator intervention).
fn is_shutdown(error: &tokio_postgres::error::DbError) -> bool {
    error.code().code().starts_with("57")
}
