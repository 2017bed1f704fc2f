// SPDX-License-Identifier: Apache-2.0
//! Rows that came as text, as a server of version 13 sends them, get the binary form that chunks and decoders have.
//!
//! ```text
//! items with text  -> task: SELECT $1,$2,… of the column's types, bound as text, answered in binary ->  items
//! ```
//!
//! The server reads its own text, so that every type that has a binary form has it here too, and a key of the log equals
//! the same key of a chunk byte by byte; a `tsquery` alone may be another tree of the same query. Both sessions have the settings of [`TEXT_FORM`], on which the text of some types
//! depends. Domains are read as the types beneath them: a row that is older than a domain's constraint is a row still.
//!
//! What is under way stays in [`TextRows`], so that a caller who drops the reader's future loses nothing.

use crate::connection::{Connection, Purpose, server_failure};
use crate::connector::TIME_OUTS;
use crate::failure::protocol_error;
use crate::position::PgPosition;
use crate::protocol::data_row::parse_data_row;
use crate::protocol::{ProtocolError, ServerError};
use crate::settings::Settings;
use bytes::Bytes;
use highwater_core::change::LogItem;
use highwater_core::image::{Cell, CellRef, RowImage};
use highwater_core::schema::{TableId, TableName};
use highwater_core::{Error, ErrorKind, Result, Scope};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Settings on which the text of values depends, for the session that writes it and the one that reads it.
pub(crate) const TEXT_FORM: &str = "SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
                                    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; \
                                    SET xmloption = 'content'";

/// Bytes that are sent before their answers are read. The answers, a few times as much, find room in the sockets'
/// buffers: neither side waits for the other to read.
const SENT_BYTES_MAX: usize = 32 * 1024;

type Items = Vec<LogItem<PgPosition>>;
type Work = JoinHandle<Result<(Box<Translator>, Items)>>;

/// The types of a relation's columns, domains replaced by what is beneath them.
pub(super) type ColumnTypes = Arc<[u32]>;

/// Items on their way from text to binary, in the log's order.
#[derive(Debug)]
pub(super) struct TextRows {
    /// Not begun with yet.
    waiting: Items,
    /// The types of the relations of the schemas in `waiting`, in their order.
    types: VecDeque<ColumnTypes>,
    /// Taken out while it works.
    idle: Option<Box<Translator>>,
    running: Option<Work>,
}

impl TextRows {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            waiting: Vec::new(),
            types: VecDeque::new(),
            idle: Some(Box::new(Translator::new(settings))),
            running: None,
        }
    }

    /// Where items with text are appended.
    pub(super) fn waiting(&mut self) -> &mut Items {
        &mut self.waiting
    }

    /// Notes the types of a relation whose schema is appended next.
    pub(super) fn announce(&mut self, types: ColumnTypes) {
        self.types.push_back(types);
    }

    /// Appends everything that waits to `items`, in binary. Cancel-safe: the next call goes on with the same work.
    pub(super) async fn translate(&mut self, items: &mut Items) -> Result<()> {
        loop {
            if let Some(running) = &mut self.running {
                let done = running.await;
                self.running = None;
                let ended = |error| Error::bug("turning text into values ended early").with_source(error);
                let (translator, translated) = done.map_err(ended)??;
                self.idle = Some(translator);
                items.extend(translated);
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            let Some(mut translator) = self.idle.take() else {
                return Err(Error::bug("the reader was used after it failed"));
            };
            let mut batch = std::mem::take(&mut self.waiting);
            let mut types = std::mem::take(&mut self.types);
            self.running = Some(tokio::spawn(async move {
                translator.translate(&mut batch, &mut types).await?;
                Ok((translator, batch))
            }));
        }
    }
}

impl Drop for TextRows {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// One image of one item.
#[derive(Debug, Clone, Copy)]
struct Place {
    item: usize,
    before: bool,
}

/// A session that reads text.
#[derive(Debug)]
struct Translator {
    settings: Arc<Settings>,
    connection: Option<Connection>,
    /// The newest types of each relation.
    types: HashMap<TableId, ColumnTypes>,
    /// Names of prepared statements.
    statements: HashMap<ColumnTypes, String>,
}

impl Translator {
    fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            connection: None,
            types: HashMap::new(),
            statements: HashMap::new(),
        }
    }

    async fn translate(&mut self, items: &mut Items, types: &mut VecDeque<ColumnTypes>) -> Result<()> {
        let mut sent = Vec::new();
        for item in 0..items.len() {
            let change = match items.get(item) {
                Some(LogItem::Schema(schema)) => {
                    let types = types.pop_front();
                    let types = types.ok_or_else(|| Error::bug("a schema came without its types"))?;
                    self.types.insert(schema.id, types);
                    continue;
                }
                Some(LogItem::Change(change)) => change.clone(),
                _ => continue,
            };
            let images = [(true, &change.before), (false, &change.after)];
            for (before, image) in images
                .into_iter()
                .filter_map(|(before, image)| Some((before, image.as_ref()?)))
            {
                if image.value_bytes() == 0 && !image.iter().any(|cell| matches!(cell, CellRef::Value(_))) {
                    continue;
                }
                self.put(change.table(), image, &change.schema.name).await?;
                sent.push(Place { item, before });
                if self.connection().await?.out().len() >= SENT_BYTES_MAX {
                    self.take(&mut sent, items).await?;
                }
            }
        }
        self.take(&mut sent, items).await
    }

    async fn connection(&mut self) -> Result<&mut Connection> {
        if self.connection.is_none() {
            let mut opened = Connection::open(&self.settings, Purpose::Chunks, "highwater text").await?;
            let what = "setting up a session for text";
            opened.batch(TEXT_FORM, what).await?;
            opened.batch(TIME_OUTS, what).await?;
            self.connection = Some(opened);
        }
        self.connection
            .as_mut()
            .ok_or_else(|| Error::bug("a connection that was opened is gone"))
    }

    /// Appends the question for one image, and the statement where it is new.
    async fn put(&mut self, table: TableId, image: &RowImage, name: &TableName) -> Result<()> {
        let types = self.types.get(&table).cloned();
        let types = types.filter(|types| types.len() == image.len());
        let types = types.ok_or_else(|| Error::bug(format!("a row of table {name} does not fit its types")))?;
        let known = self.statements.get(&types).cloned();
        let statement = known.clone().unwrap_or_else(|| format!("t{}", self.statements.len()));
        let out = self.connection().await?.out();
        let mut put = || -> io::Result<()> {
            if known.is_none() {
                let places: Vec<String> = (1..=types.len()).map(|place| format!("${place}")).collect();
                let sql = format!("SELECT {}", places.join(","));
                frontend::parse(&statement, &sql, types.iter().copied(), out)?;
            }
            let bound = frontend::bind(
                "",
                &statement,
                [0],
                image.iter(),
                |cell, buffer| match cell {
                    CellRef::Value(text) => {
                        buffer.extend_from_slice(text);
                        Ok(IsNull::No)
                    }
                    _ => Ok(IsNull::Yes),
                },
                [1],
                out,
            );
            bound.map_err(|_| io::Error::other("row too long for one message"))?;
            frontend::execute("", 0, out)
        };
        put().map_err(|error| Error::bug(format!("asking for values of table {name}: {error}")))?;
        self.statements.entry(types).or_insert(statement);
        Ok(())
    }

    /// Sends the questions, takes their answers and puts these in place of the text.
    async fn take(&mut self, sent: &mut Vec<Place>, items: &mut Items) -> Result<()> {
        if sent.is_empty() {
            return Ok(());
        }
        let connection = self.connection().await?;
        frontend::sync(connection.out());
        connection.flush().await?;
        let mut places = sent.drain(..);
        let mut place = places.next();
        let what = "turning text into values";
        loop {
            let mut batch = connection.receive_batch(what).await?;
            let block = batch.bytes().clone();
            while let Some(frame) = batch.next_frame() {
                match frame.tag {
                    b'D' => {
                        let cells = parse_data_row(frame.body, frame.body_start);
                        let cells = cells.map_err(|error| protocol_error(error, what))?;
                        let of = place.ok_or_else(|| unexpected(b'D', what))?;
                        replace(items, of, &block, cells)?;
                        place = places.next();
                    }
                    b'E' => return Err(refused(frame.body, place, items, what)),
                    b'Z' if place.is_none() => return Ok(()),
                    b'1' | b'2' | b'C' | b'N' | b'S' => {}
                    tag => return Err(unexpected(tag, what)),
                }
            }
        }
    }
}

/// Puts the values in place of the text of an image; cells without one stay what they were.
fn replace(items: &mut Items, place: Place, block: &Bytes, mut cells: Box<[Cell]>) -> Result<()> {
    let lost = || Error::bug("a row that was sent is gone");
    let Some(LogItem::Change(change)) = items.get_mut(place.item) else {
        return Err(lost());
    };
    let image = if place.before {
        &mut change.before
    } else {
        &mut change.after
    };
    let image = image.as_mut().ok_or_else(lost)?;
    for (cell, was) in cells.iter_mut().zip(image.iter()) {
        match was {
            CellRef::Absent => *cell = Cell::ABSENT,
            CellRef::Unchanged => *cell = Cell::UNCHANGED,
            CellRef::Null | CellRef::Value(_) => {}
        }
    }
    *image = RowImage::new(block.clone(), cells);
    Ok(())
}

fn unexpected(tag: u8, what: &str) -> Error {
    let state = "in answer to rows of text";
    protocol_error(ProtocolError::Unexpected { tag, state }, what)
}

/// A type that no longer takes its own earlier text: a label inside an array or a composite's attribute was changed. The
/// server's own words quote the value and are left out.
fn refused(body: &[u8], place: Option<Place>, items: &Items, what: &str) -> Error {
    let code = ServerError::parse(body).map(|error| error.sqlstate).unwrap_or_default();
    let table = place.and_then(|place| match items.get(place.item) {
        Some(LogItem::Change(change)) => Some(&change.schema.name),
        _ => None,
    });
    match table {
        Some(table) if ["22", "23", "42"].iter().any(|class| code.starts_with(class)) => {
            let what = format!("a row of table {table} is older than the type of one of its columns is now");
            Error::new(ErrorKind::UnsupportedValue, what)
                .with("sqlstate", code)
                .with("table", table)
                .with_scope(Scope::Table)
                .with_fix("change the type back (a label inside an array, a composite type's attribute), or upgrade the server: since version 14 values come in their binary form")
        }
        _ => server_failure(body, what),
    }
}
