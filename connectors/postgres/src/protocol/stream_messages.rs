// SPDX-License-Identifier: Apache-2.0
//! The pgoutput messages of protocol version 2 and up that frame a transaction which is sent before it commits.
//!
//! ```text
//! Stream Start (first)  rows...  Stream Stop   other transactions, other pieces   Stream Start  rows...  Stream Stop
//!      ... Stream Abort of a sub-transaction ...   Stream Commit | Stream Abort | Stream Prepare
//! ```
//!
//! Inside a piece each row, relation, type and message bears the id of the (sub-)transaction that made it, behind its tag.

use super::pgoutput::PgOutput;
use super::{FieldReader, Lsn, ProtocolError};

/// A piece of a transaction begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStart {
    /// The low 32 bits of the top-level transaction's id.
    pub xid: u32,
    /// Whether it is the transaction's first piece.
    pub first: bool,
}

/// A transaction that came in pieces has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCommit {
    /// The low 32 bits of the top-level transaction's id.
    pub xid: u32,
    /// Where its commit record lies.
    pub commit_lsn: Lsn,
    /// Where its commit record ends.
    pub end_lsn: Lsn,
    /// Its commit time, microseconds since 2000-01-01 00:00 UTC.
    pub commit_time_us: i64,
}

/// A transaction that came in pieces, or a part of it, was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamAbort {
    /// The low 32 bits of the top-level transaction's id.
    pub xid: u32,
    /// The low 32 bits of the id of what was rolled back: the top-level transaction, or one below it.
    pub subxid: u32,
    /// Where its abort record lies and when it was written; with protocol version 4 and `streaming 'parallel'` only.
    pub at: Option<(Lsn, i64)>,
}

/// The ids that stand behind the tag of a message inside a piece.
pub fn xid_in_piece(payload: &[u8]) -> Option<u32> {
    let [_, a, b, c, d, ..] = payload else { return None };
    Some(u32::from_be_bytes([*a, *b, *c, *d]))
}

pub(super) fn stream_start<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    Ok(PgOutput::StreamStart(StreamStart {
        xid: reader.u32("transaction id of a stream start")?,
        first: reader.u8("first-piece flag of a stream start")? != 0,
    }))
}

pub(super) fn stream_commit<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    let xid = reader.u32("transaction id of a stream commit")?;
    if reader.u8("flags of a stream commit")? != 0 {
        return Err(reader.malformed("unknown flags of a stream commit"));
    }
    Ok(PgOutput::StreamCommit(StreamCommit {
        xid,
        commit_lsn: Lsn(reader.u64("position of a stream commit")?),
        end_lsn: Lsn(reader.u64("end position of a stream commit")?),
        commit_time_us: reader.i64("commit time of a stream commit")?,
    }))
}

pub(super) fn stream_abort<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    let xid = reader.u32("transaction id of a stream abort")?;
    let subxid = reader.u32("sub-transaction id of a stream abort")?;
    let at = if reader.rest().is_empty() {
        None
    } else {
        let lsn = Lsn(reader.u64("position of a stream abort")?);
        Some((lsn, reader.i64("time of a stream abort")?))
    };
    Ok(PgOutput::StreamAbort(StreamAbort { xid, subxid, at }))
}

#[cfg(test)]
#[path = "stream_messages_tests.rs"]
mod tests;
