// SPDX-License-Identifier: Apache-2.0
//! What a capture has committed so far, and when.

use std::sync::{Mutex, MutexGuard, PoisonError};

use highwater_core::transport::RecordRef;
use serde::{Deserialize, Serialize};

use crate::clock::monotonic_us;
use crate::failure::Result;
use crate::record_key::{SeenIds, id_of};
use crate::topics::Topics;
use crate::usage;

/// What the capturing process tells of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Records committed to the topic of the table.
    pub(crate) events: u64,
    /// Different keys among them.
    pub(crate) keys: u64,
    /// Records without a value, each behind the delete that it belongs to; they are no events.
    pub(crate) tombstones: u64,
    /// Records whose key is none of the table's.
    pub(crate) strangers: u64,
    /// When the capture was ready to read; 0 when it was not yet.
    pub(crate) ready_us: u64,
    /// When the last commit with an event came through.
    pub(crate) last_commit_us: u64,
    /// Commits with an event.
    pub(crate) commits: u64,
    /// Whether the log is open and events flow.
    pub(crate) captures: bool,
    /// Events that came from chunks, encoded so far.
    pub(crate) reads: u64,
    /// Events that came from the log, encoded so far.
    pub(crate) log_events: u64,
    /// Rows of finished chunks that the log had newer news of.
    pub(crate) rows_dropped: u64,
    /// Snapshots that completed.
    pub(crate) snapshots_done: u64,
    /// When this was true.
    pub(crate) now_us: u64,
    /// CPU seconds of the process.
    pub(crate) cpu_s: f64,
    /// Its peak memory in megabytes.
    pub(crate) rss_peak_mb: f64,
    /// Of each event its id and the time of its commit, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) arrivals: Vec<(u64, u64)>,
}

/// Counts what goes through a transport.
#[derive(Debug)]
pub(crate) struct Tally {
    topics: Topics,
    keeps_arrivals: bool,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    seen: SeenIds,
    status: Status,
}

/// Records of an open transaction.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    ids: Vec<u64>,
    tombstones: u64,
    strangers: u64,
}

impl Tally {
    /// Counts the records of topics whose keys are ids up to `id_max`.
    pub(crate) fn new(topics: Topics, id_max: u64, keeps_arrivals: bool) -> Self {
        let counts = Counts {
            seen: SeenIds::new(id_max),
            status: Status::default(),
        };
        Self {
            topics,
            keeps_arrivals,
            counts: Mutex::new(counts),
        }
    }

    /// The capture has its writer and goes on to read.
    pub(crate) fn ready(&self) {
        self.counts().status.ready_us = monotonic_us();
    }

    /// Notes records that are appended; they count once they are committed.
    pub(crate) fn append<'a>(&self, pending: &mut Pending, topic: &str, records: impl Iterator<Item = RecordRef<'a>>) {
        if !self.topics.has(topic) {
            return;
        }
        for record in records {
            match record.key.and_then(id_of) {
                Some(_) if record.value.is_none() => pending.tombstones += 1,
                Some(id) => pending.ids.push(id),
                None => pending.strangers += 1,
            }
        }
    }

    /// Counts what was pending.
    pub(crate) fn commit(&self, pending: &mut Pending) {
        if pending.ids.is_empty() && pending.strangers + pending.tombstones == 0 {
            return;
        }
        let now = monotonic_us();
        let mut guard = self.counts();
        let Counts { seen, status } = &mut *guard;
        for id in &pending.ids {
            if !seen.note(*id) {
                status.strangers += 1;
            }
        }
        if self.keeps_arrivals {
            status.arrivals.extend(pending.ids.iter().map(|id| (*id, now)));
        }
        status.events += pending.ids.len() as u64;
        status.strangers += pending.strangers;
        status.tombstones += pending.tombstones;
        status.commits += 1;
        status.keys = seen.distinct();
        status.last_commit_us = now;
        *pending = Pending {
            ids: std::mem::take(&mut pending.ids),
            ..Pending::default()
        };
        pending.ids.clear();
    }

    /// Where the capture stands; the last one has the arrivals.
    pub(crate) fn status(&self, last: bool) -> Result<Status> {
        let mut status = {
            let mut counts = self.counts();
            let arrivals = std::mem::take(&mut counts.status.arrivals);
            let mut copy = counts.status.clone();
            if last {
                copy.arrivals = arrivals;
            } else {
                counts.status.arrivals = arrivals;
            }
            copy
        };
        status.now_us = monotonic_us();
        status.cpu_s = usage::cpu_seconds();
        status.rss_peak_mb = usage::rss_peak_mb()?;
        Ok(status)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = &[0, 0, 0, 0, 9, 2];
    const TWO: &[u8] = &[0, 0, 0, 0, 9, 4];

    fn record(key: Option<&[u8]>) -> RecordRef<'_> {
        RecordRef {
            key,
            value: Some(b"v"),
            timestamp_ms: 0,
            headers: &[],
        }
    }

    fn tally() -> Tally {
        Tally::new(Topics("t".to_owned()), 10, true)
    }

    #[test]
    fn records_count_when_they_are_committed_and_only_those_of_the_table() {
        let tally = tally();
        let mut pending = Pending::default();
        let keys = [Some(ONE), Some(TWO), Some(TWO)];
        tally.append(&mut pending, "t", keys.map(record).into_iter());
        tally.append(&mut pending, "other", [record(Some(ONE))].into_iter());
        assert_eq!(tally.status(false).unwrap().events, 0);
        tally.commit(&mut pending);
        let status = tally.status(true).unwrap();
        assert_eq!(
            (status.events, status.keys, status.strangers, status.commits),
            (3, 2, 0, 1)
        );
        assert_eq!(status.arrivals.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 2]);
    }

    #[test]
    fn a_key_of_another_form_or_another_table_is_told_apart() {
        let tally = tally();
        let mut pending = Pending::default();
        let beyond: &[u8] = &[0, 0, 0, 0, 9, 0x80, 0x80, 1];
        let keys = [None, Some(beyond), Some(ONE)];
        tally.append(&mut pending, "t", keys.map(record).into_iter());
        tally.commit(&mut pending);
        assert_eq!(tally.status(true).unwrap().strangers, 2);
    }

    #[test]
    fn a_tombstone_is_no_event() {
        let tally = tally();
        let mut pending = Pending::default();
        let tombstone = RecordRef {
            value: None,
            ..record(Some(ONE))
        };
        tally.append(&mut pending, "t", [record(Some(ONE)), tombstone].into_iter());
        tally.commit(&mut pending);
        tally.commit(&mut pending);
        let status = tally.status(true).unwrap();
        assert_eq!((status.events, status.tombstones, status.commits), (1, 1, 1));
    }
}
