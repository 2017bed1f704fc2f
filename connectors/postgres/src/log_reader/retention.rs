// SPDX-License-Identifier: Apache-2.0
//! How long the server can go on keeping its log for the slot, and when that is worth a warning.

use crate::protocol::Lsn;
use highwater_core::connector::Retention;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The pace is that of this long.
const SPAN: Duration = Duration::from_secs(600);
/// Ends that are nearer to each other are not remembered both.
const STEP: Duration = Duration::from_secs(10);

/// What the server says of the slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotState {
    /// The end of the log.
    pub(super) end: Lsn,
    /// From where on the slot keeps it.
    pub(super) restart: Option<Lsn>,
    /// Bytes that may be written before the slot is lost; below zero where the next checkpoint may lose it.
    pub(super) safe_bytes: Option<i64>,
}

/// What is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// More than half of what the slot may keep is used, or again half of what was left then.
    Tight,
    /// There is room again.
    Roomy,
}

/// Follows the slot.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Ends of the log, the oldest first.
    ends: VecDeque<(Instant, Lsn)>,
    /// What was left when that was last told.
    told: Option<u64>,
}

impl Watch {
    /// Takes in what the server says at `at`.
    pub(super) fn note(&mut self, at: Instant, state: SlotState) -> Option<Retention> {
        let seconds_per_byte = self.seconds_per_byte(at, state.end);
        let restart = state.restart?;
        let left_bytes = state.safe_bytes.map(|bytes| u64::try_from(bytes).unwrap_or_default());
        let left = left_bytes
            .zip(seconds_per_byte)
            .map(|(bytes, pace)| bytes as f64 * pace);
        Some(Retention {
            kept_bytes: state.end.0.saturating_sub(restart.0),
            left_bytes,
            left: left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        })
    }

    fn seconds_per_byte(&mut self, at: Instant, end: Lsn) -> Option<f64> {
        while self
            .ends
            .front()
            .is_some_and(|(then, _)| at.duration_since(*then) > SPAN)
        {
            self.ends.pop_front();
        }
        let first = self.ends.front().copied();
        if self
            .ends
            .back()
            .is_none_or(|(then, _)| at.duration_since(*then) >= STEP)
        {
            self.ends.push_back((at, end));
        }
        let (then, begin) = first?;
        let written = end.0.saturating_sub(begin.0);
        (written > 0).then(|| at.duration_since(then).as_secs_f64() / written as f64)
    }

    /// What is to be told, if anything is.
    pub(super) fn notice(&mut self, retention: &Retention) -> Option<Notice> {
        let left = retention.left_bytes?;
        if left >= retention.kept_bytes {
            return self.told.take().map(|_| Notice::Roomy);
        }
        let is_news = self.told.is_none_or(|told| left < told && left <= told / 2);
        is_news.then(|| {
            self.told = Some(left);
            Notice::Tight
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(end: u64, safe_bytes: Option<i64>) -> SlotState {
        SlotState {
            end: Lsn(end),
            restart: Some(Lsn(1_000)),
            safe_bytes,
        }
    }

    #[test]
    fn what_is_left_lasts_as_long_as_the_pace_of_late_says() {
        let (mut watch, begin) = (Watch::default(), Instant::now());
        let first = watch.note(begin, state(1_500, Some(10_000))).unwrap();
        assert_eq!(
            (first.kept_bytes, first.left_bytes, first.left),
            (500, Some(10_000), None)
        );
        let later = |seconds| begin + Duration::from_secs(seconds);
        let second = watch.note(later(100), state(2_500, Some(9_000))).unwrap();
        assert_eq!(second.left, Some(Duration::from_secs(900)));
        // What was written before the span does not count.
        let idle = watch.note(later(650), state(2_500, Some(9_000))).unwrap();
        assert_eq!(idle.left, None);
        assert_eq!(watch.note(later(660), state(3_000, None)).unwrap().left_bytes, None);
        let over = watch.note(later(670), state(4_000, Some(-5))).unwrap();
        assert_eq!((over.left_bytes, over.left), (Some(0), Some(Duration::ZERO)));
        let unknown = SlotState {
            restart: None,
            ..state(1, None)
        };
        assert_eq!(watch.note(later(680), unknown), None);
    }

    #[test]
    fn a_warning_comes_when_half_is_used_and_at_each_further_half() {
        let mut watch = Watch::default();
        let mut notice = |kept_bytes, left_bytes| {
            watch.notice(&Retention {
                kept_bytes,
                left_bytes,
                left: None,
            })
        };
        assert_eq!(notice(90, None), None);
        assert_eq!(notice(50, Some(50)), None);
        assert_eq!(notice(51, Some(49)), Some(Notice::Tight));
        assert_eq!(notice(75, Some(25)), None, "not every time");
        assert_eq!(notice(76, Some(24)), Some(Notice::Tight));
        assert_eq!(notice(100, Some(0)), Some(Notice::Tight));
        assert_eq!(notice(100, Some(0)), None);
        assert_eq!(notice(10, Some(90)), Some(Notice::Roomy));
        assert_eq!(notice(10, Some(90)), None);
    }
}
