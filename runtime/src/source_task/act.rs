// SPDX-License-Identifier: Apache-2.0
//! Does what the engine asks for, in its order.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_core::change::{Capture as Origin, Change};
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::dblog::action::{Action, Certificate, Outcome as CopyOutcome};
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::transport::TopicSpec;
use highwater_core::{Error, Result};
use highwater_formats::Outcome;

use super::capture::Capture;
use super::spilling::Ask;
use crate::crash_points::{Phase, reach};

enum Encoded {
    Done,
    /// Batches are large enough to be handed over.
    Full,
    /// The table's shape is not prepared.
    Unprepared,
}

impl<C: SourceConnector> Capture<C> {
    /// Takes every action that waits. Events are encoded without waiting; only a full batch, a new shape, a checkpoint
    /// and an acknowledgement wait.
    pub(super) async fn act(&mut self) -> Result<()> {
        let mut actions = std::mem::take(&mut self.actions);
        self.encoding_at_us = self.clock.now_us();
        for action in actions.drain(..) {
            match action {
                // Nearly every event is done here, without a future that would take it along.
                Action::Emit(change) => match self.encode(&change)? {
                    Encoded::Done => {}
                    Encoded::Full => self.flush().await?,
                    Encoded::Unprepared => self.emit(change).await?,
                },
                other => {
                    self.act_on(other).await?;
                    self.encoding_at_us = self.clock.now_us();
                }
            }
        }
        self.actions = actions;
        let (events, bytes) = self.observed.take_uncommitted();
        if events > 0 {
            let now = self.now();
            self.pace.emitted(events, bytes, now);
        }
        Ok(())
    }

    async fn emit(&mut self, change: Change<C::Position>) -> Result<()> {
        loop {
            match self.encode(&change)? {
                Encoded::Done => return Ok(()),
                Encoded::Full => return self.flush().await,
                Encoded::Unprepared => {
                    self.prepare(&change.schema).await?;
                    self.encoding_at_us = self.clock.now_us();
                }
            }
        }
    }

    /// Hands over what is encoded, which may wait.
    async fn flush(&mut self) -> Result<()> {
        self.outbox.flush().await?;
        self.encoding_at_us = self.clock.now_us();
        Ok(())
    }

    fn encode(&mut self, change: &Change<C::Position>) -> Result<Encoded> {
        let encoder = &mut self.encoder;
        let batch = self.outbox.batch(change.table(), || encoder.topic(&change.schema.name));
        let (before, count) = (batch.bytes(), batch.len());
        let outcome = encoder.encode_at(change, self.encoding_at_us, batch)?;
        if outcome == Outcome::Prepare {
            return Ok(Encoded::Unprepared);
        }
        let bytes = batch.bytes() - before;
        if let Some(compared) = self
            .compared
            .as_mut()
            .filter(|compared| compared.watches(&change.schema))
        {
            compared.note(batch, count);
        }
        self.observed.event(change.op, &change.schema, bytes);
        if change.capture == Origin::Log {
            self.observed.source_time_us = change.source_time_us;
        }
        Ok(if self.outbox.grew(bytes) {
            Encoded::Full
        } else {
            Encoded::Done
        })
    }

    /// Registers a shape and makes its topic, before the first event that follows it.
    pub(super) async fn prepare(&mut self, schema: &Arc<TableSchema>) -> Result<()> {
        self.make_topics([&schema.name]).await?;
        self.encoder.prepare(schema).await
    }

    /// Makes the topics of these tables that this run has not seen yet, all at once.
    pub(super) async fn make_topics(&mut self, tables: impl IntoIterator<Item = &TableName>) -> Result<()> {
        let topics = tables.into_iter().map(|table| self.encoder.topic(table));
        // Tables of one topic are refused by their names when their shapes are prepared.
        let unseen: BTreeSet<Arc<str>> = topics.filter(|topic| !self.topics.contains(topic)).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        let spec = |topic: &Arc<str>| TopicSpec {
            name: topic.to_string(),
            partitions: self.settings.topics.partitions,
            cleanup: self.settings.topics.cleanup,
            retention: self.settings.topics.retention,
        };
        let specs: Vec<TopicSpec> = unseen.iter().map(spec).collect();
        self.transport.ensure_topics(&specs).await?;
        self.topics.extend(unseen);
        Ok(())
    }

    async fn act_on(&mut self, action: Action<C::Position>) -> Result<()> {
        match action {
            Action::Emit(change) => self.emit(change).await?,
            Action::Schema(schema) => {
                if !self.encoder.is_prepared(&schema) {
                    self.prepare(&schema).await?;
                }
                if !self.engine.renewals().is_empty() {
                    self.shapes.insert(schema.name.clone(), schema);
                }
            }
            Action::WriteMark { mark, chunk } => {
                reach(Phase::OpenWindow);
                self.workers.mark(mark, chunk)?;
            }
            Action::ReadChunk(request) => self.workers.read(request)?,
            Action::Spill { run, entries } => self.workers.spill(Ask::Write { run, entries })?,
            Action::Recall { chunk, runs, digests } => self.workers.spill(Ask::Recall { chunk, runs, digests })?,
            Action::Forget(run) => self.workers.spill(Ask::Forget(run))?,
            Action::SaveCheckpoint { id, checkpoint } => {
                self.outbox.commit(id, checkpoint).await?;
                // What was encoded before it goes with it.
                self.observed.take_uncommitted();
                let now = self.now();
                self.pace.committing(now);
            }
            Action::Acknowledge(position) => {
                reach(Phase::BeforeAcknowledge);
                self.log.acknowledge(&position).await?;
                self.observed.acknowledged = Some(position.to_string());
            }
            Action::Certificate(certificate) => self.keep_certificate(&certificate)?,
            Action::Started { snapshot, .. } => {
                if let Some(started) = &mut self.started {
                    started.push(snapshot.0);
                }
                tracing::info!(snapshot = snapshot.0, "snapshot begun");
            }
            Action::Done { snapshot, outcome } => {
                tracing::info!(snapshot = snapshot.0, ?outcome, "snapshot ended");
                if outcome == CopyOutcome::Failed {
                    self.copy_failed()?;
                }
            }
            Action::Report(report) => self.report(&report),
            Action::Watch(table) => self.watch(table).await?,
            Action::Compare { table, ends } => self.compare(table, ends)?,
            Action::Remove { table, position, last } => {
                reach(Phase::Renewal);
                self.remove(table, position, last).await?;
            }
        }
        Ok(())
    }

    /// The evidence goes with the rows, in their transaction.
    fn keep_certificate(&mut self, certificate: &Certificate) -> Result<()> {
        self.metrics.snapshot_rows_read.inc_by(certificate.rows_read);
        self.metrics.snapshot_rows_emitted.inc_by(certificate.rows_emitted);
        self.metrics.snapshot_rows_dropped.inc_by(certificate.rows_dropped);
        let key = format!("{}:{}", certificate.snapshot.0, certificate.chunk.0);
        let value = serde_json::to_vec(certificate)
            .map_err(|error| Error::bug("a certificate cannot be written as JSON").with_source(error))?;
        let now_ms = self.clock.now_us() / 1_000;
        let batch = self.outbox.own_batch(&self.certificates);
        batch.push(Some(key.as_bytes()), Some(&value), now_ms, Vec::new());
        self.outbox.grew(key.len() + value.len());
        Ok(())
    }
}
