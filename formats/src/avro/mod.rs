// SPDX-License-Identifier: Apache-2.0
//! Avro: schemas as Kafka Connect's converter makes them, a writer for the compiled plan, and a reader.
