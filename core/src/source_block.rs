// SPDX-License-Identifier: Apache-2.0
//! The `source` block of an event's envelope: where the event came from, in the words of its database.

use crate::change::Change;
use crate::value::{ValueType, ValueWriter};

/// One field of the block behind the common prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceField {
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub value_type: ValueType,
    /// Whether it may be null.
    pub optional: bool,
}

/// Supplied by a connector: the part of the envelope that differs from database to database. The common prefix (version,
/// connector, name, time, snapshot, db, sequence) is written by the format.
///
/// Guarantees: (1) `write` makes one writer call per field, in the order of `fields`; (2) nothing depends on state other
/// than the change, so an event that is sent again has the same block.
pub trait SourceBlock<P>: Send + Sync {
    /// The `connector` field: `postgresql`, `mysql`.
    fn connector(&self) -> &'static str;
    /// Full name of the block's record: `io.debezium.connector.postgresql.Source`.
    fn record_name(&self) -> &'static str;
    /// The `db` field.
    fn database<'a>(&'a self, change: &'a Change<P>) -> &'a str;
    /// Appends the `sequence` field's text and says `true`, or says `false` for null.
    fn sequence(&self, change: &Change<P>, out: &mut String) -> bool;
    /// The fields behind the common prefix.
    fn fields(&self) -> &[SourceField];
    /// Writes them.
    fn write(&self, change: &Change<P>, out: &mut dyn ValueWriter);
}
