// SPDX-License-Identifier: Apache-2.0
//! Transactions of the model: begun, committed (and in the log), visible: three different moments.

use std::collections::{BTreeMap, BTreeSet};

use highwater_core::position::{MarkId, TransactionSnapshot};
use highwater_core::schema::TableName;

use crate::model::log::{LogRecord, LoggedChange, LoggedOp};
use crate::model::rows::{BIG, ModelRow, ModelTable};

/// A version of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The transaction that made it.
    pub xid: u64,
    /// Where it committed.
    pub commit: u64,
    /// Which of its transaction's changes made it, from 1.
    pub ordinal: u64,
    /// The row, or `None` if it was deleted.
    pub row: Option<ModelRow>,
}

/// One write of a transaction. Values are filled in by the database, never twice the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Inserts the row, or updates it if it exists; `big`: writes the large column too.
    Put {
        /// Table number.
        table: usize,
        /// The row.
        id: u64,
        /// Whether the large column changes.
        big: bool,
    },
    /// Deletes the row if it exists.
    Delete {
        /// Table number.
        table: usize,
        /// The row.
        id: u64,
    },
    /// Moves a row to another key that is free; nothing if either does not hold.
    Move {
        /// Table number.
        table: usize,
        /// The row.
        id: u64,
        /// Its new key.
        to: u64,
    },
    /// Deletes the rows from `from` through `through`, which are of one partition, by one deletion.
    DeleteRange {
        /// Table number.
        table: usize,
        /// First row.
        from: u64,
        /// Last row.
        through: u64,
    },
    /// A change of a table that is not captured: counted by the log's reader, never delivered.
    Elsewhere,
}

/// By which transaction, where it committed, by which of its changes.
type Made = (u64, u64, u64);

#[derive(Debug, Clone)]
struct OpenTransaction {
    writes: Vec<Write>,
}

/// The database.
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// Tables by number.
    pub tables: Vec<ModelTable>,
    /// The log; the record at index `n` ends at position `n + 1`.
    pub log: Vec<LogRecord>,
    /// What the reader said is durable: a log opened earlier starts here, in silence.
    pub acknowledged: u64,
    open: BTreeMap<u64, OpenTransaction>,
    invisible: BTreeSet<u64>,
    locks: BTreeMap<(usize, u64), u64>,
    next_xid: u64,
    next_value: u64,
}

impl Database {
    /// A database of `tables` empty tables `public.t0`, `public.t1` and so on. Transaction numbers start at `first_xid`.
    pub fn new(tables: usize, first_xid: u64) -> Self {
        let table =
            |number: usize| ModelTable::new(100 + number as u64, TableName::new("public", format!("t{number}")));
        Database {
            tables: (0..tables).map(table).collect(),
            next_xid: first_xid,
            ..Database::default()
        }
    }

    /// The same with tables that have partitions, as [`ModelTable::partitioned`] has them.
    pub fn partitioned(tables: usize, first_xid: u64) -> Self {
        let mut database = Database::new(tables, first_xid);
        for table in &mut database.tables {
            *table = ModelTable::partitioned(table.shape().id.0, table.name().clone());
        }
        database
    }

    /// The end of the log.
    pub fn end(&self) -> u64 {
        self.log.len() as u64
    }

    /// The table of this name, while it exists.
    pub fn table_number(&self, name: &TableName) -> Option<usize> {
        self.tables
            .iter()
            .position(|table| table.name() == name && !table.dropped)
    }

    /// Takes a transaction number that nothing is ever written under (a rollback, a subtransaction).
    pub fn waste_xid(&mut self) {
        self.next_xid += 1;
    }

    /// Begins a transaction. Writes whose rows another transaction holds are left out, as if they had waited past the end.
    pub fn begin(&mut self, writes: Vec<Write>) -> u64 {
        let xid = self.next_xid;
        self.next_xid += 1;
        let mut kept = Vec::new();
        for write in writes {
            let rows: Vec<(usize, u64)> = match write {
                Write::Put { table, id, .. } | Write::Delete { table, id } => vec![(table, id)],
                Write::Move { table, id, to } => vec![(table, id), (table, to)],
                Write::DeleteRange { table, from, through } => (from..=through).map(|id| (table, id)).collect(),
                Write::Elsewhere => Vec::new(),
            };
            let free = |row: &(usize, u64)| self.locks.get(row).is_none_or(|holder| *holder == xid);
            if rows.iter().all(free) && rows.iter().all(|(table, _)| !self.tables[*table].dropped) {
                rows.iter().for_each(|row| {
                    self.locks.insert(*row, xid);
                });
                kept.push(write);
            }
        }
        self.open.insert(xid, OpenTransaction { writes: kept });
        xid
    }

    /// Commits: from here on it is in the log. If not `visible`, reads miss it until [`Database::reveal`], and its rows
    /// stay locked: so it is with a commit that waits for a synchronous standby.
    pub fn commit(&mut self, xid: u64, visible: bool) {
        let Some(transaction) = self.open.remove(&xid) else {
            return;
        };
        let commit = self.end() + 1;
        let mut changes = Vec::new();
        for write in transaction.writes {
            self.apply(xid, commit, write, &mut changes);
        }
        self.log.push(LogRecord::Transaction { xid, changes });
        self.invisible.insert(xid);
        if visible {
            self.reveal(xid);
        }
    }

    /// Rolls back.
    pub fn rollback(&mut self, xid: u64) {
        if self.open.remove(&xid).is_some() {
            self.locks.retain(|_, holder| *holder != xid);
        }
    }

    /// A committed transaction becomes visible.
    pub fn reveal(&mut self, xid: u64) {
        self.invisible.remove(&xid);
        self.locks.retain(|_, holder| *holder != xid);
    }

    fn apply(&mut self, xid: u64, commit: u64, write: Write, changes: &mut Vec<LoggedChange>) {
        let made = (xid, commit, changes.len() as u64 + 1);
        let (table, op) = match write {
            Write::Elsewhere => (0, LoggedOp::Elsewhere),
            Write::Put { table, id, big } => (table, self.put((table, id), made, big)),
            Write::Delete { table, id } => {
                if self.last(table, id).is_none() {
                    return;
                }
                self.push((table, id), made, None);
                (table, LoggedOp::Delete { id })
            }
            Write::DeleteRange { table, from, through } => {
                for id in from..=through {
                    if self.last(table, id).is_some() {
                        self.push((table, id), made, None);
                    }
                }
                (table, LoggedOp::DeleteRange { from, through })
            }
            Write::Move { table, id, to } => match self.move_row((table, id), to, made) {
                Some(op) => (table, op),
                None => return,
            },
        };
        let shape = self.tables[table].shape().clone();
        changes.push(LoggedChange { table, shape, op });
    }

    fn put(&mut self, at: (usize, u64), made: Made, big: bool) -> LoggedOp {
        let before = self.last(at.0, at.1).cloned();
        let row = self.write_row(at.0, before.as_ref(), big);
        self.push(at, made, Some(row.clone()));
        match before {
            None => LoggedOp::Insert { id: at.1, row },
            Some(_) => LoggedOp::Update {
                id: at.1,
                old: None,
                row,
                big_unchanged: !big,
            },
        }
    }

    fn move_row(&mut self, from: (usize, u64), to: u64, made: Made) -> Option<LoggedOp> {
        let (table, id) = from;
        let before = self
            .last(table, id)
            .cloned()
            .filter(|_| self.last(table, to).is_none())?;
        let row = self.write_row(table, Some(&before), false);
        self.push(from, made, None);
        self.push((table, to), made, Some(row.clone()));
        Some(LoggedOp::Update {
            id: to,
            old: Some(id),
            row,
            big_unchanged: true,
        })
    }

    /// Empties a table, if no transaction holds a row of it: it waits for them and nobody reads past it.
    pub fn truncate(&mut self, table: usize) -> bool {
        if self.is_held(table) {
            return false;
        }
        let xid = self.next_xid;
        self.next_xid += 1;
        let commit = self.end() + 1;
        for versions in self.tables[table].rows.values_mut() {
            if versions.last().is_some_and(|version| version.row.is_some()) {
                versions.push(Version {
                    xid,
                    commit,
                    ordinal: 1,
                    row: None,
                });
            }
        }
        let shape = self.tables[table].shape().clone();
        let changes = vec![LoggedChange {
            table,
            shape,
            op: LoggedOp::Truncate,
        }];
        self.log.push(LogRecord::Transaction { xid, changes });
        true
    }

    /// Adds a column to a table, under the same condition. The log tells with the next row only.
    pub fn add_column(&mut self, table: usize) -> bool {
        if self.is_held(table) {
            return false;
        }
        let xid = self.next_xid;
        self.next_xid += 1;
        let position = self.end() + 1;
        self.tables[table].add_column(position);
        self.log.push(LogRecord::Transaction {
            xid,
            changes: Vec::new(),
        });
        true
    }

    /// Drops a table, under the same condition.
    pub fn drop_table(&mut self, table: usize) -> bool {
        let free = !self.is_held(table);
        if free {
            self.tables[table].dropped = true;
        }
        free
    }

    /// Writes a mark.
    pub fn mark(&mut self, mark: MarkId, run: u128) -> u64 {
        self.log.push(LogRecord::Mark { mark, run });
        self.end()
    }

    fn is_held(&self, table: usize) -> bool {
        self.locks.range((table, 0)..=(table, u64::MAX)).next().is_some()
    }

    /// The committed row, visible or not.
    pub fn last(&self, table: usize, id: u64) -> Option<&ModelRow> {
        self.tables[table].rows.get(&id)?.last()?.row.as_ref()
    }

    fn write_row(&mut self, table: usize, before: Option<&ModelRow>, big: bool) -> ModelRow {
        self.next_value += 1;
        let value = self.next_value;
        let kept = before
            .and_then(|before| before.cells.get(BIG).copied().flatten())
            .filter(|_| !big);
        let mut cells = vec![Some(value), Some(kept.unwrap_or(value))];
        let added = self.tables[table].shapes.len() - 1;
        cells.extend((0..added).map(|_| Some(value)));
        ModelRow { cells }
    }

    fn push(&mut self, at: (usize, u64), made: Made, row: Option<ModelRow>) {
        let (xid, commit, ordinal) = made;
        self.tables[at.0].rows.entry(at.1).or_default().push(Version {
            xid,
            commit,
            ordinal,
            row,
        });
    }

    /// What a read that begins now sees.
    pub fn view(&self) -> TransactionSnapshot {
        let mut in_progress: Vec<u64> = self.open.keys().chain(&self.invisible).copied().collect();
        in_progress.sort_unstable();
        let xmin = in_progress.first().copied().unwrap_or(self.next_xid);
        TransactionSnapshot {
            xmin,
            xmax: self.next_xid,
            in_progress,
        }
    }

    /// Transactions that are open.
    pub fn open_transactions(&self) -> impl Iterator<Item = u64> + '_ {
        self.open.keys().copied()
    }

    /// Transactions that are committed and not visible.
    pub fn invisible_transactions(&self) -> impl Iterator<Item = u64> + '_ {
        self.invisible.iter().copied()
    }
}
