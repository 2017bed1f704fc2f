// SPDX-License-Identifier: Apache-2.0
//! Encoded records on their way from the capture loop to the committer, bounded in bytes.
//!
//! ```text
//!  capture loop: encode into one batch per topic ──Parcel──▶ committer: begin, append…, put_checkpoint, commit
//!        ▲                                                        │
//!        └──────────────── emptied batches, room ─────────────────┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use highwater_core::checkpoint::{Checkpoint, CheckpointId};
use highwater_core::schema::TableId;
use highwater_core::transport::RecordBatch;
use highwater_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes of one topic's batch at which it goes to the committer: large enough for the transport to work well, small
/// enough that it starts early.
pub(crate) const BATCH_BYTES_MAX: usize = 512 << 10;
/// Bytes over all topics at which every batch goes.
pub(crate) const OPEN_BYTES_MAX: usize = 2 << 20;
/// Bytes that may be encoded and not yet taken by the transport.
pub(crate) const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Parcels that may lie between the two.
pub(crate) const QUEUE_PARCELS_MAX: usize = 256;
/// Emptied batches that are kept for use again.
const SPARE_BATCHES_MAX: usize = 16;
/// A spare batch with more memory than this is let go.
const SPARE_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

const UNIT_BYTES: usize = 1 << 10;

/// What the committer gets: records, and with the last parcel of a transaction its checkpoint.
pub(crate) struct Parcel {
    pub(crate) batches: Vec<(Arc<str>, RecordBatch)>,
    pub(crate) checkpoint: Option<(CheckpointId, Checkpoint)>,
    /// Room in the queue; given back when the parcel was appended.
    pub(crate) room: OwnedSemaphorePermit,
}

/// Emptied batches with their memory.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Vec<RecordBatch>>);

impl Spares {
    fn take(&self) -> RecordBatch {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_default()
    }

    pub(crate) fn put(&self, mut batch: RecordBatch) {
        let large = batch.bytes() > SPARE_BYTES_MAX;
        batch.clear();
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !large && spares.len() < SPARE_BATCHES_MAX {
            spares.push(batch);
        }
    }
}

struct Open {
    table: Option<TableId>,
    topic: Arc<str>,
    batch: RecordBatch,
}

/// The capture loop's end.
pub(crate) struct Outbox {
    open: Vec<Open>,
    last: usize,
    open_bytes: usize,
    parcels: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
    spares: Arc<Spares>,
}

impl Outbox {
    pub(crate) fn new(spares: Arc<Spares>) -> (Self, mpsc::Receiver<Parcel>) {
        let (parcels, receiver) = mpsc::channel(QUEUE_PARCELS_MAX);
        let outbox = Outbox {
            open: Vec::new(),
            last: 0,
            open_bytes: 0,
            parcels,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX / UNIT_BYTES)),
            spares,
        };
        (outbox, receiver)
    }

    /// The batch of a table, opened with `topic` when there is none. Rows of one table come in runs, so the last one is
    /// tried first.
    pub(crate) fn batch(&mut self, table: TableId, topic: impl FnOnce() -> Arc<str>) -> &mut RecordBatch {
        let is_it = |open: &Open| open.table == Some(table);
        if !self.open.get(self.last).is_some_and(is_it) {
            self.last = match self.open.iter().position(is_it) {
                Some(at) => at,
                None => self.add(Some(table), topic()),
            };
        }
        &mut self.open[self.last].batch
    }

    /// The batch of a topic of our own.
    pub(crate) fn own_batch(&mut self, topic: &Arc<str>) -> &mut RecordBatch {
        let found = self
            .open
            .iter()
            .position(|open| open.table.is_none() && open.topic == *topic);
        let at = found.unwrap_or_else(|| self.add(None, topic.clone()));
        &mut self.open[at].batch
    }

    fn add(&mut self, table: Option<TableId>, topic: Arc<str>) -> usize {
        let mut batch = self.spares.take();
        // The encoder stamps records with the present; the moment of the append is as good.
        batch.let_times_be_of_append();
        self.open.push(Open { table, topic, batch });
        self.open.len() - 1
    }

    /// Notes that records of this many bytes were added; says whether it is time to [`Outbox::flush`].
    pub(crate) fn grew(&mut self, bytes: usize) -> bool {
        self.open_bytes += bytes;
        self.open_bytes >= OPEN_BYTES_MAX
            || self
                .open
                .get(self.last)
                .is_some_and(|open| open.batch.bytes() >= BATCH_BYTES_MAX)
    }

    /// Bytes that the transport has not taken yet.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.open_bytes + QUEUE_BYTES_MAX - self.room.available_permits() * UNIT_BYTES
    }

    /// Hands over what is open, waiting while the queue is full. Not cancel-safe.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.send(None).await
    }

    /// Hands over what is open as the end of a transaction. Not cancel-safe.
    pub(crate) async fn commit(&mut self, id: CheckpointId, checkpoint: Checkpoint) -> Result<()> {
        self.send(Some((id, checkpoint))).await
    }

    async fn send(&mut self, checkpoint: Option<(CheckpointId, Checkpoint)>) -> Result<()> {
        let batches: Vec<_> = self.open.drain(..).map(|open| (open.topic, open.batch)).collect();
        if batches.is_empty() && checkpoint.is_none() {
            return Ok(());
        }
        let units = (self.open_bytes / UNIT_BYTES + 1).min(QUEUE_BYTES_MAX / UNIT_BYTES);
        self.open_bytes = 0;
        let gone = || Error::new(ErrorKind::Cancelled, "the committer has ended");
        let room = self
            .room
            .clone()
            .acquire_many_owned(units as u32)
            .await
            .map_err(|_| gone())?;
        let parcel = Parcel {
            batches,
            checkpoint,
            room,
        };
        self.parcels.send(parcel).await.map_err(|_| gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &mut Outbox, table: u64, bytes: usize) -> bool {
        let batch = outbox.batch(TableId(table), || format!("t{table}").into());
        batch.push(Some(b"k"), Some(&vec![0; bytes]), 0, Vec::new());
        outbox.grew(bytes + 1)
    }

    #[tokio::test]
    async fn records_of_a_table_stay_in_order_in_one_batch_until_they_are_handed_over() {
        let (mut outbox, mut parcels) = Outbox::new(Arc::default());
        for table in [1, 2, 1, 1, 2] {
            assert!(!push(&mut outbox, table, 10));
        }
        outbox.flush().await.unwrap();
        let parcel = parcels.recv().await.unwrap();
        let sizes: Vec<_> = parcel
            .batches
            .iter()
            .map(|(topic, batch)| (&**topic, batch.len()))
            .collect();
        assert_eq!(sizes, [("t1", 3), ("t2", 2)]);
        assert!(parcel.batches.iter().all(|(_, batch)| batch.may_times_be_of_append()));
        assert!(parcel.checkpoint.is_none());
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_capture_loop_wait_until_the_committer_took_something() {
        let (mut outbox, mut parcels) = Outbox::new(Arc::default());
        let half = QUEUE_BYTES_MAX / 2;
        for _ in 0..2 {
            assert!(push(&mut outbox, 1, half - 4096), "time to hand over");
            outbox.flush().await.unwrap();
        }
        push(&mut outbox, 1, half);
        let mut waiting = Box::pin(outbox.flush());
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(parcels.recv().await.unwrap());
        waiting.await.unwrap();
    }
}
