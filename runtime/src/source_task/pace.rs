// SPDX-License-Identifier: Apache-2.0
//! When to commit: promptly while little happens, in large portions while much does.

use std::time::Duration;

/// When a commit is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceSettings {
    /// The longest that an event waits for others while no commit is under way.
    pub linger: Duration,
    /// Events of one commit.
    pub events_max: u64,
    /// Bytes of one commit.
    pub bytes_max: u64,
    /// How often progress without events is committed.
    pub idle: Duration,
}

/// Commits that may be under way at once: one that the transport works at, and full ones that wait behind it.
const COMMITS_UNDER_WAY_MAX: u32 = 16;

/// Decides when a commit is due. Pure: the driver tells it the time.
#[derive(Debug)]
pub(crate) struct Pace {
    settings: PaceSettings,
    events: u64,
    bytes: u64,
    first_at: Option<Duration>,
    progressed: bool,
    last_commit: Duration,
    under_way: u32,
}

impl Pace {
    pub(crate) fn new(settings: PaceSettings, now: Duration) -> Self {
        Pace {
            settings,
            events: 0,
            bytes: 0,
            first_at: None,
            progressed: false,
            last_commit: now,
            under_way: 0,
        }
    }

    /// Events were encoded.
    pub(crate) fn emitted(&mut self, events: u64, bytes: u64, now: Duration) {
        if events > 0 {
            self.events += events;
            self.bytes += bytes;
            self.first_at.get_or_insert(now);
        }
    }

    /// The log or a snapshot went on.
    pub(crate) fn progressed(&mut self) {
        self.progressed = true;
    }

    /// A checkpoint was handed to the transport.
    pub(crate) fn committing(&mut self, now: Duration) {
        self.events = 0;
        self.bytes = 0;
        self.first_at = None;
        self.progressed = false;
        self.last_commit = now;
        self.under_way += 1;
    }

    /// A commit is done.
    pub(crate) fn committed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether a commit is under way.
    pub(crate) fn is_committing(&self) -> bool {
        self.under_way > 0
    }

    /// Whether a commit is due now.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        if self.under_way >= COMMITS_UNDER_WAY_MAX {
            return false;
        }
        if self.events >= self.settings.events_max || self.bytes >= self.settings.bytes_max {
            return true;
        }
        self.under_way == 0 && self.due_at().is_some_and(|due| now >= due)
    }

    /// When a commit falls due if nothing else happens; `None` while one is under way or nothing waits.
    pub(crate) fn wakes_at(&self) -> Option<Duration> {
        if self.under_way > 0 { None } else { self.due_at() }
    }

    fn due_at(&self) -> Option<Duration> {
        match self.first_at {
            Some(first) => Some(first + self.settings.linger),
            None => self.progressed.then(|| self.last_commit + self.settings.idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn pace() -> Pace {
        let settings = PaceSettings {
            linger: ms(5),
            events_max: 100,
            bytes_max: 1_000,
            idle: ms(1_000),
        };
        Pace::new(settings, ms(0))
    }

    #[test]
    fn an_event_waits_for_others_no_longer_than_the_linger_time() {
        let mut pace = pace();
        pace.emitted(1, 10, ms(100));
        pace.emitted(1, 10, ms(103));
        assert_eq!(pace.wakes_at(), Some(ms(105)));
        assert!(!pace.is_due(ms(104)));
        assert!(pace.is_due(ms(105)));
    }

    #[test]
    fn many_events_or_bytes_are_due_at_once() {
        let mut pace = pace();
        pace.emitted(100, 10, ms(1));
        assert!(pace.is_due(ms(1)));
        let mut pace = self::pace();
        pace.emitted(1, 1_000, ms(1));
        assert!(pace.is_due(ms(1)));
    }

    #[test]
    fn while_a_commit_is_under_way_only_full_ones_are_made_ready_behind_it() {
        let mut pace = pace();
        pace.emitted(1, 1, ms(0));
        pace.committing(ms(5));
        pace.emitted(99, 1, ms(6));
        assert!(!pace.is_due(ms(900)), "a small second commit waits for the first");
        pace.emitted(1, 1, ms(900));
        assert!(pace.is_due(ms(900)), "a full one is made ready behind it");
        for _ in 1..COMMITS_UNDER_WAY_MAX {
            pace.committing(ms(900));
            pace.emitted(5_000, 1, ms(901));
        }
        assert!(!pace.is_due(ms(5_000)), "a stated number of them at most");
        pace.committed();
        assert!(pace.is_due(ms(5_000)));
    }

    #[test]
    fn progress_without_events_is_committed_now_and_then() {
        let mut pace = pace();
        assert!(!pace.is_committing());
        assert_eq!(pace.wakes_at(), None);
        pace.progressed();
        assert!(!pace.is_due(ms(999)) && pace.is_due(ms(1_000)));
        pace.committing(ms(1_000));
        assert!(pace.is_committing());
        pace.committed();
        assert!(!pace.is_committing() && !pace.is_due(ms(9_000)));
    }
}
