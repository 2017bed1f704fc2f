// SPDX-License-Identifier: Apache-2.0
//! Real servers for tests, the demo and benchmarks: one handle per server.
//!
//! ```text
//!   Postgres::start ──┐
//!   Kafka::start    ──┼──┬── process    programs of Debian, npm or Maven in a private folder, children of the test
//!   Registry::start ──┘  └── container  any Docker-compatible engine, through testcontainers
//!   Mysql::start    ──────── process
//! ```
//!
//! [`backend`] says how the back end is chosen.
//!
//! Servers listen on 127.0.0.1, on a free port that stays theirs over restarts. Their data lies in `/tmp/hwtb-…`,
//! removed on success and kept when the test panics (or always with `HIGHWATER_KEEP=1`). A server dies with its
//! handle, and a native one with this process however it ends; a killed process' containers go when the next one
//! uses the engine. What is downloaded goes to [`cache::root`], under locks, once.

mod address;
mod at_exit;
pub mod backend;
pub mod cache;
pub mod certificates;
mod command;
pub mod connect;
pub mod container;
pub mod doctor;
mod error;
mod fetch;
pub mod gate;
mod http;
mod java_server;
pub mod kafka;
pub mod mysql;
mod ports;
pub mod postgres;
pub mod proxy;
pub mod registry;
mod run_dir;
mod server_process;
mod server_slot;
mod settings;
pub mod skip;
mod spawner;
pub mod versions;
pub mod wait;

pub use connect::Connect;
pub use error::{Error, Result};
pub use gate::Gate;
pub use kafka::{Kafka, KafkaOptions, Security};
pub use mysql::{Mysql, MysqlDatabase, MysqlOptions};
pub use postgres::{PgOptions, Postgres, TestDatabase};
pub use proxy::{FaultProxy, Faults};
pub use registry::Registry;
