// SPDX-License-Identifier: Apache-2.0
//! The table whose keys are compared: what left meanwhile, what was found, what is due. Nothing here waits.
//!
//! Its keys are compared share by share, and each share from a watch of its own on, so that what is held is bounded: of the
//! share's keys that were alive, and of those that leave meanwhile. Where either does not fit, the share is halved. A share
//! that is over never begins again in this run, and one that begins again is smaller; that is why it comes to an end however
//! much is written.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_core::schema::{TableName, TableSchema};
use highwater_core::transport::RecordBatch;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::comparing::{Finding, KEY_OVERHEAD_BYTES, Share, ShareEnd};
use crate::telemetry::status::{RenewalState, RenewalStatus};

/// The first wait after a comparison that failed, and the longest.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How far a table is, over all of its comparisons in this run.
pub(super) struct Progress {
    /// What is not compared yet; the share that is compared is the last.
    shares: Vec<Share>,
    keys_compared: u64,
    other_keys: u64,
    pub(super) keys_removed: u64,
    wait: Duration,
    again_at: Option<Instant>,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            shares: vec![Share::WHOLE],
            keys_compared: 0,
            other_keys: 0,
            keys_removed: 0,
            wait: RETRY,
            again_at: None,
        }
    }
}

impl Progress {
    /// A comparison failed; how long it takes until the next one. Twice as long each time, until a share is over.
    pub(super) fn fails(&mut self, now: Instant) -> Duration {
        let wait = self.wait;
        self.again_at = Some(now + wait);
        self.wait = (wait * 2).min(RETRY_MAX);
        wait
    }

    /// Whether that time is over; says so once.
    pub(super) fn is_to_begin_again(&mut self, now: Instant) -> bool {
        self.again_at.take_if(|at| *at <= now).is_some()
    }

    /// For people.
    pub(super) fn status(&self, state: RenewalState) -> RenewalStatus {
        RenewalStatus {
            state,
            keys_compared: self.keys_compared,
            keys_removed: self.keys_removed,
            other_keys: self.other_keys,
        }
    }

    fn halve(&mut self) {
        if let Some(share) = self.shares.pop() {
            let (half, other) = share.halves();
            self.shares.extend([other, half]);
        }
    }
}

/// What the engine knows of and waits for the end of a transaction.
struct Due {
    /// Keys that are gone. One that leaves before its delete does goes from here.
    keys: HashSet<Bytes>,
    share_end: Option<ShareEnd>,
    _room: OwnedSemaphorePermit,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: more is to be found, or what is due to leave.
    Wait,
    /// Tell the engine that keys were found, and whether they are the last.
    Tell {
        /// Whether the table is compared with them.
        last: bool,
    },
    /// Watch and compare again: the next share, or a smaller one.
    Again,
}

/// See the module.
pub(super) struct Compared {
    pub(super) table: TableName,
    pub(super) schema: Arc<TableSchema>,
    /// Tells its comparison from one that was given up.
    pub(super) number: u64,
    pub(super) share: Share,
    pub(super) task: Option<AbortHandle>,
    /// Keys of the share that left since the table was watched.
    left: HashSet<Box<[u8]>>,
    left_bytes: usize,
    left_bytes_max: usize,
    /// More left than can be held.
    overrun: bool,
    /// What was found and not told to the engine yet.
    findings: VecDeque<Finding>,
    due: Option<Due>,
    /// Keys that were found and turned out to be of another form.
    other_keys: u64,
    /// The share is over.
    done: bool,
}

impl Drop for Compared {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Compared {
    /// The table is watched from here on, to compare what comes next of it.
    pub(super) fn new(
        table: TableName,
        schema: Arc<TableSchema>,
        number: u64,
        progress: &Progress,
        left_bytes_max: usize,
    ) -> Self {
        Compared {
            table,
            schema,
            number,
            share: progress.shares.last().copied().unwrap_or(Share::WHOLE),
            task: None,
            left: HashSet::new(),
            left_bytes: 0,
            left_bytes_max,
            overrun: false,
            findings: VecDeque::new(),
            due: None,
            other_keys: 0,
            done: false,
        }
    }

    /// Whether events of this shape are to be noted.
    #[inline]
    pub(super) fn watches(&self, schema: &TableSchema) -> bool {
        self.table == schema.name
    }

    /// Notes the keys of records behind the first `count`.
    pub(super) fn note(&mut self, batch: &RecordBatch, count: usize) {
        for key in batch.iter_from(count).filter_map(|record| record.key) {
            self.note_key(key);
        }
    }

    fn note_key(&mut self, key: &[u8]) {
        if let Some(due) = &mut self.due {
            due.keys.remove(key);
        }
        if self.overrun || !self.share.holds(key) || self.left.contains(key) {
            return;
        }
        self.left_bytes += key.len() + KEY_OVERHEAD_BYTES;
        self.left.insert(key.into());
        // A single key always fits: no share is smaller.
        if self.left_bytes > self.left_bytes_max && self.left.len() > 1 {
            self.overrun = true;
            self.left = HashSet::new();
        }
    }

    /// Some keys were found to be gone.
    pub(super) fn found(&mut self, finding: Finding) {
        self.findings.push_back(finding);
    }

    /// What comes next. What was found and is not told when more left than could be held is forgotten: it is found again.
    pub(super) fn turn(&mut self, progress: &mut Progress) -> Turn {
        if self.due.is_some() {
            return Turn::Wait;
        }
        if self.done {
            return Turn::Again;
        }
        if self.overrun {
            progress.halve();
            return Turn::Again;
        }
        let Some(Finding { keys, share_end, room }) = self.findings.pop_front() else {
            return Turn::Wait;
        };
        let last = share_end
            .as_ref()
            .is_some_and(|end| end.share == self.share && progress.shares.len() == 1);
        let keys = keys.into_iter().filter(|key| !self.left.contains(&key[..]));
        self.due = Some(Due {
            keys: keys.collect(),
            share_end,
            _room: room,
        });
        Turn::Tell { last }
    }

    /// Keys whose deletes leave now. Once they did, [`Compared::removed`] says so.
    pub(super) fn take_due(&mut self) -> (Vec<Bytes>, Option<ShareEnd>) {
        let due = self.due.take();
        due.map_or_else(Default::default, |due| (due.keys.into_iter().collect(), due.share_end))
    }

    /// A key that was found is of another form than the table's keys have now.
    pub(super) fn is_of_another_form(&mut self) {
        self.other_keys += 1;
    }

    /// The deletes of what was due are written. Only now a share can be over: what was found of it and did not leave is
    /// found again if the comparison has to begin again.
    pub(super) fn removed(&mut self, share_end: Option<ShareEnd>, progress: &mut Progress) {
        let Some(end) = share_end else { return };
        progress.shares.pop();
        progress.shares.extend(self.share.without(end.share));
        progress.keys_compared += end.keys_compared;
        progress.other_keys += end.other_keys + self.other_keys;
        progress.wait = RETRY;
        self.done = true;
    }
}

#[cfg(test)]
mod tests {
    use highwater_core::schema::TableId;
    use tokio::sync::Semaphore;

    use super::*;

    fn compared(progress: &Progress, left_bytes_max: usize) -> Compared {
        let table = TableName::new("public", "t");
        let schema = Arc::new(TableSchema::new(TableId(1), table.clone(), Vec::new(), Vec::new()));
        Compared::new(table, schema, 1, progress, left_bytes_max)
    }

    fn finding(keys: &[&'static str], end: Option<Share>) -> Finding {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Finding {
            keys: keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect(),
            share_end: end.map(|share| ShareEnd {
                share,
                keys_compared: 10,
                other_keys: 0,
            }),
            room,
        }
    }

    #[test]
    fn a_share_is_over_when_its_deletes_are_written_and_not_when_the_engine_is_told_of_them() {
        let mut progress = Progress::default();
        let mut first = compared(&progress, 1 << 20);
        first.found(finding(&["a", "b"], Some(Share::WHOLE)));
        assert_eq!(first.turn(&mut progress), Turn::Tell { last: true });
        assert_eq!(first.turn(&mut progress), Turn::Wait);
        // A failure before the transaction ends that the engine waits for.
        drop(first);
        assert_eq!(progress.shares, [Share::WHOLE]);
        assert_eq!(progress.status(RenewalState::Comparing).keys_compared, 0);

        let mut again = compared(&progress, 1 << 20);
        again.found(finding(&["a", "b"], Some(Share::WHOLE)));
        assert_eq!(again.turn(&mut progress), Turn::Tell { last: true });
        let (keys, end) = again.take_due();
        assert_eq!(keys.len(), 2);
        again.removed(end, &mut progress);
        assert!(progress.shares.is_empty());
        assert_eq!(progress.status(RenewalState::Done).keys_compared, 10);
    }

    #[test]
    fn a_key_that_leaves_before_its_delete_is_not_removed_whether_it_fits_or_not() {
        let mut progress = Progress::default();
        let mut table = compared(&progress, 2 * (KEY_OVERHEAD_BYTES + 1));
        table.note_key(b"a");
        table.found(finding(&["a", "b", "c", "d", "e"], None));
        assert_eq!(table.turn(&mut progress), Turn::Tell { last: false });
        for key in [b"b", b"c", b"d"] {
            table.note_key(key);
        }
        assert!(table.overrun);
        let (keys, end) = table.take_due();
        assert_eq!(keys, ["e"]);
        table.removed(end, &mut progress);
        table.found(finding(&["f"], Some(Share::WHOLE)));
        assert_eq!(
            table.turn(&mut progress),
            Turn::Again,
            "what left is not known any more"
        );
    }

    #[test]
    fn where_more_leaves_than_can_be_held_a_smaller_share_is_compared_until_all_were() {
        let mut progress = Progress::default();
        let keys: Vec<String> = (0..200).map(|key| format!("k{key:03}")).collect();
        let (mut comparisons, mut over) = (0, Vec::new());
        loop {
            comparisons += 1;
            assert!(comparisons < 1_000, "the same is compared again and again");
            let mut table = compared(&progress, 5 * (KEY_OVERHEAD_BYTES + 4));
            // All of them leave during every comparison.
            keys.iter().for_each(|key| table.note_key(key.as_bytes()));
            let share = table.share;
            table.found(finding(&[], Some(share)));
            match table.turn(&mut progress) {
                Turn::Again => assert!(table.overrun),
                Turn::Tell { last } => {
                    let (_, end) = table.take_due();
                    table.removed(end, &mut progress);
                    over.push(share);
                    assert_eq!(last, progress.shares.is_empty());
                    if last {
                        break;
                    }
                }
                Turn::Wait => panic!("nothing is due"),
            }
        }
        assert!(over.len() >= 40, "{} shares of 5 keys", over.len());
        for key in &keys {
            let holding = over.iter().filter(|share| share.holds(key.as_bytes()));
            assert_eq!(holding.count(), 1, "{key} is compared once");
        }
    }

    #[test]
    fn what_the_comparison_left_over_of_a_share_is_compared_later() {
        let mut progress = Progress::default();
        let mut table = compared(&progress, 1 << 20);
        let half = Share::WHOLE.halves().0;
        table.found(finding(&["a"], Some(half.halves().0)));
        assert_eq!(table.turn(&mut progress), Turn::Tell { last: false });
        let (_, end) = table.take_due();
        table.removed(end, &mut progress);
        assert_eq!(progress.shares, [Share::WHOLE.halves().1, half.halves().1]);
        assert_eq!(table.turn(&mut progress), Turn::Again);
    }

    #[test]
    fn each_failure_waits_twice_as_long_as_the_one_before_until_a_share_is_over() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        let waits: Vec<u128> = (0..12).map(|_| progress.fails(now).as_millis()).collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[10..], [60_000, 60_000]);
        assert!(!progress.is_to_begin_again(now + Duration::from_secs(59)));
        assert!(progress.is_to_begin_again(now + RETRY_MAX));
        assert!(!progress.is_to_begin_again(now + RETRY_MAX), "it is told once");
        let mut table = compared(&progress, 1 << 20);
        table.found(finding(&[], Some(Share::WHOLE)));
        table.turn(&mut progress);
        let (_, end) = table.take_due();
        table.removed(end, &mut progress);
        assert_eq!(progress.fails(now), RETRY);
    }
}
