// SPDX-License-Identifier: Apache-2.0
//! ENUM and SET: numbers in the log, labels for readers.

use std::sync::Arc;

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

/// The most bytes that a value has.
const BYTES_MAX: usize = 8;

/// A little-endian number.
fn number(bytes: &[u8]) -> Result<u64, ValueError> {
    if bytes.is_empty() || bytes.len() > BYTES_MAX {
        return Err(ValueError::new("enum or set is malformed"));
    }
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

/// ENUM: its label. 0, which the server keeps for a text that was none of them, is empty.
#[derive(Debug, Clone)]
pub struct Enum {
    /// The labels in their order.
    pub labels: Arc<[String]>,
}

impl ColumnDecoder for Enum {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let label = match usize::try_from(number(bytes)?) {
            Ok(0) => Some(""),
            Ok(place) => self.labels.get(place - 1).map(String::as_str),
            Err(_) => None,
        };
        out.string(label.ok_or(ValueError::new("enum has no such label"))?);
        Ok(())
    }
}

/// SET: its labels with commas between them, in their order.
#[derive(Debug, Clone)]
pub struct Set {
    /// The labels in their order, 64 at most.
    pub labels: Arc<[String]>,
}

impl ColumnDecoder for Set {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut bits = number(bytes)?;
        let mut text = String::new();
        for label in self.labels.iter() {
            if bits & 1 == 1 {
                if !text.is_empty() {
                    text.push(',');
                }
                text.push_str(label);
            }
            bits >>= 1;
        }
        if bits != 0 {
            return Err(ValueError::new("set has no such label"));
        }
        out.string(&text);
        Ok(())
    }
}
