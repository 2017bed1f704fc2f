// SPDX-License-Identifier: Apache-2.0
//! HEARTBEAT and HEARTBEAT_V2: where the server is while it has nothing to send.

use super::{EventHeader, FieldReader, ProtocolError};

/// What each field of the second form is.
const FIELD_END: u64 = 0;
const FIELD_FILE: u64 = 1;
const FIELD_POSITION: u64 = 2;

/// Up to where the server has sent everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The file's name.
    pub file: String,
    /// The position in it. In the first form of MySQL its lower 32 bits.
    pub position: u64,
}

impl Heartbeat {
    /// Reads the first form, whose position is in the header; MariaDB puts one that does not fit there before the name.
    pub(super) fn parse(fields: &mut FieldReader<'_>, header: &EventHeader) -> Result<Self, ProtocolError> {
        let position = match header.end_position {
            0 => fields.u64("position")?,
            position => u64::from(position),
        };
        let length = fields.rest().len();
        let file = fields.text(length, "file name")?.to_owned();
        Ok(Self { file, position })
    }

    /// Reads the second form: fields with kind and length.
    pub(super) fn parse_v2(fields: &mut FieldReader<'_>) -> Result<Self, ProtocolError> {
        let (mut file, mut position) = (None, None);
        while !fields.is_at_end() {
            let kind = fields.packed("kind of a field")?;
            if kind == FIELD_END {
                break;
            }
            let length = fields.packed_length("length of a field")?;
            let mut value = fields.part(length, "field")?;
            match kind {
                FIELD_FILE => file = Some(value.text(length, "file name")?.to_owned()),
                FIELD_POSITION => position = Some(value.packed("position")?),
                _ => {}
            }
        }
        match (file, position) {
            (Some(file), Some(position)) => Ok(Self { file, position }),
            _ => Err(fields.malformed("no file name or no position")),
        }
    }
}
