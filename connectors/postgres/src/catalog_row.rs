// SPDX-License-Identifier: Apache-2.0
//! Rows of the catalogue, read alike whichever connection brought them: tokio-postgres, or a chunk's own session, whose
//! snapshot the catalogue has to be read in.

use crate::failure::protocol_error;
use crate::protocol::ProtocolError;
use crate::protocol::data_row::{FieldDescription, parse_data_row};
use crate::protocol::pgoutput::ReplicaIdentity;
use bytes::Bytes;
use highwater_core::image::{CellRef, RowImage};
use highwater_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio_postgres::types::{FromSql, ToSql, Type, accepts};

/// A statement's parameter with the type that it is sent as.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Reading the columns of a row.
pub trait CatalogRow {
    /// The value of a column, from 0. One of another type, or NULL where `T` is no `Option`, is an error.
    fn column<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T>;

    /// A truth value; NULL reads as false.
    fn flag(&self, column: usize) -> Result<bool> {
        Ok(self.column::<Option<bool>>(column)?.unwrap_or_default())
    }
}

impl CatalogRow for tokio_postgres::Row {
    fn column<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T> {
        self.try_get(column).map_err(|_| unreadable(column))
    }
}

/// A row of our own connection, its values in the binary format.
#[derive(Debug)]
pub(crate) struct BinaryRow {
    types: Arc<[Type]>,
    values: RowImage,
}

impl BinaryRow {
    /// Reads the body of a DataRow.
    pub(crate) fn parse(types: &Arc<[Type]>, body: Bytes, what: &str) -> Result<Self> {
        let cells = parse_data_row(&body, 0).map_err(|error| protocol_error(error, what))?;
        Ok(Self {
            types: types.clone(),
            values: RowImage::new(body, cells),
        })
    }
}

impl CatalogRow for BinaryRow {
    fn column<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T> {
        let of = self.types.get(column).filter(|of| T::accepts(of));
        let of = of.ok_or_else(|| unreadable(column))?;
        let value = match self.values.cell(column) {
            CellRef::Value(bytes) => T::from_sql(of, bytes),
            CellRef::Null => T::from_sql_null(of),
            CellRef::Absent | CellRef::Unchanged => return Err(unreadable(column)),
        };
        value.map_err(|_| unreadable(column))
    }
}

/// The types of a result's columns. The catalogue's own are built in.
pub(crate) fn column_types(fields: &[FieldDescription]) -> Result<Arc<[Type]>, ProtocolError> {
    let built_in = |field: &FieldDescription| {
        Type::from_oid(field.type_oid).filter(|_| field.binary).ok_or_else(|| {
            ProtocolError::malformed(
                "RowDescription",
                "column of a catalogue query in another type or format",
            )
        })
    };
    fields.iter().map(built_in).collect()
}

/// A transaction id of 64 bits, as `pg_current_snapshot()` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FullXid(pub(crate) u64);

impl<'a> FromSql<'a> for FullXid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(u64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID8);
}

/// A value of the catalogue's type `"char"`: one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Letter(pub(crate) u8);

impl<'a> FromSql<'a> for Letter {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let [letter] = raw.try_into()?;
        Ok(Self(letter))
    }

    accepts!(CHAR);
}

impl<'a> FromSql<'a> for ReplicaIdentity {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let Letter(letter) = Letter::from_sql(of, raw)?;
        Self::from_letter(letter).ok_or_else(|| "unknown replica identity in pg_class".into())
    }

    accepts!(CHAR);
}

/// The one row of a query that always has one.
pub(crate) fn only_row<R>(rows: Vec<R>, what: &str) -> Result<R> {
    rows.into_iter()
        .next()
        .ok_or_else(|| Error::new(ErrorKind::CorruptMessage, format!("{what}: the server sent no row")))
}

/// The value itself is not told: it may be anything.
fn unreadable(column: usize) -> Error {
    let what = format!("column {} of a catalogue query is not what was asked for", column + 1);
    Error::new(ErrorKind::CorruptMessage, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Lsn;
    use proptest::prelude::*;

    fn row(types: &[Type], body: &[u8]) -> Result<BinaryRow> {
        BinaryRow::parse(&Arc::from(types), Bytes::copy_from_slice(body), "reading")
    }

    #[test]
    fn values_are_read_by_their_types_and_by_no_other() {
        let types = [Type::OID, Type::NAME, Type::CHAR, Type::TEXT, Type::BOOL];
        let body = b"\0\x05\0\0\0\x04\0\0\0\x07\0\0\0\x02id\0\0\0\x01f\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF";
        let row = row(&types, body).unwrap();
        assert_eq!(row.column::<u32>(0).unwrap(), 7);
        assert_eq!(row.column::<&str>(1).unwrap(), "id");
        assert_eq!(row.column::<ReplicaIdentity>(2).unwrap(), ReplicaIdentity::Full);
        assert_eq!(row.column::<Option<String>>(3).unwrap(), None);
        assert!(!row.flag(4).unwrap());
        assert!(row.column::<i64>(0).is_err(), "another type");
        assert!(row.column::<String>(3).is_err(), "NULL");
        assert!(row.column::<u32>(5).is_err(), "past the end");
    }

    #[test]
    fn ids_and_positions_of_the_wrong_length_are_errors() {
        let types = [Type::XID8, Type::PG_LSN, Type::CHAR];
        let eight = b"\0\x02\0\0\0\x08\0\0\0\x01\0\0\0\x02\0\0\0\x08\0\0\0\x01\0\0\0\x02";
        let whole = row(&types, eight).unwrap();
        assert_eq!(whole.column::<FullXid>(0).unwrap(), FullXid((1 << 32) + 2));
        assert_eq!(whole.column::<Lsn>(1).unwrap(), Lsn((1 << 32) + 2));
        let cut = row(&types, b"\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0\x01z").unwrap();
        assert!(cut.column::<FullXid>(0).is_err());
        assert!(cut.column::<Lsn>(1).is_err());
        assert!(cut.column::<ReplicaIdentity>(2).is_err(), "an unknown letter");
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let types = [Type::OID, Type::NAME_ARRAY, Type::XID8];
            if let Ok(row) = row(&types, &bytes) {
                let _ = (row.column::<u32>(0), row.column::<Vec<String>>(1), row.column::<FullXid>(2));
            }
        }
    }
}
