// SPDX-License-Identifier: Apache-2.0
//! The capture loop's part in making a table right again after its log was lost: what leaves is watched while keys are
//! compared, and keys that are gone leave as deletes. Why that is right: `highwater_core::dblog`'s `renewal.rs`.

use std::sync::Arc;

use bytes::Bytes;
use highwater_core::change::{Capture as Origin, Change, ChangeVersion, Op};
use highwater_core::connector::SourceConnector;
use highwater_core::dblog::action::Report;
use highwater_core::dblog::input::Input;
use highwater_core::position::{Position, TransactionId};
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::{Class, Error, ErrorKind, Result};
use highwater_formats::Gone;
use serde_json::json;
use tokio::time::Instant;

use super::capture::Capture;
use super::compared::{Compared, Turn};
use super::comparing::{Comparison, Finding};
use crate::telemetry::status::{RenewalState, RenewalStatus};

impl<C: SourceConnector> Capture<C> {
    /// Tables that are not captured any more are not made right again. What the log had of them meanwhile is nowhere, so
    /// that keys that come back unseen would be taken for gone.
    pub(super) fn give_up_renewals(&mut self) {
        let tables = &self.catalog.tables;
        let is_captured = |name: &TableName| tables.iter().any(|table| table.schema.name == *name);
        for table in self.engine.keep_renewals(is_captured) {
            let message = format!(
                "table \"{table}\" is not captured any more, so that its renewal is given up: what is stale or gone of it stays \
                 in its topic; once it is captured again: highwater renew --force"
            );
            self.report(&Report {
                table,
                chunk: None,
                code: "renewal_given_up".to_owned(),
                message,
            });
        }
    }

    /// A table is copied: from here on its keys are noted when they leave.
    pub(super) async fn watch(&mut self, table: TableName) -> Result<()> {
        let schema = self
            .shape_now(&table)
            .ok_or_else(|| Error::bug("a table is to be compared that is not captured").with("table", &table))?;
        if !self.encoder.is_prepared(&schema) {
            self.prepare(&schema).await?;
        }
        let number = self.next_comparison;
        self.next_comparison += 1;
        let left_bytes_max = self.settings.renewal.left_bytes_max;
        let progress = self.progress.entry(table.clone()).or_default();
        self.compared = Some(Compared::new(table, schema, number, progress, left_bytes_max));
        Ok(())
    }

    fn shape_now(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        self.shapes.get(table).cloned().or_else(|| {
            let mut tables = self.catalog.tables.iter();
            let found = tables.find(|captured| captured.schema.name == *table)?;
            Some(found.schema.clone())
        })
    }

    /// What left before is durable: the topic can be read.
    pub(super) fn compare(&mut self, table: TableName, ends: Vec<u64>) -> Result<()> {
        let topic = self.encoder.topic(&table);
        let Some(compared) = self.compared.as_mut().filter(|compared| compared.table == table) else {
            return Err(Error::bug("keys are to be compared of a table that is not watched").with("table", &table));
        };
        let begins = self.encoder.key_begins_with(&compared.schema).unwrap_or_default();
        let comparison = Comparison {
            number: compared.number,
            topic,
            key_begins_with: Bytes::copy_from_slice(begins),
            table,
            ends,
            share: compared.share,
            keys_bytes_max: self.settings.renewal.keys_bytes_max,
        };
        compared.task = Some(self.workers.compare(comparison, self.transport.clone()));
        Ok(())
    }

    /// Some keys were found to be gone.
    pub(super) async fn found(&mut self, number: u64, finding: Finding) -> Result<()> {
        if let Some(compared) = self.compared.as_mut().filter(|compared| compared.number == number) {
            compared.found(finding);
        }
        self.tell_findings().await
    }

    /// The engine is told of one finding after the other.
    pub(super) async fn tell_findings(&mut self) -> Result<()> {
        while let Some(compared) = &mut self.compared {
            let table = compared.table.clone();
            let progress = self.progress.entry(table.clone()).or_default();
            match compared.turn(progress) {
                Turn::Wait => return Ok(()),
                Turn::Tell { last } => self.step(Input::Compared { table, last }).await?,
                Turn::Again => {
                    self.compared = None;
                    self.step(Input::CompareAgain(table)).await?;
                }
            }
        }
        Ok(())
    }

    /// A topic could not be read.
    pub(super) async fn not_compared(&mut self, number: u64, table: TableName, error: Error) -> Result<()> {
        if self.compared.as_ref().is_none_or(|compared| compared.number != number) {
            return Ok(());
        }
        if error.class() != Class::Retryable && error.kind() != ErrorKind::Cancelled {
            return Err(error.with("table", &table));
        }
        self.compared = None;
        let wait = self.progress.entry(table.clone()).or_default().fails(Instant::now());
        tracing::warn!(%table, %error, wait_ms = wait.as_millis() as u64, "keys could not be compared; tried again");
        self.step(Input::CompareFailed(table)).await
    }

    /// Comparisons that failed begin again when their time has come.
    pub(super) async fn begin_comparisons_again(&mut self, now: Instant) -> Result<()> {
        let due = self.progress.iter_mut().filter_map(|(table, progress)| {
            let is_due = progress.is_to_begin_again(now);
            is_due.then(|| table.clone())
        });
        for table in due.collect::<Vec<_>>() {
            self.step(Input::CompareAgain(table)).await?;
        }
        Ok(())
    }

    /// Sends a delete for each key that is gone at `position`.
    pub(super) async fn remove(&mut self, table: TableName, position: C::Position, last: bool) -> Result<()> {
        let Some(compared) = self.compared.as_mut().filter(|compared| compared.table == table) else {
            return Err(Error::bug("keys are to be removed that were not compared").with("table", &table));
        };
        let (keys, share_end) = compared.take_due();
        let delete = delete_at(compared.schema.clone(), position, self.clock.now_us());
        for key in keys {
            self.remove_key(&key, &delete).await?;
        }
        if let Some(compared) = &mut self.compared {
            let progress = self.progress.entry(table).or_default();
            compared.removed(share_end, progress);
        }
        if last {
            self.renewed(&delete);
        }
        Ok(())
    }

    async fn remove_key(&mut self, key: &[u8], delete: &Change<C::Position>) -> Result<()> {
        loop {
            let encoder = &mut self.encoder;
            let batch = self.outbox.batch(delete.table(), || encoder.topic(&delete.schema.name));
            let bytes = batch.bytes();
            let gone = encoder.encode_gone(key, delete, self.encoding_at_us, batch)?;
            let bytes = batch.bytes() - bytes;
            match gone {
                Gone::Prepare => self.prepare(&delete.schema).await?,
                Gone::OtherKey => {
                    if let Some(compared) = &mut self.compared {
                        compared.is_of_another_form();
                    }
                    return Ok(());
                }
                Gone::Appended => {
                    self.progress
                        .entry(delete.schema.name.clone())
                        .or_default()
                        .keys_removed += 1;
                    self.observed.event(Op::Delete, &delete.schema, bytes);
                    if self.outbox.grew(bytes) {
                        self.outbox.flush().await?;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The table is right: the evidence goes with the last deletes.
    fn renewed(&mut self, delete: &Change<C::Position>) {
        self.compared = None;
        let table = &delete.schema.name;
        let progress = self.progress.remove(table).unwrap_or_default();
        let status = progress.status(RenewalState::Done);
        tracing::info!(
            %table, keys_compared = status.keys_compared, keys_removed = status.keys_removed, other_keys = status.other_keys,
            position = %delete.commit, "renewed: the topic has what the table has"
        );
        let certificate = json!({
            "renewal": true, "table": table, "position": delete.commit.to_string(),
            "keys_compared": status.keys_compared, "keys_removed": status.keys_removed, "other_keys": status.other_keys,
        });
        let (key, value) = (format!("renewal:{table}"), certificate.to_string());
        let batch = self.outbox.own_batch(&self.certificates);
        batch.push(
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            self.clock.now_us() / 1_000,
            Vec::new(),
        );
        self.outbox.grew(key.len() + value.len());
        self.board.update(|board| {
            board.renewals.insert(table.to_string(), status);
        });
    }

    /// Tables that are not right yet.
    pub(super) fn renewals(&self) -> Vec<(String, RenewalStatus)> {
        let told = self.engine.renewals().iter().map(|renewal| {
            let state = match renewal.copied {
                true => RenewalState::Comparing,
                false if self.engine.is_held_up(renewal) => RenewalState::Cancelled,
                false => RenewalState::Copying,
            };
            let progress = self.progress.get(&renewal.table);
            let status = progress.map(|progress| progress.status(state));
            let begins = RenewalStatus {
                state,
                ..RenewalStatus::default()
            };
            (renewal.table.to_string(), status.unwrap_or(begins))
        });
        told.collect()
    }
}

/// What every delete at `position` has in common.
fn delete_at<P: Position>(schema: Arc<TableSchema>, position: P, source_time_us: i64) -> Change<P> {
    Change {
        schema,
        op: Op::Delete,
        before: None,
        after: None,
        position: position.clone(),
        commit: position,
        transaction: TransactionId(0),
        ordinal: 1,
        source_time_us,
        version: ChangeVersion::InOrder,
        capture: Origin::Renewal,
        origin: None,
    }
}
