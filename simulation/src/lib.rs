// SPDX-License-Identifier: Apache-2.0
//! The whole of a capture under a seed: a model database, the engine, a transport in memory, and a scheduler that lets
//! everything happen in every order, crashes at every step included. The same seed is the same life.
//!
//! `HIGHWATER_SEED=n` lives one life again (with `HIGHWATER_TRACE=1` it tells the story); `HIGHWATER_SEEDS=n` sets how many
//! are lived.

pub mod cells;
mod chance;
pub mod judge;
pub mod life;
pub mod moments;
pub mod outlet;
mod renewals;
pub mod scenario;
pub mod store;
pub mod sweep;
pub mod trace;

pub use life::{Hook, Summary, live};
pub use scenario::{Scenario, Source};
