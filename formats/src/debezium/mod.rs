// SPDX-License-Identifier: Apache-2.0
//! The Debezium envelope: what an event looks like, whatever its bytes are.

pub mod decoder;
pub mod encoder;
pub mod settings;
pub mod topic;
