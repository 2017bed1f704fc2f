// SPDX-License-Identifier: Apache-2.0
//! The connector: one Postgres database as core's roles.

use crate::checkpoint_history;
use crate::chunk_reader::PgChunkReader;
use crate::discover::read_catalog;
use crate::log_reader::overload::check_privilege;
use crate::log_reader::{LogStart, PgLogReader, try_spill_directory};
use crate::position::{PgPosition, XidEpoch};
use crate::preflight;
use crate::protocol::Lsn;
use crate::protocol::replication::{SlotOptions, SlotSnapshot, StartReplication};
use crate::publication::{add_to_publication, ensure_publication, let_older_transactions_end};
use crate::query_connection::QueryConnection;
use crate::replication_connection::{CreatedSlot, ReplicationConnection};
use crate::selection::Selection;
use crate::server_choice::{self, Server};
use crate::settings::Settings;
use crate::slot::{self, SlotAnew, check_history, check_slot, read_slot};
use crate::source_block::PgSourceBlock;
use crate::start_snapshot::{HoldsSnapshot, StartSnapshotCell};
use crate::stream_settings::{StreamOptions, Streaming};
use crate::watermark::PgWatermarkWriter;
use highwater_core::connector::{Capabilities, Catalog, Finding, Reconcile, SourceConnector};
use highwater_core::position::{ResumePoint, RunId};
use highwater_core::schema::TableName;
use highwater_core::source_block::SourceBlock;
use highwater_core::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Statements about the catalogue and the publication take milliseconds; one that does not is given up and tried again, so
/// that it neither hangs for ever nor stands in a lock's queue.
pub(crate) const TIME_OUTS: &str = "SET statement_timeout = '120s'; SET lock_timeout = '30s'";

/// One Postgres database.
#[derive(Debug)]
pub struct PostgresConnector {
    settings: Arc<Settings>,
    selection: Arc<Selection>,
    /// The server that the log was last opened on.
    captured: Mutex<Option<Captured>>,
    start_snapshot: Arc<StartSnapshotCell>,
}

/// The server that everything of one run goes to.
#[derive(Debug, Clone)]
struct Captured {
    /// The settings with its address alone.
    settings: Arc<Settings>,
    /// It was a standby when it was chosen.
    in_recovery: bool,
}

impl PostgresConnector {
    /// A connector with these settings; connects to nothing yet.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.validate()?;
        let settings = Arc::new(settings);
        let selection = Arc::new(Selection::new(settings.clone()));
        let captured = Mutex::new(None);
        Ok(Self {
            settings,
            selection,
            captured,
            start_snapshot: Arc::default(),
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server that the log comes from; chosen now where no log was opened yet.
    async fn captured(&self) -> Result<Captured> {
        let known = self.captured.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(captured) => Ok(captured),
            None => Ok(self.choose("highwater catalog").await?.1),
        }
    }

    /// Chooses the server anew.
    async fn choose(&self, application_name: &'static str) -> Result<(Server, Captured)> {
        let server = server_choice::choose(&self.settings, application_name, TIME_OUTS).await?;
        let captured = Captured {
            settings: server.settings.clone(),
            in_recovery: server.in_recovery,
        };
        Ok((server, captured))
    }

    /// What the server is asked for. Where nobody asked for large transactions ahead of their commit and they have no
    /// place to wait, the server keeps them.
    fn stream_options(&self, server_major: u32) -> Result<StreamOptions> {
        let options = StreamOptions::of(&self.settings, server_major)?;
        if options.streaming == Streaming::Off {
            return Ok(options);
        }
        match try_spill_directory(&self.settings.spill.directory()) {
            Ok(()) => Ok(options),
            Err(error) if self.settings.streaming.is_none() => {
                tracing::warn!(%error, "large transactions are left to the server until they commit");
                Ok(StreamOptions {
                    streaming: Streaming::Off,
                    ..options
                })
            }
            Err(error) => Err(error),
        }
    }

    /// What a slot of ours is created with.
    fn slot_options(&self) -> SlotOptions {
        SlotOptions {
            two_phase: self.settings.slot.two_phase,
            failover: self.settings.slot.failover,
        }
    }

    /// The position to start from: the checkpoint's where it can be kept, else the slot's, made now if it is missing. And
    /// whether it was missing.
    async fn start_position(
        &self,
        catalog: &mut QueryConnection,
        replication: &mut ReplicationConnection,
        from: Option<&ResumePoint<PgPosition>>,
        in_recovery: bool,
        snapshot: SlotSnapshot,
    ) -> Result<(ResumePoint<PgPosition>, bool)> {
        let name = &self.settings.slot.name;
        let slot = read_slot(catalog, name).await?;
        if let Some(slot) = &slot {
            check_slot(slot, &self.settings)?;
            if self.settings.slot.failover && !slot.failover {
                replication.keep_in_step(name).await?;
                tracing::info!(slot = %name, "the replication slot is kept in step by standbys from now on");
            }
        }
        if let Some(from) = from {
            check_history(slot.as_ref(), from.position.0, name)?;
            return Ok((from.clone(), false));
        }
        let is_made = slot.is_none();
        let position = match slot {
            Some(slot) => slot.confirmed_flush.unwrap_or(Lsn::ZERO),
            None if self.settings.slot.create => {
                // A standby exports none.
                let snapshot = if in_recovery { SlotSnapshot::Nothing } else { snapshot };
                let made = replication
                    .create_slot(name, snapshot, self.slot_options(), in_recovery)
                    .await?;
                tracing::info!(slot = %name, position = %made.position, "replication slot created");
                self.keep_snapshot(&made).await;
                made.position
            }
            None => {
                let what = format!("replication slot \"{name}\" does not exist");
                let fix = format!("run `{}`, or set `slot.create: true`", slot::create_statement(name));
                return Err(Error::new(ErrorKind::NotFound, what).with_fix(fix));
            }
        };
        Ok((ResumePoint::at(PgPosition(position)), is_made))
    }

    /// Keeps the snapshot that a slot was created with. Without it copies are read between marks.
    async fn keep_snapshot(&self, made: &CreatedSlot) {
        let Some(exported) = &made.snapshot else { return };
        // A commit's record may begin at the very position from which the slot sends.
        let moment = PgPosition(Lsn(made.position.0.saturating_sub(1)));
        let kept = match self.captured().await {
            Ok(captured) => self.start_snapshot.hold(&captured.settings, exported, moment).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the snapshot of the slot is not kept; tables are read between marks");
        }
    }

    async fn open(
        &self,
        from: Option<&ResumePoint<PgPosition>>,
        run: RunId,
        snapshot: SlotSnapshot,
    ) -> Result<PgLogReader> {
        let holds = (snapshot == SlotSnapshot::Export).then(|| HoldsSnapshot::new(self.start_snapshot.clone()));
        let (mut server, captured) = self.choose("highwater log catalog").await?;
        let (settings, in_recovery) = (captured.settings.clone(), captured.in_recovery);
        *self.captured.lock().unwrap_or_else(PoisonError::into_inner) = Some(captured);
        let mut replication = ReplicationConnection::open(&settings).await?;
        // Before anything is made or changed on a server that may be the wrong one.
        let lineage = checkpoint_history::verify(&mut server, &mut replication, from).await?;
        let mut catalog = server.queries;
        let options = self.stream_options(catalog.server_version().await?.0)?;
        check_privilege(&mut catalog, &self.settings.throttle, &self.settings.user).await?;
        // Before the slot: decoding looks the publication up as it was when each change was made.
        let added = ensure_publication(&mut catalog, &settings, &self.selection).await?;
        let (mut point, slot_is_made) = self
            .start_position(&mut catalog, &mut replication, from, in_recovery, snapshot)
            .await?;
        point.lineage = lineage.encode();
        // A slot that is made now waited for what was open. A standby's snapshots do not list it.
        if !slot_is_made && !in_recovery {
            let_older_transactions_end(&mut catalog, &settings.publication.name, &self.selection, added, |_| {
                true
            })
            .await?;
        }
        let xids = XidEpoch::new(catalog.next_transaction().await?);
        let version = replication.server_version();
        if !version.sends_binary() {
            replication.settle_text().await?;
        }
        let command = StartReplication {
            slot: &self.settings.slot.name,
            // With prepared transactions, from where the server was acknowledged: those that were undecided then, or whose
            // commit was not durable here, come again, and what the checkpoint has is passed over.
            start: if options.two_phase { Lsn::ZERO } else { point.position.0 },
            publications: &[&self.settings.publication.name],
            options,
            version,
        };
        let stream = replication.start(&command).await?;
        let (selection, start) = (
            self.selection.clone(),
            LogStart {
                point,
                lineage,
                xids,
                in_recovery,
            },
        );
        let log = PgLogReader::new(stream, catalog, settings, selection, start, run).await;
        Ok(log.holding(holds))
    }
}

impl SourceConnector for PostgresConnector {
    type Position = PgPosition;
    type Log = PgLogReader;
    type Chunks = PgChunkReader;
    type Watermarks = PgWatermarkWriter;

    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            reconcile: Reconcile::Window,
            ordered: true,
            delivers_once: true,
            not_promised: vec![
                "an unchanged out-of-line value (TOAST) is not in the log unless the table has REPLICA IDENTITY FULL: the \
                 event is partial and a read of its key follows"
                    .into(),
                "the row before a change holds the key only, unless the table has REPLICA IDENTITY FULL".into(),
                "a schema change is seen with the next change of its table".into(),
            ],
        }
    }

    fn source_block(&self) -> Arc<dyn SourceBlock<PgPosition>> {
        Arc::new(PgSourceBlock::new(self.settings.database.clone()))
    }

    async fn preflight(&self) -> Result<Vec<Finding>> {
        preflight::check(&self.settings, &self.selection).await
    }

    async fn discover(&self) -> Result<Catalog> {
        let mut server = server_choice::choose(&self.settings, "highwater catalog", TIME_OUTS).await?;
        read_catalog(&mut server.queries, &self.settings, &self.selection).await
    }

    async fn open_log(&self, from: Option<&ResumePoint<PgPosition>>, run: RunId) -> Result<PgLogReader> {
        self.open(from, run, SlotSnapshot::Nothing).await
    }

    async fn open_log_with_snapshot(&self, run: RunId) -> Result<PgLogReader> {
        self.open(None, run, SlotSnapshot::Export).await
    }

    async fn begin_anew(&self, lost: &ResumePoint<PgPosition>) -> Result<()> {
        let (server, captured) = self.choose("highwater log catalog").await?;
        let (mut catalog, settings) = (server.queries, captured.settings);
        // Before the slot, as when the log is opened.
        ensure_publication(&mut catalog, &settings, &self.selection).await?;
        let mut replication = ReplicationConnection::open(&settings).await?;
        let anew = SlotAnew {
            options: self.slot_options(),
            in_recovery: captured.in_recovery,
            lost: lost.position.0,
        };
        anew.make(&mut catalog, &mut replication, &settings).await
    }

    async fn open_chunks(&self) -> Result<PgChunkReader> {
        let captured = self.captured().await?;
        let (selection, start) = (self.selection.clone(), self.start_snapshot.clone());
        Ok(PgChunkReader::new(
            captured.settings,
            selection,
            start,
            captured.in_recovery,
        ))
    }

    async fn open_watermarks(&self, run: RunId) -> Result<PgWatermarkWriter> {
        let captured = self.captured().await?;
        Ok(PgWatermarkWriter::new(captured.settings, run, captured.in_recovery))
    }

    async fn add_tables(&self, tables: &[TableName]) -> Result<()> {
        let mut catalog = QueryConnection::new(self.captured().await?.settings, "highwater catalog", TIME_OUTS);
        let added = add_to_publication(&mut catalog, &self.settings, tables).await?;
        if !self.captured().await?.in_recovery {
            let_older_transactions_end(
                &mut catalog,
                &self.settings.publication.name,
                &self.selection,
                added,
                |table| tables.contains(table),
            )
            .await?;
        }
        self.selection.add(tables);
        Ok(())
    }
}
