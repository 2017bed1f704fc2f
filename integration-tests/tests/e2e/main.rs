// SPDX-License-Identifier: Apache-2.0
//! `highwater` from end to end on real servers: one binary, for linking it takes longer than most of its tests.

// A test ends by its panic.
#![allow(clippy::unwrap_used)]

mod bad_days;
mod bad_postgres;
mod bad_settings;
mod failover;
mod flow_added;
mod flow_anomaly;
mod flow_check;
mod flow_copies;
mod flow_first;
mod flow_first_load;
mod flow_keyless;
mod flow_many_tables;
mod flow_messages;
mod flow_partitions;
mod flow_pieces;
mod flow_rows;
mod flow_schema;
mod flow_secure;
mod flow_wire;
mod kill;
mod kill_zombie;
mod kind;
mod renewal;
mod scene;
mod workload_journal;
