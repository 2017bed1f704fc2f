// SPDX-License-Identifier: Apache-2.0
//! The binlog, without I/O: bytes in, events out.
//!
//! ```text
//! bytes -> event_sequence (a file's or a stream's events)
//!              -> decoder (header, CRC32) -> event -> table_map -> row_plan
//!                                                  -> rows, over the plan -> RowImage, json_diff
//!                                                  -> payload -> event (what a compressed transaction holds)
//! ```
//!
//! Nothing here opens a socket or a file, reads a clock or starts a task. No parser panics and none indexes its input:
//! whatever cannot be read is a [`ProtocolError`] that names the event and what is wrong with it. Event and field names
//! are those of MySQL's and MariaDB's manuals. Integers are little-endian.

pub mod column_type;
pub mod compressed;
pub mod decoder;
pub mod event;
pub mod event_sequence;
pub mod event_type;
pub mod field_reader;
pub mod format_description;
pub mod gtid_event;
pub mod header;
pub mod heartbeat;
pub mod json_diff;
pub mod mariadb_gtid_event;
pub mod optional_metadata;
pub mod payload;
pub mod query;
pub mod row_plan;
pub mod rows;
pub mod statement;
pub mod table_map;
pub mod value_bytes;
pub mod xa;

pub use decoder::{Checksum, EventDecoder};
pub use event::Event;
pub use event_sequence::EventSequence;
pub use field_reader::FieldReader;
pub use header::EventHeader;
pub use row_plan::RowPlan;
pub use table_map::TableMap;
pub use value_bytes::ValueBytes;

use std::fmt;

/// Which kind of server wrote a log, where the two say the same thing in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// MySQL.
    MySql {
        /// Its version, 80015 for 8.0.15.
        version: u32,
    },
    /// MariaDB.
    MariaDb,
}

/// The last version of MySQL that is known to count no YEAR among the columns with a sign, and the first that is known to.
const YEAR_WITHOUT_SIGN_VERSION_MAX: u32 = 80_015;
const YEAR_WITH_SIGN_VERSION_MIN: u32 = 90_704;

impl Flavor {
    /// Whether the server has a bit for YEAR among the signs of columns; `None` for a version of which it is not known.
    pub fn counts_year(self) -> Option<bool> {
        match self {
            Self::MariaDb => Some(true),
            Self::MySql { version } if version <= YEAR_WITHOUT_SIGN_VERSION_MAX => Some(false),
            Self::MySql { version } if version >= YEAR_WITH_SIGN_VERSION_MIN => Some(true),
            Self::MySql { .. } => None,
        }
    }
}

/// The longest event that is read: the largest `max_allowed_packet` and what the server adds to it, in bytes.
pub const EVENT_BYTES_MAX: u32 = (1 << 30) + (1 << 20);

/// Why bytes of a binlog could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// An event ended before the named field, or the field's bytes are not what the format allows.
    Malformed {
        /// The event that was read, by its name in the server's manual.
        event: &'static str,
        /// The field or rule that failed.
        what: &'static str,
    },
    /// An event's bytes are not those that the server wrote.
    Checksum {
        /// The event.
        event: &'static str,
        /// Where it begins in its file.
        position: u64,
    },
    /// An event of a type that is not known, which the server does not allow to be passed over.
    UnknownEvent {
        /// The number of its type.
        code: u8,
        /// Where it begins in its file.
        position: u64,
    },
    /// What cannot be read by design.
    Unsupported {
        /// The event.
        event: &'static str,
        /// What it is and what to do about it.
        why: &'static str,
    },
    /// A column of a type that is not known, or that has no length to go by.
    ColumnType {
        /// The table's database.
        database: String,
        /// The table.
        table: String,
        /// The column's place, from 1.
        column: usize,
        /// The number of its type.
        code: u8,
    },
}

impl ProtocolError {
    /// An event of the kind `event` that broke the rule `what`.
    pub(crate) fn malformed(event: &'static str, what: &'static str) -> Self {
        Self::Malformed { event, what }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { event, what } => write!(f, "malformed {event} event in the binlog: {what}"),
            Self::Checksum { event, position } => {
                write!(
                    f,
                    "the {event} event at position {position} of the binlog has another checksum than its bytes"
                )
            }
            Self::UnknownEvent { code, position } => {
                write!(
                    f,
                    "the event at position {position} of the binlog has the unknown type {code}"
                )
            }
            Self::Unsupported { event, why } => write!(f, "{event} event in the binlog: {why}"),
            Self::ColumnType {
                database,
                table,
                column,
                code,
            } => {
                write!(f, "column {column} of \"{database}\".\"{table}\" has ")?;
                match code {
                    7 | 11 | 12 => f.write_str(
                        "a time type of before MySQL 5.6, whose length the binlog does not tell; `ALTER TABLE … FORCE` \
                         with mysql56_temporal_format=ON rebuilds it",
                    ),
                    _ => write!(f, "the type {code}, which is not known"),
                }
            }
        }
    }
}

impl std::error::Error for ProtocolError {}
