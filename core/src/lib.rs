// SPDX-License-Identifier: Apache-2.0
//! Highwater's contract: what a connector, a transport and a sink are, what an event, a schema, a position and a
//! checkpoint look like, and the engine that merges a table's copy with its log ([`dblog`]).
//!
//! This crate does no I/O, names no database and reads no clock of its own.

pub mod change;
pub mod checkpoint;
pub mod clock;
pub mod connector;
pub mod dblog;
pub mod error;
pub mod image;
pub mod partitioner;
pub mod position;
pub mod schema;
pub mod sink;
pub mod source_block;
pub mod spill;
pub mod transport;
pub mod value;

pub use error::{Class, Error, ErrorKind, Result, Scope};
