// SPDX-License-Identifier: Apache-2.0
//! Reads of the model: a chunk as one snapshot sees it, and the journal for the oracle.

use highwater_core::connector::{ChunkRequest, ChunkRows, ChunkScope};
use highwater_core::image::RowImage;
use highwater_core::position::ReadView;
use highwater_core::schema::TableSchema;

use crate::model::database::{Database, Version};
use crate::model::rows::{ModelPosition, ModelRow, ModelTable, id_of_key, image};
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
    /// Reads a chunk now; `None` where the table does not exist. Rows, shape and view are of one moment.
    pub fn read(&self, request: &ChunkRequest, see: See) -> Option<ChunkRows<ModelPosition>> {
        let table = &self.tables[self.table_number(&request.table)?];
        let view = self.view();
        let sees = |version: &&Version| match see {
            See::At(at) => version.commit <= at,
            _ => view.in_progress.binary_search(&version.xid).is_err(),
        };
        let schema = match see {
            See::At(at) => table.shape_at(at),
            _ => table.shape(),
        };
        let mut page = Page::new(schema, request.rows_max);
        for id in ids_of(table, &request.scope) {
            let versions = table.rows.get(&id).into_iter().flatten();
            let row = versions.rev().find(sees).and_then(|version| version.row.as_ref());
            if row.is_some_and(|row| !page.take(id, row)) {
                break;
            }
        }
        Some(ChunkRows {
            schema: schema.clone(),
            last_key: page.last.map(|id| table.key_of(id)),
            rows: page.rows,
            versions: None,
            exhausted: page.exhausted,
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

/// The rows that a scope may cover, in key order.
fn ids_of(table: &ModelTable, scope: &ChunkScope) -> Vec<u64> {
    match scope {
        ChunkScope::Keys(keys) => keys.iter().filter_map(id_of_key).collect(),
        ChunkScope::Range {
            after,
            through,
            condition,
        } => {
            let from = after.as_ref().and_then(id_of_key).map_or(0, |after| after + 1);
            let through = through.as_ref().and_then(id_of_key).unwrap_or(u64::MAX);
            let even_only = condition.is_some();
            let range = (from <= through).then(|| table.rows.range(from..=through));
            let ids = range.into_iter().flatten().map(|(id, _)| *id);
            ids.filter(|id| !even_only || id % 2 == 0).collect()
        }
    }
}

/// Rows of a read until there are enough.
struct Page<'a> {
    schema: &'a TableSchema,
    rows_max: usize,
    rows: Vec<RowImage>,
    last: Option<u64>,
    exhausted: bool,
}

impl<'a> Page<'a> {
    fn new(schema: &'a TableSchema, rows_max: u32) -> Self {
        Page {
            schema,
            rows_max: rows_max.max(1) as usize,
            rows: Vec::new(),
            last: None,
            exhausted: true,
        }
    }

    /// Takes a row; `false` if it does not fit any more.
    fn take(&mut self, id: u64, row: &ModelRow) -> bool {
        self.exhausted = self.rows.len() < self.rows_max;
        if self.exhausted {
            self.rows.push(image(self.schema, id, row, false));
            self.last = Some(id);
        }
        self.exhausted
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
