// SPDX-License-Identifier: Apache-2.0
//! The transactional producer, on librdkafka. What the writer needs of one is its public face; another producer with the
//! same face can take its place.

use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_core::transport::{GroupId, Offsets, RecordBatch, RecordRef};
use highwater_core::{Error, Result};
use rdkafka::bindings as native;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::{Client, checked_error, text_of};
use super::failure::Failure;
use super::left_open::{FirstRecord, fingerprint};
use super::produce_call::ProduceCall;
use super::produce_run::ProduceRun;
use crate::route::partition_of;

/// How long the thread that hears of failed deliveries sleeps at most, in milliseconds.
const EVENT_WAIT_MS: c_int = 1_000;
/// How often it is looked how much waits for delivery before a commit.
const DELIVERY_LOOK: Duration = Duration::from_millis(1);
/// How long nothing may be delivered before a commit is tried regardless.
const STANDSTILL_MAX: Duration = Duration::from_secs(1);

/// A delivery that failed.
pub(super) struct Undelivered {
    pub(super) topic: String,
    pub(super) failure: Failure,
}

struct Shared {
    client: Client,
    stopping: AtomicBool,
    /// The first since the transaction began.
    undelivered: Mutex<Option<Undelivered>>,
}

struct Topic {
    handle: *mut native::rd_kafka_topic_t,
    partitions: u32,
    /// Bytes and records queued for each partition since the transaction began.
    queued: Vec<Queued>,
}

#[derive(Clone, Copy, Default)]
struct Queued {
    bytes: u64,
    records: u64,
    /// The fingerprint of the first.
    first: u32,
}

impl Topic {
    fn note(&mut self, name: &str, partition: u32, record: &RecordRef<'_>) {
        if let Some(queued) = self.queued.get_mut(partition as usize) {
            if queued.records == 0 {
                queued.first = fingerprint(name, partition, record.key, record.value);
            }
            queued.bytes += record.value.map_or(0, <[u8]>::len) as u64;
            queued.records += 1;
        }
    }
}

// SAFETY: librdkafka's topic handles may be used from any thread.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

/// The producer. Every method but [`Producer::produce`] may block.
pub(super) struct Producer {
    topics: Mutex<HashMap<String, Topic>>,
    /// Size at which a batch is sent by itself.
    batch_bytes: u64,
    shared: Arc<Shared>,
    events: Option<std::thread::JoinHandle<()>>,
}

/// How far [`Producer::produce`] came.
pub(super) enum Produced {
    /// All of the batch.
    All,
    /// Up to this place: the queue is full.
    Until(Place),
}

/// A place in a batch: the partitions before, and the records of this one before, are queued.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    partition: u32,
    record: usize,
}

impl Producer {
    /// A producer that has not said anything to the cluster yet.
    pub(super) fn new(config: &ClientConfig, batch_bytes: u32) -> Result<Producer> {
        let events = native::RD_KAFKA_EVENT_DR | native::RD_KAFKA_EVENT_ERROR;
        let client = Client::new(config, RDKafkaType::RD_KAFKA_PRODUCER, events)?;
        let shared = Arc::new(Shared {
            client,
            stopping: AtomicBool::new(false),
            undelivered: Mutex::new(None),
        });
        let heard = Arc::clone(&shared);
        let events = std::thread::Builder::new()
            .name("hw-kafka-events".to_owned())
            .spawn(move || heard.hear());
        let events = events.map_err(|source| Error::bug("could not start a thread for kafka").with_source(source))?;
        Ok(Producer {
            topics: Mutex::default(),
            batch_bytes: u64::from(batch_bytes),
            shared,
            events: Some(events),
        })
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rk(&self) -> *mut native::rd_kafka_t {
        self.shared.client.ptr()
    }

    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Fences earlier producers of the same transactional id.
    pub(super) fn init(&self, timeout_ms: u32) -> Result<(), Failure> {
        // SAFETY: the handle is valid; the error object is handed over.
        unsafe { checked_error(native::rd_kafka_init_transactions(self.rk(), timeout_ms as c_int)) }
    }

    pub(super) fn begin(&self) -> Result<(), Failure> {
        self.undelivered();
        self.client().notes().no_produce_requests();
        for topic in self.topics().values_mut() {
            topic.queued.fill(Queued::default());
        }
        // SAFETY: as above.
        unsafe { checked_error(native::rd_kafka_begin_transaction(self.rk())) }
    }

    /// Delivers what was produced and commits. Not rdkafka's own commit, which polls in slices of 100 ms.
    pub(super) fn commit(&self, timeout_ms: u32) -> Result<(), Failure> {
        self.let_full_batches_go();
        // SAFETY: as above.
        unsafe { checked_error(native::rd_kafka_commit_transaction(self.rk(), timeout_ms as c_int)) }
    }

    /// Waits until no request is under way and what is queued fills no batch, unless the queue stands still. librdkafka
    /// has one request per partition under way, and while it flushes (as its commit does) with more than that, its thread
    /// asks without a pause whether the request is answered.
    fn let_full_batches_go(&self) {
        let rest = self.rest();
        let mut moved = (Instant::now(), u64::MAX);
        loop {
            let waiting = self.waiting();
            if waiting < moved.1 {
                moved = (Instant::now(), waiting);
            }
            let calm = waiting <= rest && self.client().notes().produce_requests() <= 0;
            if calm || moved.0.elapsed() > STANDSTILL_MAX {
                return;
            }
            std::thread::sleep(DELIVERY_LOOK);
        }
    }

    /// Whether some of what waits fills a batch, which is sent by itself.
    pub(super) fn holds_full_batches(&self) -> bool {
        self.waiting() > self.rest()
    }

    /// Records that are not delivered yet.
    fn waiting(&self) -> u64 {
        // SAFETY: the handle is valid.
        unsafe { native::rd_kafka_outq_len(self.rk()) }.max(0) as u64
    }

    /// Of the open transaction: about the most records that wait for a commit because they fill no batch.
    fn rest(&self) -> u64 {
        let (unsent, bytes, records) = self.queued();
        unsent.saturating_mul(records) / bytes.max(1)
    }

    /// Of the open transaction: the most bytes that wait for a commit because they fill no batch, all bytes, all records.
    fn queued(&self) -> (u64, u64, u64) {
        let topics = self.topics();
        let partitions = topics.values().flat_map(|topic| &topic.queued);
        partitions.fold((0, 0, 0), |(unsent, bytes, records), queued| {
            (
                unsent + queued.bytes.min(self.batch_bytes),
                bytes + queued.bytes,
                records + queued.records,
            )
        })
    }

    /// Of the open transaction: the first record in each partition.
    pub(super) fn first_records(&self) -> Vec<FirstRecord> {
        let topics = self.topics();
        let mut records = Vec::new();
        for (name, topic) in topics.iter() {
            let written = (0..).zip(&topic.queued).filter(|(_, queued)| queued.records > 0);
            records.extend(written.map(|(partition, queued)| FirstRecord {
                topic: name.clone(),
                partition,
                fingerprint: queued.first,
            }));
        }
        records
    }

    /// Delivers what was produced, for so long; the outcome shows at the transaction's end.
    pub(super) fn flush(&self, timeout_ms: u32) {
        // SAFETY: the handle is valid.
        unsafe { native::rd_kafka_flush(self.rk(), timeout_ms as c_int) };
    }

    pub(super) fn abort(&self, timeout_ms: u32) -> Result<(), Failure> {
        // SAFETY: as above.
        unsafe { checked_error(native::rd_kafka_abort_transaction(self.rk(), timeout_ms as c_int)) }
    }

    /// Adds a group's offsets to the transaction.
    pub(super) fn send_offsets(&self, group: &GroupId, offsets: &Offsets, timeout_ms: u32) -> Result<(), Failure> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for ((topic, partition), offset) in offsets {
            list.add_partition_offset(topic, *partition as i32, Offset::Offset(*offset as i64))
                .map_err(|_| Failure::of_code(Code::InvalidArgument))?;
        }
        let group = CString::new(group.0.as_str()).map_err(|_| Failure::of_code(Code::InvalidGroupId))?;
        // SAFETY: list and name live for the call; the metadata object is ours and freed once.
        unsafe {
            let metadata = native::rd_kafka_consumer_group_metadata_new(group.as_ptr());
            let error =
                native::rd_kafka_send_offsets_to_transaction(self.rk(), list.ptr(), metadata, timeout_ms as c_int);
            native::rd_kafka_consumer_group_metadata_destroy(metadata);
            checked_error(error)
        }
    }

    /// The first delivery that failed since the last call or the transaction's begin.
    pub(super) fn undelivered(&self) -> Option<Undelivered> {
        self.shared
            .undelivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Whether the topic is known to this producer.
    pub(super) fn knows(&self, topic: &str) -> bool {
        self.topics().contains_key(topic)
    }

    /// Makes a topic known.
    pub(super) fn learn(&self, topic: &str, partitions: u32) -> Result<()> {
        let name = CString::new(topic).map_err(|_| Error::bug("a topic's name holds a zero byte"))?;
        // SAFETY: the name lives for the call; without a configuration the client's is used.
        let handle = unsafe { native::rd_kafka_topic_new(self.rk(), name.as_ptr(), std::ptr::null_mut()) };
        if handle.is_null() {
            return Err(Error::bug("kafka gave no handle for a topic").with("topic", topic));
        }
        let learnt = Topic {
            handle,
            partitions,
            queued: vec![Queued::default(); partitions as usize],
        };
        let before = self.topics().insert(topic.to_owned(), learnt);
        if let Some(before) = before {
            // SAFETY: the handle was ours and nobody else has it.
            unsafe { native::rd_kafka_topic_destroy(before.handle) };
        }
        Ok(())
    }

    /// Queues the records of `batch` from `from` on, each copied once, into the queue. Does not block.
    pub(super) fn produce(&self, name: &str, batch: &RecordBatch, from: Place) -> Result<Produced, Failure> {
        let mut topics = self.topics();
        let topic = topics
            .get_mut(name)
            .ok_or_else(|| Failure::of_code(Code::UnknownTopic))?;
        let one_by_one = !batch.may_times_be_of_append();
        let mut first = from.record;
        for (partition, records) in by_partition(batch, topic.partitions, from.partition) {
            let records = records.skip_while(|(at, _)| *at < first);
            let queued = self.produce_to((name, &mut *topic), partition, records, one_by_one)?;
            if let Some(record) = queued {
                return Ok(Produced::Until(Place { partition, record }));
            }
            first = 0;
        }
        Ok(Produced::All)
    }

    /// Queues records of one partition; the place in the batch of the first that is not queued where the queue is full.
    fn produce_to<'a>(
        &self,
        (name, topic): (&str, &mut Topic),
        partition: u32,
        records: impl Iterator<Item = (usize, RecordRef<'a>)>,
        one_by_one: bool,
    ) -> Result<Option<usize>, Failure> {
        let mut run = ProduceRun::new(topic.handle, partition);
        let mut call = ProduceCall::new(topic.handle, partition);
        for (at, record) in records {
            topic.note(name, partition, &record);
            let alone = one_by_one || !record.headers.is_empty();
            if (alone || run.is_full())
                && let Some(full) = run.flush()?
            {
                return Ok(Some(full));
            }
            if !alone {
                // SAFETY: key and value live in the batch, which outlives the run.
                unsafe { run.push(at, &record) };
                continue;
            }
            match call.run(self.rk(), &record, one_by_one) {
                Ok(()) => {}
                Err(failure) if failure.code == Code::QueueFull => return Ok(Some(at)),
                Err(failure) => return Err(failure),
            }
        }
        run.flush()
    }
}

impl Producer {
    /// Queues a record without key and value for one partition of a topic that is known.
    pub(super) fn produce_empty(&self, topic: &str, partition: u32) -> Result<(), Failure> {
        let topics = self.topics();
        let topic = topics.get(topic).ok_or_else(|| Failure::of_code(Code::UnknownTopic))?;
        let record = RecordRef {
            key: None,
            value: None,
            timestamp_ms: 0,
            headers: &[],
        };
        ProduceCall::new(topic.handle, partition).run(self.rk(), &record, false)
    }
}

type Records<'a> = Box<dyn Iterator<Item = (usize, RecordRef<'a>)> + 'a>;

/// The records of each partition from `first` on, with their places in the batch.
fn by_partition(batch: &RecordBatch, partitions: u32, first: u32) -> Vec<(u32, Records<'_>)> {
    if partitions == 1 {
        return vec![(0, Box::new((0..).zip(batch.iter())))];
    }
    let mut sorted: Vec<Vec<(usize, RecordRef<'_>)>> = (0..partitions).map(|_| Vec::new()).collect();
    for (at, record) in batch.iter().enumerate() {
        if let Some(records) = sorted.get_mut(partition_of(record.key, partitions) as usize) {
            records.push((at, record));
        }
    }
    let numbered = (0..).zip(sorted).skip(first as usize);
    numbered
        .map(|(partition, records)| (partition, Box::new(records.into_iter()) as Records<'_>))
        .collect()
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // SAFETY: the handle is valid; the queue reference is ours and given back. What is queued will not be sent.
        unsafe {
            native::rd_kafka_purge(
                self.rk(),
                native::RD_KAFKA_PURGE_F_QUEUE | native::RD_KAFKA_PURGE_F_INFLIGHT,
            );
            let queue = native::rd_kafka_queue_get_main(self.rk());
            native::rd_kafka_queue_yield(queue);
            native::rd_kafka_queue_destroy(queue);
        }
        if let Some(thread) = self.events.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that hears of kafka's deliveries panicked");
        }
        for topic in self.topics.get_mut().unwrap_or_else(PoisonError::into_inner).drain() {
            // SAFETY: the handle is ours and nobody else has it.
            unsafe { native::rd_kafka_topic_destroy(topic.1.handle) };
        }
    }
}

impl Shared {
    /// Serves the producer's events until it goes. Successful deliveries make none.
    fn hear(&self) {
        // SAFETY: the queue and each event are ours and given back once; events are used before that only.
        unsafe {
            let queue = native::rd_kafka_queue_get_main(self.client.ptr());
            while !self.stopping.load(Ordering::Relaxed) {
                let event = native::rd_kafka_queue_poll(queue, EVENT_WAIT_MS);
                if event.is_null() {
                    continue;
                }
                match native::rd_kafka_event_type(event) {
                    native::RD_KAFKA_EVENT_DR => self.hear_deliveries(event),
                    native::RD_KAFKA_EVENT_ERROR => self.client.notes().note(Failure {
                        text: text_of(native::rd_kafka_event_error_string(event)),
                        ..Failure::of_code(Code::from(native::rd_kafka_event_error(event)))
                    }),
                    _ => {}
                }
                native::rd_kafka_event_destroy(event);
            }
            native::rd_kafka_queue_destroy(queue);
        }
    }

    /// # Safety
    /// `event` is a valid delivery event.
    unsafe fn hear_deliveries(&self, event: *mut native::rd_kafka_event_t) {
        loop {
            // SAFETY: messages and the topics they name live as long as the event.
            let (code, topic) = unsafe {
                let message = native::rd_kafka_event_message_next(event);
                if message.is_null() {
                    return;
                }
                (
                    Code::from((*message).err),
                    text_of(native::rd_kafka_topic_name((*message).rkt)),
                )
            };
            // Purged ones are the consequence of an abort, not its cause.
            if matches!(code, Code::NoError | Code::PurgeQueue | Code::PurgeInflight) {
                continue;
            }
            let mut first = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| Undelivered {
                topic,
                failure: Failure::of_code(code),
            });
        }
    }
}
