// SPDX-License-Identifier: Apache-2.0
//! Arrays as lists.

use super::array::Header;
use super::cursor::Cursor;
use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};
use std::sync::Arc;

const MALFORMED: ValueError = ValueError::new("array is malformed");

/// An array of one dimension that begins where arrays of its type do. What a list cannot hold is refused.
#[derive(Debug)]
pub struct List {
    /// The object id of the items' type.
    pub item_oid: u32,
    /// Reads an item.
    pub items: Arc<dyn ColumnDecoder>,
    /// Where arrays of this type begin: 1; those of `int2vector` and `oidvector` at 0.
    pub lower: i32,
}

impl ColumnDecoder for List {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut cursor = Cursor::new(bytes);
        let header = Header::parse(&mut cursor).ok_or(MALFORMED)?;
        if header.item_oid != self.item_oid {
            return Err(ValueError::new("array holds another type than its column's"));
        }
        match header.dimensions() {
            [] => {}
            [one] if one.lower == self.lower => {}
            [_] => {
                return Err(ValueError::new(
                    "array does not begin at index 1, which a list cannot tell; name its type in `values.as_text`",
                ));
            }
            _ => {
                return Err(ValueError::new(
                    "array has more than one dimension, which a list cannot hold; name its type in `values.as_text`",
                ));
            }
        }
        out.begin(header.items);
        for _ in 0..header.items {
            out.next();
            match cursor.value().ok_or(MALFORMED)? {
                Some(item) => self.items.decode(item, out)?,
                None => out.null(),
            }
        }
        cursor.finish().ok_or(MALFORMED)?;
        out.end();
        Ok(())
    }
}
