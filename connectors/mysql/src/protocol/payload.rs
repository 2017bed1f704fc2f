// SPDX-License-Identifier: Apache-2.0
//! TRANSACTION_PAYLOAD: the events of a transaction, compressed as one stream.
//!
//! The stream is inflated event by event: what is in memory is the event at hand and the window that zstd looks back on.

use std::io::{BufReader, Cursor, Read};

use bytes::Bytes;
use zstd::stream::read::Decoder;

use super::header::HEADER_BYTES;
use super::{Event, EventHeader, FieldReader, ProtocolError, ValueBytes, event_type};

const EVENT: &str = "TRANSACTION_PAYLOAD";
const FIELD_END: u64 = 0;
const FIELD_LENGTH: u64 = 1;
const FIELD_COMPRESSION: u64 = 2;
const FIELD_INFLATED_LENGTH: u64 = 3;
const ZSTD: u64 = 0;
const NOT_COMPRESSED: u64 = 255;
/// How far zstd may look back, as a power of two in bytes: what its own levels up to the highest make of any input.
const WINDOW_LOG_MAX: u32 = 27;
/// The window that streams are inflated through before they are read.
const READ_BYTES: usize = 16 << 10;

/// A compressed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionPayload {
    compressed: bool,
    /// The bytes of all events, where the server says it.
    inflated_length: Option<u64>,
    payload: ValueBytes,
}

impl TransactionPayload {
    /// Reads what stands before the compressed bytes.
    pub(super) fn parse(body: &Bytes) -> Result<Self, ProtocolError> {
        let mut fields = FieldReader::new(EVENT, body);
        let (mut length, mut compression, mut inflated_length) = (None, None, None);
        loop {
            let kind = fields.packed("kind of a field")?;
            if kind == FIELD_END {
                break;
            }
            let bytes = fields.packed_length("length of a field")?;
            let mut value = fields.part(bytes, "field")?;
            match kind {
                FIELD_LENGTH => length = Some(value.packed("length of the payload")?),
                FIELD_COMPRESSION => compression = Some(value.packed("kind of compression")?),
                FIELD_INFLATED_LENGTH => inflated_length = Some(value.packed("length before compression")?),
                _ => {}
            }
        }
        let compressed = match compression {
            Some(ZSTD) => true,
            Some(NOT_COMPRESSED) => false,
            _ => return Err(fields.malformed("kind of compression")),
        };
        let payload = body.slice(fields.offset()..);
        if length != Some(payload.len() as u64) {
            return Err(fields.malformed("length of the payload"));
        }
        Ok(Self {
            compressed,
            inflated_length,
            payload: payload.into(),
        })
    }

    /// The bytes of all events, where the server says it.
    pub fn inflated_length(&self) -> Option<u64> {
        self.inflated_length
    }

    /// The transaction's events. `position` is where the payload begins, for errors.
    pub fn events(&self, position: u64) -> Result<PayloadEvents, ProtocolError> {
        let bytes = Cursor::new(Bytes::clone(&self.payload));
        let stream = if self.compressed {
            let mut decoder = Decoder::with_buffer(bytes).map_err(|_| malformed("compressed bytes"))?;
            let bounded = decoder.window_log_max(WINDOW_LOG_MAX);
            bounded.map_err(|_| malformed("compressed bytes"))?;
            Stream::Zstd(BufReader::with_capacity(READ_BYTES, decoder))
        } else {
            Stream::Plain(bytes)
        };
        Ok(PayloadEvents {
            stream: Some(stream),
            inflated_length: self.inflated_length,
            read: 0,
            position,
        })
    }
}

fn malformed(what: &'static str) -> ProtocolError {
    ProtocolError::malformed(EVENT, what)
}

enum Stream {
    Zstd(BufReader<Decoder<'static, Cursor<Bytes>>>),
    Plain(Cursor<Bytes>),
}

impl Stream {
    /// Appends up to `length` bytes to `buffer` and says how many. Memory is taken as bytes come.
    fn read(&mut self, length: usize, buffer: &mut Vec<u8>) -> Result<usize, ProtocolError> {
        buffer.reserve(length.min(READ_BYTES));
        let length = length as u64;
        let read = match self {
            Self::Zstd(stream) => stream.take(length).read_to_end(buffer),
            Self::Plain(stream) => stream.take(length).read_to_end(buffer),
        };
        read.map_err(|_| malformed("compressed bytes"))
    }
}

/// The events of a compressed transaction, one after the other. Ends after an error.
pub struct PayloadEvents {
    stream: Option<Stream>,
    inflated_length: Option<u64>,
    read: u64,
    position: u64,
}

impl PayloadEvents {
    fn next_event(&mut self) -> Result<Option<(EventHeader, Event)>, ProtocolError> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        match stream.read(HEADER_BYTES, &mut bytes)? {
            0 => return self.finish().map(|()| None),
            HEADER_BYTES => {}
            _ => return Err(malformed("an event that is cut")),
        }
        // The events inside have no checksums: the payload has one.
        let header = EventHeader::parse(&bytes)?;
        let body = header.length as usize - HEADER_BYTES;
        bytes.clear();
        if stream.read(body, &mut bytes)? != body {
            return Err(malformed("an event that is cut"));
        }
        self.read += u64::from(header.length);
        match header.code {
            event_type::TRANSACTION_PAYLOAD | event_type::FORMAT_DESCRIPTION => {
                Err(malformed("an event that cannot be inside of a transaction"))
            }
            _ => Event::parse(&header, bytes.into(), self.position).map(|event| Some((header, event))),
        }
    }

    fn finish(&mut self) -> Result<(), ProtocolError> {
        self.stream = None;
        match self.inflated_length {
            Some(length) if length != self.read => Err(malformed("another length than before compression")),
            _ => Ok(()),
        }
    }
}

impl Iterator for PayloadEvents {
    type Item = Result<(EventHeader, Event), ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_event();
        if next.is_err() {
            self.stream = None;
        }
        next.transpose()
    }
}

impl std::fmt::Debug for PayloadEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PayloadEvents({} bytes read)", self.read)
    }
}
