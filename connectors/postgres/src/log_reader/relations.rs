// SPDX-License-Identifier: Apache-2.0
//! Which shape the rows of a relation have, as the server believes that we know it.
//!
//! The server announces a relation once and then counts on it: outside of pieces for the whole connection, inside the
//! pieces of a transaction for that transaction alone, until it commits; then for the whole connection again. Which of two
//! announcements holds afterwards is decided by when they *arrived*: the server forgets what it announced when the
//! relation changes, so the last to arrive is the one that it still counts on, or it will announce the relation again.
//!
//! So a transaction that is replayed sees a scope of its own, and leaves behind what arrived last.

use super::relation::CapturedRelation;
use crate::protocol::pgoutput::Relation;
use crate::selection::Selection;
use highwater_core::change::LogItem;
use std::collections::HashMap;
use std::sync::Arc;

use crate::position::PgPosition;

/// What is known of a relation.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// Its shape, ready to be followed.
    Captured(Arc<CapturedRelation>),
    /// Selected; its schema is found out before its first row.
    Announced(Arc<Relation>),
    /// Published and not selected, as of this generation of the selection.
    PassedOver {
        /// As it was announced.
        relation: Arc<Relation>,
        /// Of the selection.
        generation: u64,
    },
}

/// An announcement, and which one it was of all.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    known: Known,
    arrival: u64,
}

/// Announcements by object id.
pub(super) type Scope = HashMap<u32, Entry>;

/// The relations that rows may refer to.
#[derive(Debug, Default)]
pub(super) struct Relations {
    connection: Scope,
    /// Of the transaction that is replayed.
    replayed: Option<Scope>,
    arrivals: u64,
}

impl Relations {
    /// Numbers an announcement.
    pub(super) fn arrived(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Notes an announcement where rows are looked up now.
    pub(super) fn announce(&mut self, relation: Relation, arrival: u64, selection: &Selection) {
        let relation = Arc::new(relation);
        let known = if selection.selects(&CapturedRelation::name_of(&relation)) {
            Known::Announced(relation.clone())
        } else {
            let (relation, generation) = (relation.clone(), selection.generation());
            Known::PassedOver { relation, generation }
        };
        self.scope_mut().insert(relation.oid, Entry { known, arrival });
    }

    /// What is known of a relation now.
    #[inline]
    pub(super) fn get(&self, oid: u32) -> Option<&Known> {
        let scope = self.replayed.as_ref().unwrap_or(&self.connection);
        scope.get(&oid).map(|entry| &entry.known)
    }

    /// What the connection knows of a relation now, for a transaction that will be replayed later.
    pub(super) fn entry(&self, oid: u32) -> Option<&Entry> {
        self.connection.get(&oid)
    }

    /// The relation, if its schema must be found out before a row of it: one that was never asked for, or that was passed
    /// over and is selected by now.
    #[inline]
    pub(super) fn unresolved(&mut self, oid: u32, selection: &Selection) -> Option<Arc<Relation>> {
        let scope = self.replayed.as_mut().unwrap_or(&mut self.connection);
        match &mut scope.get_mut(&oid)?.known {
            Known::Captured(_) => None,
            Known::Announced(relation) => Some(relation.clone()),
            Known::PassedOver { relation, generation } => {
                let current = selection.generation();
                if *generation == current {
                    return None;
                }
                *generation = current;
                selection
                    .selects(&CapturedRelation::name_of(relation))
                    .then(|| relation.clone())
            }
        }
    }

    /// Gives a relation its schema.
    pub(super) fn resolve(&mut self, oid: u32, captured: CapturedRelation) {
        if let Some(entry) = self.scope_mut().get_mut(&oid) {
            entry.known = Known::Captured(Arc::new(captured));
        }
    }

    /// Begins a replay whose rows refer to `scope`, and to what is announced until [`Relations::leave`].
    pub(super) fn enter(&mut self, scope: Scope) {
        self.replayed = Some(scope);
    }

    /// Ends a replay. Where the connection has a later announcement than the transaction followed, that one's shape is
    /// told again, for the transaction's was told last.
    pub(super) fn leave(&mut self, items: &mut Vec<LogItem<PgPosition>>) {
        for (oid, of_transaction) in self.replayed.take().into_iter().flatten() {
            match self.connection.get(&oid) {
                Some(later) if later.arrival > of_transaction.arrival => {
                    if let (Known::Captured(told), Known::Captured(later)) = (&of_transaction.known, &later.known)
                        && told.schema.fingerprint() != later.schema.fingerprint()
                    {
                        items.push(LogItem::Schema(later.schema.clone()));
                    }
                }
                _ => {
                    self.connection.insert(oid, of_transaction);
                }
            }
        }
    }

    fn scope_mut(&mut self) -> &mut Scope {
        self.replayed.as_mut().unwrap_or(&mut self.connection)
    }
}
