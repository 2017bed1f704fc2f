// SPDX-License-Identifier: Apache-2.0
//! Reading the fields of one event in order, with bounds checked at every step.

use super::ProtocolError;

/// A cursor over the body of one event. Every read names the field, so that a failure says what was missing.
#[derive(Debug, Clone)]
pub struct FieldReader<'a> {
    event: &'static str,
    rest: &'a [u8],
    length: usize,
}

impl<'a> FieldReader<'a> {
    /// Reads `body`, the body of an event that the server's manual calls `event`.
    pub fn new(event: &'static str, body: &'a [u8]) -> Self {
        Self {
            event,
            rest: body,
            length: body.len(),
        }
    }

    /// How many bytes of the body have been read.
    #[inline]
    pub fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    /// The bytes not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether every byte was read.
    #[inline]
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The error that the field `what` is not what the format allows.
    pub fn malformed(&self, what: &'static str) -> ProtocolError {
        ProtocolError::malformed(self.event, what)
    }

    /// The next `length` bytes.
    #[inline]
    pub fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], ProtocolError> {
        match self.rest.split_at_checked(length) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(self.malformed(what)),
        }
    }

    /// A reader over the next `length` bytes.
    pub fn part(&mut self, length: usize, what: &'static str) -> Result<FieldReader<'a>, ProtocolError> {
        Ok(FieldReader::new(self.event, self.bytes(length, what)?))
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ProtocolError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(self.malformed(what)),
        }
    }

    /// An unsigned byte.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, ProtocolError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// An unsigned 16-bit integer.
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, ProtocolError> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// An unsigned 32-bit integer.
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, ProtocolError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// An unsigned 64-bit integer.
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, ProtocolError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A signed 64-bit integer.
    #[inline]
    pub fn i64(&mut self, what: &'static str) -> Result<i64, ProtocolError> {
        self.array(what).map(i64::from_le_bytes)
    }

    /// An unsigned integer of `length` bytes, at most 8.
    #[inline]
    pub fn integer(&mut self, length: usize, what: &'static str) -> Result<u64, ProtocolError> {
        if length > 8 {
            return Err(self.malformed(what));
        }
        let bytes = self.bytes(length, what)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    /// A length of `length` bytes, at most 4.
    #[inline]
    pub fn length(&mut self, length: usize, what: &'static str) -> Result<usize, ProtocolError> {
        let value = self.integer(length, what)?;
        usize::try_from(value).map_err(|_| self.malformed(what))
    }

    /// A length-encoded integer: one byte below 251, else as many as the first says.
    pub fn packed(&mut self, what: &'static str) -> Result<u64, ProtocolError> {
        match self.u8(what)? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.integer(2, what),
            253 => self.integer(3, what),
            254 => self.u64(what),
            251 | 255 => Err(self.malformed(what)),
        }
    }

    /// A length-encoded integer that is a count or a length.
    pub fn packed_length(&mut self, what: &'static str) -> Result<usize, ProtocolError> {
        let value = self.packed(what)?;
        usize::try_from(value).map_err(|_| self.malformed(what))
    }

    /// An integer of the server's serialization library: the first byte's trailing ones say how many bytes follow it.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, ProtocolError> {
        let first = self.u8(what)?;
        let more = first.trailing_ones() as usize;
        let tail = self.integer(more, what)?;
        let high = if more < 8 { tail << (7 - more) } else { tail };
        Ok(high | (u64::from(first) >> (more + 1)))
    }

    /// A signed integer of the server's serialization library: the sign is the lowest bit.
    pub fn signed_varint(&mut self, what: &'static str) -> Result<i64, ProtocolError> {
        let value = self.varint(what)?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// The next `length` bytes as UTF-8.
    pub fn text(&mut self, length: usize, what: &'static str) -> Result<&'a str, ProtocolError> {
        let bytes = self.bytes(length, what)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed(what))
    }

    /// All that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Succeeds when nothing is left.
    pub fn finish(&self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("bytes after the last field"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> FieldReader<'_> {
        FieldReader::new("TEST", bytes)
    }

    #[test]
    fn packed_integers_have_four_lengths() {
        for (bytes, value) in [
            (&[250][..], 250),
            (&[252, 1, 2], 0x0201),
            (&[253, 1, 2, 3], 0x03_0201),
            (&[254, 1, 2, 3, 4, 5, 6, 7, 8], 0x0807_0605_0403_0201),
        ] {
            let mut fields = reader(bytes);
            assert_eq!(fields.packed("value"), Ok(value));
            fields.finish().unwrap();
            assert!(reader(&bytes[..bytes.len() - 1]).packed("value").is_err());
        }
        assert!(reader(&[251]).packed("value").is_err() && reader(&[255]).packed("value").is_err());
    }

    #[test]
    fn integers_of_the_serialization_library() {
        for (bytes, value) in [
            (&[0x72][..], 57),
            (&[0x91, 0x02], 0xa4),
            (&[0x83, 0x12, 0x0b], 90_704),
            (&[0x7f, 0xca, 0x78, 0x24, 0xc3, 0x1d, 0x61, 0x06], 0x06_611d_c324_78ca),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], u64::MAX),
        ] {
            let mut fields = reader(bytes);
            assert_eq!(fields.varint("value"), Ok(value), "{bytes:x?}");
            fields.finish().unwrap();
        }
        assert_eq!(reader(&[0x08]).signed_varint("value"), Ok(2));
        assert_eq!(reader(&[0x02]).signed_varint("value"), Ok(-1));
    }
}
