// SPDX-License-Identifier: Apache-2.0
//! What MariaDB compresses inside of an event (`log_bin_compress`).
//!
//! ```text
//! 1 alg:3 0 n:3   length:n (big-endian)   zlib stream of so many bytes
//! ```

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::ZlibDecoder;

use super::{EVENT_BYTES_MAX, FieldReader, ProtocolError};

const COMPRESSED: u8 = 0x80;
const ALGORITHM_MASK: u8 = 0x70;
const LENGTH_MASK: u8 = 0x07;

/// Inflates `compressed`, a part of an `event`. Memory is taken as the bytes come, not as the event says.
pub fn inflate(event: &'static str, compressed: &[u8]) -> Result<Bytes, ProtocolError> {
    let mut fields = FieldReader::new(event, compressed);
    let head = fields.u8("kind of compression")?;
    if head & COMPRESSED == 0 || head & ALGORITHM_MASK != 0 {
        return Err(fields.malformed("kind of compression"));
    }
    let mut length: u64 = 0;
    for byte in fields.bytes(usize::from(head & LENGTH_MASK), "length before compression")? {
        length = (length << 8) | u64::from(*byte);
    }
    if length > u64::from(EVENT_BYTES_MAX) {
        return Err(fields.malformed("length before compression"));
    }
    let mut inflated = Vec::new();
    let mut stream = ZlibDecoder::new(fields.rest()).take(length + 1);
    match stream.read_to_end(&mut inflated) {
        Ok(read) if read as u64 == length => Ok(inflated.into()),
        Ok(_) => Err(fields.malformed("another length than before compression")),
        Err(_) => Err(fields.malformed("compressed bytes")),
    }
}
