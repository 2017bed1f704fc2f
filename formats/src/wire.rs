// SPDX-License-Identifier: Apache-2.0
//! The Confluent wire format: a zero byte, the schema's id as four bytes big-endian, then the Avro body.

use highwater_core::{Error, ErrorKind, Result, Scope};

use crate::registry::SchemaId;

/// The first byte of every message.
pub const MAGIC: u8 = 0;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 5;

/// The header of a message of this schema.
pub fn header(id: SchemaId) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// Takes a message apart into its schema's id and its body.
///
/// # Errors
/// [`ErrorKind::CorruptMessage`] for anything shorter than the header or with another first byte.
pub fn split(message: &[u8]) -> Result<(SchemaId, &[u8])> {
    match message {
        [MAGIC, a, b, c, d, body @ ..] => Ok((SchemaId(u32::from_be_bytes([*a, *b, *c, *d])), body)),
        _ => Err(Error::new(
            ErrorKind::CorruptMessage,
            "message is not in the Confluent wire format (a zero byte and a schema id of four bytes)",
        )
        .with_scope(Scope::Record)
        .with("bytes", message.len())
        .with_fix("read the topic with the format it was written in: is it JSON?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_its_id() {
        let mut message = header(SchemaId(0x0102_0304)).to_vec();
        assert_eq!(message, [0, 1, 2, 3, 4]);
        message.push(9);
        assert_eq!(split(&message).unwrap(), (SchemaId(0x0102_0304), &[9][..]));
    }

    #[test]
    fn short_messages_and_foreign_first_bytes_are_refused() {
        for message in [&b""[..], &[0, 1, 2, 3], b"{\"id\":1}"] {
            assert_eq!(split(message).unwrap_err().kind(), ErrorKind::CorruptMessage);
        }
    }
}
