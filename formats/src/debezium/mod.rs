// SPDX-License-Identifier: Apache-2.0
//! The Debezium envelope: what an event looks like, whatever its bytes are.

mod compile;
pub(crate) mod connect_schema;
pub mod decoder;
pub mod encoder;
mod envelope;
mod event_schema;
mod explain;
pub(crate) mod nested;
mod plan;
mod prepare;
mod repeated;
pub mod settings;
pub(crate) mod slot;
pub mod stored_key;
pub mod topic;
mod value_schema;
mod zero;
