// SPDX-License-Identifier: Apache-2.0
//! Shapes: the number of a reference system, and well-known binary. The number 0, which stands for none, is NULL.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

/// A point in well-known binary, little-endian as the server keeps all shapes: byte order and type come first.
const WKB_POINT: [u8; 5] = [1, 1, 0, 0, 0];

/// All shapes but those of [`Point`] columns.
#[derive(Debug, Clone, Copy)]
pub struct Geometry;

impl ColumnDecoder for Geometry {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let (srid, wkb) = split(bytes)?;
        out.begin(2);
        out.next();
        out.bytes(wkb);
        out.next();
        write_srid(srid, out);
        out.end();
        Ok(())
    }
}

/// POINT.
#[derive(Debug, Clone, Copy)]
pub struct Point;

impl ColumnDecoder for Point {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let (srid, wkb) = split(bytes)?;
        let places = wkb.strip_prefix(&WKB_POINT).map(<[u8]>::as_chunks::<8>);
        let Some(([x, y], [])) = places else {
            return Err(ValueError::new("point is malformed"));
        };
        out.begin(4);
        out.next();
        out.double(f64::from_le_bytes(*x));
        out.next();
        out.double(f64::from_le_bytes(*y));
        out.next();
        out.bytes(wkb);
        out.next();
        write_srid(srid, out);
        out.end();
        Ok(())
    }
}

/// The number of the reference system, and well-known binary with its byte order and type at least.
fn split(bytes: &[u8]) -> Result<(i32, &[u8]), ValueError> {
    let shape = bytes
        .split_first_chunk()
        .filter(|(_, wkb)| wkb.len() >= WKB_POINT.len());
    let (srid, wkb) = shape.ok_or(ValueError::new("shape is malformed"))?;
    Ok((i32::from_le_bytes(*srid), wkb))
}

fn write_srid(srid: i32, out: &mut dyn ValueWriter) {
    match srid {
        0 => out.null(),
        srid => out.int(srid),
    }
}
