// SPDX-License-Identifier: Apache-2.0
//! The rows of a query: RowDescription and DataRow.

use super::pgoutput::COLUMNS_MAX;
use super::{FieldReader, ProtocolError};
use highwater_core::image::Cell;

/// One column of a query's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDescription {
    /// Name.
    pub name: String,
    /// The object id of the table that it is a column of, 0 for an expression.
    pub table_oid: u32,
    /// Its number in that table.
    pub column: u16,
    /// The type's object id.
    pub type_oid: u32,
    /// The type modifier, -1 for none.
    pub type_modifier: i32,
    /// Whether values come in the binary format.
    pub binary: bool,
}

/// Parses the body of a RowDescription.
pub fn parse_row_description(body: &[u8]) -> Result<Vec<FieldDescription>, ProtocolError> {
    let mut reader = FieldReader::new("RowDescription", body);
    let count = column_count(&mut reader)?;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.c_str("field name")?.to_owned();
        let table_oid = reader.u32("table of a field")?;
        let column = reader.u16("column of a field")?;
        let type_oid = reader.u32("type of a field")?;
        reader.u16("type size of a field")?;
        let type_modifier = reader.i32("type modifier of a field")?;
        let binary = reader.u16("format of a field")? == 1;
        fields.push(FieldDescription {
            name,
            table_oid,
            column,
            type_oid,
            type_modifier,
            binary,
        });
    }
    reader.finish()?;
    Ok(fields)
}

/// Parses the body of a DataRow into cells, in one pass with one allocation. `body_start` is where the body lies in the
/// block that the row image is going to share.
#[inline]
pub fn parse_data_row(body: &[u8], body_start: usize) -> Result<Box<[Cell]>, ProtocolError> {
    let mut reader = FieldReader::new("DataRow", body);
    let count = column_count(&mut reader)?;
    let mut cells = Vec::with_capacity(count);
    for _ in 0..count {
        let length = reader.i32("value length")?;
        cells.push(match u32::try_from(length) {
            Ok(length) => {
                let start =
                    u32::try_from(body_start + reader.offset()).map_err(|_| reader.malformed("row past 4 GiB"))?;
                reader.bytes(length as usize, "value")?;
                Cell::value(start, length)
            }
            Err(_) if length == -1 => Cell::NULL,
            Err(_) => return Err(reader.malformed("negative value length")),
        });
    }
    reader.finish()?;
    Ok(cells.into_boxed_slice())
}

/// Parses the body of a DataRow whose values are text.
pub fn parse_text_row(body: &[u8]) -> Result<Vec<Option<String>>, ProtocolError> {
    let mut reader = FieldReader::new("DataRow", body);
    let count = column_count(&mut reader)?;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let length = reader.i32("value length")?;
        values.push(match usize::try_from(length) {
            Ok(length) => {
                let text = std::str::from_utf8(reader.bytes(length, "value")?);
                Some(text.map_err(|_| reader.malformed("text that is not UTF-8"))?.to_owned())
            }
            Err(_) => None,
        });
    }
    reader.finish()?;
    Ok(values)
}

fn column_count(reader: &mut FieldReader<'_>) -> Result<usize, ProtocolError> {
    let count = usize::from(reader.u16("column count")?);
    if count > COLUMNS_MAX {
        Err(reader.malformed("column count above the server's limit"))
    } else {
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use highwater_core::image::{CellRef, RowImage};
    use proptest::prelude::*;

    const ROW: &[u8] = b"\0\x03\0\0\0\x02hi\xFF\xFF\xFF\xFF\0\0\0\0";

    #[test]
    fn a_row_lies_where_the_block_has_it() {
        let block = [b"xxxxx".as_slice(), ROW].concat();
        let cells = parse_data_row(ROW, 5).unwrap();
        let image = RowImage::new(Bytes::from(block), cells);
        let cells: Vec<_> = image.iter().collect();
        assert_eq!(cells, [CellRef::Value(b"hi"), CellRef::Null, CellRef::Value(b"")]);
    }

    #[test]
    fn a_cut_or_lengthened_row_is_malformed() {
        for length in 0..ROW.len() {
            assert!(parse_data_row(&ROW[..length], 0).is_err());
            assert!(parse_text_row(&ROW[..length]).is_err());
        }
        assert!(parse_data_row(&[ROW, b"x"].concat(), 0).is_err());
        assert!(parse_data_row(b"\0\x01\xFF\xFF\xFF\xFE", 0).is_err());
    }

    #[test]
    fn reads_the_description_of_a_result() {
        let body = b"\0\x01id\0\0\0\x40\x01\0\x01\0\0\0\x17\0\x04\xFF\xFF\xFF\xFF\0\x01";
        let expected = FieldDescription {
            name: "id".into(),
            table_oid: 0x4001,
            column: 1,
            type_oid: 23,
            type_modifier: -1,
            binary: true,
        };
        assert_eq!(parse_row_description(body).unwrap(), [expected]);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_data_row(&bytes, 7);
            let _ = parse_text_row(&bytes);
            let _ = parse_row_description(&bytes);
        }
    }
}
