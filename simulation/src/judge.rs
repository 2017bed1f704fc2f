// SPDX-License-Identifier: Apache-2.0
//! The verdict on a life: every committed event against the journal, shapes in order, no finished chunk read twice.

use std::collections::{BTreeMap, BTreeSet};

use highwater_core::change::{Capture, Change, Op};
use highwater_core::dblog::input::SnapshotId;
use highwater_core::image::{CellRef, RowImage};
use highwater_testkit::model::rows::number_of;
use highwater_testkit::model::{Database, ModelPosition};
use highwater_testkit::oracle::{CellState, LogRule, Oracle, Origin, RowState};

use crate::outlet::Sent;
use crate::scenario::{REPAIR_QUEUE_TINY, Scenario, Source};
use crate::trace;

type Keys = (usize, u64);

/// Judges what was committed before the log was lost: right as far as it goes.
pub fn judge_part(database: &Database, scenario: &Scenario, log_start: u64, committed: &[Sent]) -> Result<(), String> {
    observe_all(database, scenario, log_start, committed).map(drop)
}

/// Judges what was committed.
pub fn judge(
    database: &Database,
    scenario: &Scenario,
    log_start: u64,
    committed: &[Sent],
    copied: impl Fn(usize) -> bool,
) -> Result<(), String> {
    observe_all(database, scenario, log_start, committed)?
        .oracle
        .finish(|(table, _)| copied(*table))
        .map_err(|violation| format!("at the end: {violation:?}"))
}

fn observe_all<'a>(
    database: &'a Database,
    scenario: &Scenario,
    log_start: u64,
    committed: &[Sent],
) -> Result<Judge<'a>, String> {
    let rule = match scenario.source {
        Source::Moments => LogRule::NewestOnly,
        _ => LogRule::ExactlyOnce,
    };
    let mut judge = Judge {
        database,
        oracle: database.oracle(rule, log_start),
        shapes: BTreeMap::new(),
        chunked: BTreeSet::new(),
        // A repair queue that runs over reads the table again, finished chunks and all.
        once_only: scenario.settings.repair_queue_max > REPAIR_QUEUE_TINY,
    };
    for (at, sent) in committed.iter().enumerate() {
        let change = &sent.change;
        let place = format!(
            "event {at} ({:?} at {} by {:?})",
            change.op, change.commit, change.capture
        );
        trace::tell(|| format!("committed {place}"));
        judge.event(sent).map_err(|what| format!("{place}: {what}"))?;
    }
    Ok(judge)
}

/// What has been seen so far.
struct Judge<'a> {
    database: &'a Database,
    oracle: Oracle<Keys, u64>,
    /// Per table, which of its shapes the last event followed.
    shapes: BTreeMap<usize, usize>,
    chunked: BTreeSet<(SnapshotId, usize, u64)>,
    once_only: bool,
}

impl Judge<'_> {
    fn event(&mut self, sent: &Sent) -> Result<(), String> {
        let change = &sent.change;
        let tables = &self.database.tables;
        let number = tables.iter().position(|table| table.shape().id == change.table());
        let number = number.ok_or("an unknown table")?;
        let fingerprint = change.schema.fingerprint();
        let mut shapes = tables.get(number).into_iter().flat_map(|table| &table.shapes);
        let shape = shapes.position(|shape| shape.fingerprint() == fingerprint);
        let shape = shape.ok_or("an unknown shape")?;
        // A renewal's delete has the shape that its driver knows.
        let by_renewal = change.capture == Capture::Renewal;
        if !by_renewal && std::mem::replace(self.shapes.entry(number).or_insert(0), shape) > shape {
            return Err("an older shape than the event before".to_owned());
        }
        observe(&mut self.oracle, number, change)?;
        if let (Some(snapshot), Some(id)) = (sent.snapshot, change.after.as_ref().and_then(id_of))
            && !self.chunked.insert((snapshot, number, id))
            && self.once_only
        {
            return Err("a finished chunk was read again".to_owned());
        }
        Ok(())
    }
}

fn observe(oracle: &mut Oracle<Keys, u64>, table: usize, change: &Change<ModelPosition>) -> Result<(), String> {
    let origin = match change.capture {
        Capture::Log => Origin::Log,
        Capture::Chunk(_) | Capture::Repair(_) | Capture::Renewal => Origin::Read,
    };
    if change.op == Op::Truncate {
        return oracle
            .observe_truncate(|key| key.0 == table)
            .map_err(|violation| format!("{violation:?}"));
    }
    let before = change.before.as_ref().and_then(id_of);
    let after = change.after.as_ref().and_then(id_of);
    let mut tell = |id: u64, state: Option<RowState<u64>>| {
        oracle
            .observe(&(table, id), origin, state)
            .map_err(|violation| format!("{violation:?}"))
    };
    if let Some(before) = before
        && after != Some(before)
    {
        tell(before, None)?;
    }
    match (after, &change.after) {
        (Some(after), Some(image)) => tell(after, Some(state_of(image))),
        _ => Ok(()),
    }
}

fn id_of(image: &RowImage) -> Option<u64> {
    match image.cell(0) {
        CellRef::Value(bytes) => number_of(bytes),
        _ => None,
    }
}

fn state_of(image: &RowImage) -> RowState<u64> {
    let cell = |cell: CellRef<'_>| match cell {
        CellRef::Value(bytes) => number_of(bytes).map_or(CellState::Unchanged, CellState::Value),
        CellRef::Null => CellState::Null,
        CellRef::Unchanged | CellRef::Absent => CellState::Unchanged,
    };
    RowState(image.iter().skip(1).map(cell).collect())
}
