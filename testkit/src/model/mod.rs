// SPDX-License-Identifier: Apache-2.0
//! A database in memory, small enough to know everything about it: tables, transactions, a log in commit order, and,
//! apart from it, what a read can see. Rows keep every version they ever had: the journal.

pub mod database;
pub mod log;
pub mod read;
pub mod rows;
pub mod write_times;

pub use database::{Database, Version, Write};
pub use log::{LogCursor, LogRecord};
pub use rows::{ModelPosition, ModelRow, ModelTable, id_of_key, key_of_id};
