// SPDX-License-Identifier: Apache-2.0
//! Reads of the model: a chunk as one snapshot sees it, and the journal for the oracle.

use highwater_core::connector::{ChunkRequest, ChunkRows, ChunkScope};
use highwater_core::image::RowImage;
use highwater_core::position::ReadView;
use highwater_core::schema::Key;

use crate::model::database::{Database, Version};
use crate::model::rows::{ModelPosition, ModelRow, id_of_key, image, key_of_id};
use crate::oracle::{CellState, LogRule, Oracle, RowState};

/// What a read is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum See {
    /// What is visible now, with the list of transactions that are not.
    Transactions,
    /// What is visible now; the caller makes sure that whatever is committed is visible.
    Ordered,
    /// The state at a position.
    At(u64),
}

impl Database {
    /// Reads a chunk now; `None` where the table does not exist.
    pub fn read(&self, request: &ChunkRequest, see: See) -> Option<ChunkRows<ModelPosition>> {
        let table = &self.tables[self.table_number(&request.table)?];
        let schema = table.shape().clone();
        let view = self.view();
        let sees = |version: &&Version| match see {
            See::At(at) => version.commit <= at,
            _ => view.in_progress.binary_search(&version.xid).is_err(),
        };
        let row_of = |versions: &[Version]| versions.iter().rev().find(sees).and_then(|version| version.row.clone());
        let mut rows: Vec<RowImage> = Vec::new();
        let mut last_key: Option<Key> = None;
        let mut exhausted = true;
        let mut found = |id: u64, versions: &Vec<Version>| {
            let Some(row) = row_of(versions) else { return true };
            if rows.len() >= request.rows_max.max(1) as usize {
                exhausted = false;
                return false;
            }
            rows.push(image(&schema, id, &row, false));
            last_key = Some(key_of_id(id));
            true
        };
        match &request.scope {
            ChunkScope::Keys(keys) => {
                let ids = keys.iter().filter_map(id_of_key);
                ids.filter_map(|id| Some((id, table.rows.get(&id)?)))
                    .for_each(|(id, versions)| {
                        found(id, versions);
                    });
            }
            ChunkScope::Range {
                after,
                through,
                condition,
            } => {
                let from = after.as_ref().and_then(id_of_key).map_or(0, |after| after + 1);
                let through = through.as_ref().and_then(id_of_key).unwrap_or(u64::MAX);
                let even_only = condition.is_some();
                let range = (from <= through).then(|| table.rows.range(from..=through));
                for (&id, versions) in range.into_iter().flatten() {
                    if (!even_only || id % 2 == 0) && !found(id, versions) {
                        break;
                    }
                }
            }
        }
        Some(ChunkRows {
            schema,
            rows,
            versions: None,
            last_key,
            exhausted,
            view: match see {
                See::Transactions => ReadView::Transactions(view),
                See::Ordered => ReadView::Ordered,
                See::At(at) => ReadView::At(ModelPosition(at)),
            },
            read_time_us: self.end() as i64,
            took_us: 1_000,
        })
    }

    /// The journal of every row, for events of a log that began at `log_start`. Keys are table number and row.
    pub fn oracle(&self, rule: LogRule, log_start: u64) -> Oracle<(usize, u64), u64> {
        let mut oracle = Oracle::new(rule);
        for (number, table) in self.tables.iter().enumerate() {
            for (&id, versions) in &table.rows {
                let before_log = versions.iter().filter(|version| version.commit <= log_start).count();
                let states = versions
                    .iter()
                    .map(|version| version.row.as_ref().map(state_of))
                    .collect();
                oracle.history((number, id), states, before_log);
            }
        }
        oracle
    }
}

/// A row as the oracle has it.
pub fn state_of(row: &ModelRow) -> RowState<u64> {
    RowState(
        row.cells
            .iter()
            .map(|cell| cell.map_or(CellState::Null, CellState::Value))
            .collect(),
    )
}
