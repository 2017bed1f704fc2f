// SPDX-License-Identifier: Apache-2.0
//! Global transaction identifiers, without I/O: which transactions a server has, in both servers' notations.
//!
//! MySQL names a transaction by the server that it came from, an optional tag and a number (`uuid:tag:7`); what a server
//! has is a [`GtidSet`] with gaps. MariaDB names it by domain, server and number (`0-1-7`) and keeps the numbers of a
//! domain in order, so that a [`MariadbPosition`], the last one of each domain, says what a server has.

mod binary;
mod intervals;
mod mariadb;
mod set;
mod source;
mod text;
mod walk;

pub use binary::TAGGED_FORMAT;
pub use intervals::{Interval, Intervals, NUMBER_MAX};
pub use mariadb::{MariadbGtid, MariadbPosition};
pub use set::{Gtid, GtidSet};
pub use source::{SourceUuid, TAG_BYTES_MAX, Tag, TransactionSource};

use std::fmt;

/// Why text or bytes are not a set of GTIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GtidError {
    /// Where the part that is wrong begins, in bytes.
    pub offset: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for GtidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed GTIDs: {} at byte {}", self.what, self.offset)
    }
}

impl std::error::Error for GtidError {}
