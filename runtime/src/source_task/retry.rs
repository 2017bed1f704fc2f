// SPDX-License-Identifier: Apache-2.0
//! How long to wait before the next try, and when to give up.

use std::time::Duration;

/// Settings of [`Backoff`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// First wait; doubled after each failure.
    pub first: Duration,
    /// Longest wait.
    pub longest: Duration,
    /// Give up after this long without a commit; zero: at the first failure.
    pub give_up_after: Duration,
}

/// Waits that grow. Pure: the driver tells it the time and gives it chance.
#[derive(Debug)]
pub(crate) struct Backoff {
    settings: RetrySettings,
    next: Duration,
    failing_since: Option<Duration>,
}

impl Backoff {
    pub(crate) fn new(settings: RetrySettings) -> Self {
        Backoff {
            settings,
            next: settings.first,
            failing_since: None,
        }
    }

    /// Something was committed: the next failure is a first one.
    pub(crate) fn succeeded(&mut self) {
        self.next = self.settings.first;
        self.failing_since = None;
    }

    /// How long to wait after a failure at `now`, or `None`: give up. `chance` is from 0 to below 1 and spreads copies
    /// that failed together.
    pub(crate) fn failed(&mut self, now: Duration, chance: f64) -> Option<Duration> {
        let since = *self.failing_since.get_or_insert(now);
        if now.saturating_sub(since) >= self.settings.give_up_after {
            return None;
        }
        let wait = self.next.mul_f64(0.5 + chance / 2.0);
        self.next = (self.next * 2).min(self.settings.longest);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(give_up_after_ms: u64) -> Backoff {
        Backoff::new(RetrySettings {
            first: Duration::from_millis(100),
            longest: Duration::from_millis(500),
            give_up_after: Duration::from_millis(give_up_after_ms),
        })
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_commit() {
        let mut backoff = backoff(60_000);
        let mut wait = || backoff.failed(Duration::ZERO, 0.999_999).unwrap().as_millis() + 1;
        assert_eq!([wait(), wait(), wait(), wait(), wait()], [100, 200, 400, 500, 500]);
        backoff.succeeded();
        assert_eq!(backoff.failed(Duration::ZERO, 0.0), Some(Duration::from_millis(50)));
    }

    #[test]
    fn it_gives_up_when_nothing_was_committed_for_too_long() {
        let mut backoff = backoff(1_000);
        assert!(backoff.failed(Duration::from_millis(5_000), 0.0).is_some());
        assert!(backoff.failed(Duration::from_millis(5_999), 0.0).is_some());
        assert!(backoff.failed(Duration::from_millis(6_000), 0.0).is_none());
        assert!(self::backoff(0).failed(Duration::ZERO, 0.0).is_none());
    }
}
