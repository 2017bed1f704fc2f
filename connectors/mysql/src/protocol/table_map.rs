// SPDX-License-Identifier: Apache-2.0
//! TABLE_MAP: which table the next rows are of, and what its columns are.
//!
//! The name is read at once, the rest when it is asked for: a table that is not captured may have what cannot be read.

use bytes::Bytes;

use super::column_type::ColumnType;
use super::optional_metadata::{self, ColumnMetadata, KeyPart};
use super::{FieldReader, Flavor, ProtocolError};

const EVENT: &str = "TABLE_MAP";
/// The most columns a table can have (`MAX_FIELDS` of both servers).
pub const COLUMNS_MAX: usize = 4096;

/// Which table, by the number that the next rows have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMap {
    /// The number. It stands for this table up to the end of the statement.
    pub table_id: u64,
    /// The table's database.
    pub database: String,
    /// The table.
    pub table: String,
    /// What describes the columns.
    description: Bytes,
}

/// What a table's columns are at this point of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumns {
    /// The columns in their order in rows.
    pub columns: Vec<Column>,
    /// The primary key; `None` where the table has none or `binlog_row_metadata` is not FULL.
    pub primary_key: Option<Vec<KeyPart>>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its type.
    pub column_type: ColumnType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// What the server says of it besides.
    pub metadata: ColumnMetadata,
}

impl TableMap {
    /// Reads the number and the name.
    pub(super) fn parse(body: &Bytes) -> Result<Self, ProtocolError> {
        let mut fields = FieldReader::new(EVENT, body);
        let table_id = fields.integer(6, "number of the table")?;
        fields.u16("flags")?;
        let database = read_name(&mut fields)?;
        let table = read_name(&mut fields)?;
        Ok(Self {
            table_id,
            database,
            table,
            description: body.slice(fields.offset()..),
        })
    }

    /// Reads the columns of a log that a server of this `flavor` wrote.
    pub fn columns(&self, flavor: Flavor) -> Result<TableColumns, ProtocolError> {
        let mut fields = FieldReader::new(EVENT, &self.description);
        let count = fields.packed_length("number of columns")?;
        if count > COLUMNS_MAX {
            return Err(fields.malformed("number of columns"));
        }
        let codes = fields.bytes(count, "types of the columns")?;
        let length = fields.packed_length("length of what there is to the types")?;
        let types = self.read_types(codes, fields.part(length, "what there is to the types")?)?;
        let nullable = fields.bytes(count.div_ceil(8), "which columns may be NULL")?;
        let columns = types.into_iter().enumerate().map(|(place, column_type)| Column {
            column_type,
            nullable: bit(nullable, place),
            metadata: ColumnMetadata::default(),
        });
        let mut table = TableColumns {
            columns: columns.collect(),
            primary_key: None,
        };
        optional_metadata::read(&mut fields, &mut table, flavor)?;
        Ok(table)
    }

    fn read_types(&self, codes: &[u8], mut metadata: FieldReader<'_>) -> Result<Vec<ColumnType>, ProtocolError> {
        let mut types = Vec::with_capacity(codes.len());
        for (place, &code) in codes.iter().enumerate() {
            let column_type = ColumnType::read(code, &mut metadata)?;
            types.push(column_type.ok_or_else(|| ProtocolError::ColumnType {
                database: self.database.clone(),
                table: self.table.clone(),
                column: place + 1,
                code,
            })?);
        }
        metadata.finish()?;
        Ok(types)
    }
}

fn read_name(fields: &mut FieldReader<'_>) -> Result<String, ProtocolError> {
    let length = fields.packed_length("length of a name")?;
    let name = fields.text(length, "name")?.to_owned();
    fields.u8("end of a name")?;
    Ok(name)
}

/// Bit `place` of a bitmap, whose bytes have the lowest bit first.
#[inline]
pub(super) fn bit(bitmap: &[u8], place: usize) -> bool {
    bitmap.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
}
