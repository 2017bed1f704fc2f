// SPDX-License-Identifier: Apache-2.0
//! QUERY and MariaDB's QUERY_COMPRESSED: a statement and what it ran with.

use bytes::Bytes;

use super::compressed::inflate;
use super::{FieldReader, ProtocolError, ValueBytes};

/// Status variables up to the character sets, which the servers write in the order of their numbers.
const FLAGS: u8 = 0;
const SQL_MODE: u8 = 1;
const AUTO_INCREMENT: u8 = 3;
const CHARSET: u8 = 4;
const CATALOG: u8 = 6;

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The connection that ran it.
    pub thread: u32,
    /// The error that it ended with on the server that wrote it, 0 for none.
    pub error: u16,
    /// The database that was the default.
    pub database: String,
    /// The statement, in the client's character set.
    pub text: ValueBytes,
    /// The collation's number of `character_set_client`, where the event says it.
    pub client_charset: Option<u16>,
    /// `sql_mode`, where the event says it.
    pub sql_mode: Option<u64>,
}

/// What stands before the text.
struct Preamble {
    thread: u32,
    error: u16,
    database: String,
    client_charset: Option<u16>,
    sql_mode: Option<u64>,
}

impl Query {
    /// Reads QUERY.
    pub(super) fn parse(fields: &mut FieldReader<'_>, body: &Bytes) -> Result<Self, ProtocolError> {
        let preamble = Preamble::parse(fields, 0)?;
        let text = body.slice(fields.offset()..);
        Ok(preamble.with(text))
    }

    /// Reads QUERY_COMPRESSED.
    pub(super) fn parse_compressed(fields: &mut FieldReader<'_>, body: &Bytes) -> Result<Self, ProtocolError> {
        let preamble = Preamble::parse(fields, 0)?;
        let text = inflate("QUERY_COMPRESSED", &body.slice(fields.offset()..))?;
        Ok(preamble.with(text))
    }

    /// Reads a statement with `more` bytes of its own before the status variables.
    pub(super) fn parse_with(fields: &mut FieldReader<'_>, body: &Bytes, more: usize) -> Result<Self, ProtocolError> {
        let preamble = Preamble::parse(fields, more)?;
        let text = body.slice(fields.offset()..);
        Ok(preamble.with(text))
    }
}

impl Preamble {
    fn parse(fields: &mut FieldReader<'_>, more: usize) -> Result<Self, ProtocolError> {
        let thread = fields.u32("thread")?;
        fields.u32("duration")?;
        let database_length = usize::from(fields.u8("length of the database's name")?);
        let error = fields.u16("error")?;
        let status_length = usize::from(fields.u16("length of the status variables")?);
        fields.bytes(more, "what the kind of statement adds")?;
        let mut status = fields.part(status_length, "status variables")?;
        let (client_charset, sql_mode) = read_status(&mut status)?;
        let database = fields.text(database_length, "database's name")?.to_owned();
        fields.u8("end of the database's name")?;
        Ok(Self {
            thread,
            error,
            database,
            client_charset,
            sql_mode,
        })
    }

    fn with(self, text: Bytes) -> Query {
        Query {
            thread: self.thread,
            error: self.error,
            database: self.database,
            text: text.into(),
            client_charset: self.client_charset,
            sql_mode: self.sql_mode,
        }
    }
}

/// The client's character set and the mode. Reading ends at the first variable whose length is not known.
fn read_status(status: &mut FieldReader<'_>) -> Result<(Option<u16>, Option<u64>), ProtocolError> {
    let (mut charset, mut mode) = (None, None);
    while !status.is_at_end() {
        match status.u8("status variable")? {
            FLAGS => drop(status.u32("flags")?),
            SQL_MODE => mode = Some(status.u64("SQL mode")?),
            AUTO_INCREMENT => drop(status.u32("auto-increment step and offset")?),
            CATALOG => {
                let length = usize::from(status.u8("length of the catalog")?);
                status.bytes(length, "catalog")?;
            }
            CHARSET => {
                charset = Some(status.u16("character set of the client")?);
                status.u32("collations of connection and server")?;
            }
            _ => break,
        }
    }
    Ok((charset, mode))
}
