// SPDX-License-Identifier: Apache-2.0
//! Room outside memory for what an engine remembers of a log while chunks are read as of an earlier moment.

use bytes::Bytes;

use crate::error::Result;

/// A run: what left memory together. Numbered by the engine, each number once in a run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpillRun(pub u64);

/// One thing remembered. To a store it is bytes under a digest; only the engine reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillEntry {
    /// What it is found by. Evenly spread; two entries may share one.
    pub digest: u64,
    /// The rest. It holds keys of the database: never to be logged.
    pub value: Bytes,
}

/// A place for runs, used by one engine. `highwater-testkit` ships its conformance suite.
///
/// Guarantees: (1) what `write` returned for is found by every later `recall` that names its run, until `forget`;
/// (2) `recall` gives, of the runs that it names, exactly the entries with one of the digests, each once and in any order,
/// or fails: never a part of them; (3) the runs that are kept never take more bytes than the store was opened with: a write
/// that would pass it fails with [`crate::ErrorKind::LimitReached`]; (4) a write that failed leaves nothing behind: its room
/// is free, its run unknown, earlier runs as they were; (5) `forget` gives a run's room back, and a run that is not known
/// is nothing to it; a `recall` that names such a run fails; (6) a store that was just opened is empty, also where an
/// earlier one died: runs belong to one run of the program; (7) bytes that changed in the store are an error, never an answer.
/// Not promised: that a run outlives its process (nothing is synced), that two stores share a place, an order, or that
/// calls are quick: they block, so the driver makes them beside its loop, one after the other in the engine's order.
pub trait Spill: Send {
    /// Keeps a run.
    fn write(&mut self, run: SpillRun, entries: &[SpillEntry]) -> Result<()>;
    /// Finds entries by their digests.
    fn recall(&mut self, runs: &[SpillRun], digests: &[u64]) -> Result<Vec<SpillEntry>>;
    /// Drops a run.
    fn forget(&mut self, run: SpillRun);
}
