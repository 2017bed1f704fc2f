// SPDX-License-Identifier: Apache-2.0
//! Which tables are captured at this moment: those that the settings choose, and those added while the log runs.

use crate::settings::Settings;
use highwater_core::schema::TableName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Shared by a connector and its log readers.
#[derive(Debug)]
pub struct Selection {
    settings: Arc<Settings>,
    added: RwLock<BTreeSet<TableName>>,
    generation: AtomicU64,
    /// Tables that were published a short while ago, and the transaction before which all must have ended before one is read.
    young: RwLock<BTreeMap<TableName, u64>>,
}

impl Selection {
    /// What the settings choose.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            added: RwLock::default(),
            generation: AtomicU64::new(0),
            young: RwLock::default(),
        }
    }

    /// Whether `table` is captured.
    pub fn selects(&self, table: &TableName) -> bool {
        self.settings.selects(table)
            || self
                .added
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(table)
    }

    /// Captures `tables` from now on.
    pub fn add(&self, tables: &[TableName]) {
        self.added
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(tables.iter().cloned());
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Lets `tables` not be read before every transaction below `horizon` has ended. What one of them wrote before a table was
    /// published is not in the log, and no read sees it until it commits.
    pub(crate) fn read_later(&self, tables: Vec<TableName>, horizon: u64) {
        let mut young = self.young.write().unwrap_or_else(PoisonError::into_inner);
        young.extend(tables.into_iter().map(|table| (table, horizon)));
    }

    /// The transaction below which all must have ended before `table` is read.
    pub(crate) fn horizon_of(&self, table: &TableName) -> Option<u64> {
        let young = self.young.read().unwrap_or_else(PoisonError::into_inner);
        young.get(table).copied()
    }

    /// Grows with every addition: a decision made at an older generation is to be made again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
