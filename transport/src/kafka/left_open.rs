// SPDX-License-Identifier: Apache-2.0
//! Transactions that a broker forgets to end.
//!
//! A coordinator decides on a transaction and then tells each partition with a mark. When its broker is killed in between,
//! it comes up again, finds partitions without a leader for a moment, takes them for deleted and counts the transaction as
//! ended (seen with Apache Kafka 4.3.1, whenever one node is all there is). Their records stay open: readers of committed
//! records wait before them, and what ends the producer's *next* transaction in that partition decides about them too. An
//! abort that was forgotten would come back with the next commit, a commit would go with the next abort.
//!
//! So each checkpoint record names the partitions that its transaction wrote to, each with a fingerprint of the first record
//! there. Once a writer is open, nothing of its earlier ones can be open by right. Then:
//!
//! - A checkpoint that is open itself was decided on with all else in its transaction, which librdkafka had delivered
//!   before it asked for the commit. It is written once more, and that commit ends it.
//! - A partition of the last checkpoint in which the first open record is that checkpoint's is left to the next commit that
//!   writes to it. Until then its readers wait, and later checkpoints name it too.
//! - In every other partition with something open an abort was forgotten, or another writer is at work. Before the first
//!   record a writer has one written there and aborted, which ends the first and does not touch the second.

use std::time::{Duration, Instant};

use highwater_core::transport::Offsets;
use highwater_core::{Class, Error, ErrorKind, Result};

use rdkafka::types::RDKafkaErrorCode as Code;

use super::consumer::{Consumer, Item};
use super::failure::{Failure, error};
use super::settings::KafkaSettings;

/// The header of a checkpoint record that holds its transaction's first records.
pub(super) const FIRST_RECORDS: &str = "__highwater.first-records";
/// How long a transaction of somebody else is waited for before it is looked at whose it is.
pub(super) const OTHERS_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked whether it has ended.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The first record of a transaction in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirstRecord {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) fingerprint: u32,
}

impl FirstRecord {
    pub(super) fn place(&self) -> (&str, u32) {
        (&self.topic, self.partition)
    }
}

/// As they stand in the header: per record the name's length in two octets, the name, partition and fingerprint in four
/// octets each, big-endian.
pub(super) fn encode(records: &[FirstRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        // Topic names have 249 bytes at most.
        bytes.extend_from_slice(&(record.topic.len() as u16).to_be_bytes());
        bytes.extend_from_slice(record.topic.as_bytes());
        bytes.extend_from_slice(&record.partition.to_be_bytes());
        bytes.extend_from_slice(&record.fingerprint.to_be_bytes());
    }
    bytes
}

/// `None` for what [`encode`] does not make.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<FirstRecord>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (partition, rest) = rest.split_first_chunk()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        records.push(FirstRecord {
            topic: std::str::from_utf8(name).ok()?.to_owned(),
            partition: u32::from_be_bytes(*partition),
            fingerprint: u32::from_be_bytes(*fingerprint),
        });
        bytes = rest;
    }
    Some(records)
}

/// The fingerprint of a record as the first of its transaction in a partition.
pub(super) fn fingerprint(topic: &str, partition: u32, key: Option<&[u8]>, value: Option<&[u8]>) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(topic.as_bytes());
    sum.update(&partition.to_be_bytes());
    for part in [key, value] {
        let (is_there, bytes) = part.map_or((0, &[][..]), |bytes| (1, bytes));
        sum.update(&[is_there]);
        sum.update(&(bytes.len() as u64).to_be_bytes());
        sum.update(bytes);
    }
    sum.finalize()
}

/// Looks at what is open in partitions. Every method blocks.
pub(super) struct OpenTransactions<'a> {
    pub(super) settings: &'a KafkaSettings,
    /// Is asked for the ends of what is committed.
    pub(super) committed: &'a Consumer,
    /// Is asked for the ends of everything.
    pub(super) all: &'a Consumer,
}

impl OpenTransactions<'_> {
    fn limit(&self) -> Duration {
        Duration::from_millis(u64::from(self.settings.operation_timeout_ms))
    }

    fn failed(&self, failure: &Failure) -> Error {
        error(failure, "look for open transactions", self.settings)
    }

    /// Of these partitions, those in which something is open that does not end soon, with the offset of its first record.
    pub(super) fn among(&self, mut places: Vec<(String, u32)>) -> Result<Offsets> {
        let bounds = |consumer: &Consumer, places: &[(String, u32)]| {
            let bounds = consumer.bounds(places, true, self.limit());
            bounds.map_err(|failure| self.failed(&failure))
        };
        let ends = bounds(self.all, &places)?;
        let deadline = Instant::now() + OTHERS_WAIT;
        loop {
            let mut open = bounds(self.committed, &places)?;
            open.retain(|place, decided| ends.get(place).is_some_and(|end| *decided < *end));
            if open.is_empty() || Instant::now() > deadline {
                return Ok(open);
            }
            places = open.into_keys().collect();
            std::thread::sleep(LOOK);
        }
    }

    /// Of these first records, those that are open.
    pub(super) fn of(&self, mut records: Vec<FirstRecord>) -> Result<Vec<FirstRecord>> {
        let place = |record: &FirstRecord| (record.topic.clone(), record.partition);
        let mut unread = self.among(records.iter().map(place).collect())?;
        records.retain(|record| unread.contains_key(&place(record)));
        if unread.is_empty() {
            return Ok(records);
        }
        let mut everything = self.settings.consumer(&format!("{}-open", self.settings.client_id))?;
        everything.set("isolation.level", "read_uncommitted");
        let reader = Consumer::new(&everything)?;
        reader.assign(&unread).map_err(|failure| self.failed(&failure))?;
        let deadline = Instant::now() + self.limit();
        while !unread.is_empty() {
            reader.take(1_000, Duration::from_millis(200), |item| {
                let Item::Record(record) = item else { return };
                let place = (record.topic.to_owned(), record.partition);
                if unread.remove(&place).is_none() {
                    return;
                }
                let (key, value) = record.key_and_value();
                let found = fingerprint(record.topic, record.partition, key.as_deref(), value.as_deref());
                records.retain(|first| {
                    (first.topic.as_str(), first.partition) != (record.topic, record.partition)
                        || first.fingerprint == found
                });
            });
            if Instant::now() > deadline {
                return Err(self.failed(&Failure::of_code(Code::OperationTimedOut)));
            }
        }
        Ok(records)
    }
}

/// A transaction that has records already meets what an earlier one left open in `topic`.
pub(super) fn must_be_ended_first(topic: &str) -> Error {
    let what = format!("topic \"{topic}\" holds a transaction that the broker forgot to end");
    Error::new(ErrorKind::Unreachable, what)
        .with_class(Class::Retryable)
        .with_fix("none is needed: the next writer ends it and goes on from the checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_records_places_and_absence_apart() {
        let one = fingerprint("t", 1, Some(b"k"), Some(b"v"));
        for other in [
            fingerprint("u", 1, Some(b"k"), Some(b"v")),
            fingerprint("t", 2, Some(b"k"), Some(b"v")),
            fingerprint("t", 1, Some(b"kv"), Some(b"")),
            fingerprint("t", 1, Some(b"k"), None),
            fingerprint("t", 1, None, Some(b"v")),
        ] {
            assert_ne!(one, other);
        }
        let record = |topic: &str, fingerprint| FirstRecord {
            topic: topic.to_owned(),
            partition: 3,
            fingerprint,
        };
        let records = vec![record("t", one), record("public.ümlaut", 7)];
        let bytes = encode(&records);
        assert_eq!(decode(&bytes), Some(records));
        for cut in (1..bytes.len()).filter(|cut| *cut != 11) {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }
}
