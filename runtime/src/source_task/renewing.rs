// SPDX-License-Identifier: Apache-2.0
//! The capture loop's part in making a table right again after its log was lost: what leaves is watched while keys are
//! compared, and keys that are gone leave as deletes. Why that is right: `highwater_core::dblog`'s `renewal.rs`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use highwater_core::change::{Capture as Origin, Change, ChangeVersion, Op};
use highwater_core::connector::SourceConnector;
use highwater_core::dblog::input::Input;
use highwater_core::position::TransactionId;
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::transport::RecordBatch;
use highwater_core::{Class, Error, ErrorKind, Result};
use highwater_formats::Gone;
use serde_json::json;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::capture::Capture;
use super::comparing::{Comparison, Finding, KEY_OVERHEAD_BYTES, KEYS_BYTES_MAX, Share};
use crate::telemetry::status::{RenewalState, RenewalStatus};

/// Bytes of keys, with what it costs to keep each, that may leave while keys are compared; past it they are compared again.
const LEFT_BYTES_MAX: usize = 16 << 20;

/// The table whose keys are compared.
pub(super) struct Renewing {
    table: TableName,
    schema: Arc<TableSchema>,
    number: u64,
    /// Keys that left since the table was watched.
    left: HashSet<Box<[u8]>>,
    left_bytes: usize,
    overrun: bool,
    /// What was found and not told to the engine yet.
    findings: VecDeque<Finding>,
    /// What the engine knows of and waits for the end of a transaction.
    due: Option<Finding>,
    shares: Vec<Share>,
    keys_compared: u64,
    other_keys: u64,
    keys_removed: u64,
    task: Option<AbortHandle>,
}

impl Drop for Renewing {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Renewing {
    /// Whether events of this shape are to be noted.
    #[inline]
    pub(super) fn watches(&self, schema: &TableSchema) -> bool {
        self.table == schema.name
    }

    /// Notes the keys of records behind the first `count`.
    pub(super) fn note(&mut self, batch: &RecordBatch, count: usize) {
        for key in batch.iter_from(count).filter_map(|record| record.key) {
            if self.left.contains(key) {
                continue;
            }
            if self.left_bytes >= LEFT_BYTES_MAX {
                self.overrun = true;
                // What the engine was told of cannot be compared again.
                if let Some(due) = &mut self.due {
                    due.keys.retain(|gone| gone != key);
                }
                continue;
            }
            self.left_bytes += key.len() + KEY_OVERHEAD_BYTES;
            self.left.insert(key.into());
        }
    }
}

impl<C: SourceConnector> Capture<C> {
    /// A table is copied: from here on its keys are noted when they leave.
    pub(super) async fn watch(&mut self, table: TableName) -> Result<()> {
        let schema = self.shapes.get(&table).cloned().or_else(|| {
            let mut tables = self.catalog.tables.iter();
            let found = tables.find(|captured| captured.schema.name == table)?;
            Some(found.schema.clone())
        });
        let Some(schema) = schema else {
            self.renewing = None;
            return Ok(());
        };
        if !self.encoder.is_prepared(&schema) {
            self.prepare(&schema).await?;
        }
        let before = self.renewing.take().filter(|renewing| renewing.table == table);
        let number = self.next_comparison;
        self.next_comparison += 1;
        let counts = before.as_ref().map_or((0, 0, 0), |before| {
            (before.keys_compared, before.other_keys, before.keys_removed)
        });
        self.renewing = Some(Renewing {
            table,
            schema,
            number,
            left: HashSet::new(),
            left_bytes: 0,
            overrun: false,
            findings: VecDeque::new(),
            due: None,
            shares: before.map_or_else(|| vec![Share::WHOLE], |before| before.shares.clone()),
            keys_compared: counts.0,
            other_keys: counts.1,
            keys_removed: counts.2,
            task: None,
        });
        Ok(())
    }

    /// What left before is durable: the topic can be read.
    pub(super) fn compare(&mut self, table: TableName, ends: Vec<u64>) {
        let topic = self.encoder.topic(&table);
        let Some(renewing) = self.renewing.as_mut().filter(|renewing| renewing.table == table) else {
            tracing::warn!(%table, "the table is not captured any more; what is gone of it stays in its topic");
            self.uncompared = Some(table);
            return;
        };
        let begins = self.encoder.key_begins_with(&renewing.schema).unwrap_or_default();
        let comparison = Comparison {
            number: renewing.number,
            topic,
            key_begins_with: Bytes::copy_from_slice(begins),
            table,
            ends,
            shares: renewing.shares.clone(),
            keys_bytes_max: KEYS_BYTES_MAX,
        };
        renewing.task = Some(self.workers.compare(comparison, self.transport.clone()));
    }

    /// Some keys were found to be gone.
    pub(super) async fn found(&mut self, number: u64, finding: Finding) -> Result<()> {
        if let Some(renewing) = self.renewing.as_mut().filter(|renewing| renewing.number == number) {
            renewing.findings.push_back(finding);
        }
        self.tell_findings().await
    }

    /// The engine is told of one finding after the other.
    pub(super) async fn tell_findings(&mut self) -> Result<()> {
        if let Some(table) = self.uncompared.take() {
            return self.compare_again(table).await;
        }
        while let Some(renewing) = &mut self.renewing
            && renewing.due.is_none()
            && let Some(finding) = renewing.findings.pop_front()
        {
            let table = renewing.table.clone();
            if renewing.overrun {
                tracing::info!(%table, "more keys left than can be noted; the rest is compared again");
                renewing.findings.clear();
                return self.compare_again(table).await;
            }
            let mut last = false;
            if let Some(end) = &finding.share_end {
                renewing.keys_compared += end.keys_compared;
                renewing.other_keys += end.other_keys;
                renewing.shares.clone_from(&end.shares_left);
                last = end.shares_left.is_empty();
            }
            renewing.due = Some(finding);
            self.step(Input::Compared { table, last }).await?;
        }
        Ok(())
    }

    /// A topic could not be read.
    pub(super) async fn not_compared(&mut self, number: u64, table: TableName, error: Error) -> Result<()> {
        if self.renewing.as_ref().is_none_or(|renewing| renewing.number != number) {
            return Ok(());
        }
        if error.class() != Class::Retryable && error.kind() != ErrorKind::Cancelled {
            return Err(error.with("table", &table));
        }
        tracing::warn!(%table, %error, "keys could not be compared; tried again");
        self.compare_again(table).await
    }

    async fn compare_again(&mut self, table: TableName) -> Result<()> {
        if let Some(task) = self.renewing.as_mut().and_then(|renewing| renewing.task.take()) {
            task.abort();
        }
        self.retry_at.get_or_insert(Instant::now() + self.retry_wait);
        self.step(Input::CompareFailed(table)).await
    }

    /// Sends a delete for each key that is gone at `position`.
    pub(super) async fn remove(&mut self, table: TableName, position: C::Position, last: bool) -> Result<()> {
        let Some(renewing) = self.renewing.as_mut().filter(|renewing| renewing.table == table) else {
            return Err(Error::bug("keys are to be removed that were not compared").with("table", &table));
        };
        let mut keys = renewing.due.take().map(|due| due.keys).unwrap_or_default();
        keys.retain(|key| !renewing.left.contains(&key[..]));
        let delete = self.delete_at(position);
        if let Some(delete) = &delete {
            for key in keys {
                self.remove_key(&key, delete).await?;
            }
        }
        if last && let Some(delete) = delete {
            self.renewed(&delete)?;
        }
        Ok(())
    }

    /// What every delete at `position` has in common.
    fn delete_at(&self, position: C::Position) -> Option<Change<C::Position>> {
        Some(Change {
            schema: self.renewing.as_ref()?.schema.clone(),
            op: Op::Delete,
            before: None,
            after: None,
            position: position.clone(),
            commit: position,
            transaction: TransactionId(0),
            ordinal: 1,
            source_time_us: self.clock.now_us(),
            version: ChangeVersion::InOrder,
            capture: Origin::Renewal,
            origin: None,
        })
    }

    async fn remove_key(&mut self, key: &[u8], delete: &Change<C::Position>) -> Result<()> {
        loop {
            let encoder = &mut self.encoder;
            let batch = self.outbox.batch(delete.table(), || encoder.topic(&delete.schema.name));
            let bytes = batch.bytes();
            let gone = encoder.encode_gone(key, delete, self.encoding_at_us, batch)?;
            let bytes = batch.bytes() - bytes;
            let Some(renewing) = &mut self.renewing else {
                return Ok(());
            };
            match gone {
                Gone::Prepare => self.prepare(&delete.schema).await?,
                Gone::OtherKey => {
                    renewing.other_keys += 1;
                    return Ok(());
                }
                Gone::Appended => {
                    renewing.keys_removed += 1;
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
    fn renewed(&mut self, delete: &Change<C::Position>) -> Result<()> {
        let Some(renewing) = self.renewing.take() else {
            return Ok(());
        };
        let status = renewing.status(RenewalState::Done);
        let table = &renewing.table;
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
        Ok(())
    }

    /// Tables that are not right yet.
    pub(super) fn renewals(&self) -> Vec<(String, RenewalStatus)> {
        let told = self.engine.renewals().iter().map(|renewal| {
            let state = if renewal.copied {
                RenewalState::Comparing
            } else {
                RenewalState::Copying
            };
            let compared = self
                .renewing
                .as_ref()
                .filter(|renewing| renewing.table == renewal.table);
            let status = compared.map_or_else(RenewalStatus::default, |renewing| renewing.status(state));
            (renewal.table.to_string(), RenewalStatus { state, ..status })
        });
        told.collect()
    }
}

impl Renewing {
    fn status(&self, state: RenewalState) -> RenewalStatus {
        RenewalStatus {
            state,
            keys_compared: self.keys_compared,
            keys_removed: self.keys_removed,
            other_keys: self.other_keys,
        }
    }
}
