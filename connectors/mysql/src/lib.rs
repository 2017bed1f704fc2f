// SPDX-License-Identifier: Apache-2.0
//! The MySQL and MariaDB connector, as far as it goes: what a binlog is made of. It captures nothing yet.
//!
//! ```text
//! protocol   events of a binlog: bytes in, values out
//! gtid       sets of transactions: text, bytes, algebra
//! values     fields of rows: numbers, times, JSON
//! ```

pub mod fuzzing;
pub mod gtid;
pub mod protocol;
pub mod values;
