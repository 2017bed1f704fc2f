// SPDX-License-Identifier: Apache-2.0
//! What carries events between two steps of a pipeline, behind [`highwater_core::transport::Transport`]:
//!
//! - [`kafka`]: a Kafka cluster, with its transactions (feature `kafka`);
//! - [`embedded`]: a durable log in files, inside one process;
//! - [`memory`]: in memory, for simulation and tests.
//!
//! All three keep the numbered clauses of the trait; `highwater_testkit::transport_suite` proves it on each.
//! [`connect`] makes one from its [`TransportSettings`].

pub mod embedded;
mod failure;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
mod route;
mod settings;
mod stored_checkpoint;

pub use settings::{TransportSettings, connect};
