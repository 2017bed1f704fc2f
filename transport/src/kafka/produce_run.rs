// SPDX-License-Identifier: Apache-2.0
//! Queues many records with one call: topic and partition are looked up once, the clock is read once. The call takes
//! neither times nor headers, so it is for records whose time is that of the append.

use std::ffi::c_int;

use highwater_core::transport::RecordRef;
use rdkafka::bindings as native;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::failure::Failure;

/// Records of one call.
const RUN_RECORDS_MAX: usize = 1_024;

/// Records of one partition that wait for their call.
pub(super) struct ProduceRun {
    topic: *mut native::rd_kafka_topic_t,
    partition: i32,
    messages: Vec<native::rd_kafka_message_t>,
    /// Their places in the batch.
    places: Vec<usize>,
}

impl ProduceRun {
    pub(super) fn new(topic: *mut native::rd_kafka_topic_t, partition: u32) -> Self {
        ProduceRun {
            topic,
            partition: partition as i32,
            messages: Vec::new(),
            places: Vec::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= RUN_RECORDS_MAX
    }

    /// Notes a record.
    ///
    /// # Safety
    /// Its key and value live until [`ProduceRun::flush`].
    pub(super) unsafe fn push(&mut self, place: usize, record: &RecordRef<'_>) {
        let part = |bytes: Option<&[u8]>| {
            bytes.map_or((std::ptr::null_mut(), 0), |bytes| {
                (bytes.as_ptr().cast_mut().cast(), bytes.len())
            })
        };
        let ((key, key_len), (payload, len)) = (part(record.key), part(record.value));
        self.places.push(place);
        self.messages.push(native::rd_kafka_message_t {
            err: native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: std::ptr::null_mut(),
            partition: self.partition,
            payload,
            len,
            key,
            key_len,
            offset: 0,
            _private: std::ptr::null_mut(),
        });
    }

    /// Queues the records that were noted and forgets them. Where the queue is full, the place of the first that is not
    /// queued; none behind it is either.
    ///
    /// The partition is that of the call, not of the messages (`RD_KAFKA_MSG_F_PARTITION`): with those, librdkafka 2.12.1
    /// registers "no partition" with the transaction while it does not know the topic's metadata yet, which fails it.
    pub(super) fn flush(&mut self) -> Result<Option<usize>, Failure> {
        if self.messages.is_empty() {
            return Ok(None);
        }
        // SAFETY: the topic's handle outlives the run, keys and values live (see push) and are copied by the call.
        let queued = unsafe {
            native::rd_kafka_produce_batch(
                self.topic,
                self.partition,
                native::RD_KAFKA_MSG_F_COPY,
                self.messages.as_mut_ptr(),
                self.messages.len() as c_int,
            )
        };
        let all = queued as usize == self.messages.len();
        let verdict = if all { Ok(None) } else { self.verdict() };
        self.messages.clear();
        self.places.clear();
        verdict
    }

    fn verdict(&self) -> Result<Option<usize>, Failure> {
        for (message, place) in self.messages.iter().zip(&self.places) {
            match Code::from(message.err) {
                Code::NoError => {}
                Code::QueueFull => return Ok(Some(*place)),
                code => return Err(Failure::of_code(code)),
            }
        }
        Ok(None)
    }
}
