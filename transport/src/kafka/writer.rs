// SPDX-License-Identifier: Apache-2.0
//! Writers: one transactional producer each. What blocks runs on threads for such; a call that is dropped half-way leaves
//! the writer to be opened again, never a guess.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{GroupId, Offsets, RecordBatch, Txn, Writer, WriterId};
use highwater_core::{Error, Result};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::checkpoints;
use super::consumer::{blocking, let_go};
use super::failure::{Failure, delivery_error, writer_error};
use super::producer::{Place, Produced, Producer};
use super::settings::KafkaSettings;
use super::topics::Topics;
use crate::failure::{fenced, writer_is_done};
use crate::stored_checkpoint;

/// How long an append waits before it looks again for room in the queue, which empties at hundreds of bytes a microsecond.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(1);
/// One try of opening a writer; between tries, trouble with credentials is looked at.
const INIT_SLICE_MS: u32 = 1_000;
/// How long a writer that goes in the middle of a transaction tries to abort it, so that readers need not wait.
const PARTING_ABORT_MS: u32 = 5_000;
/// How long an abort waits for records to be delivered first.
const ABORT_FLUSH_MS: u32 = 2_000;

/// What may be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A transaction may begin.
    Ready,
    /// A transaction is open.
    Open,
    /// A call was dropped or failed in a way that leaves it open what happened.
    Done,
    /// A newer writer took over.
    Fenced,
}

pub(super) struct KafkaWriter {
    topics: Topics,
    id: WriterId,
    producer: Arc<Producer>,
    phase: Phase,
}

/// What the blocking calls need.
#[derive(Clone)]
struct Calls {
    producer: Arc<Producer>,
    settings: Arc<KafkaSettings>,
    id: WriterId,
}

impl KafkaWriter {
    /// Fences earlier writers of the same id and aborts what they left open.
    pub(super) async fn open(topics: Topics, id: WriterId) -> Result<Self> {
        let settings = Arc::clone(&topics.settings);
        topics.ensure(&[checkpoints::topic(&settings)]).await?;
        let partitions = topics.partitions(&settings.checkpoint_topic).await?;
        let config = settings.producer(&format!("{}.{}", settings.client_id, id.0))?;
        let producer = Arc::new(Producer::new(&config, settings.batch_bytes)?);
        producer.learn(&settings.checkpoint_topic, partitions)?;
        let calls = Calls {
            producer: Arc::clone(&producer),
            settings,
            id: id.clone(),
        };
        blocking(move || calls.init()).await??;
        Ok(KafkaWriter {
            topics,
            id,
            producer,
            phase: Phase::Ready,
        })
    }

    fn calls(&self) -> Calls {
        Calls {
            producer: Arc::clone(&self.producer),
            settings: Arc::clone(&self.topics.settings),
            id: self.id.clone(),
        }
    }

    fn check(&self) -> Result<()> {
        match self.phase {
            Phase::Ready | Phase::Open => Ok(()),
            Phase::Done => Err(writer_is_done(&self.id)),
            Phase::Fenced => Err(fenced(&self.id)),
        }
    }

    /// Runs a call that ends the transaction. Dropped half-way, the writer is done.
    async fn end(&mut self, call: impl FnOnce(Calls) -> Result<(), (Error, Phase)> + Send + 'static) -> Result<()> {
        self.check()?;
        self.phase = Phase::Done;
        let calls = self.calls();
        match blocking(move || call(calls)).await? {
            Ok(()) => {
                self.phase = Phase::Ready;
                Ok(())
            }
            Err((error, phase)) => {
                self.phase = phase;
                Err(error)
            }
        }
    }
}

impl Calls {
    fn error(&self, failure: &Failure, doing: &str) -> Error {
        writer_error(failure, doing, &self.id, &self.settings)
    }

    fn init(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_millis(u64::from(self.settings.operation_timeout_ms));
        loop {
            let Err(failure) = self.producer.init(INIT_SLICE_MS) else {
                return Ok(());
            };
            let again = failure.is_retriable && Instant::now() < deadline;
            let failure = self.producer.client().explained(failure);
            if !again || matches!(failure.code, Code::Authentication | Code::SSL) {
                return Err(self.error(&failure, &format!("open writer \"{}\"", self.id.0)));
            }
        }
    }

    fn phase_after(failure: &Failure) -> Phase {
        if failure.is_fenced() {
            Phase::Fenced
        } else {
            Phase::Done
        }
    }

    /// Aborts a transaction that has not failed. What was produced is delivered first: the coordinator answers to an abort
    /// that overtakes the registration of the transaction's partitions (held up while the transaction before it is being
    /// completed) that the state is invalid, and librdkafka takes that for fatal.
    fn flush_and_abort(&self) -> Result<(), (Error, Phase)> {
        self.producer.flush(ABORT_FLUSH_MS);
        self.abort()
    }

    fn abort(&self) -> Result<(), (Error, Phase)> {
        self.producer
            .abort(self.settings.operation_timeout_ms)
            .map_err(|failure| (self.error(&failure, "abort a transaction"), Self::phase_after(&failure)))
    }

    /// Aborts because of `failure` and gives the error that says why, the undelivered record before the rest.
    fn give_up(&self, failure: &Failure, doing: &str) -> (Error, Phase) {
        let undelivered = self.producer.undelivered();
        let fenced_by = |failure: &Failure| failure.is_fenced();
        if fenced_by(failure)
            || undelivered
                .as_ref()
                .is_some_and(|undelivered| fenced_by(&undelivered.failure))
        {
            return (fenced(&self.id), Phase::Fenced);
        }
        // After a record that could not be delivered, librdkafka's sequence numbers have a gap: a new producer is surer.
        let gap = undelivered.is_some();
        let error = match undelivered {
            Some(undelivered) => delivery_error(&undelivered.failure, &undelivered.topic, &self.settings),
            None => self.error(failure, doing),
        };
        if failure.is_fatal {
            return (error, Phase::Done);
        }
        match self.abort() {
            Ok(()) => (error, if gap { Phase::Done } else { Phase::Ready }),
            Err((second, Phase::Fenced)) => (second, Phase::Fenced),
            Err((_, phase)) => (error, phase),
        }
    }

    fn put_checkpoint(&self, stored: &[u8]) -> Result<(), (Error, Phase)> {
        let mut batch = RecordBatch::default();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        batch.push(Some(self.id.0.as_bytes()), Some(stored), now_ms, Vec::new());
        let topic = &self.settings.checkpoint_topic;
        let deadline = Instant::now() + Duration::from_millis(u64::from(self.settings.operation_timeout_ms));
        loop {
            match self.producer.produce(topic, &batch, Place::default()) {
                Ok(Produced::All) => return Ok(()),
                Ok(Produced::Until(_)) if Instant::now() < deadline => std::thread::sleep(FULL_QUEUE_WAIT),
                Ok(Produced::Until(_)) => {
                    return Err(self.give_up(&Failure::of_code(Code::OperationTimedOut), "write a checkpoint"));
                }
                Err(failure) => {
                    let (error, phase) = self.give_up(&failure, "write a checkpoint");
                    let too_large = failure.code == Code::MessageSizeTooLarge;
                    return Err((
                        if too_large {
                            delivery_error(&failure, topic, &self.settings)
                        } else {
                            error
                        },
                        phase,
                    ));
                }
            }
        }
    }

    fn send_offsets(&self, group: &GroupId, offsets: &Offsets) -> Result<(), (Error, Phase)> {
        let timeout_ms = self.settings.operation_timeout_ms;
        let deadline = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
        loop {
            let Err(failure) = self.producer.send_offsets(group, offsets, timeout_ms) else {
                return Ok(());
            };
            if !failure.is_retriable || Instant::now() > deadline {
                return Err(self.give_up(&failure, &format!("commit offsets of group \"{}\"", group.0)));
            }
        }
    }

    fn commit(&self, checkpoint: Option<Vec<u8>>, groups: &[(GroupId, Offsets)]) -> Result<(), (Error, Phase)> {
        if let Some(stored) = checkpoint {
            self.put_checkpoint(&stored)?;
        }
        groups
            .iter()
            .try_for_each(|(group, offsets)| self.send_offsets(group, offsets))?;
        let Err(failure) = self.producer.commit(self.settings.operation_timeout_ms) else {
            return Ok(());
        };
        let failure = self.producer.client().explained(failure);
        if failure.requires_abort || failure.is_fatal || failure.is_fenced() {
            return Err(self.give_up(&failure, "commit a transaction"));
        }
        // Whether it is committed only a new writer can find out.
        Err((self.error(&failure, "commit a transaction"), Phase::Done))
    }
}

#[async_trait]
impl Writer for KafkaWriter {
    async fn checkpoint(&mut self) -> Result<Option<Checkpoint>> {
        self.check()?;
        let calls = self.calls();
        blocking(move || checkpoints::read(&calls.settings, &calls.id)).await?
    }

    async fn begin(&mut self) -> Result<Box<dyn Txn + '_>> {
        if self.phase == Phase::Open {
            self.end(|calls| calls.flush_and_abort()).await?;
        }
        self.check()?;
        self.producer.begin().map_err(|failure| {
            self.phase = Calls::phase_after(&failure);
            self.calls().error(&failure, "begin a transaction")
        })?;
        self.phase = Phase::Open;
        Ok(Box::new(KafkaTxn {
            writer: self,
            checkpoint: None,
            groups: Vec::new(),
        }))
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        let (producer, is_open) = (Arc::clone(&self.producer), self.phase == Phase::Open);
        let parting = move || {
            if is_open {
                producer.flush(ABORT_FLUSH_MS);
            }
            if is_open && let Err(failure) = producer.abort(PARTING_ABORT_MS) {
                tracing::debug!(cause = %failure.text, "a transaction stays open until its time-out");
            }
        };
        let_go(Parting(Some(parting)));
    }
}

/// Does something when it is dropped, wherever that is.
struct Parting<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Parting<F> {
    fn drop(&mut self) {
        if let Some(parting) = self.0.take() {
            parting();
        }
    }
}

struct KafkaTxn<'a> {
    writer: &'a mut KafkaWriter,
    checkpoint: Option<Vec<u8>>,
    groups: Vec<(GroupId, Offsets)>,
}

#[async_trait]
impl Txn for KafkaTxn<'_> {
    /// A transaction whose append failed or was dropped half-way is only good for aborting.
    async fn append(&mut self, topic: &str, batch: &RecordBatch) -> Result<()> {
        self.writer.check()?;
        if !self.writer.producer.knows(topic) {
            let partitions = self.writer.topics.partitions(topic).await?;
            self.writer.producer.learn(topic, partitions)?;
        }
        let mut from = Place::default();
        loop {
            match self.writer.producer.produce(topic, batch, from) {
                Ok(Produced::All) => return Ok(()),
                Ok(Produced::Until(next)) => from = next,
                Err(failure) => return Err(self.failed_append(&failure, topic)),
            }
            tokio::time::sleep(FULL_QUEUE_WAIT).await;
        }
    }

    async fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.writer.check()?;
        self.checkpoint = Some(stored_checkpoint::encode(checkpoint)?);
        Ok(())
    }

    async fn commit_offsets(&mut self, group: &GroupId, offsets: &Offsets) -> Result<()> {
        self.writer.check()?;
        self.groups.push((group.clone(), offsets.clone()));
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let KafkaTxn {
            writer,
            checkpoint,
            groups,
        } = *self;
        writer.end(move |calls| calls.commit(checkpoint, &groups)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.writer.end(|calls| calls.flush_and_abort()).await
    }
}

impl KafkaTxn<'_> {
    /// An append fails because of its own record, or because one before it could not be delivered.
    fn failed_append(&mut self, failure: &Failure, topic: &str) -> Error {
        let writer = &mut self.writer;
        if failure.is_fenced() {
            writer.phase = Phase::Fenced;
            return fenced(&writer.id);
        }
        if failure.is_fatal {
            writer.phase = Phase::Done;
        }
        match writer.producer.undelivered() {
            Some(earlier) if failure.code != Code::MessageSizeTooLarge => {
                delivery_error(&earlier.failure, &earlier.topic, &writer.topics.settings)
            }
            _ => delivery_error(failure, topic, &writer.topics.settings),
        }
    }
}
