// SPDX-License-Identifier: Apache-2.0
//! The model's log and a cursor over it.

use std::sync::Arc;

use highwater_core::change::{Capture, Change, ChangeVersion, LogItem, Op};
use highwater_core::image::RowImage;
use highwater_core::position::{MarkId, ResumePoint, TransactionId};
use highwater_core::schema::{SchemaFingerprint, TableSchema};

use crate::model::database::Database;
use crate::model::rows::{ModelPosition, ModelRow, image, key_image};

/// A change as it is logged.
#[derive(Debug, Clone)]
pub struct LoggedChange {
    /// Table number.
    pub table: usize,
    /// The table's shape then.
    pub shape: Arc<TableSchema>,
    /// What happened.
    pub op: LoggedOp,
}

/// What a logged change did.
#[derive(Debug, Clone)]
pub enum LoggedOp {
    /// An insert.
    Insert {
        /// The row.
        id: u64,
        /// Its cells.
        row: ModelRow,
    },
    /// An update.
    Update {
        /// The row, after.
        id: u64,
        /// Its key before, if it was another.
        old: Option<u64>,
        /// Its cells, after.
        row: ModelRow,
        /// Whether the large column stayed as it was.
        big_unchanged: bool,
    },
    /// A delete.
    Delete {
        /// The row.
        id: u64,
    },
    /// A deletion of all rows from `from` through `through` of one partition.
    DeleteRange {
        /// First row.
        from: u64,
        /// Last row.
        through: u64,
    },
    /// A truncation.
    Truncate,
    /// Counted, not delivered.
    Elsewhere,
}

/// One record of the log.
#[derive(Debug, Clone)]
pub enum LogRecord {
    /// A transaction.
    Transaction {
        /// Its number.
        xid: u64,
        /// Its changes.
        changes: Vec<LoggedChange>,
    },
    /// A mark.
    Mark {
        /// Its number.
        mark: MarkId,
        /// The run that wrote it.
        run: u128,
    },
}

impl LoggedChange {
    /// The change as a log reader gives it; `None` where it is filtered out.
    pub fn deliver(&self, xid: u64, commit: u64, ordinal: u64) -> Option<Change<ModelPosition>> {
        let (op, before, after): (Op, Option<RowImage>, Option<RowImage>) = match &self.op {
            LoggedOp::Elsewhere => return None,
            LoggedOp::DeleteRange { .. } => (Op::Delete, None, None),
            LoggedOp::Truncate => (Op::Truncate, None, None),
            LoggedOp::Delete { id } => (Op::Delete, Some(key_image(&self.shape, *id)), None),
            LoggedOp::Insert { id, row } => (Op::Create, None, Some(image(&self.shape, *id, row, false))),
            LoggedOp::Update {
                id,
                old,
                row,
                big_unchanged,
            } => (
                Op::Update,
                old.map(|old| key_image(&self.shape, old)),
                Some(image(&self.shape, *id, row, *big_unchanged)),
            ),
        };
        Some(Change {
            schema: self.shape.clone(),
            op,
            before,
            after,
            position: ModelPosition(commit),
            commit: ModelPosition(commit),
            transaction: TransactionId(xid),
            ordinal,
            source_time_us: commit as i64,
            version: ChangeVersion::InOrder,
            capture: Capture::Log,
            origin: None,
        })
    }
}

/// Reads the log in order, as one connection does.
#[derive(Debug, Clone)]
pub struct LogCursor {
    record: usize,
    /// Changes of the record that were delivered; `None`: not even its begin.
    inside: Option<usize>,
    announced: Vec<Option<SchemaFingerprint>>,
    run: u128,
    /// Marks that were of another run.
    pub foreign_marks: u64,
}

impl LogCursor {
    /// Opens the log after `from`, or, as a replication slot does without a word, where it was acknowledged if that is
    /// further on.
    pub fn open(database: &Database, from: &ResumePoint<ModelPosition>, run: u128) -> Self {
        let start = from.position.0.max(database.acknowledged);
        let announced = vec![None; database.tables.len()];
        LogCursor {
            record: start as usize,
            inside: None,
            announced,
            run,
            foreign_marks: 0,
        }
    }

    /// Whether everything was delivered.
    pub fn is_at_end(&self, database: &Database) -> bool {
        self.record >= database.log.len()
    }

    /// Everything up to here was delivered.
    pub fn position(&self) -> u64 {
        self.record as u64
    }

    /// Appends at most `items_max` items (and the shapes they need); at the end, the progress.
    pub fn deliver(&mut self, database: &Database, items_max: usize, items: &mut Vec<LogItem<ModelPosition>>) {
        let start = items.len();
        while items.len() - start < items_max {
            let commit = self.record as u64 + 1;
            match database.log.get(self.record) {
                None => {
                    items.push(LogItem::Progress(ModelPosition(self.record as u64)));
                    return;
                }
                Some(LogRecord::Mark { mark, run }) => {
                    if *run == self.run {
                        items.push(LogItem::Watermark {
                            mark: *mark,
                            position: ModelPosition(commit),
                        });
                    } else {
                        self.foreign_marks += 1;
                    }
                    self.record += 1;
                }
                Some(LogRecord::Transaction { xid, changes }) => self.inside_transaction(*xid, changes, commit, items),
            }
        }
    }

    fn inside_transaction(
        &mut self,
        xid: u64,
        changes: &[LoggedChange],
        commit: u64,
        items: &mut Vec<LogItem<ModelPosition>>,
    ) {
        let position = ModelPosition(commit);
        match self.inside {
            None => {
                items.push(LogItem::Begin {
                    transaction: TransactionId(xid),
                    commit: position,
                });
                self.inside = Some(0);
            }
            Some(at) => match changes.get(at) {
                Some(change) => {
                    self.inside = Some(at + 1);
                    if let Some(delivered) = change.deliver(xid, commit, at as u64 + 1) {
                        let shape = Some(change.shape.fingerprint());
                        if self.announced[change.table] != shape {
                            self.announced[change.table] = shape;
                            items.push(LogItem::Schema(change.shape.clone()));
                        }
                        items.push(LogItem::Change(delivered));
                    }
                }
                None => {
                    items.push(LogItem::Commit {
                        transaction: TransactionId(xid),
                        position,
                    });
                    self.inside = None;
                    self.record += 1;
                }
            },
        }
    }
}
