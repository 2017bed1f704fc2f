// SPDX-License-Identifier: Apache-2.0
//! The transactional producer, on librdkafka. What the writer needs of one is its public face; another producer with the
//! same face can take its place.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use highwater_core::transport::{GroupId, Offsets, RecordBatch, RecordRef};
use highwater_core::{Error, Result};
use rdkafka::bindings as native;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::{Client, checked_error, text_of};
use super::failure::Failure;
use crate::route::partition_of;

/// How long the thread that hears of failed deliveries sleeps at most, in milliseconds.
const EVENT_WAIT_MS: c_int = 1_000;

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
}

// SAFETY: librdkafka's topic handles may be used from any thread.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

/// The producer. Every method but [`Producer::produce`] may block.
pub(super) struct Producer {
    topics: Mutex<HashMap<String, Topic>>,
    shared: Arc<Shared>,
    events: Option<std::thread::JoinHandle<()>>,
}

/// How far [`Producer::produce`] came.
pub(super) enum Produced {
    /// All of the batch.
    All,
    /// Up to this record: the queue is full.
    Until(usize),
}

impl Producer {
    /// A producer that has not said anything to the cluster yet.
    pub(super) fn new(config: &ClientConfig) -> Result<Producer> {
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
            shared,
            events: Some(events),
        })
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
        // SAFETY: as above.
        unsafe { checked_error(native::rd_kafka_begin_transaction(self.rk())) }
    }

    /// Delivers what was produced and commits. Not rdkafka's own commit, which polls in slices of 100 ms.
    pub(super) fn commit(&self, timeout_ms: u32) -> Result<(), Failure> {
        // SAFETY: as above.
        unsafe { checked_error(native::rd_kafka_commit_transaction(self.rk(), timeout_ms as c_int)) }
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
        self.topics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(topic)
    }

    /// Makes a topic known.
    pub(super) fn learn(&self, topic: &str, partitions: u32) -> Result<()> {
        let name = CString::new(topic).map_err(|_| Error::bug("a topic's name holds a zero byte"))?;
        // SAFETY: the name lives for the call; without a configuration the client's is used.
        let handle = unsafe { native::rd_kafka_topic_new(self.rk(), name.as_ptr(), std::ptr::null_mut()) };
        if handle.is_null() {
            return Err(Error::bug("kafka gave no handle for a topic").with("topic", topic));
        }
        let before = self
            .topics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(topic.to_owned(), Topic { handle, partitions });
        if let Some(before) = before {
            // SAFETY: the handle was ours and nobody else has it.
            unsafe { native::rd_kafka_topic_destroy(before.handle) };
        }
        Ok(())
    }

    /// Queues the records of `batch` from the `first` on, each copied once, into the queue. Does not block.
    pub(super) fn produce(&self, topic: &str, batch: &RecordBatch, first: usize) -> Result<Produced, Failure> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.get(topic).ok_or_else(|| Failure::of_code(Code::UnknownTopic))?;
        let mut call = ProduceCall::new(topic.handle);
        for (record, at) in batch.iter().zip(0..).skip(first) {
            let partition = partition_of(record.key, topic.partitions);
            match call.run(self.rk(), &record, partition) {
                Ok(()) => {}
                Err(failure) if failure.code == Code::QueueFull => return Ok(Produced::Until(at)),
                Err(failure) => return Err(failure),
            }
        }
        Ok(Produced::All)
    }
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

/// The arguments of a produce call; those that are the same for each record are set once.
struct ProduceCall {
    arguments: [native::rd_kafka_vu_t; 7],
}

const PARTITION: usize = 2;
const VALUE: usize = 3;
const KEY: usize = 4;
const TIMESTAMP: usize = 5;
const HEADERS: usize = 6;

fn memory(bytes: Option<&[u8]>) -> native::rd_kafka_vu_s__bindgen_ty_1 {
    let (ptr, size) = bytes.map_or((std::ptr::null_mut(), 0), |bytes| {
        (bytes.as_ptr().cast_mut().cast::<c_void>(), bytes.len())
    });
    native::rd_kafka_vu_s__bindgen_ty_1 {
        mem: native::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size },
    }
}

impl ProduceCall {
    fn new(topic: *mut native::rd_kafka_topic_t) -> Self {
        use native::rd_kafka_vtype_t as kind;
        type Union = native::rd_kafka_vu_s__bindgen_ty_1;
        let argument = |vtype, u| native::rd_kafka_vu_t { vtype, u };
        ProduceCall {
            arguments: [
                argument(kind::RD_KAFKA_VTYPE_RKT, Union { rkt: topic }),
                argument(
                    kind::RD_KAFKA_VTYPE_MSGFLAGS,
                    Union {
                        i: native::RD_KAFKA_MSG_F_COPY,
                    },
                ),
                argument(kind::RD_KAFKA_VTYPE_PARTITION, Union { i32_: 0 }),
                argument(kind::RD_KAFKA_VTYPE_VALUE, memory(None)),
                argument(kind::RD_KAFKA_VTYPE_KEY, memory(None)),
                argument(kind::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: 0 }),
                argument(
                    kind::RD_KAFKA_VTYPE_HEADERS,
                    Union {
                        headers: std::ptr::null_mut(),
                    },
                ),
            ],
        }
    }

    fn run(&mut self, rk: *mut native::rd_kafka_t, record: &RecordRef<'_>, partition: u32) -> Result<(), Failure> {
        let headers = native_headers(record)?;
        self.arguments[PARTITION].u.i32_ = partition as i32;
        self.arguments[VALUE].u = memory(record.value);
        self.arguments[KEY].u = memory(record.key);
        self.arguments[TIMESTAMP].u.i64_ = record.timestamp_ms;
        self.arguments[HEADERS].u.headers = headers;
        let count = if headers.is_null() { HEADERS } else { HEADERS + 1 };
        // SAFETY: key and value are copied before the call returns; headers are taken over by it where it succeeds and are
        // ours to free where it does not.
        unsafe {
            let done = checked_error(native::rd_kafka_produceva(rk, self.arguments.as_ptr(), count));
            if done.is_err() && !headers.is_null() {
                native::rd_kafka_headers_destroy(headers);
            }
            done
        }
    }
}

fn native_headers(record: &RecordRef<'_>) -> Result<*mut native::rd_kafka_headers_t, Failure> {
    if record.headers.is_empty() {
        return Ok(std::ptr::null_mut());
    }
    // SAFETY: names and values are copied by the call; lengths are those of the slices.
    unsafe {
        let headers = native::rd_kafka_headers_new(record.headers.len());
        for header in record.headers {
            let (name, value) = (header.name.as_bytes(), header.value.as_ref());
            let added = native::rd_kafka_header_add(
                headers,
                name.as_ptr().cast(),
                name.len() as isize,
                value.as_ptr().cast(),
                value.len() as isize,
            );
            if let Err(failure) = super::client::checked(added) {
                native::rd_kafka_headers_destroy(headers);
                return Err(failure);
            }
        }
        Ok(headers)
    }
}
