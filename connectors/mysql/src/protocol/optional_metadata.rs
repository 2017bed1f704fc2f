// SPDX-License-Identifier: Apache-2.0
//! What a TABLE_MAP says of columns beside their types (`binlog_row_metadata`): fields with kind and length, of which a
//! kind that is not known is passed over, as the servers do.

use super::column_type::ColumnType;
use super::table_map::TableColumns;
use super::{FieldReader, Flavor, ProtocolError};

/// What the server says of one column. Each is `None` where it is silent or the column is of another type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnMetadata {
    /// Its name. Only with FULL.
    pub name: Option<String>,
    /// Whether its numbers have no sign. Also with MINIMAL. Unknown for all columns of a table with a YEAR where the
    /// server's version does not tell how it counts ([`Flavor::counts_year`]).
    pub unsigned: Option<bool>,
    /// The number of its collation, 63 for bytes. Also with MINIMAL, for ENUM and SET only with FULL.
    pub collation: Option<u64>,
    /// The labels of an ENUM or SET, in the column's character set. Only with FULL.
    pub labels: Option<Vec<Box<[u8]>>>,
    /// Which shapes it holds: 0 for any, 1 points, 2 lines, 3 polygons, 4 to 6 several of these, 7 any several.
    pub geometry_type: Option<u64>,
    /// The most dimensions of a VECTOR.
    pub vector_dimensions: Option<u64>,
    /// Whether `SELECT *` shows it. MySQL from 8.0.23 on, only with FULL.
    pub visible: Option<bool>,
}

/// A column of the primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPart {
    /// Its place among the table's columns, from 0.
    pub column: usize,
    /// How many characters of it, 0 for all.
    pub prefix: u64,
}

/// Reads the fields to the end of the event into `table`.
pub(super) fn read(
    fields: &mut FieldReader<'_>,
    table: &mut TableColumns,
    flavor: Flavor,
) -> Result<(), ProtocolError> {
    while !fields.is_at_end() {
        let kind = fields.u8("kind of metadata")?;
        let length = fields.packed_length("length of metadata")?;
        read_field(kind, fields.part(length, "metadata")?, table, flavor)?;
    }
    Ok(())
}

fn read_field(
    kind: u8,
    mut value: FieldReader<'_>,
    table: &mut TableColumns,
    flavor: Flavor,
) -> Result<(), ProtocolError> {
    let value = &mut value;
    let character = |column_type: ColumnType| column_type.is_character(flavor);
    match kind {
        1 => read_signs(value, table, flavor)?,
        2 => read_default_collation(value, table, character)?,
        3 => read_numbers(value, table, character, |into, number| into.collation = Some(number))?,
        4 => read_names(value, table)?,
        5 => read_labels(value, table, is_set)?,
        6 => read_labels(value, table, is_enum)?,
        7 => read_numbers(value, table, is_geometry, |into, number| {
            into.geometry_type = Some(number)
        })?,
        8 => table.primary_key = Some(read_key(value, table.columns.len(), false)?),
        9 => table.primary_key = Some(read_key(value, table.columns.len(), true)?),
        10 => read_default_collation(value, table, has_labels)?,
        11 => read_numbers(value, table, has_labels, |into, number| into.collation = Some(number))?,
        12 => read_bits(value, table, |_| true, |into, bit| into.visible = Some(bit))?,
        13 => read_numbers(value, table, is_vector, |into, number| {
            into.vector_dimensions = Some(number)
        })?,
        _ => {
            value.take_rest();
        }
    }
    value.finish()
}

fn is_set(column_type: ColumnType) -> bool {
    matches!(column_type, ColumnType::Set { .. })
}

fn is_enum(column_type: ColumnType) -> bool {
    matches!(column_type, ColumnType::Enum { .. })
}

fn has_labels(column_type: ColumnType) -> bool {
    is_enum(column_type) || is_set(column_type)
}

fn is_geometry(column_type: ColumnType) -> bool {
    matches!(column_type, ColumnType::Geometry { .. })
}

fn is_vector(column_type: ColumnType) -> bool {
    matches!(column_type, ColumnType::Vector { .. })
}

/// What describes the columns of the chosen types, in their order.
fn chosen(table: &mut TableColumns, choose: impl Fn(ColumnType) -> bool) -> impl Iterator<Item = &mut ColumnMetadata> {
    let columns = table.columns.iter_mut();
    columns.filter_map(move |column| choose(column.column_type).then_some(&mut column.metadata))
}

/// A bit for each column of numbers. Where it is not known whether YEAR is one of them, nothing is known of any.
fn read_signs(value: &mut FieldReader<'_>, table: &mut TableColumns, flavor: Flavor) -> Result<(), ProtocolError> {
    let has_year = table
        .columns
        .iter()
        .any(|column| column.column_type == ColumnType::Year);
    let Some(counts_year) = flavor.counts_year().or((!has_year).then_some(false)) else {
        value.take_rest();
        return Ok(());
    };
    let is_numeric = |column_type: ColumnType| column_type.is_numeric(counts_year);
    read_bits(value, table, is_numeric, |into, bit| into.unsigned = Some(bit))
}

/// A bit for each column of the chosen types, the highest bit of a byte first.
fn read_bits(
    value: &mut FieldReader<'_>,
    table: &mut TableColumns,
    choose: impl Fn(ColumnType) -> bool,
    set: impl Fn(&mut ColumnMetadata, bool),
) -> Result<(), ProtocolError> {
    let mut byte = 0;
    for (place, column) in chosen(table, choose).enumerate() {
        if place % 8 == 0 {
            byte = value.u8("bit of a column")?;
        }
        set(column, byte & (0x80 >> (place % 8)) != 0);
    }
    Ok(())
}

/// A number for each column of the chosen types.
fn read_numbers(
    value: &mut FieldReader<'_>,
    table: &mut TableColumns,
    choose: impl Fn(ColumnType) -> bool,
    set: impl Fn(&mut ColumnMetadata, u64),
) -> Result<(), ProtocolError> {
    for column in chosen(table, choose) {
        set(column, value.packed("number of a column")?);
    }
    Ok(())
}

/// The collation of most columns of the chosen types, and of each other one its place among these and its own.
fn read_default_collation(
    value: &mut FieldReader<'_>,
    table: &mut TableColumns,
    choose: impl Fn(ColumnType) -> bool,
) -> Result<(), ProtocolError> {
    let most = value.packed("collation")?;
    let mut columns: Vec<_> = chosen(table, choose).collect();
    for column in &mut columns {
        column.collation = Some(most);
    }
    while !value.is_at_end() {
        let place = value.packed_length("place of a column")?;
        let own = value.packed("collation of a column")?;
        match columns.get_mut(place) {
            Some(column) => column.collation = Some(own),
            None => return Err(value.malformed("place of a column")),
        }
    }
    Ok(())
}

fn read_names(value: &mut FieldReader<'_>, table: &mut TableColumns) -> Result<(), ProtocolError> {
    for column in chosen(table, |_| true) {
        let length = value.packed_length("length of a column's name")?;
        column.name = Some(value.text(length, "column's name")?.to_owned());
    }
    Ok(())
}

/// The labels of each column of the chosen types.
fn read_labels(
    value: &mut FieldReader<'_>,
    table: &mut TableColumns,
    choose: impl Fn(ColumnType) -> bool,
) -> Result<(), ProtocolError> {
    for column in chosen(table, choose) {
        let mut labels = Vec::new();
        for _ in 0..value.packed("number of labels")? {
            let length = value.packed_length("length of a label")?;
            labels.push(value.bytes(length, "label")?.into());
        }
        column.labels = Some(labels);
    }
    Ok(())
}

fn read_key(value: &mut FieldReader<'_>, columns: usize, prefixed: bool) -> Result<Vec<KeyPart>, ProtocolError> {
    let mut parts = Vec::new();
    while !value.is_at_end() {
        let column = value.packed_length("column of the key")?;
        if column >= columns {
            return Err(value.malformed("column of the key"));
        }
        let prefix = if prefixed {
            value.packed("length of a key's part")?
        } else {
            0
        };
        parts.push(KeyPart { column, prefix });
    }
    Ok(parts)
}
