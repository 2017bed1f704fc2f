// SPDX-License-Identifier: Apache-2.0
//! A consumer of partitions that we choose, and questions about topics and offsets, on librdkafka's native handle: it tells at
//! which offset a partition ends for a reader of committed records, which control records at the tail would hide otherwise.

use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_core::transport::Offsets;
use highwater_core::{Error, Result};
use rdkafka::bindings as native;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::client::{Client, checked, text_of};
use super::failure::Failure;

/// Records taken from librdkafka's queue in one call.
const TAKE_MAX: usize = 1_000;
/// One call about topics or offsets waits so long before trouble with connections is looked at.
const SLICE: Duration = Duration::from_secs(1);

/// What the queue held.
pub(super) enum Item<'a> {
    /// A record.
    Record(Taken<'a>),
    /// The partition has nothing more for now: everything before `offset` has been delivered.
    End {
        topic: &'a str,
        partition: u32,
        offset: u64,
    },
    /// Something failed; topic and partition where it is about one.
    Failed {
        topic: &'a str,
        partition: i32,
        failure: Failure,
    },
}

/// A record still in librdkafka's memory.
pub(super) struct Taken<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: u32,
    pub(super) offset: u64,
    message: *const native::rd_kafka_message_t,
}

pub(super) struct Consumer {
    client: Client,
    queue: *mut native::rd_kafka_queue_t,
    wake: Arc<Notify>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Consumer {}
// SAFETY: as above.
unsafe impl Sync for Consumer {}

unsafe extern "C" fn on_queued(_rk: *mut native::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the opaque is the consumer's Notify, which outlives this callback (see Drop).
    unsafe { &*opaque.cast::<Notify>() }.notify_one();
}

impl Consumer {
    pub(super) fn new(config: &ClientConfig) -> Result<Consumer> {
        let client = Client::new(config, RDKafkaType::RD_KAFKA_CONSUMER, 0)?;
        let wake = Arc::new(Notify::new());
        // SAFETY: the handle is valid; the queue reference is ours; the opaque outlives the callback.
        let queue = unsafe {
            native::rd_kafka_poll_set_consumer(client.ptr());
            let queue = native::rd_kafka_queue_get_consumer(client.ptr());
            if !queue.is_null() {
                native::rd_kafka_queue_cb_event_enable(queue, Some(on_queued), Arc::as_ptr(&wake).cast_mut().cast());
            }
            queue
        };
        Ok(Consumer { client, queue, wake })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until something was queued since the queue was last empty. Cancel-safe.
    pub(super) async fn queued(&self) {
        self.wake.notified().await;
    }

    /// Reads these partitions from these offsets on, and no others.
    pub(super) fn assign(&self, offsets: &Offsets) -> Result<(), Failure> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for ((topic, partition), offset) in offsets {
            list.add_partition_offset(topic, *partition as i32, Offset::Offset(*offset as i64))
                .map_err(|_| Failure::of_code(Code::InvalidArgument))?;
        }
        // SAFETY: handle and list are valid; the list is copied.
        unsafe {
            checked(native::rd_kafka_assign(self.client.ptr(), std::ptr::null()))?;
            checked(native::rd_kafka_assign(self.client.ptr(), list.ptr()))
        }
    }

    /// Hands what is queued, at most `max` items, to `each` and returns how many there were; waits up to `wait` for the
    /// first.
    pub(super) fn take(&self, max: usize, wait: Duration, mut each: impl FnMut(Item<'_>)) -> usize {
        if self.queue.is_null() {
            return 0;
        }
        let mut messages = vec![std::ptr::null_mut(); max.clamp(1, TAKE_MAX)];
        let wait_ms = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the array has room for as many messages as the call is told.
        let count =
            unsafe { native::rd_kafka_consume_batch_queue(self.queue, wait_ms, messages.as_mut_ptr(), messages.len()) };
        let count = usize::try_from(count).unwrap_or(0);
        for message in messages.into_iter().take(count) {
            // SAFETY: the message is ours, used before it is destroyed, once.
            unsafe {
                each_of(message, &mut each);
                native::rd_kafka_message_destroy(message);
            }
        }
        count
    }

    /// Does a call that blocks, in slices, until it succeeds, fails for good, or `limit` is over.
    fn patiently<T>(&self, limit: Duration, mut call: impl FnMut(c_int) -> Result<T, Failure>) -> Result<T, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match call(left.min(SLICE).as_millis() as c_int) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            self.client.poll();
            let passing = is_passing(failure.code);
            let failure = self.client.explained(failure);
            if !passing || matches!(failure.code, Code::Authentication | Code::SSL) || left.is_zero() {
                return Err(failure);
            }
            // The calls above return at once when no connection is up.
            std::thread::sleep(Duration::from_millis(50).min(left));
        }
    }

    /// Per topic, the number of its partitions and whether each has a leader; all topics where none is named. Blocks.
    pub(super) fn topics(
        &self,
        topic: Option<&str>,
        limit: Duration,
    ) -> Result<BTreeMap<String, (u32, bool)>, Failure> {
        let name = topic
            .map(CString::new)
            .transpose()
            .map_err(|_| Failure::of_code(Code::InvalidTopic))?;
        self.patiently(limit, |wait_ms| {
            // SAFETY: the topic handle, where there is one, and the metadata are ours and freed once.
            unsafe {
                let handle = name.as_ref().map_or(std::ptr::null_mut(), |name| {
                    native::rd_kafka_topic_new(self.client.ptr(), name.as_ptr(), std::ptr::null_mut())
                });
                let mut metadata = std::ptr::null();
                let all = c_int::from(name.is_none());
                let asked = checked(native::rd_kafka_metadata(
                    self.client.ptr(),
                    all,
                    handle,
                    &mut metadata,
                    wait_ms,
                ));
                if !handle.is_null() {
                    native::rd_kafka_topic_destroy(handle);
                }
                asked?;
                let found = described(metadata);
                native::rd_kafka_metadata_destroy(metadata);
                Ok(found)
            }
        })
    }

    /// One question about offsets; `wanted` is what the call finds in the list.
    fn ask_offsets(
        &self,
        places: &[(String, u32)],
        wanted: Offset,
        call: OffsetCall,
        wait_ms: c_int,
    ) -> Result<Offsets, Failure> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (topic, partition) in places {
            list.add_partition_offset(topic, *partition as i32, wanted)
                .map_err(|_| Failure::of_code(Code::InvalidArgument))?;
        }
        // SAFETY: handle and list are valid; the list's offsets are filled in.
        unsafe { checked(call(self.client.ptr(), list.ptr(), wait_ms)) }?;
        let mut offsets = Offsets::new();
        for element in list.elements() {
            if let Err(error) = element.error() {
                return Err(Failure::of_code(
                    error.rdkafka_error_code().unwrap_or(Code::OffsetNotAvailable),
                ));
            }
            if let Offset::Offset(offset) = element.offset() {
                let place = (element.topic().to_owned(), element.partition() as u32);
                offsets.insert(place, u64::try_from(offset).unwrap_or(0));
            }
        }
        Ok(offsets)
    }

    /// The first offsets that partitions hold, or the ones after the last record that this consumer may read. Blocks.
    pub(super) fn bounds(&self, places: &[(String, u32)], at_end: bool, limit: Duration) -> Result<Offsets, Failure> {
        if places.is_empty() {
            return Ok(Offsets::new());
        }
        // librdkafka passes the wanted offset as the time asked for; -1 and -2 are the protocol's latest and earliest.
        let wanted = if at_end { Offset::End } else { Offset::Beginning };
        self.patiently(limit, |wait_ms| {
            let offsets = self.ask_offsets(places, wanted, native::rd_kafka_offsets_for_times, wait_ms)?;
            let complete = offsets.len() == places.len();
            complete
                .then_some(offsets)
                .ok_or_else(|| Failure::of_code(Code::OffsetNotAvailable))
        })
    }

    /// What this consumer's group has committed. Blocks.
    pub(super) fn committed(&self, places: &[(String, u32)], limit: Duration) -> Result<Offsets, Failure> {
        self.patiently(limit, |wait_ms| {
            self.ask_offsets(places, Offset::Invalid, native::rd_kafka_committed, wait_ms)
        })
    }
}

type OffsetCall = unsafe extern "C" fn(
    *mut native::rd_kafka_t,
    *mut native::rd_kafka_topic_partition_list_t,
    c_int,
) -> native::rd_kafka_resp_err_t;

/// # Safety
/// `metadata` is valid.
unsafe fn described(metadata: *const native::rd_kafka_metadata) -> BTreeMap<String, (u32, bool)> {
    let mut found = BTreeMap::new();
    // SAFETY: the arrays have as many elements as their counts say.
    unsafe {
        let metadata = &*metadata;
        for at in 0..metadata.topic_cnt {
            let topic = &*metadata.topics.offset(at as isize);
            if checked(topic.err).is_err() || topic.partition_cnt <= 0 {
                continue;
            }
            let led = (0..topic.partition_cnt).all(|at| (*topic.partitions.offset(at as isize)).leader >= 0);
            found.insert(text_of(topic.topic), (topic.partition_cnt as u32, led));
        }
    }
    found
}

/// # Safety
/// `message` is valid.
unsafe fn each_of(message: *mut native::rd_kafka_message_t, each: &mut impl FnMut(Item<'_>)) {
    // SAFETY: the topic's name lives as long as the message.
    let (read, name) = unsafe {
        let read = &*message;
        let name = if read.rkt.is_null() {
            Ok("")
        } else {
            std::ffi::CStr::from_ptr(native::rd_kafka_topic_name(read.rkt)).to_str()
        };
        (read, name)
    };
    // Topic names are ASCII.
    let topic = name.unwrap_or("");
    let (partition, offset) = (read.partition as u32, u64::try_from(read.offset).unwrap_or(0));
    match Code::from(read.err) {
        Code::NoError => each(Item::Record(Taken {
            topic,
            partition,
            offset,
            message,
        })),
        Code::PartitionEOF => each(Item::End {
            topic,
            partition,
            offset,
        }),
        code => {
            // SAFETY: the message is valid and its text lives with it.
            let text = unsafe { text_of(native::rd_kafka_message_errstr(message)) };
            let failure = Failure {
                text,
                ..Failure::of_code(code)
            };
            each(Item::Failed {
                topic,
                partition: read.partition,
                failure,
            });
        }
    }
}

impl Taken<'_> {
    /// Key and value, copied, as parts of one allocation.
    pub(super) fn key_and_value(&self) -> (Option<Bytes>, Option<Bytes>) {
        // SAFETY: the message is valid while `self` lives; its pointers are null or have their lengths.
        let (key, value) = unsafe {
            let message = &*self.message;
            let part = |ptr: *mut c_void, len: usize| {
                (!ptr.is_null()).then(|| std::slice::from_raw_parts(ptr.cast::<u8>().cast_const(), len))
            };
            (part(message.key, message.key_len), part(message.payload, message.len))
        };
        let mut both = Vec::with_capacity(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        both.extend_from_slice(key.unwrap_or_default());
        both.extend_from_slice(value.unwrap_or_default());
        let both = Bytes::from(both);
        let middle = key.map_or(0, <[u8]>::len);
        (key.map(|_| both.slice(..middle)), value.map(|_| both.slice(middle..)))
    }

    /// Milliseconds since 1970.
    pub(super) fn timestamp_ms(&self) -> i64 {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid while `self` lives.
        unsafe { native::rd_kafka_message_timestamp(self.message, &mut kind) }
    }

    /// Headers, copied.
    pub(super) fn headers(&self) -> Vec<(String, Bytes)> {
        let mut headers = Vec::new();
        // SAFETY: the message is valid while `self` lives; names and values live with it and have their lengths.
        unsafe {
            let mut list = std::ptr::null_mut();
            if checked(native::rd_kafka_message_headers(self.message, &mut list)).is_err() {
                return headers;
            }
            let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
            while checked(native::rd_kafka_header_get_all(
                list,
                headers.len(),
                &mut name,
                &mut value,
                &mut size,
            ))
            .is_ok()
            {
                let bytes = if value.is_null() {
                    &[]
                } else {
                    std::slice::from_raw_parts(value.cast::<u8>(), size)
                };
                headers.push((text_of(name), Bytes::copy_from_slice(bytes)));
            }
        }
        headers
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.queue.is_null() {
            return;
        }
        // SAFETY: the callback is switched off before its opaque goes; the queue reference is ours and given back once.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue, None, std::ptr::null_mut());
            native::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// Whether a question may be answered when it is asked again: connections and leaders come and go.
fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::UnstableOffsetCommit
    )
}

/// Runs a call that blocks on a thread for such.
pub(super) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|source| Error::bug("a call to kafka panicked").with_source(source))
}

/// Lets go of a client where waiting for its threads disturbs nobody.
pub(super) fn let_go<T: Send + 'static>(client: T) {
    // Without a thread to spare it is dropped here: `spawn` gives back what it could not run.
    let _ = std::thread::Builder::new()
        .name("hw-kafka-close".to_owned())
        .spawn(move || drop(client));
}
