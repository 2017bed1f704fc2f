// SPDX-License-Identifier: Apache-2.0
//! A [`Spill`] in memory: for simulations, and for programs that embed the engine without a disk.

use std::collections::BTreeMap;

use highwater_core::spill::{Spill, SpillEntry, SpillRun};
use highwater_core::{Error, ErrorKind, Result};

/// Runs in memory.
#[derive(Debug, Default)]
pub struct MemorySpill {
    runs: BTreeMap<SpillRun, Vec<SpillEntry>>,
    bytes_max: u64,
}

impl MemorySpill {
    /// An empty store for at most `bytes_max` bytes of entries.
    pub fn new(bytes_max: u64) -> Self {
        MemorySpill {
            runs: BTreeMap::new(),
            bytes_max,
        }
    }

    /// Number of runs that are kept.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether no run is kept.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

fn bytes_of(entries: &[SpillEntry]) -> u64 {
    entries.iter().map(|entry| 8 + entry.value.len() as u64).sum()
}

impl Spill for MemorySpill {
    fn write(&mut self, run: SpillRun, entries: &[SpillEntry]) -> Result<()> {
        let kept: u64 = self.runs.values().map(|entries| bytes_of(entries)).sum();
        if kept + bytes_of(entries) > self.bytes_max {
            return Err(
                Error::new(ErrorKind::LimitReached, "the store of remembered keys is full")
                    .with("bytes_max", self.bytes_max)
                    .with_fix("raise spill_bytes_max"),
            );
        }
        self.runs.insert(run, entries.to_vec());
        Ok(())
    }

    fn recall(&mut self, runs: &[SpillRun], digests: &[u64]) -> Result<Vec<SpillEntry>> {
        let mut found = Vec::new();
        for run in runs {
            let entries = self
                .runs
                .get(run)
                .ok_or_else(|| Error::bug("a run was asked that is not kept").with("run", run.0))?;
            found.extend(entries.iter().filter(|entry| digests.contains(&entry.digest)).cloned());
        }
        Ok(found)
    }

    fn forget(&mut self, run: SpillRun) {
        self.runs.remove(&run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill_suite::{SpillHarness, run};

    struct Memory;

    impl SpillHarness for Memory {
        type Store = MemorySpill;

        fn open(&self, bytes_max: u64) -> MemorySpill {
            MemorySpill::new(bytes_max)
        }
    }

    #[test]
    fn the_store_in_memory_conforms() {
        run(|| Memory);
    }
}
