// SPDX-License-Identifier: Apache-2.0
//! The store of remembered keys of a life: does what it is asked in the order in which it is asked, some time, and fails at
//! times.

use std::collections::VecDeque;

use highwater_core::change::ChunkId;
use highwater_core::dblog::input::Input;
use highwater_core::spill::{Spill, SpillEntry, SpillRun};
use highwater_core::{ErrorKind, Result};
use highwater_testkit::fault::{FaultPlan, Faulty, Operation, Strike};
use highwater_testkit::memory_spill::MemorySpill;
use highwater_testkit::model::ModelPosition;

#[derive(Debug)]
enum Asked {
    Write(SpillRun, Vec<SpillEntry>),
    Recall(ChunkId, Vec<SpillRun>, Vec<u64>),
    Forget(SpillRun),
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    spill: Faulty<MemorySpill>,
    faults: FaultPlan,
    asked: VecDeque<Asked>,
}

impl Store {
    /// An empty store.
    pub fn new(bytes_max: u64) -> Self {
        let faults = FaultPlan::default();
        Store {
            spill: Faulty::new(MemorySpill::new(bytes_max), faults.clone()),
            faults,
            asked: VecDeque::new(),
        }
    }

    /// A run is to be kept.
    pub fn write(&mut self, run: SpillRun, entries: Vec<SpillEntry>) {
        self.asked.push_back(Asked::Write(run, entries));
    }

    /// Runs are to be asked.
    pub fn recall(&mut self, chunk: ChunkId, runs: Vec<SpillRun>, digests: Vec<u64>) {
        self.asked.push_back(Asked::Recall(chunk, runs, digests));
    }

    /// A run is to be dropped.
    pub fn forget(&mut self, run: SpillRun) {
        self.asked.push_back(Asked::Forget(run));
    }

    /// Whether something was asked and is not done.
    pub fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Does the next thing; with `fault` it fails, before it took effect or after. What the engine is to hear of it.
    pub fn act(&mut self, fault: Option<Strike>) -> Option<Input<ModelPosition>> {
        let asked = self.asked.pop_front()?;
        let operation = match asked {
            Asked::Write(..) => Operation::WriteRun,
            Asked::Recall(..) => Operation::Recall,
            Asked::Forget(run) => {
                self.spill.forget(run);
                return None;
            }
        };
        if let Some(strike) = fault {
            self.faults.fail_next(operation, strike, ErrorKind::Storage);
        }
        let done: Result<Input<ModelPosition>> = match asked {
            Asked::Write(run, entries) => self.spill.write(run, &entries).map(|()| Input::Spilled(run)),
            Asked::Recall(chunk, runs, digests) => self
                .spill
                .recall(&runs, &digests)
                .map(|entries| Input::Recalled { chunk, entries }),
            Asked::Forget(_) => return None,
        };
        Some(done.unwrap_or_else(|error| Input::SpillFailed {
            message: error.to_string(),
        }))
    }
}
