// SPDX-License-Identifier: Apache-2.0
//! The log: pgoutput messages become items of core's log, in order.
//!
//! ```text
//! ReplicationStream -> frames -> Decoder (no I/O) -> LogItem
//!                                   | a relation message: the catalogue is asked for what the message lacks
//! ```
//!
//! Everything that is read stays in the reader until it was appended, so that a dropped future loses nothing. Items are
//! made by [`decoder::Decoder`], which does no I/O; this file waits: for bytes, for the catalogue, for a time to ask the
//! server how far it is.

mod decoder;
mod relation;

use crate::failure::protocol_error;
use crate::position::{PgPosition, XidEpoch};
use crate::protocol::framing::FrameBatch;
use crate::protocol::{Lsn, ProtocolError};
use crate::query_connection::{QueryConnection, TextColumns};
use crate::replication_connection::{ReplicationStream, stream_failure};
use crate::schema::TableShape;
use crate::selection::Selection;
use crate::settings::Settings;
use crate::{discover, schema};
use decoder::{Decoder, Step};
use highwater_core::change::LogItem;
use highwater_core::connector::LogReader;
use highwater_core::position::{ResumePoint, RunId};
use highwater_core::{Error, ErrorKind, Result};
use relation::CapturedRelation;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The most items appended by one call of `next`.
const ITEMS_MAX: usize = 8_192;
/// How often a busy reader asks the server how far its log is.
const LAG_INTERVAL: Duration = Duration::from_secs(2);

/// The log of one database, through one slot.
#[derive(Debug)]
pub struct PgLogReader {
    stream: ReplicationStream,
    catalog: QueryConnection,
    settings: Arc<Settings>,
    decoder: Decoder,
    batch: Option<FrameBatch>,
    start: PgPosition,
    server_end: Option<Lsn>,
    lag_asked: Instant,
    /// When the server is asked how far it is, unless it speaks before.
    ask_at: Instant,
    /// When it was first asked since it last spoke.
    asked: Option<Instant>,
    status_due: bool,
}

impl PgLogReader {
    /// A reader over a stream that was just started.
    pub(crate) fn new(
        stream: ReplicationStream,
        catalog: QueryConnection,
        settings: Arc<Settings>,
        selection: Arc<Selection>,
        start: ResumePoint<PgPosition>,
        xids: XidEpoch,
        run: RunId,
    ) -> Self {
        let now = Instant::now();
        let position = start.position;
        let decoder = Decoder::new(settings.slot.name.clone(), run, selection, xids, start);
        Self {
            stream,
            catalog,
            settings,
            decoder,
            batch: None,
            start: position,
            server_end: None,
            lag_asked: now,
            ask_at: now,
            asked: None,
            status_due: false,
        }
    }

    /// Turns frames that lie ready into items; whether any is left for later.
    async fn drain(&mut self, items: &mut Vec<LogItem<PgPosition>>) -> Result<()> {
        let length_max = items.len() + ITEMS_MAX;
        loop {
            self.adopt_relation(items).await?;
            let Some(batch) = &mut self.batch else { return Ok(()) };
            let what = self.stream.what();
            let step = self
                .decoder
                .run(batch, items, length_max, |body| stream_failure(body, what));
            match step.map_err(|error| error.into_core(what))? {
                Step::Drained => {
                    self.batch = None;
                    return Ok(());
                }
                Step::Full => return Ok(()),
                Step::RelationUnknown => {}
            }
        }
    }

    /// Asks the catalogue about a relation that the log announced, if one waits. The relation stays with the decoder
    /// until its schema is known, so that a dropped future asks again.
    async fn adopt_relation(&mut self, items: &mut Vec<LogItem<PgPosition>>) -> Result<()> {
        let Some(announced) = self.decoder.announced() else {
            return Ok(());
        };
        let relation = announced.clone();
        let name = CapturedRelation::name_of(&relation);
        let publication = self.settings.publication.name.clone();
        let shapes = discover::read_shapes(&mut self.catalog, &publication, Some(&name)).await?;
        let catalogued = shapes.into_iter().find(|shape| shape.oid == relation.oid);
        let (mut columns, key) = TableShape::of_relation(&relation, catalogued.as_ref());
        let types = discover::read_types(&mut self.catalog, &discover::types_of(&columns)).await?;
        self.name_types(&mut columns).await?;
        let schema = schema::build(relation.oid, &name, &columns, key, &types)?;
        items.push(LogItem::Schema(schema.clone()));
        self.decoder.adopt(CapturedRelation::new(&relation, schema));
        Ok(())
    }

    /// Asks for the SQL names of types that the catalogue's present columns do not show: the log is behind it.
    async fn name_types(&mut self, columns: &mut [schema::ShapeColumn]) -> Result<()> {
        for column in columns.iter_mut().filter(|column| column.database_type.is_empty()) {
            let (oid, modifier) = (column.type_oid.to_string(), column.type_modifier.to_string());
            let sql = "SELECT pg_catalog.format_type($1::oid, $2::int4)";
            let rows = self
                .catalog
                .query(sql, &[Some(&oid), Some(&modifier)], "reading the name of a type")
                .await?;
            column.database_type = rows.first().and_then(|row| row.text(0)).unwrap_or("unknown").to_owned();
        }
        Ok(())
    }

    /// Waits for frames. A silent server is asked how far it is; one that does not answer counts as gone. The times are
    /// fields, so that a caller who drops this future ever so often does not put them off.
    async fn wait(&mut self) -> Result<()> {
        loop {
            match timeout_at(self.ask_at, self.stream.read_frames()).await {
                Ok(batch) => {
                    self.batch = Some(batch?);
                    self.asked = None;
                    self.ask_at = Instant::now() + self.heartbeat();
                    return Ok(());
                }
                Err(_) => self.ask().await?,
            }
        }
    }

    async fn ask(&mut self) -> Result<()> {
        let silence = self.asked.get_or_insert_with(Instant::now).elapsed();
        if silence > Duration::from_millis(self.settings.heartbeat.silence_max_ms) {
            let what = format!("{}: no answer for {silence:?}", self.stream.what());
            let fix = "check the network between here and the server";
            return Err(Error::new(ErrorKind::Unreachable, what).with_fix(fix));
        }
        self.ask_at = Instant::now() + self.heartbeat();
        self.stream.send_status(true).await
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.settings.heartbeat.interval_ms)
    }

    /// Tells the server what it wants to know, and asks it how far its log is, now and then.
    async fn keep_in_touch(&mut self) -> Result<()> {
        if self.decoder.take_reply_requested() {
            self.status_due = true;
        }
        if self.status_due {
            self.stream.received(self.decoder.delivered().0);
            self.stream.send_status(false).await?;
            self.status_due = false;
        }
        if self.server_end.is_none() || self.lag_asked.elapsed() >= LAG_INTERVAL {
            self.lag_asked = Instant::now();
            let sql = "SELECT pg_catalog.pg_current_wal_flush_lsn()";
            let rows = self
                .catalog
                .query(sql, &[], "reading the end of the server's log")
                .await?;
            self.server_end = rows.into_iter().next().unwrap_or_default().optional(0)?;
        }
        Ok(())
    }
}

impl LogReader for PgLogReader {
    type Position = PgPosition;

    fn start(&self) -> &PgPosition {
        &self.start
    }

    async fn next(&mut self, items: &mut Vec<LogItem<PgPosition>>) -> Result<()> {
        let before = items.len();
        loop {
            self.keep_in_touch().await?;
            self.drain(items).await?;
            if items.len() > before {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    async fn acknowledge(&mut self, position: &PgPosition) -> Result<()> {
        self.stream.acknowledged(position.0);
        self.status_due = true;
        self.keep_in_touch().await
    }

    fn foreign_marks(&self) -> u64 {
        self.decoder.foreign_marks()
    }

    fn lag_bytes(&self) -> Option<u64> {
        self.server_end
            .map(|end| end.0.saturating_sub(self.decoder.delivered().0.0))
    }
}

/// Why frames could not become items.
#[derive(Debug)]
enum DecodeFailure {
    /// The bytes are not what the protocol allows.
    Protocol(ProtocolError),
    /// Anything else, ready for the caller.
    Core(Error),
}

impl DecodeFailure {
    fn into_core(self, what: &str) -> Error {
        match self {
            Self::Protocol(error) => protocol_error(error, what),
            Self::Core(error) => error,
        }
    }
}

impl From<ProtocolError> for DecodeFailure {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}
