// SPDX-License-Identifier: Apache-2.0
//! Numbers and byte strings as the store's files hold them: numbers in base 128, low digits first.

/// Appends a number.
pub(super) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends a byte string with its length.
pub(super) fn put_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    put_number(bytes, part.len() as u64);
    bytes.extend_from_slice(part);
}

/// Appends a byte string that may be missing: its length plus one, or 0.
pub(super) fn put_optional(bytes: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => bytes.push(0),
        Some(part) => {
            put_number(bytes, part.len() as u64 + 1);
            bytes.extend_from_slice(part);
        }
    }
}

/// Takes apart what the functions above wrote. Every method gives `None` where the bytes do not hold what is asked for.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn octet(&mut self) -> Option<u8> {
        let octet = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(octet)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            let digit = u64::from(octet & 0x7f);
            if shift == 63 && digit > 1 {
                return None;
            }
            number |= digit << shift;
            if octet < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn number_u32(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let fixed = *self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(fixed)
    }

    fn range(&mut self, length: u64) -> Option<std::ops::Range<usize>> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        if end > self.bytes.len() {
            return None;
        }
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    /// Where a byte string lies.
    pub(super) fn bytes_range(&mut self) -> Option<std::ops::Range<usize>> {
        let length = self.number()?;
        self.range(length)
    }

    /// Where a byte string that may be missing lies.
    pub(super) fn optional_range(&mut self) -> Option<Option<std::ops::Range<usize>>> {
        match self.number()? {
            0 => Some(None),
            length => self.range(length - 1).map(Some),
        }
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let range = self.bytes_range()?;
        self.bytes.get(range)
    }

    pub(super) fn optional(&mut self) -> Option<Option<&'a [u8]>> {
        match self.optional_range()? {
            None => Some(None),
            Some(range) => self.bytes.get(range).map(Some),
        }
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_byte_strings_come_back_and_cuts_are_noticed() {
        let mut bytes = Vec::new();
        for number in [0, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            put_number(&mut bytes, number);
        }
        put_bytes(&mut bytes, b"abc");
        put_optional(&mut bytes, None);
        put_optional(&mut bytes, Some(b""));
        let mut cursor = Cursor::new(&bytes);
        for number in [0, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(cursor.number(), Some(number));
        }
        assert_eq!(cursor.bytes(), Some(b"abc".as_slice()));
        assert_eq!(cursor.optional(), Some(None));
        assert_eq!(cursor.optional(), Some(Some(b"".as_slice())));
        assert!(cursor.is_at_end() && cursor.octet().is_none());
        assert_eq!(Cursor::new(&[0xff; 10]).number(), None);
        assert_eq!(Cursor::new(&[5, b'x']).bytes(), None);
    }
}
