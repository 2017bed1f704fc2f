// SPDX-License-Identifier: Apache-2.0
//! The smallest pieces of a checkpoint's bytes: numbers as LEB128, bytes and text with their length in front.

use bytes::Bytes;

use crate::dblog::window::Touch;
use crate::error::{Class, Error, ErrorKind, Result};
use crate::schema::{Key, TableName};

/// Appends pieces.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }

    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub(super) fn octets(&mut self, octets: &[u8]) {
        self.number(octets.len() as u64);
        self.0.extend_from_slice(octets);
    }

    pub(super) fn touch(&mut self, touch: Touch) {
        self.number(match touch {
            Touch::Partial => 0,
            Touch::Whole => 1,
            Touch::Moved => 2,
        });
    }

    pub(super) fn key(&mut self, key: &Key) {
        self.octets(key.as_bytes());
    }

    pub(super) fn table(&mut self, name: &TableName) {
        self.octets(name.schema.as_bytes());
        self.octets(name.table.as_bytes());
    }

    pub(super) fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn list<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.number(items.len() as u64);
        items.for_each(|item| write(self, item));
    }
}

/// Reads pieces back; never past the end, never a length that the bytes do not have.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// Fails unless everything was read.
    pub(super) fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(damaged("bytes are left over"))
        }
    }

    fn octet(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().ok_or_else(|| damaged("it ends early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(damaged("a number is too large"));
            }
            value |= bits << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number is too long"))
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        match self.octet()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(damaged("a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn touch(&mut self) -> Result<Touch> {
        match self.number()? {
            0 => Ok(Touch::Partial),
            1 => Ok(Touch::Whole),
            2 => Ok(Touch::Moved),
            _ => Err(damaged("a key was left in no known way")),
        }
    }

    pub(super) fn octets(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.number()?).map_err(|_| damaged("a length is too large"))?;
        let (octets, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| damaged("it ends early"))?;
        self.0 = rest;
        Ok(octets)
    }

    pub(super) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.octets()?.to_vec()).map_err(|_| damaged("a name is not UTF-8"))
    }

    pub(super) fn key(&mut self) -> Result<Key> {
        Ok(Key::from_bytes(Bytes::copy_from_slice(self.octets()?)))
    }

    pub(super) fn table(&mut self) -> Result<TableName> {
        Ok(TableName {
            schema: self.text()?,
            table: self.text()?,
        })
    }

    pub(super) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Every item takes at least one byte, so a list longer than the rest is damage and allocates nothing.
    pub(super) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let length = self.number()?;
        if length > self.0.len() as u64 {
            return Err(damaged("a list is longer than what is left"));
        }
        (0..length).map(|_| read(self)).collect()
    }
}

/// Reading the same bytes again does not help.
pub(super) fn damaged(what: &'static str) -> Error {
    Error::new(ErrorKind::CorruptMessage, format!("the checkpoint is damaged: {what}"))
        .with_class(Class::Fatal)
        .with_fix("restore the checkpoint topic, or start this connector under a new name")
}
