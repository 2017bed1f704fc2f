// SPDX-License-Identifier: Apache-2.0
//! The log: pgoutput messages become items of core's log, in order.
//!
//! ```text
//! ReplicationStream -> frames -> Decoder (no I/O) -> LogItem
//!                                   | a relation message: the catalogue is asked for what the message lacks
//! ```
//!
//! Everything that is read stays in the reader until it was appended, so that a dropped future loses nothing. Items are
//! made by `decoder`, which does no I/O; this file waits: for bytes, for the catalogue, for a time to ask the server how
//! far it is.

mod decoder;
mod lookup;
mod relation;
mod server_end;

use crate::failure::protocol_error;
use crate::position::{PgPosition, XidEpoch};
use crate::protocol::ProtocolError;
use crate::protocol::framing::FrameBatch;
use crate::query_connection::QueryConnection;
use crate::replication_connection::{ReplicationStream, stream_failure};
use crate::selection::Selection;
use crate::settings::Settings;
use decoder::{Decoder, Step};
use highwater_core::change::LogItem;
use highwater_core::connector::LogReader;
use highwater_core::position::{ResumePoint, RunId};
use highwater_core::{Error, ErrorKind, Result};
use lookup::RelationLookup;
use server_end::ServerEnd;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The most items appended by one call of `next`.
const ITEMS_MAX: usize = 8_192;

/// The log of one database, through one slot.
#[derive(Debug)]
pub struct PgLogReader {
    stream: ReplicationStream,
    lookup: RelationLookup,
    server_end: ServerEnd,
    settings: Arc<Settings>,
    decoder: Decoder,
    batch: Option<FrameBatch>,
    start: PgPosition,
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
            lookup: RelationLookup::new(catalog, settings.publication.name.clone()),
            server_end: ServerEnd::watch(settings.clone()),
            settings,
            decoder,
            batch: None,
            start: position,
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

    /// Waits for the catalogue's word on a relation that the log announced, if one waits. The relation stays with the
    /// decoder, and the work in a task of its own, so that a dropped future neither loses nor repeats it.
    async fn adopt_relation(&mut self, items: &mut Vec<LogItem<PgPosition>>) -> Result<()> {
        let Some(announced) = self.decoder.announced() else {
            return Ok(());
        };
        let captured = self.lookup.captured(announced).await?;
        items.push(LogItem::Schema(captured.schema.clone()));
        self.decoder.adopt(captured);
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

    /// Tells the server what it wants to know.
    async fn keep_in_touch(&mut self) -> Result<()> {
        if self.decoder.take_reply_requested() {
            self.status_due = true;
        }
        if self.status_due {
            self.stream.received(self.decoder.delivered().0);
            self.stream.send_status(false).await?;
            self.status_due = false;
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
            .get()
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
