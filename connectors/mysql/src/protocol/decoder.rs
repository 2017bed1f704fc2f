// SPDX-License-Identifier: Apache-2.0
//! From an event's bytes to the event: the header, the checksum, the body.

use bytes::Bytes;

use super::header::{FLAG_IN_USE, HEADER_BYTES};
use super::{Event, EventHeader, ProtocolError, event_type, format_description};

const CHECKSUM_BYTES: usize = 4;
/// Where the flags lie in a header.
const FLAGS_AT: usize = 17;

/// What events end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    None,
    /// The CRC32 of all bytes before it.
    Crc32,
}

/// Decodes events one after the other, and keeps what a FORMAT_DESCRIPTION says of those after it.
#[derive(Debug, Clone)]
pub struct EventDecoder {
    checksum: Checksum,
}

impl EventDecoder {
    /// A decoder of events that end with `checksum` until a FORMAT_DESCRIPTION says otherwise. A file begins with one; in
    /// a stream a ROTATE comes first, which has the checksum that the connection asked for.
    pub fn new(checksum: Checksum) -> Self {
        Self { checksum }
    }

    /// Decodes one whole event, header and checksum included. `position` is where it begins in its file, for errors.
    pub fn decode(&mut self, bytes: &Bytes, position: u64) -> Result<(EventHeader, Event), ProtocolError> {
        let header = EventHeader::parse(bytes)?;
        let malformed = |what| ProtocolError::malformed(header.event_name(), what);
        if header.length as usize != bytes.len() {
            return Err(malformed("another length than its header says"));
        }
        let described = header.code == event_type::FORMAT_DESCRIPTION;
        if described {
            self.checksum = format_description::checksum_of(bytes)?;
        }
        // A FORMAT_DESCRIPTION ends with a checksum also where the events after it have none.
        let checksum_bytes = match self.checksum {
            Checksum::None if !described => 0,
            Checksum::None | Checksum::Crc32 => CHECKSUM_BYTES,
        };
        let body_end = bytes
            .len()
            .checked_sub(checksum_bytes)
            .filter(|end| *end >= HEADER_BYTES);
        let body_end = body_end.ok_or_else(|| malformed("no checksum"))?;
        if self.checksum == Checksum::Crc32 && !is_intact(bytes, body_end, described) {
            let event = header.event_name();
            return Err(ProtocolError::Checksum { event, position });
        }
        Event::parse(&header, bytes.slice(HEADER_BYTES..body_end), position).map(|event| (header, event))
    }
}

/// Whether the bytes up to `end` have the CRC32 that follows them.
fn is_intact(bytes: &[u8], end: usize, described: bool) -> bool {
    let (Some(covered), Some(written)) = (bytes.get(..end), bytes.get(end..)) else {
        return false;
    };
    let mut crc = crc32fast::Hasher::new();
    // The flag that the file is open was not set when the checksum was made.
    match covered.split_at_checked(FLAGS_AT) {
        Some((before, [flags, after @ ..])) if described => {
            crc.update(before);
            crc.update(&[flags & !(FLAG_IN_USE.to_le_bytes()[0])]);
            crc.update(after);
        }
        _ => crc.update(covered),
    }
    written == crc.finalize().to_le_bytes()
}
