// SPDX-License-Identifier: Apache-2.0
//! One run from the checkpoint: the order of opening, and the two stages side by side.

use std::sync::Arc;
use std::time::Duration;

use highwater_core::connector::{Catalog, LogReader, Reconcile, SourceConnector, StartSnapshot};
use highwater_core::dblog::engine::Engine;
use highwater_core::position::{ResumePoint, RunId};
use highwater_core::transport::{Cleanup, TopicSpec, Writer};
use highwater_core::{Error, ErrorKind, Result};
use highwater_formats::Encoder;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::capture::{Capture, CaptureParts};
use super::committer::{Committer, SAVED_MAX};
use super::outbox::{Outbox, Spares};
use super::spilling::SpillPlace;
use super::workers::Workers;
use super::{SourceTask, certificates_topic};
use crate::shutdown::Shutdown;

/// How long a committer may take to abort what is not committed.
const ABORT_MAX: Duration = Duration::from_secs(3);

struct Opened<C: SourceConnector> {
    writer: Box<dyn Writer>,
    engine: Engine<C::Position>,
    log: C::Log,
    encoder: Encoder<C::Position>,
    catalog: Catalog,
    run: RunId,
    resumed: bool,
    /// The engine may have more to remember than its memory holds.
    remembers: bool,
}

impl<C: SourceConnector> SourceTask<C> {
    /// Opens everything and captures until the wish to stop.
    pub(super) async fn attempt(&mut self) -> Result<()> {
        let shutdown = self.shutdown.clone();
        let opened = tokio::select! {
            opened = self.open() => opened?,
            () = shutdown.requested() => return Ok(()),
        };
        let spares = Arc::<Spares>::default();
        let (outbox, parcels) = Outbox::new(spares.clone());
        let (saved_sender, saved) = mpsc::channel(SAVED_MAX);
        let committer = Committer {
            writer: opened.writer,
            parcels,
            saved: saved_sender,
            spares,
            metrics: self.metrics.clone(),
        };
        let committer = tokio::spawn(committer.run());
        let spill = self.spill_place(opened.remembers);
        let workers = Workers::start(&self.connector, opened.run, self.settings.engine.reads_max, spill);
        let mut capture = Capture::new(
            self,
            CaptureParts {
                engine: opened.engine,
                log: opened.log,
                encoder: opened.encoder,
                catalog: opened.catalog,
                resumed: opened.resumed,
                outbox,
                saved,
                workers,
            },
        );
        let captured = tokio::select! {
            captured = capture.run(&mut self.commands, &shutdown) => captured,
            // Also a run that waits for a full queue or a silent server ends in time.
            () = overdue(&shutdown, self.settings.drain_max) => Err(late()),
        };
        // Without its sender the committer ends; without the workers no connection is left behind.
        drop(capture);
        let committed = join(committer).await;
        match (captured, committed) {
            // The committer's error is the cause, the loop's only says that the committer went.
            (_, Err(error)) => Err(error),
            (captured, Ok(())) => captured,
        }
    }

    /// Where what is remembered may go, where there is something to remember. What an earlier run left there is cleared in
    /// any case.
    fn spill_place(&self, remembers: bool) -> Option<SpillPlace> {
        let folder = self.settings.spill_folder.clone();
        let folder = folder.filter(|folder| remembers || folder.is_dir())?;
        Some(SpillPlace {
            folder,
            bytes_max: self.settings.engine.spill_bytes_max,
        })
    }

    /// Writer, checkpoint, catalogue, log, in this order: the writer fences every earlier one before the checkpoint is
    /// read, so nobody can move it afterwards.
    async fn open(&self) -> Result<Opened<C>> {
        let certificates = certificates_topic(&self.settings.encoder.topic_prefix);
        self.transport
            .ensure_topics(&[TopicSpec {
                name: certificates.to_string(),
                partitions: 1,
                cleanup: Cleanup::Compact,
                retention: None,
            }])
            .await?;
        let mut writer = self.transport.open_writer(&self.settings.writer).await?;
        let stored = writer.checkpoint().await?;
        let catalog = self.connector.discover().await?;
        let run = crate::chance::run_id();
        let reconcile = self.connector.capabilities().reconcile;
        let kind = self.connector.kind();
        let mut settings = self.settings.engine.clone();
        if self.settings.spill_folder.is_none() {
            settings.spill_bytes_max = 0;
        }
        let mut remembers = reconcile == Reconcile::AsOf;
        let (mut engine, log) = match &stored {
            Some(checkpoint) => {
                let engine = Engine::restore(settings, reconcile, kind, checkpoint)?;
                let log = self.connector.open_log(Some(engine.resume_point()), run).await?;
                (engine, log)
            }
            None => {
                let log = self.open_anew(run).await?;
                let start = ResumePoint::at(log.start().clone());
                let engine = match log.start_snapshot() {
                    StartSnapshot::Held(moment) => {
                        remembers = true;
                        Engine::with_snapshot(settings, kind, moment, start)
                    }
                    _ => Engine::new(settings, kind, reconcile, start),
                };
                (engine, log)
            }
        };
        engine.reads_history(log.lineage());
        let encoder = Encoder::new(
            self.settings.encoder.clone(),
            self.connector.source_block(),
            self.registry.clone(),
            self.clock.clone(),
        )?;
        tracing::info!(
            pipeline = %self.settings.writer.0,
            position = %engine.resume_point().position,
            tables = catalog.tables.len(),
            resumed = stored.is_some(),
            "capturing"
        );
        Ok(Opened {
            writer,
            engine,
            log,
            encoder,
            catalog,
            run,
            resumed: stored.is_some(),
            remembers,
        })
    }

    /// Opens the log where nothing was captured yet, with a snapshot if tables are to be copied from it.
    async fn open_anew(&self, run: RunId) -> Result<C::Log> {
        let wanted = self.settings.initial_snapshot && self.settings.start_snapshot_max.is_some();
        match wanted {
            true => self.connector.open_log_with_snapshot(run).await,
            false => self.connector.open_log(None, run).await,
        }
    }
}

/// Returns when the wish to stop is older than `drain_max`.
async fn overdue(shutdown: &Shutdown, drain_max: Duration) {
    shutdown.requested().await;
    tokio::time::sleep(drain_max).await;
}

fn late() -> Error {
    Error::new(ErrorKind::Cancelled, "the last commit was not done in time")
        .with_fix("raise admin.shutdown_ms_max, or see why the transport is slow")
}

async fn join(mut committer: JoinHandle<Result<()>>) -> Result<()> {
    match tokio::time::timeout(ABORT_MAX, &mut committer).await {
        Ok(Ok(committed)) => match committed {
            Err(error) if error.kind() == ErrorKind::Cancelled => Ok(()),
            committed => committed,
        },
        Ok(Err(panicked)) => Err(Error::bug("the committer panicked").with_source(panicked)),
        Err(_) => {
            committer.abort();
            Ok(())
        }
    }
}
