// SPDX-License-Identifier: Apache-2.0
//! Large tables are cut before they are copied, so that several readers read them side by side.

use std::collections::{BTreeSet, VecDeque};

use highwater_core::connector::{CatalogTable, SourceConnector};
use highwater_core::dblog::input::{Input, SnapshotRows, SnapshotScope};
use highwater_core::schema::{Key, TableName};
use highwater_core::{Class, Error, Result};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::SnapshotRequest;
use super::capture::Capture;

/// A table with fewer rows and fewer bytes than these is copied as one range.
const ROWS_TO_CUT: u64 = 200_000;
const BYTES_TO_CUT: u64 = 64 << 20;
/// Cuts that are sought at once; each takes a reader for a moment.
const AT_ONCE: usize = 4;

/// Who answers a person.
pub(super) type Reply = oneshot::Sender<Result<Value>>;

/// Tables that are being cut.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// Their first copy waits for it.
    first: BTreeSet<TableName>,
    /// What people asked for.
    asked: Vec<Asked>,
    /// Nobody has begun to cut them.
    waiting: VecDeque<TableName>,
    under_way: usize,
}

/// Copies that a person asks for.
#[derive(Debug)]
struct Asked {
    scopes: Vec<SnapshotScope>,
    uncut: BTreeSet<TableName>,
    reply: Reply,
}

impl Cuts {
    /// Whether a table's first copy waits for its cuts.
    pub(super) fn holds_first(&self, table: &TableName) -> bool {
        self.first.contains(table)
    }

    /// Whether any does.
    pub(super) fn hold_any_first(&self) -> bool {
        !self.first.is_empty()
    }
}

impl<C: SourceConnector> Capture<C> {
    /// Whether a table is worth cutting, by the server's estimate of it.
    pub(super) fn is_large(&self, table: &CatalogTable) -> bool {
        let reaches = |estimate: Option<u64>, least| estimate.is_some_and(|estimate| estimate >= least);
        self.settings.engine.reads_max > 1
            && (reaches(table.rows_estimate, ROWS_TO_CUT) || reaches(table.bytes_estimate, BYTES_TO_CUT))
    }

    /// The table's first copy begins when it is cut.
    pub(super) fn cut_before_first_copy(&mut self, table: TableName) -> Result<()> {
        self.cuts.waiting.push_back(table.clone());
        self.cuts.first.insert(table);
        self.cut_further()
    }

    /// Begins the copies that a person asks for, large tables cut first, and answers with their numbers.
    pub(super) async fn copy_as_asked(&mut self, requests: Vec<SnapshotRequest>, reply: Reply) -> Result<()> {
        let scopes: Result<Vec<SnapshotScope>> = requests.into_iter().map(|request| self.scope(request)).collect();
        let scopes = match scopes {
            Ok(scopes) => scopes,
            Err(error) => return answer(reply, Err(error)),
        };
        let whole = scopes
            .iter()
            .filter(|scope| matches!(scope.rows, SnapshotRows::All { .. }));
        let uncut = whole.map(|scope| &scope.table).filter(|name| {
            let mut tables = self.catalog.tables.iter();
            tables.any(|table| table.schema.name == **name && self.is_large(table))
        });
        let uncut: BTreeSet<TableName> = uncut.cloned().collect();
        self.cuts.waiting.extend(uncut.iter().cloned());
        self.cuts.asked.push(Asked { scopes, uncut, reply });
        self.cut_further()?;
        self.begin_asked().await
    }

    /// A table's cuts are known: copies of it can begin.
    pub(super) async fn cut(&mut self, table: TableName, starts: Vec<Key>) -> Result<()> {
        self.cuts.under_way = self.cuts.under_way.saturating_sub(1);
        self.cut_further()?;
        for asked in &mut self.cuts.asked {
            if asked.uncut.remove(&table) {
                let of_table = asked.scopes.iter_mut().filter(|scope| scope.table == table);
                for scope in of_table.filter(|scope| matches!(scope.rows, SnapshotRows::All { .. })) {
                    scope.rows = SnapshotRows::All { starts: starts.clone() };
                }
            }
        }
        if self.cuts.first.remove(&table) {
            let is_first = self.is_first(&table);
            let rows = SnapshotRows::All { starts };
            let scopes = vec![SnapshotScope { table, rows }];
            let input = match is_first {
                true => Input::FirstCopies(scopes),
                false => Input::Snapshot(scopes),
            };
            self.step(input).await?;
        }
        self.begin_asked().await
    }

    fn cut_further(&mut self) -> Result<()> {
        while self.cuts.under_way < AT_ONCE
            && let Some(table) = self.cuts.waiting.pop_front()
        {
            self.workers.split(table, self.settings.engine.reads_max)?;
            self.cuts.under_way += 1;
        }
        Ok(())
    }

    async fn begin_asked(&mut self) -> Result<()> {
        let (ready, waiting) = std::mem::take(&mut self.cuts.asked)
            .into_iter()
            .partition(|asked: &Asked| asked.uncut.is_empty());
        self.cuts.asked = waiting;
        for Asked { scopes, reply, .. } in ready {
            self.started = Some(Vec::new());
            let stepped = self.step(Input::Snapshot(scopes)).await;
            let begun = self.started.take();
            answer(reply, stepped.map(|()| json!({ "snapshots": begun })))?;
        }
        Ok(())
    }
}

/// Answers a person. Only errors that are not the person's end the run.
pub(super) fn answer(reply: Reply, answer: Result<Value>) -> Result<()> {
    let (answer, failed) = match answer {
        Err(error) if error.class() == Class::Fatal => {
            let told = Error::new(error.kind(), error.message().to_owned());
            (Err(told), Err(error))
        }
        answer => (answer, Ok(())),
    };
    let _ = reply.send(answer);
    failed
}
