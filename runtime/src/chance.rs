// SPDX-License-Identifier: Apache-2.0
//! Chance from the operating system.

use highwater_core::position::RunId;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A run that no other run equals.
pub(crate) fn run_id() -> RunId {
    RunId(SmallRng::from_os_rng().random())
}

/// From 0 to below 1: spreads the retries of copies that failed together.
pub(crate) fn spread() -> f64 {
    SmallRng::from_os_rng().random()
}
