// SPDX-License-Identifier: Apache-2.0
//! The pgoutput messages of protocol version 3 and up by which a slot with `two_phase` sends prepared transactions before
//! they are decided.
//!
//! ```text
//! Begin Prepare  rows...  Prepare            other transactions            Commit Prepared | Rollback Prepared
//! Stream Start  rows...  Stream Stop  ...  Stream Prepare   ...            Commit Prepared | Rollback Prepared
//! ```

use super::pgoutput::PgOutput;
use super::{FieldReader, Lsn, ProtocolError};

/// A transaction was prepared: a Begin Prepare ahead of its rows, a Prepare behind them, or a Stream Prepare behind the
/// pieces that it came in. All three have the same fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared<'a> {
    /// Where its prepare record lies. A slot that was acknowledged past it does not send the transaction again.
    pub prepare_lsn: Lsn,
    /// Where its prepare record ends.
    pub end_lsn: Lsn,
    /// When it was prepared, microseconds since 2000-01-01 00:00 UTC.
    pub prepare_time_us: i64,
    /// The low 32 bits of its transaction id.
    pub xid: u32,
    /// Its name, which the application gave.
    pub gid: &'a str,
}

/// A prepared transaction was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPrepared<'a> {
    /// Where the record of the decision lies.
    pub commit_lsn: Lsn,
    /// Where it ends: acknowledging this position acknowledges the transaction.
    pub end_lsn: Lsn,
    /// When it was decided, microseconds since 2000-01-01 00:00 UTC.
    pub commit_time_us: i64,
    /// The low 32 bits of its transaction id.
    pub xid: u32,
    /// Its name.
    pub gid: &'a str,
}

/// A prepared transaction was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollbackPrepared<'a> {
    /// Where its prepare record ends.
    pub prepare_end_lsn: Lsn,
    /// Where the record of the decision ends.
    pub end_lsn: Lsn,
    /// The low 32 bits of its transaction id.
    pub xid: u32,
    /// Its name.
    pub gid: &'a str,
}

pub(super) fn begin_prepare<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    prepared(reader).map(PgOutput::BeginPrepare)
}

pub(super) fn prepare<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    no_flags(reader, "flags of a prepare")?;
    prepared(reader).map(PgOutput::Prepare)
}

pub(super) fn stream_prepare<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    no_flags(reader, "flags of a stream prepare")?;
    prepared(reader).map(PgOutput::StreamPrepare)
}

pub(super) fn commit_prepared<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    no_flags(reader, "flags of a commit prepared")?;
    Ok(PgOutput::CommitPrepared(CommitPrepared {
        commit_lsn: Lsn(reader.u64("position of a commit prepared")?),
        end_lsn: Lsn(reader.u64("end position of a commit prepared")?),
        commit_time_us: reader.i64("time of a commit prepared")?,
        xid: reader.u32("transaction id of a commit prepared")?,
        gid: reader.c_str("name of a prepared transaction")?,
    }))
}

pub(super) fn rollback_prepared<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    no_flags(reader, "flags of a rollback prepared")?;
    let prepare_end_lsn = Lsn(reader.u64("end position of a prepare")?);
    let end_lsn = Lsn(reader.u64("end position of a rollback prepared")?);
    reader.i64("time of a prepare")?;
    reader.i64("time of a rollback prepared")?;
    Ok(PgOutput::RollbackPrepared(RollbackPrepared {
        prepare_end_lsn,
        end_lsn,
        xid: reader.u32("transaction id of a rollback prepared")?,
        gid: reader.c_str("name of a prepared transaction")?,
    }))
}

fn prepared<'a>(reader: &mut FieldReader<'a>) -> Result<Prepared<'a>, ProtocolError> {
    Ok(Prepared {
        prepare_lsn: Lsn(reader.u64("position of a prepare")?),
        end_lsn: Lsn(reader.u64("end position of a prepare")?),
        prepare_time_us: reader.i64("time of a prepare")?,
        xid: reader.u32("transaction id of a prepare")?,
        gid: reader.c_str("name of a prepared transaction")?,
    })
}

fn no_flags(reader: &mut FieldReader<'_>, what: &'static str) -> Result<(), ProtocolError> {
    if reader.u8(what)? == 0 {
        Ok(())
    } else {
        Err(reader.malformed(what))
    }
}
