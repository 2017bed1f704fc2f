// SPDX-License-Identifier: Apache-2.0
//! The store of what the engine remembers beyond its memory, beside the capture loop: its calls block.

use std::path::PathBuf;

use highwater_core::change::ChunkId;
use highwater_core::spill::{Spill, SpillEntry, SpillRun};
use highwater_core::{Error, Result};
use tokio::sync::mpsc;

use super::workers::Done;
use crate::file_spill::FileSpill;

/// What the engine asks of the store, done in this order.
#[derive(Debug)]
pub(super) enum Ask {
    Write {
        run: SpillRun,
        entries: Vec<SpillEntry>,
    },
    Recall {
        chunk: ChunkId,
        runs: Vec<SpillRun>,
        digests: Vec<u64>,
    },
    Forget(SpillRun),
}

/// Where the store is and how large it may grow.
#[derive(Debug, Clone)]
pub(super) struct SpillPlace {
    pub(super) folder: PathBuf,
    pub(super) bytes_max: u64,
}

/// Serves the store until nobody asks any more. What an earlier run left is cleared at once.
pub(super) fn serve<P>(place: &SpillPlace, mut asks: mpsc::Receiver<Ask>, results: &mpsc::Sender<Done<P>>) {
    let open = || FileSpill::open(&place.folder, place.bytes_max);
    let mut store = open();
    while let Some(ask) = asks.blocking_recv() {
        if store.is_err() {
            store = open();
        }
        let done = match &mut store {
            Ok(store) => act(store, ask).transpose(),
            Err(_) if matches!(ask, Ask::Forget(_)) => None,
            Err(error) => Some(Err(Error::new(error.kind(), error.message().to_owned()))),
        };
        let done = match done {
            None => continue,
            Some(Ok(done)) => done,
            Some(Err(error)) => Done::SpillFailed(error),
        };
        if results.blocking_send(done).is_err() {
            return;
        }
    }
}

fn act<P>(store: &mut FileSpill, ask: Ask) -> Result<Option<Done<P>>> {
    Ok(match ask {
        Ask::Write { run, entries } => {
            store.write(run, &entries)?;
            Some(Done::Spilled(run))
        }
        Ask::Recall { chunk, runs, digests } => {
            let entries = store.recall(&runs, &digests)?;
            Some(Done::Recalled { chunk, entries })
        }
        Ask::Forget(run) => {
            store.forget(run);
            None
        }
    })
}
