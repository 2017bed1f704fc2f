// SPDX-License-Identifier: Apache-2.0
//! `bit(n)` and `varbit`: a count of bits, then the bits, the first one highest.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

/// Bit strings of up to this many bytes are turned round without an allocation.
const STACK_BYTES: usize = 64;

fn split(bytes: &[u8]) -> Result<(usize, &[u8]), ValueError> {
    let malformed = ValueError::new("bit string is malformed");
    let (count, bits) = bytes.split_first_chunk::<4>().ok_or(malformed)?;
    let count = usize::try_from(i32::from_be_bytes(*count)).map_err(|_| malformed)?;
    if bits.len() == count.div_ceil(8) {
        Ok((count, bits))
    } else {
        Err(malformed)
    }
}

/// `bit(1)`, as a truth value.
#[derive(Debug)]
pub struct SingleBit;

impl ColumnDecoder for SingleBit {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        match split(bytes)? {
            (1, [byte]) => out.boolean(byte & 0x80 != 0),
            _ => return Err(ValueError::new("bit(1) does not hold 1 bit")),
        }
        Ok(())
    }
}

/// Longer bit strings, as the number that they are read as, least significant byte first.
#[derive(Debug)]
pub struct Bits;

impl ColumnDecoder for Bits {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let (count, bits) = split(bytes)?;
        let mut stack = [0_u8; STACK_BYTES];
        let mut heap = Vec::new();
        let turned = match stack.get_mut(..bits.len()) {
            Some(turned) => turned,
            None => {
                heap.resize(bits.len(), 0);
                heap.as_mut_slice()
            }
        };
        // The last byte is filled up with zeros behind: shift them out on the way.
        let spare = bits.len() * 8 - count;
        let mut higher = bits.iter().rev().skip(1);
        for (target, byte) in turned.iter_mut().zip(bits.iter().rev()) {
            let carried = higher.next().copied().unwrap_or(0);
            let pair = u16::from(carried) << 8 | u16::from(*byte);
            *target = (pair >> spare & 0xFF) as u8;
        }
        out.bytes(turned);
        Ok(())
    }
}
