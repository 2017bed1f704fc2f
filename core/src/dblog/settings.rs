// SPDX-License-Identifier: Apache-2.0
//! The engine's limits, each with its unit.

use serde::{Deserialize, Serialize};

/// What an [`crate::connector::Reconcile::AsOf`] copy does when it may no longer rely on what it remembers of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AsOfFallback {
    /// Read again: the reader picks a newer moment each time (CockroachDB, which has no marks).
    ReadAgain,
    /// What is unfinished becomes ordinary windows between marks: there is one moment for all reads, the log's start, and
    /// it cannot be had again (a snapshot exported with a slot). The log is ordered, does not repeat, and has marks.
    Windows,
}

/// Limits of one engine. All of them may change from one run to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Windows open at once, over all snapshots; each holds one chunk in memory. 0 holds back every chunk.
    pub windows_max: u32,
    /// Chunk reads under way at once: the number of chunk readers.
    pub reads_max: u32,
    /// Rows of a table's first chunk.
    pub chunk_rows_start: u32,
    /// Fewest rows that a chunk is shrunk to.
    pub chunk_rows_min: u32,
    /// Most rows that a chunk grows to.
    pub chunk_rows_max: u32,
    /// Bytes of values after which a chunk's read stops.
    pub chunk_bytes_max: u64,
    /// How long a chunk's read should take, microseconds; chunks grow and shrink towards it.
    pub chunk_time_target_us: u64,
    /// Keys (or rows of a table without a key) that a window remembers while its rows have not arrived; past it the chunk is
    /// read again, smaller.
    pub touched_keys_max: u32,
    /// Bytes of those keys, or of the rows that a window remembers in their place for a table without a key; past it the same.
    pub touched_bytes_max: u64,
    /// Reads of one chunk that may miss a forwarded transaction before a person is told; it is tried on regardless.
    pub reads_repeated_max: u32,
    /// Runs of forwarded transactions that are told apart; past it neighbours are taken as one, which only makes the
    /// check of read views stricter.
    pub forwarded_runs_max: u32,
    /// Keys (and deletions) that the `AsOf` and `Version` ways remember of the log in memory.
    pub remembered_keys_max: u32,
    /// Bytes of what an `AsOf` copy remembers outside memory; the driver opens its [`crate::spill::Spill`] with it. 0: memory
    /// only.
    pub spill_bytes_max: u64,
    /// Keys in one repair read.
    pub repair_keys_max: u32,
    /// Keys of a table that may wait for repair; past it the whole table is read again instead.
    pub repair_queue_max: u32,
    /// What an `AsOf` copy does past its memory or after a crash.
    pub as_of_fallback: AsOfFallback,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            windows_max: 8,
            reads_max: 4,
            chunk_rows_start: 2_048,
            chunk_rows_min: 16,
            chunk_rows_max: 16_384,
            chunk_bytes_max: 2 << 20,
            chunk_time_target_us: 200_000,
            touched_keys_max: 100_000,
            touched_bytes_max: 8 << 20,
            reads_repeated_max: 20,
            forwarded_runs_max: 1_024,
            remembered_keys_max: 1_000_000,
            spill_bytes_max: 1 << 30,
            repair_keys_max: 256,
            repair_queue_max: 50_000,
            as_of_fallback: AsOfFallback::ReadAgain,
        }
    }
}
