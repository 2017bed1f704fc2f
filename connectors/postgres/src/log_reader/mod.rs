// SPDX-License-Identifier: Apache-2.0
//! The log: pgoutput messages become items of core's log, in order.
//!
//! ```text
//! ReplicationStream -> frames -> Decoder (no I/O) ----------------------------------> LogItem
//!                                   |   held, until the transaction commits  -> replay ^
//!                                   |        \_ past the limit: SpillFiles _/
//!                                   | a relation message: the catalogue is asked for what the message lacks
//! ```
//!
//! A server of version 13 sends values as text: [`text_rows`] gives them their binary form before they leave here.
//!
//! Everything that is read stays in the reader until it was appended, so that a dropped future loses nothing. Items are
//! made by `decoder`, which does no I/O; this file waits: for bytes, for the catalogue, for a disk, for a time to ask the
//! server how far it is.
//!
//! # What is guaranteed
//!
//! 1. *Order*: transactions are delivered in the order of their commits, each in one go, whether the server sends them
//!    whole, in pieces while they run, or when they are prepared. Pieces of many transactions may lie between one another;
//!    none is delivered before its commit, and while one is replayed nothing else is read.
//! 2. *Content*: a transaction that is rolled back, and a part of one that is, leaves nothing: no change, no mark, no
//!    schema, no count.
//! 3. *Acknowledgement* never passes a transaction that was not delivered and made durable. For one in pieces that holds by
//!    itself: the server sends every transaction again that commits behind the acknowledged position, from its first
//!    change. For a prepared one see `prepared`.
//! 4. *A restart* reads again: what commits behind the checkpoint, whole. Pieces that were held are forgotten with the
//!    connection, and come again. With `slot.two_phase` the server is asked from its own confirmed position on, and what
//!    commits before the checkpoint is passed over.
//! 5. *Ordinals* count a transaction's rows and truncated tables as the server sends them, before any filter of ours, and
//!    its messages that are captured, without what was rolled back. The server keeps the changes of a transaction and of its
//!    sub-transactions in the order of the log, in pieces as in one go, so the count is the same either way: a checkpoint
//!    inside a transaction holds when the next run gets it in other pieces, or whole.
//! 6. *Schemas* inside a transaction that is held are told when it is replayed, before the first row that follows them;
//!    see `relations` for what the connection knows afterwards. A sub-transaction that is rolled back takes its
//!    announcements with it: the server announces those relations again before it sends a further row of them.
//! 7. *Marks* are transactional messages and come with their transaction. Messages of other programs that are captured come
//!    with theirs, too, or, without one, at their place between transactions: see `messages`.
//! 8. *Memory*: what is held in memory stays below `spill.memory_bytes_max` and a block of the socket; the rest is on
//!    disk, below `spill.spill_bytes_max`. A replay reads one block at a time. A disk that is full ends the reader with
//!    an error that names it; nothing was acknowledged, so nothing is lost.
//!
//! *Not promised*: the origin's position of a transaction that came in pieces, which the server does not send, and the
//! origin itself of one whose last change had been sent before it committed.

mod decoder;
mod held;
mod labels;
mod landmarks;
mod lookup;
mod messages;
pub(crate) mod overload;
pub(crate) mod partitions;
mod prepared;
mod relation;
mod relations;
mod replay_source;
mod retention;
mod rows;
mod server_end;
mod spill;
pub(crate) mod text_rows;

use crate::failure::protocol_error;
use crate::lineage::PgLineage;
use crate::position::{PgPosition, XidEpoch};
use crate::protocol::ProtocolError;
use crate::protocol::framing::FrameBatch;
use crate::query_connection::QueryConnection;
use crate::replication_connection::{ReplicationStream, stream_failure};
use crate::selection::Selection;
use crate::settings::Settings;
use crate::start_snapshot::HoldsSnapshot;
use decoder::{Decoder, Step};
use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, Retention, StartSnapshot, UnloggedChange};
use highwater_core::position::{Lineage, ResumePoint, RunId};
use highwater_core::{Error, ErrorKind, Result};
use lookup::RelationLookup;
use messages::Messages;
use prepared::PreparedLedger;
use replay_source::ReplaySource;
use server_end::ServerEnd;
use spill::SpillFiles;
pub(crate) use spill::try_directory as try_spill_directory;
use std::sync::Arc;
use std::time::Duration;
use text_rows::TextRows;
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
    /// Where the server sends text.
    text: Option<TextRows>,
    batch: Option<FrameBatch>,
    spill: SpillFiles,
    replay: Option<ReplaySource>,
    start: PgPosition,
    lineage: PgLineage,
    /// The log is that of a standby.
    in_recovery: bool,
    /// When the server is asked how far it is, unless it speaks before.
    ask_at: Instant,
    /// When it was first asked since it last spoke.
    asked: Option<Instant>,
    status_due: bool,
    /// Everything at or before is durable. The server may have to wait to be told; see [`prepared`].
    durable: Option<PgPosition>,
    /// When the server is told that we live although there is nothing new to tell: a long replay reads nothing.
    tell_at: Instant,
    snapshot: Option<HoldsSnapshot>,
}

/// Where a log begins.
#[derive(Debug)]
pub(crate) struct LogStart {
    pub(crate) point: ResumePoint<PgPosition>,
    /// Of the server that it is read from.
    pub(crate) lineage: PgLineage,
    pub(crate) xids: XidEpoch,
    /// The server is a standby.
    pub(crate) in_recovery: bool,
}

impl PgLogReader {
    /// A reader over a stream that was just started.
    pub(crate) async fn new(
        stream: ReplicationStream,
        catalog: QueryConnection,
        settings: Arc<Settings>,
        selection: Arc<Selection>,
        start: LogStart,
        run: RunId,
    ) -> Self {
        let LogStart {
            point,
            lineage,
            xids,
            in_recovery,
        } = start;
        let now = Instant::now();
        let mut server_end = ServerEnd::watch(settings.clone(), selection.clone(), lineage.partitions_unseen_since);
        server_end.load_known().await;
        let position = point.position;
        let decoder = decoder_of(&settings, selection, point, xids, run);
        let text = (!stream.server_version().sends_binary()).then(|| TextRows::new(settings.clone()));
        let tell_at = now + Duration::from_millis(settings.heartbeat.interval_ms);
        Self {
            stream,
            lookup: RelationLookup::new(catalog, settings.values.clone()),
            server_end,
            spill: SpillFiles::new(&settings.spill),
            settings,
            decoder,
            text,
            batch: None,
            replay: None,
            start: position,
            lineage,
            in_recovery,
            ask_at: now,
            asked: None,
            status_due: false,
            durable: None,
            tell_at,
            snapshot: None,
        }
    }

    /// A standby that was promoted goes on sending, but of another timeline, and is another server for marks and chunks: the
    /// run begins anew from its checkpoint.
    fn check_role(&self) -> Result<()> {
        if !self.in_recovery || !self.server_end.takes_writes() {
            return Ok(());
        }
        let what = format!(
            "{}: the standby was promoted; the log is opened anew",
            self.stream.what()
        );
        Err(Error::new(ErrorKind::Unreachable, what))
    }

    /// Holds the snapshot that was taken where the log began.
    pub(crate) fn holding(mut self, snapshot: Option<HoldsSnapshot>) -> Self {
        self.snapshot = snapshot;
        self
    }

    /// Turns frames that lie ready into items.
    async fn drain(&mut self, items: &mut Items) -> Result<()> {
        let length_max = sink(&mut self.text, items).len() + ITEMS_MAX;
        loop {
            self.spill.settle().await?;
            self.adopt_relation(items).await?;
            let step = if self.decoder.replaying().is_some() {
                self.replay_block(items, length_max).await?
            } else {
                self.run_batch(items, length_max)?
            };
            for xid in self.decoder.take_dropped() {
                self.spill.discard(xid);
            }
            match step {
                Step::Drained | Step::Full => return Ok(()),
                Step::RelationUnknown => {}
                Step::SpillDue => {
                    if let Some((xid, chunk)) = self.decoder.take_spill() {
                        self.spill.append(xid, chunk)?;
                    }
                }
                Step::ReplayDue => {}
            }
        }
    }

    /// Turns frames of the server into items.
    fn run_batch(&mut self, items: &mut Items, length_max: usize) -> Result<Step> {
        let Some(batch) = &mut self.batch else {
            return Ok(Step::Drained);
        };
        let what = self.stream.what();
        let items = sink(&mut self.text, items);
        let step = self
            .decoder
            .run(batch, items, length_max, |body| stream_failure(body, what))
            .map_err(|error| error.into_core(what))?;
        if step == Step::Drained {
            self.batch = None;
        }
        Ok(step)
    }

    /// Turns frames of the transaction that is replayed into items. Cancel-safe. A server that sends text sends no pieces.
    async fn replay_block(&mut self, items: &mut Items, length_max: usize) -> Result<Step> {
        let what = self.stream.what();
        let source = match &mut self.replay {
            Some(source) => source,
            None => {
                let file = self.decoder.replaying().and_then(|xid| self.spill.take(xid));
                let tail = self.decoder.take_replay_tail();
                self.replay.insert(ReplaySource::new(file, tail))
            }
        };
        let step = match source.batch().await? {
            Some(batch) => self.decoder.replay(batch, items, length_max),
            None => {
                self.replay = None;
                self.decoder.end_replay(items).map(|()| Step::ReplayDue)
            }
        };
        match step.map_err(|error| error.into_core(what))? {
            // More blocks, the end of the transaction or the server's own frames may follow.
            Step::Drained => Ok(Step::ReplayDue),
            step => Ok(step),
        }
    }

    /// Waits for the catalogue's word on a relation that the log announced, if one waits. The relation stays with the
    /// decoder, and the work in a task of its own, so that a dropped future neither loses nor repeats it.
    async fn adopt_relation(&mut self, items: &mut Items) -> Result<()> {
        let Some(announced) = self.decoder.announced() else {
            return Ok(());
        };
        let captured = self.lookup.captured(announced).await?;
        if let Some(text) = &mut self.text {
            text.announce(captured.text_types());
        }
        sink(&mut self.text, items).push(LogItem::Schema(captured.schema.clone()));
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
        if self.status_due || Instant::now() >= self.tell_at {
            self.stream.received(self.decoder.delivered().0);
            if let Some(durable) = self.durable {
                self.stream.acknowledged(self.decoder.acknowledgeable(durable));
            }
            self.stream.send_status(false).await?;
            self.status_due = false;
            self.tell_at = Instant::now() + self.heartbeat();
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
            self.check_role()?;
            self.keep_in_touch().await?;
            self.drain(items).await?;
            if let Some(text) = &mut self.text {
                text.translate(items).await?;
            }
            if items.len() > before {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    async fn acknowledge(&mut self, position: &PgPosition) -> Result<()> {
        self.durable = Some(*position);
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

    fn lineage(&self) -> Lineage {
        self.lineage.encode()
    }

    fn start_snapshot(&self) -> StartSnapshot<PgPosition> {
        let holds = self.snapshot.as_ref();
        holds.map_or(StartSnapshot::None, |holds| holds.cell().status())
    }

    fn release_snapshot(&mut self) {
        self.snapshot = None;
    }

    fn retention(&self) -> Option<Retention> {
        self.server_end.retention()
    }

    fn unlogged_changes(&mut self) -> Vec<UnloggedChange> {
        let mut all = Vec::new();
        while let Some((changes, unseen_since)) = self.server_end.unlogged_changes() {
            all.extend(changes);
            self.lineage.partitions_unseen_since = unseen_since;
        }
        all
    }

    fn overload(&self) -> Option<Arc<str>> {
        self.server_end.overload()
    }
}

type Items = Vec<LogItem<PgPosition>>;

/// Where items go: to the caller, or where they wait because their values are text.
fn sink<'a>(text: &'a mut Option<TextRows>, items: &'a mut Items) -> &'a mut Items {
    text.as_mut().map_or(items, TextRows::waiting)
}

/// A decoder of what the settings ask for.
fn decoder_of(
    settings: &Settings,
    selection: Arc<Selection>,
    start: ResumePoint<PgPosition>,
    xids: XidEpoch,
    run: RunId,
) -> Decoder {
    let memory_bytes_max = usize::try_from(settings.spill.memory_bytes_max).unwrap_or(usize::MAX);
    let name = settings.slot.name.clone();
    let mut decoder = Decoder::new(name, run, selection, xids, start, memory_bytes_max);
    decoder.messages = Messages::new(settings.messages.clone());
    if settings.slot.two_phase {
        decoder.ledger = PreparedLedger::two_phase();
    }
    decoder
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
