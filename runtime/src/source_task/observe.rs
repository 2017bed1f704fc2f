// SPDX-License-Identifier: Apache-2.0
//! What the loop counts for itself and now and then tells the metrics and the status board.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_core::change::Op;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::dblog::action::Report;
use highwater_core::dblog::copy::{CopyState, SnapshotProgress};
use highwater_core::schema::{TableId, TableName, TableSchema};
use tokio::time::Instant;

use super::capture::Capture;
use crate::telemetry::status::{REPORTS_MAX, TableStatus};

/// Plain counters: nothing here is shared, so an event costs a few additions.
pub(super) struct Observed {
    uncommitted_events: u64,
    uncommitted_bytes: u64,
    pub(super) source_time_us: i64,
    pub(super) acknowledged: Option<String>,
    pub(super) last_saved: Instant,
    by_op: [u64; OPS.len()],
    by_table: HashMap<TableId, (TableName, u64)>,
    run: Option<(TableId, u64)>,
    copies: HashMap<TableName, (Instant, u64)>,
    foreign_marks: u64,
    rereads: u64,
    /// Why the source is spared further chunks.
    pub(super) overload: Option<Arc<str>>,
}

impl Observed {
    pub(super) fn new(now: Instant) -> Self {
        Observed {
            uncommitted_events: 0,
            uncommitted_bytes: 0,
            source_time_us: 0,
            acknowledged: None,
            last_saved: now,
            by_op: [0; OPS.len()],
            by_table: HashMap::new(),
            run: None,
            copies: HashMap::new(),
            foreign_marks: 0,
            rereads: 0,
            overload: None,
        }
    }

    /// Counts an event. Events of one table come in runs, so the map is asked once a run.
    #[inline]
    pub(super) fn event(&mut self, op: Op, schema: &Arc<TableSchema>, bytes: usize) {
        self.uncommitted_events += 1;
        self.uncommitted_bytes += bytes as u64;
        self.by_op[op as usize] += 1;
        match &mut self.run {
            Some((table, count)) if *table == schema.id => *count += 1,
            _ => {
                self.end_run();
                self.by_table
                    .entry(schema.id)
                    .or_insert_with(|| (schema.name.clone(), 0));
                self.run = Some((schema.id, 1));
            }
        }
    }

    /// Events and bytes since the last call.
    pub(super) fn take_uncommitted(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.uncommitted_events),
            std::mem::take(&mut self.uncommitted_bytes),
        )
    }

    fn end_run(&mut self) {
        if let Some((table, count)) = self.run.take()
            && let Some((_, total)) = self.by_table.get_mut(&table)
        {
            *total += count;
        }
    }

    /// Seconds that a copy still takes at the pace it had so far.
    fn seconds_left(&mut self, copy: &SnapshotProgress, estimate: Option<u64>, now: Instant) -> Option<f64> {
        let (since, rows_then) = *self.copies.entry(copy.table.clone()).or_insert((now, copy.rows_read));
        let took = now.duration_since(since).as_secs_f64();
        let rows = copy.rows_read.saturating_sub(rows_then);
        let left = estimate?.saturating_sub(copy.rows_read);
        (rows > 0 && took > 0.0).then(|| left as f64 * took / rows as f64)
    }
}

const OPS: [Op; 6] = [Op::Create, Op::Update, Op::Delete, Op::Truncate, Op::Read, Op::Message];

impl<C: SourceConnector> Capture<C> {
    /// Tells metrics and board how things stand.
    pub(super) fn observe(&mut self, now: Instant) {
        let progress = self.engine.progress();
        let windows_open: u64 = progress.iter().map(|copy| u64::from(copy.windows_open)).sum();
        let running = progress.iter().filter(|copy| is_running(copy.state)).count();
        self.observe_counters(now);
        self.metrics
            .windows_open
            .set(i64::try_from(windows_open).unwrap_or(i64::MAX));
        self.metrics.snapshots_running.set(running as i64);
        let lag_bytes = self.log.lag_bytes();
        self.metrics
            .lag_bytes
            .set(lag_bytes.map_or(0, |lag| i64::try_from(lag).unwrap_or(i64::MAX)));
        let tables = self.tables(&progress, now);
        let renewals = self.renewals();
        let position = self.engine.delivered().to_string();
        let lag_seconds = self.metrics.source_lag_seconds.get();
        let at_us = self.clock.now_us();
        let events = self.metrics.events_total();
        let acknowledged = self.observed.acknowledged.clone();
        let overload = self.observed.overload.as_deref().map(str::to_owned);
        self.board.update(|status| {
            status.read_position = Some(position);
            if acknowledged.is_some() {
                status.acknowledged_position = acknowledged;
            }
            status.lag_bytes = lag_bytes;
            status.source_lag_seconds = lag_seconds;
            status.events = events;
            status.windows_open = windows_open;
            status.overload = overload;
            for (name, table) in tables {
                let shown = status.tables.entry(name).or_default();
                let events = shown.events + table.events;
                // Copies that ended before the last retry are no longer known to the engine.
                let ended_before = table.rows_read == 0 && !table.copying;
                let rows_read = if ended_before { shown.rows_read } else { table.rows_read };
                *shown = TableStatus {
                    events,
                    rows_read,
                    ..table
                };
            }
            status.snapshots = progress;
            status.renewals.extend(renewals);
            status.at_us = at_us;
        });
    }

    fn observe_counters(&mut self, now: Instant) {
        for op in OPS {
            let count = std::mem::take(&mut self.observed.by_op[op as usize]);
            if count > 0 {
                self.metrics.events(op).inc_by(count);
            }
        }
        if self.observed.source_time_us > 0 {
            let lag_us = self.clock.now_us().saturating_sub(self.observed.source_time_us).max(0);
            self.metrics.source_lag_seconds.set(lag_us as f64 / 1e6);
            self.observed.source_time_us = 0;
        }
        self.metrics.set_retention(self.log.retention());
        self.metrics
            .source_overloaded
            .set(self.observed.overload.is_some().into());
        self.metrics.queue_bytes.set(self.outbox.queued_bytes() as i64);
        self.metrics
            .checkpoint_age_seconds
            .set(now.duration_since(self.observed.last_saved).as_secs_f64());
        let foreign = self.log.foreign_marks();
        self.metrics
            .foreign_marks
            .inc_by(foreign.saturating_sub(self.observed.foreign_marks));
        self.observed.foreign_marks = foreign;
        let rereads = self.engine.counters().reads_repeated;
        self.metrics
            .view_rereads
            .inc_by(rereads.saturating_sub(self.observed.rereads));
        self.observed.rereads = rereads;
    }

    /// Tables of the catalogue and of the copies; `events` are those since the last time.
    fn tables(&mut self, progress: &[SnapshotProgress], now: Instant) -> HashMap<String, TableStatus> {
        let mut tables = HashMap::new();
        for table in &self.catalog.tables {
            let status = TableStatus {
                rows_estimate: table.rows_estimate,
                ..TableStatus::default()
            };
            tables.insert(table.schema.name.to_string(), status);
        }
        for copy in progress {
            let table: &mut TableStatus = tables.entry(copy.table.to_string()).or_default();
            let running = is_running(copy.state);
            // Copies that run come first; one that ended tells of the rows only if none runs.
            if running || (!table.copying && table.rows_read == 0) {
                table.rows_read = copy.rows_read;
                table.copying |= running;
            }
            if running {
                table.seconds_left = self.observed.seconds_left(copy, table.rows_estimate, now);
            }
        }
        for name in self.engine.known_tables() {
            if let Some(table) = tables.get_mut(&name.to_string()) {
                table.copied = !table.copying;
            }
        }
        self.observed.end_run();
        for (name, count) in self.observed.by_table.values_mut() {
            tables.entry(name.to_string()).or_default().events = std::mem::take(count);
        }
        tables
    }

    /// Something that a person should see.
    pub(super) fn report(&self, report: &Report) {
        tracing::warn!(table = %report.table, code = %report.code, "{}", report.message);
        self.board.update(|status| {
            if status.reports.len() >= REPORTS_MAX {
                status.reports.remove(0);
            }
            status.reports.push(report.clone());
        });
    }
}

fn is_running(state: CopyState) -> bool {
    matches!(state, CopyState::Running | CopyState::Paused)
}
