// SPDX-License-Identifier: Apache-2.0
//! XA transactions: XA_PREPARE, and the names of such transactions.

use std::fmt;

use super::{FieldReader, ProtocolError};

/// The longest part of a name, in bytes (`MAXGTRIDSIZE`, `MAXBQUALSIZE`).
const PART_BYTES_MAX: usize = 64;

/// The name of an XA transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct XaId {
    /// The number of the name's format.
    pub format: i32,
    /// The global part.
    pub global: Box<[u8]>,
    /// The branch.
    pub branch: Box<[u8]>,
}

impl XaId {
    /// Reads the form with lengths of 4 bytes.
    fn parse(fields: &mut FieldReader<'_>) -> Result<Self, ProtocolError> {
        let format = fields.u32("format of the XA name")?.cast_signed();
        let global = fields.length(4, "length of the XA name")?;
        let branch = fields.length(4, "length of the XA name")?;
        Self::of(fields, format, global, branch)
    }

    /// Reads the form with lengths of 1 byte.
    pub(super) fn parse_short(fields: &mut FieldReader<'_>) -> Result<Self, ProtocolError> {
        let format = fields.u32("format of the XA name")?.cast_signed();
        let global = fields.length(1, "length of the XA name")?;
        let branch = fields.length(1, "length of the XA name")?;
        Self::of(fields, format, global, branch)
    }

    fn of(fields: &mut FieldReader<'_>, format: i32, global: usize, branch: usize) -> Result<Self, ProtocolError> {
        if global > PART_BYTES_MAX || branch > PART_BYTES_MAX {
            return Err(fields.malformed("length of the XA name"));
        }
        Ok(Self {
            format,
            global: fields.bytes(global, "XA name")?.into(),
            branch: fields.bytes(branch, "XA name")?.into(),
        })
    }
}

impl fmt::Display for XaId {
    /// As the server writes it in `XA COMMIT …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X'")?;
        self.global.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "',X'")?;
        self.branch.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "',{}", self.format)
    }
}

/// The end of the changes of an XA transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XaPrepare {
    /// The transaction.
    pub id: XaId,
    /// Whether this commits it too (`XA COMMIT … ONE PHASE`).
    pub one_phase: bool,
}

impl XaPrepare {
    /// Reads the body.
    pub(super) fn parse(fields: &mut FieldReader<'_>) -> Result<Self, ProtocolError> {
        let one_phase = fields.u8("whether it is one phase")? != 0;
        let id = XaId::parse(fields)?;
        Ok(Self { id, one_phase })
    }
}
