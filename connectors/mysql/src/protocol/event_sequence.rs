// SPDX-License-Identifier: Apache-2.0
//! The events of a whole file, or of a piece of a stream, that lies in memory.

use bytes::Bytes;

use super::header::HEADER_BYTES;
use super::{Checksum, Event, EventDecoder, EventHeader, FieldReader, ProtocolError};

/// What a file begins with.
const MAGIC: [u8; 4] = *b"\xfebin";
/// What a file begins with that MySQL encrypted.
const MAGIC_ENCRYPTED: [u8; 4] = *b"\xfdbin";
const ENCRYPTED: &str = "the file is encrypted; its events can be read from the server only";

/// An event with where it begins, in bytes from the start of the file or piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedEvent {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: EventHeader,
    /// The event.
    pub event: Event,
}

/// The events, one after the other. Ends after an error.
#[derive(Debug, Clone)]
pub struct EventSequence {
    bytes: Bytes,
    next: usize,
    is_file: bool,
    decoder: EventDecoder,
}

impl EventSequence {
    /// The events of a file.
    pub fn of_file(bytes: Bytes) -> Result<Self, ProtocolError> {
        let mut fields = FieldReader::new("binlog", &bytes);
        match fields.array("mark of a binlog")? {
            MAGIC => {}
            MAGIC_ENCRYPTED => {
                return Err(ProtocolError::Unsupported {
                    event: "first",
                    why: ENCRYPTED,
                });
            }
            _ => return Err(fields.malformed("no mark of a binlog")),
        }
        let next = fields.offset();
        Ok(Self {
            bytes,
            next,
            is_file: true,
            decoder: EventDecoder::new(Checksum::None),
        })
    }

    /// Events as a server sends them, the first of which end with `checksum`.
    pub fn of_stream(bytes: Bytes, checksum: Checksum) -> Self {
        Self {
            bytes,
            next: 0,
            is_file: false,
            decoder: EventDecoder::new(checksum),
        }
    }

    fn next_event(&mut self, start: usize) -> Result<PlacedEvent, ProtocolError> {
        let rest = self.bytes.get(start..).unwrap_or_default();
        let header = EventHeader::parse(rest)?;
        let length = header.length as usize;
        if length > rest.len() || length < HEADER_BYTES {
            return Err(ProtocolError::malformed(header.event_name(), "an event that is cut"));
        }
        let position = start as u64;
        let (header, event) = self
            .decoder
            .decode(&self.bytes.slice(start..start + length), position)?;
        if event == Event::StartEncryption && self.is_file {
            return Err(ProtocolError::Unsupported {
                event: header.event_name(),
                why: ENCRYPTED,
            });
        }
        self.next = start + length;
        Ok(PlacedEvent {
            position,
            header,
            event,
        })
    }
}

impl Iterator for EventSequence {
    type Item = Result<PlacedEvent, ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next;
        if start >= self.bytes.len() {
            return None;
        }
        self.next = self.bytes.len();
        Some(self.next_event(start))
    }
}
