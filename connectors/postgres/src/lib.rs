// SPDX-License-Identifier: Apache-2.0
//! The Postgres connector: every change of a database from logical replication, and its tables in chunks.
//!
//! ```text
//!              connection ---- protocol (bytes only, no I/O)
//!              /        \
//!   replication_connection  queries
//!             |              |
//!        log_reader     chunk_reader, watermark, discover, preflight, slot
//!             \______________/
//!               values (binary format -> ValueWriter)
//! ```

pub mod fuzzing;
pub mod protocol;

pub mod connection;
pub mod failure;
pub mod settings;
pub mod socket;
pub mod tls;
pub mod values;
