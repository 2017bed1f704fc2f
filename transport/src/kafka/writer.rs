// SPDX-License-Identifier: Apache-2.0
//! Writers: one transactional producer each. What blocks runs on threads for such; a call that is dropped half-way leaves
//! the writer to be opened again, never a guess.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{GroupId, Offsets, RecordBatch, Txn, Writer, WriterId};
use highwater_core::{Error, Result};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::calls::{ABORT_FLUSH_MS, Calls, Phase};
use super::checkpoints;
use super::consumer::{blocking, let_go};
use super::failure::{Failure, delivery_error};
use super::left_open::{FirstRecord, must_be_ended_first};
use super::producer::{Place, Produced, Producer};
use super::topics::Topics;
use crate::failure::{fenced, writer_is_done};
use crate::stored_checkpoint;

/// How long an append waits before it looks again for room in the queue, which empties at hundreds of bytes a microsecond.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(1);
/// How many looks in a row must find the queue full and nothing on its way before what waits there is sent.
const STANDSTILL_LOOKS: u32 = 3;
/// How long what waits in a full queue is sent, in milliseconds, before it is looked whether there is room.
pub(super) const MAKE_ROOM_MS: u32 = 1_000;
/// How long a writer that goes in the middle of a transaction tries to abort it, so that readers need not wait.
const PARTING_ABORT_MS: u32 = 5_000;

pub(super) struct KafkaWriter {
    topics: Topics,
    id: WriterId,
    producer: Arc<Producer>,
    phase: Phase,
    /// Not known before it is asked for, nor after an abort.
    last: Option<LastCheckpoint>,
    /// Topics in which nothing is open that must be ended before this writer writes.
    settled: HashSet<String>,
}

/// What the last checkpoint says about its transaction.
#[derive(Default)]
struct LastCheckpoint {
    stored: Option<Bytes>,
    /// The first records of committed transactions that are open still.
    carried: Vec<FirstRecord>,
    /// Whether its first records were written down.
    names_first_records: bool,
}

impl KafkaWriter {
    /// Fences earlier writers of the same id and aborts what they left open.
    pub(super) async fn open(topics: Topics, id: WriterId) -> Result<Self> {
        let settings = Arc::clone(&topics.settings);
        topics.ensure(&[checkpoints::topic(&settings)]).await?;
        let partitions = topics.partitions(&[&settings.checkpoint_topic]).await?;
        let partitions = partitions.into_values().sum();
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
            last: None,
            settled: HashSet::new(),
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

    /// Reads the last checkpoint, and ends its transaction where the broker forgot to.
    async fn look_back(&mut self) -> Result<Option<Checkpoint>> {
        let mut last = self.last_record().await?;
        if let Some(open) = &last
            && let (true, Phase::Ready, Some(stored)) = (open.is_left_open, self.phase, open.stored.clone())
        {
            tracing::warn!(writer = %self.id.0, "the broker forgot to end the transaction of the last checkpoint; it is ended now");
            let first_records = open.first_records.clone().unwrap_or_default();
            self.end(move |calls| calls.write_again(&stored, &first_records))
                .await?;
            last = self.last_record().await?;
        }
        let Some(last) = last else {
            self.last = Some(LastCheckpoint::default());
            return Ok(None);
        };
        let (topics, first_records) = (self.topics.clone(), last.first_records.clone());
        let names_first_records = first_records.is_some();
        let carried = blocking(move || topics.open_transactions().of(first_records.unwrap_or_default())).await??;
        self.last = Some(LastCheckpoint {
            stored: last.stored.clone(),
            carried,
            names_first_records,
        });
        last.checkpoint(&self.topics.settings)
    }

    async fn last_record(&self) -> Result<Option<checkpoints::Last>> {
        let calls = self.calls();
        blocking(move || checkpoints::read(&calls.settings, &calls.id)).await?
    }

    /// Makes topics known, and ends what was left open there; see [`super::left_open`].
    async fn settle(&mut self, topics: &[&str]) -> Result<()> {
        let partitions = self.topics.partitions(topics).await?;
        for (topic, partitions) in &partitions {
            if !self.producer.knows(topic) {
                self.producer.learn(topic, *partitions)?;
            }
        }
        if self.last.is_none() {
            self.look_back().await?;
        }
        if let Some(last) = self.last.as_ref().filter(|last| last.names_first_records) {
            let places = partitions
                .iter()
                .flat_map(|(topic, count)| (0..*count).map(|partition| (topic.clone(), partition)));
            let (places, topics) = (places.collect(), self.topics.clone());
            let open = blocking(move || topics.open_transactions().among(places)).await??;
            let carried: HashSet<(&str, u32)> = last.carried.iter().map(FirstRecord::place).collect();
            let open = open.into_keys();
            let left: Vec<_> = open
                .filter(|(topic, partition)| !carried.contains(&(topic.as_str(), *partition)))
                .collect();
            if !left.is_empty() {
                self.end_left_open(left).await?;
            }
        }
        self.settled.extend(partitions.into_keys());
        Ok(())
    }

    /// Ends what was left open in these partitions, which are in the order of their topics.
    async fn end_left_open(&mut self, places: Vec<(String, u32)>) -> Result<()> {
        if !self.producer.first_records().is_empty() {
            let unsettled = places.iter().map(|(topic, _)| (self.id.clone(), topic.clone()));
            self.topics.unsettled().extend(unsettled);
            let first = places.first().map_or("", |(topic, _)| topic);
            return Err(must_be_ended_first(first));
        }
        tracing::warn!(?places, "transactions are open that nobody ends; they are aborted");
        self.end(move |calls| calls.end_left_open(&places)).await?;
        self.begin_open()
    }

    fn begin_open(&mut self) -> Result<()> {
        self.producer.begin().map_err(|failure| {
            self.phase = Calls::phase_after(&failure);
            self.calls().error(&failure, "begin a transaction")
        })?;
        self.phase = Phase::Open;
        Ok(())
    }

    /// Waits a little for the queue to empty. Many partitions fill it before the batch of any is full: then nothing is on
    /// its way, nothing would be until the batches have lingered, and what waits is sent as it is. Not where a full batch
    /// waits for the broker: that goes by itself, and librdkafka spins while it flushes.
    async fn wait_for_room(&self, standstill: &mut u32) -> Result<()> {
        tokio::time::sleep(FULL_QUEUE_WAIT).await;
        let is_moving = self.producer.client().notes().produce_requests() > 0 || self.producer.holds_full_batches();
        *standstill = if is_moving { 0 } else { *standstill + 1 };
        if *standstill < STANDSTILL_LOOKS {
            return Ok(());
        }
        *standstill = 0;
        let producer = Arc::clone(&self.producer);
        blocking(move || producer.flush(MAKE_ROOM_MS)).await
    }

    /// What was read of topics and of the last checkpoint is of no more use after an abort.
    fn forget(&mut self) {
        self.last = None;
        self.settled.clear();
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
                self.forget();
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Writer for KafkaWriter {
    async fn checkpoint(&mut self) -> Result<Option<Checkpoint>> {
        self.check()?;
        self.look_back().await
    }

    async fn begin(&mut self) -> Result<Box<dyn Txn + '_>> {
        if self.phase == Phase::Open {
            self.forget();
            self.end(|calls| calls.flush_and_abort()).await?;
        }
        self.check()?;
        self.begin_open()?;
        let unsettled: Vec<String> = {
            let mut unsettled = self.topics.unsettled();
            let ours = unsettled.extract_if(|(id, _)| *id == self.id);
            ours.map(|(_, topic)| topic).collect()
        };
        if !unsettled.is_empty() {
            let unsettled: Vec<&str> = unsettled.iter().map(String::as_str).collect();
            self.settle(&unsettled).await?;
        }
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
    async fn announce(&mut self, topics: &[&str]) -> Result<()> {
        self.writer.check()?;
        let settled = &self.writer.settled;
        let new: Vec<&str> = topics
            .iter()
            .copied()
            .filter(|topic| !settled.contains(*topic))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        self.writer.settle(&new).await
    }

    /// A transaction whose append failed or was dropped half-way is only good for aborting.
    async fn append(&mut self, topic: &str, batch: &RecordBatch) -> Result<()> {
        self.writer.check()?;
        if !self.writer.settled.contains(topic) {
            self.writer.settle(&[topic]).await?;
        }
        let (mut from, mut standstill) = (Place::default(), 0);
        loop {
            match self.writer.producer.produce(topic, batch, from) {
                Ok(Produced::All) => return Ok(()),
                Ok(Produced::Until(next)) => from = next,
                Err(failure) => return Err(self.failed_append(&failure, topic)),
            }
            self.writer.wait_for_room(&mut standstill).await?;
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
        // A transaction without a checkpoint of its own has the last one name its first records.
        let last = writer.last.as_mut();
        let carried = last.as_ref().map(|last| last.carried.clone()).unwrap_or_default();
        let stored = match (last, checkpoint.map(Bytes::from)) {
            (Some(last), Some(checkpoint)) => Some(last.stored.insert(checkpoint).clone()),
            (Some(last), None) => last.stored.clone(),
            (None, checkpoint) => checkpoint,
        };
        writer
            .end(move |calls| calls.commit(stored.as_deref(), &carried, &groups))
            .await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.writer.forget();
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
