// SPDX-License-Identifier: Apache-2.0
//! What every event begins with.

use super::{FieldReader, ProtocolError, event_type};

/// The header's bytes.
pub const HEADER_BYTES: usize = 19;
/// The writer of the file has it open: set in a FORMAT_DESCRIPTION without a new checksum.
pub const FLAG_IN_USE: u16 = 0x1;
const FLAG_ARTIFICIAL: u16 = 0x20;
const FLAG_IGNORABLE: u16 = 0x80;
/// MariaDB: the session asked that replicas leave the event out.
const FLAG_SKIP_REPLICATION: u16 = 0x8000;

/// An event's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHeader {
    /// When the statement began, in seconds since 1970 in UTC; 0 in events that the server makes for the stream.
    pub timestamp: u32,
    /// The number of the event's type, see [`event_type`].
    pub code: u8,
    /// The server that wrote the event first.
    pub server_id: u32,
    /// The event's bytes, header and checksum included.
    pub length: u32,
    /// Where the next event begins in the file, in its lower 32 bits. 0 where the server does not say, as in
    /// MariaDB's transactions from 11.7 on.
    pub end_position: u32,
    /// Flags.
    pub flags: u16,
}

impl EventHeader {
    /// Reads the header at the start of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let mut fields = FieldReader::new("binlog", bytes);
        let header = Self {
            timestamp: fields.u32("timestamp of an event")?,
            code: fields.u8("type of an event")?,
            server_id: fields.u32("server id of an event")?,
            length: fields.u32("length of an event")?,
            end_position: fields.u32("position of an event")?,
            flags: fields.u16("flags of an event")?,
        };
        if (header.length as usize) < HEADER_BYTES || header.length > super::EVENT_BYTES_MAX {
            return Err(ProtocolError::malformed(header.event_name(), "length of the event"));
        }
        Ok(header)
    }

    /// The name of the event's type, for messages.
    pub fn event_name(&self) -> &'static str {
        event_type::name(self.code).unwrap_or("unknown")
    }

    /// Whether a reader that does not know the type may pass the event over.
    pub fn is_ignorable(&self) -> bool {
        self.flags & FLAG_IGNORABLE != 0
    }

    /// Whether the server made the event for the stream: it lies in no file.
    pub fn is_artificial(&self) -> bool {
        self.flags & FLAG_ARTIFICIAL != 0
    }

    /// Whether MariaDB's `skip_replication` was set where the event was written.
    pub fn is_skipped_by_replicas(&self) -> bool {
        self.flags & FLAG_SKIP_REPLICATION != 0
    }
}
