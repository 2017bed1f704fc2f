// SPDX-License-Identifier: Apache-2.0
//! Composite types as records.

use super::cursor::Cursor;
use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};
use std::sync::Arc;

const MALFORMED: ValueError = ValueError::new("composite value is malformed");

/// A composite type. Fields that a value lacks at its end are NULL, as the server shows them in rows that are older than
/// `ALTER TYPE … ADD ATTRIBUTE`.
#[derive(Debug)]
pub struct Record {
    /// Each field's type as its object id, and its decoder.
    pub fields: Vec<(u32, Arc<dyn ColumnDecoder>)>,
}

impl ColumnDecoder for Record {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut cursor = Cursor::new(bytes);
        let count = cursor.count(8).ok_or(MALFORMED)?;
        if count > self.fields.len() {
            return Err(ALTERED);
        }
        out.begin(self.fields.len());
        for (place, (oid, decoder)) in self.fields.iter().enumerate() {
            out.next();
            if place >= count {
                out.null();
                continue;
            }
            if cursor.u32().ok_or(MALFORMED)? != *oid {
                return Err(ALTERED);
            }
            match cursor.value().ok_or(MALFORMED)? {
                Some(field) => decoder.decode(field, out)?,
                None => out.null(),
            }
        }
        cursor.finish().ok_or(MALFORMED)?;
        out.end();
        Ok(())
    }
}

const ALTERED: ValueError =
    ValueError::new("composite value has other fields than its type; the type was altered since it was looked up");
