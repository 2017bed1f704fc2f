// SPDX-License-Identifier: Apache-2.0
//! A connection for catalogue queries that survives cancellation: it is taken out while a query runs and put back after
//! it, so that one whose query was dropped half-way is never used again.

use crate::connection::{Connection, Purpose, TextRow};
use crate::failure;
use crate::settings::Settings;
use highwater_core::{Error, ErrorKind, Result};
use std::str::FromStr;
use std::sync::Arc;

/// A lazily opened, re-opened connection for queries with text results.
#[derive(Debug)]
pub struct QueryConnection {
    settings: Arc<Settings>,
    application_name: &'static str,
    set_up: &'static str,
    idle: Option<Connection>,
}

impl QueryConnection {
    /// A connection that is opened when it is first needed. `set_up` is run on each new session.
    pub fn new(settings: Arc<Settings>, application_name: &'static str, set_up: &'static str) -> Self {
        Self {
            settings,
            application_name,
            set_up,
            idle: None,
        }
    }

    /// Runs one statement with text parameters. Cancel-safe: the next call opens a new connection.
    pub async fn query(&mut self, sql: &str, parameters: &[Option<&str>], what: &str) -> Result<Vec<TextRow>> {
        let mut connection = self.take().await?;
        let result = connection.query(sql, parameters, what).await;
        self.put_back(connection, &result);
        result
    }

    /// Runs statements without parameters. Cancel-safe: the next call opens a new connection.
    pub async fn batch(&mut self, sql: &str, what: &str) -> Result<Vec<TextRow>> {
        let mut connection = self.take().await?;
        let result = connection.batch(sql, what).await;
        self.put_back(connection, &result);
        result
    }

    /// The server's major version.
    pub async fn server_major(&mut self) -> Result<u32> {
        let connection = self.take().await?;
        let major = connection.server_major();
        self.idle = Some(connection);
        Ok(major)
    }

    async fn take(&mut self) -> Result<Connection> {
        if let Some(connection) = self.idle.take() {
            return Ok(connection);
        }
        let mut connection = Connection::open(&self.settings, Purpose::Queries, self.application_name).await?;
        if !self.set_up.is_empty() {
            connection.batch(self.set_up, "setting up a session").await?;
        }
        Ok(connection)
    }

    /// After an answer, also a refusal, the connection is good for another query.
    fn put_back<T>(&mut self, connection: Connection, result: &Result<T>) {
        let usable = match result {
            Ok(_) => true,
            Err(error) => failure::sqlstate(error).is_some_and(|sqlstate| !sqlstate.starts_with("57")),
        };
        if usable {
            self.idle = Some(connection);
        }
    }
}

/// Reading the columns of a row of text.
pub trait TextColumns {
    /// A text; NULL reads as none.
    fn text(&self, column: usize) -> Option<&str>;
    /// A text that is never NULL in the query that was sent.
    fn required(&self, column: usize) -> Result<&str>;
    /// A number or another value with a text form, never NULL in the query that was sent.
    fn value<T: FromStr>(&self, column: usize) -> Result<T>;
    /// A number or another value with a text form; NULL reads as none.
    fn optional<T: FromStr>(&self, column: usize) -> Result<Option<T>>;
    /// A truth value; NULL reads as false.
    fn flag(&self, column: usize) -> bool;
}

impl TextColumns for TextRow {
    fn text(&self, column: usize) -> Option<&str> {
        self.get(column)?.as_deref()
    }

    fn required(&self, column: usize) -> Result<&str> {
        self.text(column).ok_or_else(|| unreadable(column))
    }

    fn value<T: FromStr>(&self, column: usize) -> Result<T> {
        self.required(column)?.parse().map_err(|_| unreadable(column))
    }

    fn optional<T: FromStr>(&self, column: usize) -> Result<Option<T>> {
        self.text(column)
            .map(|text| text.parse().map_err(|_| unreadable(column)))
            .transpose()
    }

    fn flag(&self, column: usize) -> bool {
        self.text(column) == Some("t")
    }
}

fn unreadable(column: usize) -> Error {
    let what = format!("column {} of a catalogue query is not what was asked for", column + 1);
    Error::new(ErrorKind::CorruptMessage, what)
}
