// SPDX-License-Identifier: Apache-2.0
//! The second stage: appends what the capture loop encoded and commits it with its checkpoint, while the loop reads on.

use std::sync::Arc;
use std::time::Instant;

use highwater_core::checkpoint::CheckpointId;
use highwater_core::transport::{Txn, Writer};
use highwater_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use crate::crash_points::{Phase, reach};
use crate::source_task::outbox::{Parcel, Spares};
use crate::telemetry::metrics::Metrics;

/// Commits whose news may wait for the capture loop. More cannot be under way: each needs a parcel of its own.
pub(crate) const SAVED_MAX: usize = crate::source_task::outbox::QUEUE_PARCELS_MAX + 2;

pub(crate) struct Committer {
    pub(crate) writer: Box<dyn Writer>,
    pub(crate) parcels: mpsc::Receiver<Parcel>,
    pub(crate) saved: mpsc::Sender<CheckpointId>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Size {
    records: u64,
    bytes: u64,
}

impl Committer {
    /// Works until the capture loop drops its end; what is not committed by then is aborted.
    ///
    /// # Errors
    /// Those of the transport.
    pub(crate) async fn run(mut self) -> Result<()> {
        while let Some(first) = self.parcels.recv().await {
            if !self.transaction(first).await? {
                break;
            }
        }
        Ok(())
    }

    /// One transaction from its first parcel to the one with the checkpoint. `false`: the capture loop has ended.
    async fn transaction(&mut self, first: Parcel) -> Result<bool> {
        let began = Instant::now();
        let mut size = Size::default();
        let mut txn = self.writer.begin().await?;
        let mut parcel = first;
        let (id, checkpoint) = loop {
            append(&mut *txn, &parcel, &mut size).await?;
            for (_, batch) in parcel.batches {
                self.spares.put(batch);
            }
            drop(parcel.room);
            if let Some(checkpoint) = parcel.checkpoint {
                break checkpoint;
            }
            match self.parcels.recv().await {
                Some(next) => parcel = next,
                None => {
                    txn.abort().await?;
                    return Ok(false);
                }
            }
        };
        txn.put_checkpoint(&checkpoint).await?;
        reach(Phase::BeforeCommit);
        txn.commit().await?;
        reach(Phase::AfterCommit);
        self.metrics.records.inc_by(size.records);
        self.metrics.bytes.inc_by(size.bytes);
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        let told = self.saved.send(id).await;
        told.map_err(|_| Error::new(ErrorKind::Cancelled, "the capture loop has ended"))?;
        Ok(true)
    }
}

async fn append(txn: &mut dyn Txn, parcel: &Parcel, size: &mut Size) -> Result<()> {
    let topics: Vec<&str> = parcel.batches.iter().map(|(topic, _)| &**topic).collect();
    txn.announce(&topics).await?;
    for (topic, batch) in &parcel.batches {
        if batch.is_empty() {
            continue;
        }
        txn.append(topic, batch).await?;
        size.records += batch.len() as u64;
        size.bytes += batch.bytes() as u64;
    }
    Ok(())
}
