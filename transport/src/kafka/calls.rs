// SPDX-License-Identifier: Apache-2.0
//! What a writer does on threads where it may block, and what a failure leaves it able to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_core::transport::{GroupId, Header, Offsets, RecordBatch, WriterId};
use highwater_core::{Error, Result};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::failure::{Failure, delivery_error, writer_error};
use super::left_open::{FIRST_RECORDS, FirstRecord, encode};
use super::producer::{Place, Produced, Producer};
use super::settings::KafkaSettings;
use super::writer::MAKE_ROOM_MS;
use crate::failure::fenced;

/// One try of opening a writer; between tries, trouble with credentials is looked at.
const INIT_SLICE_MS: u32 = 1_000;
/// How long an abort waits for records to be delivered first.
pub(super) const ABORT_FLUSH_MS: u32 = 2_000;

/// What may be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A transaction may begin.
    Ready,
    /// A transaction is open.
    Open,
    /// A call was dropped or failed in a way that leaves it open what happened.
    Done,
    /// A newer writer took over.
    Fenced,
}

/// What the blocking calls need.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) producer: Arc<Producer>,
    pub(super) settings: Arc<KafkaSettings>,
    pub(super) id: WriterId,
}

impl Calls {
    pub(super) fn error(&self, failure: &Failure, doing: &str) -> Error {
        writer_error(failure, doing, &self.id, &self.settings)
    }

    pub(super) fn init(&self) -> Result<()> {
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

    pub(super) fn phase_after(failure: &Failure) -> Phase {
        if failure.is_fenced() {
            Phase::Fenced
        } else {
            Phase::Done
        }
    }

    /// Aborts a transaction that has not failed. What was produced is delivered first: the coordinator answers to an abort
    /// that overtakes the registration of the transaction's partitions (held up while the transaction before it is being
    /// completed) that the state is invalid, and librdkafka takes that for fatal.
    pub(super) fn flush_and_abort(&self) -> Result<(), (Error, Phase)> {
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

    /// Writes a checkpoint with the first records of its transaction, and those of earlier ones that it does not end.
    fn put_checkpoint(&self, stored: &[u8], carried: &[FirstRecord]) -> Result<(), (Error, Phase)> {
        let mut first = self.producer.first_records();
        let is_ended = |one: &FirstRecord| {
            let same = |other: &FirstRecord| (&other.topic, other.partition) == (&one.topic, one.partition);
            first.iter().any(same)
        };
        let left: Vec<FirstRecord> = carried.iter().filter(|one| !is_ended(one)).cloned().collect();
        first.extend(left);
        let headers = vec![Header {
            name: FIRST_RECORDS,
            value: encode(&first).into(),
        }];
        let mut batch = RecordBatch::default();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        batch.push(Some(self.id.0.as_bytes()), Some(stored), now_ms, headers);
        let topic = &self.settings.checkpoint_topic;
        let deadline = Instant::now() + Duration::from_millis(u64::from(self.settings.operation_timeout_ms));
        loop {
            match self.producer.produce(topic, &batch, Place::default()) {
                Ok(Produced::All) => return Ok(()),
                // The commit that follows sends everything in any case.
                Ok(Produced::Until(_)) if Instant::now() < deadline => self.producer.flush(MAKE_ROOM_MS),
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

    /// Writes a checkpoint again whose transaction was decided on and never ended; the commit ends it.
    pub(super) fn write_again(&self, stored: &[u8], first_records: &[FirstRecord]) -> Result<(), (Error, Phase)> {
        self.producer
            .begin()
            .map_err(|failure| (self.error(&failure, "begin a transaction"), Self::phase_after(&failure)))?;
        self.commit(Some(stored), first_records, &[])
    }

    /// Ends, by an abort, what was left open in partitions. The transaction must be open and without records.
    pub(super) fn end_left_open(&self, places: &[(String, u32)]) -> Result<(), (Error, Phase)> {
        for (topic, partition) in places {
            let produced = self.producer.produce_empty(topic, *partition);
            produced.map_err(|failure| self.give_up(&failure, &format!("write to topic \"{topic}\"")))?;
        }
        // An abort tells those partitions that are known to have records.
        self.producer.flush(self.settings.operation_timeout_ms);
        self.abort()
    }

    /// Commits, with a checkpoint, and with the first records of earlier transactions that are open still.
    pub(super) fn commit(
        &self,
        checkpoint: Option<&[u8]>,
        carried: &[FirstRecord],
        groups: &[(GroupId, Offsets)],
    ) -> Result<(), (Error, Phase)> {
        if let Some(stored) = checkpoint {
            self.put_checkpoint(stored, carried)?;
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
