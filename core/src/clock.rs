// SPDX-License-Identifier: Apache-2.0
//! Time, injected: nothing in this crate reads a clock.

use std::time::Duration;

/// A source of time.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01 UTC.
    fn now_us(&self) -> i64;
    /// Time since an arbitrary fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}
