// SPDX-License-Identifier: Apache-2.0
//! End-to-end tests of the `highwater` binary on real servers.
//!
//! ```text
//!   workload ──▶ Postgres ──▶ highwater (a process of its own, killed at will) ──▶ Kafka | embedded
//!      │                                                                              │
//!      └── journal of what was committed ──▶ journal_check ◀── read_back, decoded ────┘
//! ```

pub mod binary;
pub mod cell;
pub mod database;
pub mod event;
pub mod http;
pub mod journal;
pub mod journal_check;
pub mod pipeline_file;
pub mod process;
pub mod read_back;
pub mod socket;
pub mod table;
pub mod workload;
mod writer;
