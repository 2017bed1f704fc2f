// SPDX-License-Identifier: Apache-2.0
//! Events beside statements that are logged as such (`binlog_format` STATEMENT and MIXED).

use bytes::Bytes;

use super::query::Query;
use super::{FieldReader, ProtocolError};

/// What EXECUTE_LOAD_QUERY has besides a QUERY: the file, where its name stands in the statement, how to treat duplicates.
const LOAD_FIELDS_BYTES: usize = 13;

/// A variable that a statement reads. What it holds is passed over: rows are never made from statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserVariable {
    /// Its name.
    pub name: String,
    /// Whether it is NULL.
    pub is_null: bool,
}

impl UserVariable {
    /// Reads USER_VAR.
    pub(super) fn parse(fields: &mut FieldReader<'_>) -> Result<Self, ProtocolError> {
        let length = fields.length(4, "length of the name")?;
        let name = String::from_utf8_lossy(fields.bytes(length, "name")?).into_owned();
        let is_null = fields.u8("whether it is NULL")? != 0;
        if !is_null {
            fields.u8("type of the value")?;
            fields.u32("collation of the value")?;
            let length = fields.length(4, "length of the value")?;
            fields.bytes(length, "value")?;
        }
        Ok(Self { name, is_null })
    }
}

/// Reads EXECUTE_LOAD_QUERY.
pub(super) fn parse_load_query(fields: &mut FieldReader<'_>, body: &Bytes) -> Result<Query, ProtocolError> {
    Query::parse_with(fields, body, LOAD_FIELDS_BYTES)
}
