// SPDX-License-Identifier: Apache-2.0
//! The Postgres connector: every change of a database from logical replication, and its tables in chunks.
//!
//! ```text
//!                      dial (socket, TLS)
//!                     /                  \
//!             connection --- protocol    query_connection (tokio-postgres)
//!              /       \                        |
//! replication_connection \                watermark, discover, preflight, slot, publication
//!             |           |
//!        log_reader   chunk_reader (start_snapshot: what both have while first copies are read)
//!             \__________/
//!               values (binary format -> ValueWriter)
//! ```

pub mod catalog_row;
mod checkpoint_history;
pub mod chunk_reader;
pub mod connection;
pub mod connector;
mod dial;
pub mod discover;
pub mod failure;
pub mod fuzzing;
mod lineage;
pub mod log_reader;
pub mod position;
pub mod preflight;
pub mod protocol;
pub mod publication;
pub mod query_connection;
pub mod replication_connection;
pub mod schema;
pub mod selection;
mod server_choice;
pub mod server_version;
pub mod settings;
pub mod slot;
pub mod socket;
pub mod source_block;
pub mod start_snapshot;
pub mod stream_settings;
pub mod tls;
mod type_catalogue;
pub mod values;
pub mod watermark;

pub use connector::PostgresConnector;
pub use position::PgPosition;
pub use settings::Settings;
