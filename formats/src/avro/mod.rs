// SPDX-License-Identifier: Apache-2.0
//! Avro: schemas as Kafka Connect's converter makes them, a writer for the compiled plan, and a reader.

pub(crate) mod compatibility;
pub(crate) mod parsed;
pub(crate) mod reader;
pub(crate) mod schema;
pub(crate) mod writer;
