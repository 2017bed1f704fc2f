// SPDX-License-Identifier: Apache-2.0
//! A checkpoint's stored form, the same in a Kafka topic and in the embedded store:
//! version (1 byte), length of the connector's name (2 bytes, big endian), the name, the checkpoint's own version
//! (4 bytes, big endian), its bytes.

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::{Class, Error, ErrorKind, Result};

const VERSION: u8 = 1;

/// Bytes to store.
pub(crate) fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>> {
    let name = checkpoint.connector.as_bytes();
    let length = u16::try_from(name.len())
        .map_err(|_| Error::bug("the connector's name in a checkpoint is longer than 65,535 bytes"))?;
    let mut bytes = Vec::with_capacity(7 + name.len() + checkpoint.bytes.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&checkpoint.version.to_be_bytes());
    bytes.extend_from_slice(&checkpoint.bytes);
    Ok(bytes)
}

/// The checkpoint in stored bytes. `place` names where they come from in the error.
pub(crate) fn decode(bytes: Bytes, place: &str) -> Result<Checkpoint> {
    let unreadable = |why: &str| {
        Error::new(ErrorKind::CorruptMessage, format!("the checkpoint in {place} cannot be read: {why}"))
            .with_class(Class::User)
            .with_fix("if a newer Highwater wrote it, run that one; otherwise restore the checkpoint or start over with a new name")
    };
    match bytes.first() {
        Some(&VERSION) => {}
        Some(other) => {
            return Err(unreadable(&format!(
                "its form has version {other}, this program knows {VERSION}"
            )));
        }
        None => return Err(unreadable("it is empty")),
    }
    let fields = || {
        let length = usize::from(u16::from_be_bytes(*bytes.get(1..)?.first_chunk::<2>()?));
        let name = std::str::from_utf8(bytes.get(3..3 + length)?).ok()?;
        let version = u32::from_be_bytes(*bytes.get(3 + length..)?.first_chunk::<4>()?);
        Some(Checkpoint {
            connector: name.to_owned(),
            version,
            bytes: bytes.slice(7 + length..),
        })
    };
    fields().ok_or_else(|| unreadable("it is cut short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        Checkpoint {
            connector: "postgres".to_owned(),
            version: 3,
            bytes: Bytes::from_static(b"\x00state"),
        }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let stored = encode(&sample()).unwrap();
        assert_eq!(decode(stored.into(), "a test").unwrap(), sample());
    }

    #[test]
    fn bytes_cut_short_or_of_another_form_are_refused_and_never_panic() {
        let stored = encode(&sample()).unwrap();
        for length in 0..stored.len() - 6 {
            assert!(decode(stored[..length].to_vec().into(), "a test").is_err());
        }
        let newer = [vec![2], stored[1..].to_vec()].concat();
        let refused = decode(newer.into(), "topic \"x\"").unwrap_err();
        assert!(
            refused.to_string().contains("topic \"x\"") && refused.to_string().contains("version 2"),
            "{refused}"
        );
    }
}
