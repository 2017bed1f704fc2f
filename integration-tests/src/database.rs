// SPDX-License-Identifier: Apache-2.0
//! The database that a test works on, with the few questions that tests ask of it.

use std::time::Duration;

use highwater_testbed::postgres::SUPERUSER;
use highwater_testbed::{Postgres, TestDatabase, wait};
use tokio_postgres::{Client, NoTls};

/// How to reach a database as the superuser. Cheap to clone; sessions are made on demand.
#[derive(Debug, Clone)]
pub struct Database {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The database's name.
    pub name: String,
}

impl Database {
    /// A database of its own on the shared server.
    pub fn of(database: &TestDatabase) -> Self {
        Database {
            port: database.server().port(),
            name: database.name().to_owned(),
        }
    }

    /// The database `postgres` of a server of the test's own.
    pub fn on(server: &Postgres) -> Self {
        Database {
            port: server.port(),
            name: "postgres".to_owned(),
        }
    }

    /// A new session.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(SUPERUSER)
            .dbname(&self.name);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A new session.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("a session of the test's database")
    }

    /// Executes statements in a session of their own.
    ///
    /// # Panics
    /// When one fails.
    pub async fn run(&self, sql: &str) {
        let shown: String = sql.chars().take(200).collect();
        self.connect()
            .await
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{shown}: {error:?}"));
    }

    /// The first column of the first row as text; empty when there is none or it is NULL.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn text(&self, sql: &str) -> String {
        text(&self.connect().await, sql).await
    }

    /// Waits until a question is answered with true.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub async fn until(&self, question: &str, limit: Duration) {
        let client = self.connect().await;
        wait::until(limit, question, || async {
            Ok((text(&client, question).await == "t").then_some(()))
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until the slot's consumer has acknowledged everything that is committed now.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub async fn acknowledged(&self, slot: &str, limit: Duration) {
        // A standby's slot can be acknowledged as far as the standby has replayed.
        let end = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text";
        let now = self.text(end).await;
        let question =
            format!("SELECT confirmed_flush_lsn >= '{now}' FROM pg_replication_slots WHERE slot_name = '{slot}'");
        self.until(&question, limit).await;
    }

    /// Waits until no process consumes the slot any more.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub async fn slot_is_free(&self, slot: &str, limit: Duration) {
        let question =
            format!("SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}' AND active)");
        self.until(&question, limit).await;
    }
}

/// The first column of the first row as text; empty when there is none or it is NULL.
///
/// # Panics
/// When the query fails.
pub async fn text(client: &Client, sql: &str) -> String {
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    messages
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        })
        .unwrap_or_default()
}
