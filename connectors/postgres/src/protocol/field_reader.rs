// SPDX-License-Identifier: Apache-2.0
//! Reading the fields of one message in order, with bounds checked at every step.

use super::ProtocolError;

/// A cursor over the body of one message. Every read names the field, so that a failure says what was missing.
#[derive(Debug, Clone)]
pub struct FieldReader<'a> {
    message: &'static str,
    rest: &'a [u8],
    length: usize,
}

impl<'a> FieldReader<'a> {
    /// Reads `body`, the body of a message that the protocol's manual calls `message`.
    pub fn new(message: &'static str, body: &'a [u8]) -> Self {
        Self {
            message,
            rest: body,
            length: body.len(),
        }
    }

    /// How many bytes of the body have been read.
    pub fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The error that the field `what` is not what the protocol allows.
    pub fn malformed(&self, what: &'static str) -> ProtocolError {
        ProtocolError::malformed(self.message, what)
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

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ProtocolError> {
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
        self.array(what).map(u16::from_be_bytes)
    }

    /// A signed 32-bit integer.
    #[inline]
    pub fn i32(&mut self, what: &'static str) -> Result<i32, ProtocolError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// An unsigned 32-bit integer.
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, ProtocolError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// A signed 64-bit integer.
    #[inline]
    pub fn i64(&mut self, what: &'static str) -> Result<i64, ProtocolError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// An unsigned 64-bit integer.
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, ProtocolError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// A length of 32 bits that must not be negative.
    #[inline]
    pub fn length(&mut self, what: &'static str) -> Result<usize, ProtocolError> {
        let length = self.i32(what)?;
        usize::try_from(length).map_err(|_| self.malformed(what))
    }

    /// The bytes up to a zero byte, which is consumed.
    pub fn c_bytes(&mut self, what: &'static str) -> Result<&'a [u8], ProtocolError> {
        let end = self
            .rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or_else(|| self.malformed(what))?;
        let bytes = self.bytes(end, what)?;
        self.bytes(1, what)?;
        Ok(bytes)
    }

    /// A zero-terminated string in UTF-8 (the connection asks for `client_encoding` UTF8).
    pub fn c_str(&mut self, what: &'static str) -> Result<&'a str, ProtocolError> {
        let bytes = self.c_bytes(what)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed(what))
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
