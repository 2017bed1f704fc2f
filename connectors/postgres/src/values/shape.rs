// SPDX-License-Identifier: Apache-2.0
//! Shapes of a plane or the globe: `point`, and PostGIS' `geometry` and `geography`.

use super::cursor::Cursor;
use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

/// The type of a point in well-known binary.
const WKB_POINT: u32 = 1;
/// Set in the type of well-known binary that brings its reference system.
const WKB_HAS_SRID: u32 = 0x2000_0000;

/// `point`.
#[derive(Debug)]
pub struct Point;

impl ColumnDecoder for Point {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut cursor = Cursor::new(bytes);
        let (Some(x), Some(y), Some(())) = (cursor.f64(), cursor.f64(), cursor.finish()) else {
            return Err(ValueError::new("point is not 16 bytes long"));
        };
        out.begin(4);
        out.next();
        out.double(x);
        out.next();
        out.double(y);
        out.next();
        out.bytes(&well_known_point(x, y));
        out.next();
        out.null();
        out.end();
        Ok(())
    }
}

/// Little-endian, as nearly everybody writes it.
fn well_known_point(x: f64, y: f64) -> [u8; 21] {
    let mut wkb = [0; 21];
    let parts = [1_u8]
        .into_iter()
        .chain(WKB_POINT.to_le_bytes())
        .chain(x.to_le_bytes())
        .chain(y.to_le_bytes());
    for (place, byte) in wkb.iter_mut().zip(parts) {
        *place = byte;
    }
    wkb
}

/// `geometry` and `geography`: extended well-known binary, which is handed on as it is, and the reference system in it.
#[derive(Debug)]
pub struct Geometry;

impl ColumnDecoder for Geometry {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let srid = reference_system(bytes).ok_or(ValueError::new("shape is not well-known binary"))?;
        out.begin(2);
        out.next();
        out.bytes(bytes);
        out.next();
        match srid {
            Some(srid) => out.int(srid),
            None => out.null(),
        }
        out.end();
        Ok(())
    }
}

fn reference_system(wkb: &[u8]) -> Option<Option<i32>> {
    let mut cursor = Cursor::new(wkb);
    let number: fn([u8; 4]) -> u32 = match cursor.u8()? {
        0 => u32::from_be_bytes,
        1 => u32::from_le_bytes,
        _ => return None,
    };
    if number(cursor.array()?) & WKB_HAS_SRID == 0 {
        return Some(None);
    }
    Some(Some(number(cursor.array()?) as i32))
}
