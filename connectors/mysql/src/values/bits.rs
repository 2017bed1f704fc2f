// SPDX-License-Identifier: Apache-2.0
//! BIT: big-endian in the log, the least significant byte first for readers.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

use super::fixed;

/// The most bytes that a column can have.
const BYTES_MAX: usize = 8;

/// BIT(1) as a truth value.
#[derive(Debug, Clone, Copy)]
pub struct OneBit;

impl ColumnDecoder for OneBit {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let [bit] = fixed(bytes, "bit is not 1 byte long")?;
        out.boolean(bit != 0);
        Ok(())
    }
}

/// BIT of more than one.
#[derive(Debug, Clone, Copy)]
pub struct Bits;

impl ColumnDecoder for Bits {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut reversed = [0; BYTES_MAX];
        let Some(reversed) = reversed.get_mut(..bytes.len()) else {
            return Err(ValueError::new("bits are longer than 8 bytes"));
        };
        reversed.copy_from_slice(bytes);
        reversed.reverse();
        out.bytes(reversed);
        Ok(())
    }
}
