// SPDX-License-Identifier: Apache-2.0
//! The messages of the `pgoutput` plug-in, protocol versions 1 to 4, with binary values. Those that frame transactions sent
//! in pieces or prepared are in [`super::stream_messages`] and [`super::two_phase_messages`].
//!
//! A tuple is decoded in one pass with one allocation, its cells: positions in the payload that it came in. Nothing is
//! copied; [`highwater_core::image::RowImage`] takes the payload as it lies in the read buffer, and the cells.

use super::stream_messages::{self, StreamAbort, StreamCommit, StreamStart};
use super::two_phase_messages::{self, CommitPrepared, Prepared, RollbackPrepared};
use super::{FieldReader, Lsn, ProtocolError};
use highwater_core::image::Cell;

/// The most columns a table can have (`MaxTupleAttributeNumber` in `src/include/access/htup_details.h`).
pub const COLUMNS_MAX: usize = 1664;

/// One pgoutput message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PgOutput<'a> {
    /// A transaction begins. Transactions come whole and in commit order.
    Begin(Begin),
    /// The transaction that began last is complete.
    Commit(Commit),
    /// The transaction was applied here by replication from another server.
    Origin {
        /// Commit position on the origin.
        commit_lsn: Lsn,
        /// The origin's name.
        name: &'a str,
    },
    /// A table's shape, ahead of the first row that has it.
    Relation(Relation),
    /// A type that is not built in, ahead of a relation that uses it.
    Type {
        /// The type's object id.
        oid: u32,
        /// Its schema; empty for `pg_catalog`.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A row came into being.
    Insert {
        /// The relation's object id.
        relation: u32,
        /// The row.
        new: Tuple,
    },
    /// A row changed.
    Update {
        /// The relation's object id.
        relation: u32,
        /// What is known of the row before.
        old: Option<OldTuple>,
        /// The row after.
        new: Tuple,
    },
    /// A row is gone.
    Delete {
        /// The relation's object id.
        relation: u32,
        /// What is known of the row before.
        old: OldTuple,
    },
    /// Tables were emptied.
    Truncate {
        /// `CASCADE` was given.
        cascade: bool,
        /// `RESTART IDENTITY` was given.
        restart_identity: bool,
        /// The relations' object ids.
        relations: Vec<u32>,
    },
    /// A message written with `pg_logical_emit_message`.
    Message(LogicalMessage<'a>),
    /// A piece of a transaction begins, which has not committed yet.
    StreamStart(StreamStart),
    /// The piece that began last ends.
    StreamStop,
    /// A transaction that came in pieces has committed.
    StreamCommit(StreamCommit),
    /// A transaction that came in pieces, or a part of it, was rolled back.
    StreamAbort(StreamAbort),
    /// The rows of a prepared transaction follow.
    BeginPrepare(Prepared<'a>),
    /// The rows of a prepared transaction are complete.
    Prepare(Prepared<'a>),
    /// A transaction that came in pieces was prepared.
    StreamPrepare(Prepared<'a>),
    /// A prepared transaction was committed.
    CommitPrepared(CommitPrepared<'a>),
    /// A prepared transaction was rolled back.
    RollbackPrepared(RollbackPrepared<'a>),
}

/// The beginning of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Where its commit record lies.
    pub final_lsn: Lsn,
    /// Its commit time, microseconds since 2000-01-01 00:00 UTC.
    pub commit_time_us: i64,
    /// The low 32 bits of its transaction id.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Where its commit record lies: equal to [`Begin::final_lsn`].
    pub commit_lsn: Lsn,
    /// Where its commit record ends: acknowledging this position acknowledges the transaction.
    pub end_lsn: Lsn,
    /// Its commit time, microseconds since 2000-01-01 00:00 UTC.
    pub commit_time_us: i64,
}

/// A table's shape as the publication shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Object id.
    pub oid: u32,
    /// Schema; `pg_catalog` where the message leaves it empty.
    pub schema: String,
    /// Name.
    pub name: String,
    /// How rows are identified.
    pub replica_identity: ReplicaIdentity,
    /// Published columns in the table's order.
    pub columns: Vec<RelationColumn>,
}

/// One column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub identity: bool,
    /// Name.
    pub name: String,
    /// The type's object id.
    pub type_oid: u32,
    /// The type modifier, -1 for none.
    pub type_modifier: i32,
}

/// How a table's rows are identified in its old tuples (`pg_class.relreplident`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaIdentity {
    /// By primary key.
    Default,
    /// Not at all.
    Nothing,
    /// By the whole row.
    Full,
    /// By a unique index.
    Index,
}

impl ReplicaIdentity {
    /// Reads the catalogue's letter.
    pub fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'd' => Some(Self::Default),
            b'n' => Some(Self::Nothing),
            b'f' => Some(Self::Full),
            b'i' => Some(Self::Index),
            _ => None,
        }
    }
}

/// The cells of one row, positions relative to the payload that was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    /// One cell a published column, in the order of the relation.
    pub cells: Box<[Cell]>,
    /// The columns that came as text: the server has no binary form of their types.
    pub text_columns: Vec<u16>,
}

/// What a change tells about the row before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldTuple {
    /// Whether it is the whole row (REPLICA IDENTITY FULL) or only the identity's columns, the others null.
    pub whole: bool,
    /// The row.
    pub tuple: Tuple,
}

/// A message of an application, or one of our watermarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// Where it lies in the log.
    pub lsn: Lsn,
    /// Who wrote it.
    pub prefix: &'a str,
    /// What was written.
    pub content: &'a [u8],
}

/// Decodes one pgoutput message that stands outside the pieces of transactions.
pub fn decode(payload: &[u8]) -> Result<PgOutput<'_>, ProtocolError> {
    let mut reader = FieldReader::new("pgoutput", payload);
    let tag = reader.u8("tag")?;
    let message = match tag {
        b'B' => begin(&mut reader),
        b'C' => commit(&mut reader),
        b'O' => origin(&mut reader),
        b'S' => stream_messages::stream_start(&mut reader),
        b'E' => Ok(PgOutput::StreamStop),
        b'c' => stream_messages::stream_commit(&mut reader),
        b'A' => stream_messages::stream_abort(&mut reader),
        b'b' => two_phase_messages::begin_prepare(&mut reader),
        b'P' => two_phase_messages::prepare(&mut reader),
        b'p' => two_phase_messages::stream_prepare(&mut reader),
        b'K' => two_phase_messages::commit_prepared(&mut reader),
        b'r' => two_phase_messages::rollback_prepared(&mut reader),
        tag => content(tag, &mut reader)?.ok_or(ProtocolError::Unsupported {
            tag,
            why: "unknown message; this server's pgoutput speaks a newer protocol than was asked for",
        }),
    }?;
    reader.finish()?;
    Ok(message)
}

/// Decodes one pgoutput message inside a piece of a transaction, and the id of the (sub-)transaction that made it. Cells
/// are positions in `payload`, as they are outside of pieces.
pub fn decode_in_piece(payload: &[u8]) -> Result<(u32, PgOutput<'_>), ProtocolError> {
    let mut reader = FieldReader::new("pgoutput", payload);
    let tag = reader.u8("tag")?;
    let xid = reader.u32("transaction id of a message in a piece")?;
    let message = content(tag, &mut reader)?.ok_or(ProtocolError::Unexpected {
        tag,
        state: "in a piece of a transaction",
    })?;
    reader.finish()?;
    Ok((xid, message))
}

/// What transactions consist of; `None` for another tag.
#[inline]
fn content<'a>(tag: u8, reader: &mut FieldReader<'a>) -> Result<Option<PgOutput<'a>>, ProtocolError> {
    let message = match tag {
        b'I' => insert(reader),
        b'U' => update(reader),
        b'D' => delete(reader),
        b'R' => relation(reader),
        b'Y' => type_name(reader),
        b'T' => truncate(reader),
        b'M' => logical_message(reader),
        _ => return Ok(None),
    };
    message.map(Some)
}

fn begin<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    Ok(PgOutput::Begin(Begin {
        final_lsn: Lsn(reader.u64("final position of a begin")?),
        commit_time_us: reader.i64("commit time of a begin")?,
        xid: reader.u32("transaction id of a begin")?,
    }))
}

fn commit<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    if reader.u8("flags of a commit")? != 0 {
        return Err(reader.malformed("unknown flags of a commit"));
    }
    Ok(PgOutput::Commit(Commit {
        commit_lsn: Lsn(reader.u64("position of a commit")?),
        end_lsn: Lsn(reader.u64("end position of a commit")?),
        commit_time_us: reader.i64("commit time of a commit")?,
    }))
}

fn origin<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    Ok(PgOutput::Origin {
        commit_lsn: Lsn(reader.u64("position of an origin")?),
        name: reader.c_str("name of an origin")?,
    })
}

fn type_name<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    Ok(PgOutput::Type {
        oid: reader.u32("object id of a type")?,
        schema: reader.c_str("schema of a type")?,
        name: reader.c_str("name of a type")?,
    })
}

fn relation<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    let oid = reader.u32("object id of a relation")?;
    let schema = match reader.c_str("schema of a relation")? {
        "" => "pg_catalog",
        schema => schema,
    };
    let name = reader.c_str("name of a relation")?;
    let letter = reader.u8("replica identity of a relation")?;
    let replica_identity =
        ReplicaIdentity::from_letter(letter).ok_or_else(|| reader.malformed("replica identity of a relation"))?;
    let count = column_count(reader)?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        columns.push(RelationColumn {
            identity: reader.u8("flags of a relation's column")? & 1 != 0,
            name: reader.c_str("name of a relation's column")?.to_owned(),
            type_oid: reader.u32("type of a relation's column")?,
            type_modifier: reader.i32("type modifier of a relation's column")?,
        });
    }
    Ok(PgOutput::Relation(Relation {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        replica_identity,
        columns,
    }))
}

fn insert<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    let relation = reader.u32("relation of an insert")?;
    if reader.u8("tuple kind of an insert")? != b'N' {
        return Err(reader.malformed("tuple kind of an insert"));
    }
    Ok(PgOutput::Insert {
        relation,
        new: tuple(reader)?,
    })
}

fn update<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    let relation = reader.u32("relation of an update")?;
    let mut kind = reader.u8("tuple kind of an update")?;
    let mut old = None;
    if matches!(kind, b'K' | b'O') {
        old = Some(OldTuple {
            whole: kind == b'O',
            tuple: tuple(reader)?,
        });
        kind = reader.u8("second tuple kind of an update")?;
    }
    if kind != b'N' {
        return Err(reader.malformed("tuple kind of an update"));
    }
    Ok(PgOutput::Update {
        relation,
        old,
        new: tuple(reader)?,
    })
}

fn delete<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    let relation = reader.u32("relation of a delete")?;
    let whole = match reader.u8("tuple kind of a delete")? {
        b'K' => false,
        b'O' => true,
        _ => return Err(reader.malformed("tuple kind of a delete")),
    };
    Ok(PgOutput::Delete {
        relation,
        old: OldTuple {
            whole,
            tuple: tuple(reader)?,
        },
    })
}

fn truncate<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    let count = reader.length("relation count of a truncate")?;
    let options = reader.u8("options of a truncate")?;
    if reader.rest().len() / 4 < count {
        return Err(reader.malformed("relation count of a truncate"));
    }
    let mut relations = Vec::with_capacity(count);
    for _ in 0..count {
        relations.push(reader.u32("relation of a truncate")?);
    }
    Ok(PgOutput::Truncate {
        cascade: options & 1 != 0,
        restart_identity: options & 2 != 0,
        relations,
    })
}

fn logical_message<'a>(reader: &mut FieldReader<'a>) -> Result<PgOutput<'a>, ProtocolError> {
    let transactional = reader.u8("flags of a logical message")? & 1 != 0;
    let lsn = Lsn(reader.u64("position of a logical message")?);
    let prefix = reader.c_str("prefix of a logical message")?;
    let length = reader.length("length of a logical message")?;
    let content = reader.bytes(length, "content of a logical message")?;
    Ok(PgOutput::Message(LogicalMessage {
        transactional,
        lsn,
        prefix,
        content,
    }))
}

fn column_count(reader: &mut FieldReader<'_>) -> Result<usize, ProtocolError> {
    let count = usize::from(reader.u16("column count")?);
    if count > COLUMNS_MAX {
        Err(reader.malformed("column count above the server's limit"))
    } else {
        Ok(count)
    }
}

#[inline]
fn tuple(reader: &mut FieldReader<'_>) -> Result<Tuple, ProtocolError> {
    let count = column_count(reader)?;
    let mut cells = Vec::with_capacity(count);
    let mut text_columns = Vec::new();
    for column in 0..count {
        let cell = match reader.u8("column kind of a tuple")? {
            b'n' => Cell::NULL,
            b'u' => Cell::UNCHANGED,
            b'b' => value(reader)?,
            b't' => {
                text_columns.extend(u16::try_from(column).ok());
                value(reader)?
            }
            _ => return Err(reader.malformed("column kind of a tuple")),
        };
        cells.push(cell);
    }
    Ok(Tuple {
        cells: cells.into_boxed_slice(),
        text_columns,
    })
}

#[inline]
fn value(reader: &mut FieldReader<'_>) -> Result<Cell, ProtocolError> {
    let length = reader.u32("value length of a tuple")?;
    if length > i32::MAX as u32 {
        return Err(reader.malformed("negative value length of a tuple"));
    }
    let start = u32::try_from(reader.offset()).map_err(|_| reader.malformed("tuple past 4 GiB"))?;
    reader.bytes(length as usize, "value of a tuple")?;
    Ok(Cell::value(start, length))
}

#[cfg(test)]
#[path = "pgoutput_tests.rs"]
mod tests;
