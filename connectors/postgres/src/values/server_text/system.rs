// SPDX-License-Identifier: Apache-2.0
//! The server's own identifiers: places of rows, positions of the log, snapshots.

use crate::values::cursor::Cursor;
use std::fmt::Write;

/// `tid`: block and place in it.
pub(in crate::values) fn tid(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    write!(out, "({},{})", cursor.u32()?, cursor.u16()?).ok()
}

/// `pg_lsn`: both halves in hexadecimal digits, as servers before 19 write them. (19 fills up the second half with zeros.)
pub(in crate::values) fn lsn(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    write!(out, "{:X}/{:X}", cursor.u32()?, cursor.u32()?).ok()
}

/// `pg_snapshot` and `txid_snapshot`: `xmin:xmax:xip,...`.
pub(in crate::values) fn snapshot(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let count = usize::try_from(cursor.i32()?).ok()?;
    write!(out, "{}:{}:", cursor.u64()?, cursor.u64()?).ok()?;
    for place in 0..count {
        if place > 0 {
            out.push(',');
        }
        write!(out, "{}", cursor.u64()?).ok()?;
    }
    Some(())
}
