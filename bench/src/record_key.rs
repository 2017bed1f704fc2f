// SPDX-License-Identifier: Apache-2.0
//! The id of a row, out of the key of its record, without a schema: the bench's tables have one key column, a bigint.

/// Bytes of the Confluent wire format ahead of the Avro body.
const HEADER_BYTES: usize = 5;

/// The id in a key: the wire format's header, then an Avro record of one long. `None` for anything else.
pub(crate) fn id_of(key: &[u8]) -> Option<u64> {
    let (header, body) = key.split_at_checked(HEADER_BYTES)?;
    if header.first() != Some(&0) {
        return None;
    }
    let mut zigzag = 0_u64;
    for (place, byte) in body.iter().enumerate().take(10) {
        zigzag |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let whole = place + 1 == body.len();
            return (whole && zigzag & 1 == 0).then_some(zigzag >> 1);
        }
    }
    None
}

/// The id in a key of JSON without a schema: `{"id":7}`. `None` for anything else.
pub(crate) fn id_of_json(key: &[u8]) -> Option<u64> {
    let digits = key.strip_prefix(b"{\"id\":")?.strip_suffix(b"}")?;
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// Which ids were seen, one bit each.
#[derive(Debug)]
pub(crate) struct SeenIds {
    words: Vec<u64>,
    distinct: u64,
}

impl SeenIds {
    /// Room for the ids up to and including `id_max`.
    pub(crate) fn new(id_max: u64) -> Self {
        Self {
            words: vec![0; id_max as usize / 64 + 1],
            distinct: 0,
        }
    }

    /// Notes an id. False when it is beyond the room.
    pub(crate) fn note(&mut self, id: u64) -> bool {
        let Some(word) = self.words.get_mut((id / 64) as usize) else {
            return false;
        };
        let bit = 1 << (id % 64);
        self.distinct += u64::from(*word & bit == 0);
        *word |= bit;
        true
    }

    /// How many different ids were noted.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_from_its_zigzag_varint() {
        assert_eq!(id_of(&[0, 0, 0, 0, 1, 2]), Some(1));
        assert_eq!(id_of(&[0, 0, 0, 0, 1, 0x80, 0x89, 0x7a]), Some(1_000_000));
    }

    #[test]
    fn what_is_no_key_of_one_positive_long_is_refused() {
        for bytes in [
            &b""[..],
            &[0, 0, 0, 0, 1],
            &[1, 0, 0, 0, 1, 2],
            &[0, 0, 0, 0, 1, 1],
            &[0, 0, 0, 0, 1, 2, 2],
        ] {
            assert_eq!(id_of(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn an_id_is_read_from_json() {
        assert_eq!(id_of_json(br#"{"id":1000000}"#), Some(1_000_000));
        for key in [
            &b""[..],
            br#"{"id":}"#,
            br#"{"id":-1}"#,
            br#"{"id":+1}"#,
            br#"{"id":1"#,
            br#"{"no":1}"#,
            br#"{"id":1,"b":2}"#,
        ] {
            assert_eq!(id_of_json(key), None, "{key:?}");
        }
    }

    #[test]
    fn an_id_seen_twice_counts_once_and_one_beyond_the_room_is_refused() {
        let mut seen = SeenIds::new(100);
        assert!(seen.note(100) && seen.note(100) && seen.note(0));
        assert_eq!(seen.distinct(), 2);
        assert!(!seen.note(128));
    }
}
