// SPDX-License-Identifier: Apache-2.0
//! The MySQL and MariaDB connector, as far as it goes: what a binlog is made of. It captures nothing yet.
//!
//! ```text
//! gtid       sets of transactions: text, bytes, algebra
//! ```

pub mod gtid;
