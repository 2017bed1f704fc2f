// SPDX-License-Identifier: Apache-2.0
//! JSON as Kafka Connect's converter writes it.

pub(crate) mod schema;
pub(crate) mod writer;
