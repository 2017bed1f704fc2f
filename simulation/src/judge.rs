// SPDX-License-Identifier: Apache-2.0
//! The verdict on a life: every committed event against the journal, shapes in order, no finished chunk read twice.

use std::collections::{BTreeMap, BTreeSet};

use highwater_core::change::{Capture, Change, Op};
use highwater_core::image::{CellRef, RowImage};
use highwater_testkit::model::rows::number_of;
use highwater_testkit::model::{Database, ModelPosition};
use highwater_testkit::oracle::{CellState, LogRule, Oracle, Origin, RowState};

use crate::outlet::Sent;
use crate::scenario::{REPAIR_QUEUE_TINY, Scenario, Source};
use crate::trace;

type Keys = (usize, u64);

/// Judges what was committed.
pub fn judge(
    database: &Database,
    scenario: &Scenario,
    log_start: u64,
    committed: &[Sent],
    copied: impl Fn(usize) -> bool,
) -> Result<(), String> {
    // A repair queue that runs over reads the table again, finished chunks and all.
    let once_only = scenario.settings.repair_queue_max > REPAIR_QUEUE_TINY;
    let rule = match scenario.source {
        Source::Moments => LogRule::NewestOnly,
        _ => LogRule::ExactlyOnce,
    };
    let mut oracle = database.oracle(rule, log_start);
    let mut shapes: BTreeMap<usize, usize> = BTreeMap::new();
    let mut chunked = BTreeSet::new();
    for (at, sent) in committed.iter().enumerate() {
        let change = &sent.change;
        let place = |what: &str| {
            format!(
                "event {at} ({:?} at {} by {:?}): {what}",
                change.op, change.commit, change.capture
            )
        };
        let table = database
            .tables
            .iter()
            .position(|table| table.shape().id == change.table())
            .ok_or_else(|| place("an unknown table"))?;
        let shape = database.tables[table]
            .shapes
            .iter()
            .position(|shape| shape.fingerprint() == change.schema.fingerprint());
        let shape = shape.ok_or_else(|| place("an unknown shape"))?;
        if std::mem::replace(shapes.entry(table).or_insert(0), shape) > shape {
            return Err(place("an older shape than the event before"));
        }
        trace::tell(|| {
            format!(
                "committed {at}: {:?} at {} by {:?}",
                change.op, change.commit, change.capture
            )
        });
        observe(&mut oracle, table, change).map_err(|what| place(&what))?;
        if let (Some(snapshot), Some(id)) = (sent.snapshot, change.after.as_ref().and_then(id_of))
            && !chunked.insert((snapshot, table, id))
            && once_only
        {
            return Err(place("a finished chunk was read again"));
        }
    }
    oracle
        .finish(|(table, _)| copied(*table))
        .map_err(|violation| format!("at the end: {violation:?}"))
}

fn observe(oracle: &mut Oracle<Keys, u64>, table: usize, change: &Change<ModelPosition>) -> Result<(), String> {
    let origin = match change.capture {
        Capture::Log => Origin::Log,
        Capture::Chunk(_) | Capture::Repair(_) => Origin::Read,
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
