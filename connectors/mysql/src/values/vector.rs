// SPDX-License-Identifier: Apache-2.0
//! VECTOR: single-precision numbers, little-endian.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

/// VECTOR.
#[derive(Debug, Clone, Copy)]
pub struct Vector;

impl ColumnDecoder for Vector {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let (numbers, []) = bytes.as_chunks::<4>() else {
            return Err(ValueError::new("vector is malformed"));
        };
        out.begin(numbers.len());
        for number in numbers {
            out.next();
            out.float(f32::from_le_bytes(*number));
        }
        out.end();
        Ok(())
    }
}
