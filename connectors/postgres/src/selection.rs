// SPDX-License-Identifier: Apache-2.0
//! Which tables are captured at this moment: those that the settings choose, and those added while the log runs.

use crate::settings::Settings;
use highwater_core::schema::TableName;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Shared by a connector and its log readers.
#[derive(Debug)]
pub struct Selection {
    settings: Arc<Settings>,
    added: RwLock<BTreeSet<TableName>>,
    generation: AtomicU64,
}

impl Selection {
    /// What the settings choose.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            added: RwLock::default(),
            generation: AtomicU64::new(0),
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

    /// Grows with every addition: a decision made at an older generation is to be made again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
