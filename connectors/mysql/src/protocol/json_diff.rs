// SPDX-License-Identifier: Apache-2.0
//! What a PARTIAL_UPDATE_ROWS has in place of a JSON document: the differences to the one before.
//!
//! ```text
//! { operation:1  path length:packed  path  [ value length:packed  value ] }…
//!   0 replace, 1 insert, 2 remove (without a value)
//! ```

use std::fmt;

use super::{FieldReader, ProtocolError, ValueBytes};

const EVENT: &str = "PARTIAL_UPDATE_ROWS";
const REPLACE: u8 = 0;
const REMOVE: u8 = 2;

/// One difference. They are applied in order. A path is a JSON path of the server (`$.a[3]`), a value has the server's
/// binary form.
#[derive(Clone, PartialEq, Eq)]
pub enum JsonDiff<'a> {
    /// What lies at the path becomes the value.
    Replace {
        /// Where.
        path: &'a str,
        /// The value.
        value: &'a [u8],
    },
    /// The value comes to lie at the path: a new member of an object, or before what has the place in an array.
    Insert {
        /// Where.
        path: &'a str,
        /// The value.
        value: &'a [u8],
    },
    /// What lies at the path goes.
    Remove {
        /// Where.
        path: &'a str,
    },
}

impl fmt::Debug for JsonDiff<'_> {
    /// What is done, without where and with what: both are values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replace { value, .. } => write!(f, "Replace({} bytes)", value.len()),
            Self::Insert { value, .. } => write!(f, "Insert({} bytes)", value.len()),
            Self::Remove { .. } => f.write_str("Remove"),
        }
    }
}

/// The differences of one column, in the block that the row came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonDiffs {
    /// The column's place, from 0.
    pub column: usize,
    pub(super) bytes: ValueBytes,
}

impl JsonDiffs {
    /// Reads them. No difference means that the document is as before.
    pub fn parse(&self) -> Result<Vec<JsonDiff<'_>>, ProtocolError> {
        let mut fields = FieldReader::new(EVENT, &self.bytes);
        let mut diffs = Vec::new();
        while !fields.is_at_end() {
            diffs.push(read_diff(&mut fields)?);
        }
        Ok(diffs)
    }
}

fn read_diff<'a>(fields: &mut FieldReader<'a>) -> Result<JsonDiff<'a>, ProtocolError> {
    let operation = fields.u8("operation on a JSON document")?;
    if operation > REMOVE {
        return Err(fields.malformed("operation on a JSON document"));
    }
    let length = fields.packed_length("length of a JSON path")?;
    let path = fields.text(length, "JSON path")?;
    if operation == REMOVE {
        return Ok(JsonDiff::Remove { path });
    }
    let length = fields.packed_length("length of a JSON value")?;
    let value = fields.bytes(length, "JSON value")?;
    Ok(if operation == REPLACE {
        JsonDiff::Replace { path, value }
    } else {
        JsonDiff::Insert { path, value }
    })
}
