// SPDX-License-Identifier: Apache-2.0
//! Many lives, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::life::Summary;

/// What many lives add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Lives.
    pub lives: u64,
    /// Events that were committed.
    pub events: u64,
    /// Crashes.
    pub crashes: u64,
    /// Reads that missed a forwarded transaction.
    pub reads_repeated: u64,
    /// Keys that were read on their own.
    pub repairs: u64,
    /// Runs of remembered keys that left memory.
    pub runs_spilled: u64,
    /// Times that what was remembered was given up.
    pub memory_overflows: u64,
    /// Deletes of keys that were gone when the log had been lost.
    pub removed: u64,
}

/// A life that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What went wrong.
    pub what: String,
}

/// Lives the seeds `0..seeds`; the failure with the smallest seed among those found ends it.
pub fn sweep(seeds: u64, live: impl Fn(u64) -> Result<Summary, String> + Sync) -> Result<Totals, Failure> {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let outcome: Mutex<(Totals, Option<Failure>)> = Mutex::default();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut totals = Totals::default();
                let mut failure = None;
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    match live(seed) {
                        Ok(summary) => totals.add(&summary),
                        Err(what) => {
                            failed.store(true, Ordering::Relaxed);
                            failure = Some(Failure { seed, what });
                        }
                    }
                }
                let mut outcome = outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                outcome.0.merge(&totals);
                if let Some(failure) = failure
                    && outcome.1.as_ref().is_none_or(|known| failure.seed < known.seed)
                {
                    outcome.1 = Some(failure);
                }
            });
        }
    });
    let (totals, failure) = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failure.map_or(Ok(totals), Err)
}

impl Totals {
    fn add(&mut self, summary: &Summary) {
        self.lives += 1;
        self.events += summary.events;
        self.crashes += u64::from(summary.crashes);
        self.reads_repeated += summary.reads_repeated;
        self.repairs += summary.repairs;
        self.runs_spilled += summary.runs_spilled;
        self.memory_overflows += summary.memory_overflows;
        self.removed += summary.removed;
    }

    fn merge(&mut self, other: &Totals) {
        self.lives += other.lives;
        self.events += other.events;
        self.crashes += other.crashes;
        self.reads_repeated += other.reads_repeated;
        self.repairs += other.repairs;
        self.runs_spilled += other.runs_spilled;
        self.memory_overflows += other.memory_overflows;
        self.removed += other.removed;
    }
}
