// SPDX-License-Identifier: Apache-2.0
//! What makes a pipeline run: the loop that drives a source, and the house around it.
//!
//! ```text
//!   pipeline file ─▶ PipelineHost ─┬─ Lease: one copy leads, others wait
//!                                  ├─ SourceTask: the loop (see [`source_task`])
//!                                  ├─ admin HTTP: /metrics /health /status /certificates
//!                                  └─ local socket: tail, topics, snapshot, status
//! ```
//!
//! This crate knows no connector by name: a program brings a list of [`Connector`]s, one line for each database.

pub mod admin_http;
mod chance;
pub mod clock;
pub mod components;
pub mod connector;
pub mod control;
pub mod crash_points;
pub mod discard;
pub mod file_spill;
pub mod host;
#[cfg(feature = "kafka")]
mod kafka_settings;
pub mod leases;
mod main_for;
pub mod shutdown;
pub mod source_task;
pub mod tail;
pub mod telemetry;

pub use connector::{Connector, connector};
pub use host::{PipelineFile, PipelineHost};
pub use main_for::{main_for, report_error};
