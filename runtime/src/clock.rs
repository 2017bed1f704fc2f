// SPDX-License-Identifier: Apache-2.0
//! The machine's clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use highwater_core::clock::Clock;

/// The machine's clock; microseconds since 1970 by the system's time, monotonic time from its own beginning.
#[derive(Debug, Clone)]
pub struct SystemClock {
    began: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now_us(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}
