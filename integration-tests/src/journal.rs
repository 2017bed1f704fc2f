// SPDX-License-Identifier: Apache-2.0
//! What really happened to each key: the states that were committed, in the order of their commits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::table::{Revision, Table};

/// What a change made of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The row is there at this revision.
    Put(Revision),
    /// The row is gone: deleted, or moved to another key.
    Delete,
    /// The row is gone with all of its table.
    Truncate,
}

/// A committed change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The transaction that made it.
    pub transaction: u64,
    /// What it was.
    pub change: Change,
}

/// A key of the workload.
pub type KeyId = (Table, u64);

/// The history of every key. Writers add a transaction after its commit was answered (or looked up).
#[derive(Debug, Default)]
pub struct Journal {
    keys: Mutex<HashMap<KeyId, Vec<Entry>>>,
}

impl Journal {
    /// Adds the changes of a committed transaction. The changes of one key come from one writer, so the order of calls
    /// is the order of commits.
    pub fn record(&self, transaction: u64, changes: &[(KeyId, Change)]) {
        let mut keys = self.lock();
        for (key, change) in changes {
            keys.entry(*key).or_default().push(Entry {
                transaction,
                change: *change,
            });
        }
    }

    /// The history of every key so far.
    pub fn histories(&self) -> HashMap<KeyId, Vec<Entry>> {
        self.lock().clone()
    }

    /// How many changes it holds.
    pub fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, Vec<Entry>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
