// SPDX-License-Identifier: Apache-2.0
//! A database of its own, settings for it, and items as text.

use highwater_core::change::{Change, LogItem};
use highwater_core::connector::{ChunkRequest, ChunkScope, LogReader, SourceConnector};
use highwater_core::image::{CellRef, RowImage};
use highwater_core::position::{ResumePoint, RunId};
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::value::ValueWriter;
use highwater_postgres::log_reader::PgLogReader;
use highwater_postgres::{PgPosition, PostgresConnector, Settings};
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testbed::{Postgres, TestDatabase};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;
use tokio_postgres::Client;

/// The longest that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(60);

pub type Item = LogItem<PgPosition>;

pub struct Fixture {
    pub database: TestDatabase,
    pub client: Client,
}

impl Fixture {
    pub async fn new(major: u16) -> Self {
        let database = Postgres::shared(major).await.expect("a server");
        let client = database.connect().await.expect("a session");
        Self { database, client }
    }

    pub async fn sql(&self, sql: &str) {
        self.client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The first column of the first row, as text.
    pub async fn ask(&self, sql: &str) -> String {
        let rows = self
            .client
            .simple_query(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let first = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        first.unwrap_or_default()
    }

    /// Settings as JSON, to be changed by a test.
    pub fn json(&self, tables: &[&str]) -> Value {
        json!({
            "host": self.database.server().host(),
            "port": self.database.server().port(),
            "user": ROLE,
            "password": ROLE_PASSWORD,
            "database": self.database.name(),
            "tables": {"include": tables},
            // Slots belong to the whole server.
            "slot": {"name": self.slot()},
        })
    }

    pub fn slot(&self) -> String {
        format!("slot_of_{}", self.database.name())
    }

    pub fn connector(&self, tables: &[&str]) -> PostgresConnector {
        connector(self.json(tables))
    }
}

pub fn connector(settings: Value) -> PostgresConnector {
    PostgresConnector::new(Settings::from_json(settings).expect("valid settings")).expect("a connector")
}

pub const RUN: RunId = RunId(0x00C0_FFEE);

/// Opens the log anew.
pub async fn open(connector: &PostgresConnector) -> PgLogReader {
    open_from(connector, None).await
}

pub async fn open_from(connector: &PostgresConnector, from: Option<&ResumePoint<PgPosition>>) -> PgLogReader {
    connector.open_log(from, RUN).await.expect("an open log")
}

/// Reads items until one satisfies `last`; progress is left out.
pub async fn read_until(log: &mut PgLogReader, mut last: impl FnMut(&Item) -> bool) -> Vec<Item> {
    let mut found = Vec::new();
    let read = async {
        loop {
            let mut items = Vec::new();
            log.next(&mut items).await.expect("items");
            assert!(!items.is_empty(), "next appends at least one item");
            for item in items {
                let over = last(&item);
                if !matches!(item, LogItem::Progress(_)) || over {
                    found.push(item);
                }
                if over {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, read)
        .await
        .expect("the item that was waited for");
    found
}

/// Reads items up to and including the `count`th commit.
pub async fn read_commits(log: &mut PgLogReader, count: usize) -> Vec<Item> {
    let (mut seen, mut is_empty) = (0, true);
    read_until(log, |item| {
        match item {
            LogItem::Change(_) => is_empty = false,
            // Versions 13 and 14 send transactions without any change of a captured table too.
            LogItem::Commit { .. } => seen += usize::from(!std::mem::replace(&mut is_empty, true)),
            _ => {}
        }
        seen == count
    })
    .await
}

pub fn changes(items: &[Item]) -> Vec<&Change<PgPosition>> {
    items
        .iter()
        .filter_map(|item| match item {
            LogItem::Change(change) => Some(change),
            _ => None,
        })
        .collect()
}

/// Changes as `Update movies {id=1} -> {id=1,title=x}`.
pub fn lines(items: &[Item]) -> Vec<String> {
    changes(items)
        .into_iter()
        .map(|change| {
            let mut line = format!("{:?} {}", change.op, change.schema.name.table);
            let images = [("", &change.before), (" ->", &change.after)];
            for (arrow, image) in images {
                if let Some(image) = image {
                    let _ = write!(line, "{arrow} {}", render(&change.schema, image));
                }
            }
            line
        })
        .collect()
}

/// A row as `{id=1,title=x}`; absent columns are left out.
pub fn render(schema: &TableSchema, image: &RowImage) -> String {
    let mut parts = Vec::new();
    for (column, cell) in schema.columns.iter().zip(image.iter()) {
        let value = match cell {
            CellRef::Absent => continue,
            CellRef::Unchanged => "unchanged".to_owned(),
            CellRef::Null => "null".to_owned(),
            CellRef::Value(bytes) => {
                let mut text = Text::default();
                column
                    .decoder
                    .decode(bytes, &mut text)
                    .unwrap_or_else(|e| panic!("{}: {}", column.name, e.reason));
                text.text
            }
        };
        parts.push(format!("{}={value}", column.name));
    }
    format!("{{{}}}", parts.join(","))
}

/// Values as text; those that hold others, and what these hold, as JSON.
#[derive(Default)]
pub struct Text {
    pub text: String,
    open: usize,
}

impl Text {
    fn bare(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.text, "{value}");
    }

    fn quoted(&mut self, value: &str) {
        if self.open > 0 {
            self.bare(Value::from(value));
        } else {
            self.text.push_str(value);
        }
    }
}

impl ValueWriter for Text {
    fn null(&mut self) {
        self.bare("null");
    }
    fn boolean(&mut self, value: bool) {
        self.bare(value);
    }
    fn int(&mut self, value: i32) {
        self.bare(value);
    }
    fn long(&mut self, value: i64) {
        self.bare(value);
    }
    fn float(&mut self, value: f32) {
        self.bare(value);
    }
    fn double(&mut self, value: f64) {
        self.bare(value);
    }
    fn string(&mut self, value: &str) {
        self.quoted(value);
    }
    fn bytes(&mut self, value: &[u8]) {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        self.quoted(&format!("\\x{hex}"));
    }
    fn decimal(&mut self, unscaled: &[u8]) {
        self.bare(num_bigint::BigInt::from_signed_bytes_be(unscaled));
    }
    fn variable_scale_decimal(&mut self, scale: i32, unscaled: &[u8]) {
        self.decimal(unscaled);
        self.bare(format_args!("e-{scale}"));
    }
    fn begin(&mut self, _: usize) {
        self.text.push('[');
        self.open += 1;
    }
    fn next(&mut self) {
        if !self.text.ends_with('[') {
            self.text.push(',');
        }
    }
    fn end(&mut self) {
        self.text.push(']');
        self.open -= 1;
    }
}

/// A request for the next rows of a table.
pub fn range(table: &str, after: Option<highwater_core::schema::Key>, rows_max: u32) -> ChunkRequest {
    ChunkRequest {
        chunk: highwater_core::change::ChunkId(1),
        table: TableName::new("public", table),
        scope: ChunkScope::Range {
            after,
            through: None,
            condition: None,
        },
        rows_max,
        bytes_max: 64 << 20,
        at_start: false,
    }
}
