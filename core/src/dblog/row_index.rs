// SPDX-License-Identifier: Apache-2.0
//! Which of a chunk's rows has a key (or, in a table without one, is such a row), without a copy of any row's key: only hashes are kept, and a hit is compared with
//! the row itself. A busy table has an index of every chunk, so a row's part must cost next to nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

use crate::image::{CellRef, RowImage};
use crate::schema::{Key, TableSchema};

/// Places of rows by the hashes of their keys.
#[derive(Debug, Default)]
pub(super) struct RowIndex {
    places: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    /// Rows whose hash another row has too: hardly ever any.
    others: Vec<u32>,
}

impl RowIndex {
    /// An index of all rows that have their key.
    pub(super) fn new(schema: &TableSchema, rows: &[RowImage]) -> Self {
        let mut index = RowIndex::default();
        index.places.reserve(rows.len());
        for (at, row) in (0_u32..).zip(rows) {
            let Some(hash) = hash_of_row(schema, row) else { continue };
            let first = *index.places.entry(hash).or_insert(at);
            if first != at {
                index.others.push(at);
            }
        }
        index
    }

    /// Takes out the row with this key: its place, if it was still here.
    pub(super) fn take(&mut self, key: &Key, schema: &TableSchema, rows: &[RowImage]) -> Option<usize> {
        let is_it = |at: u32| rows.get(at as usize).and_then(|row| schema.identity_of(row)).as_ref() == Some(key);
        let hash = hash_of_key(key);
        if let Some(&at) = self.places.get(&hash)
            && is_it(at)
        {
            self.places.remove(&hash);
            return Some(at as usize);
        }
        let other = self.others.iter().position(|&at| is_it(at))?;
        Some(self.others.swap_remove(other) as usize)
    }
}

/// The hash of the canonical bytes that [`TableSchema::identity_of`] would give.
fn hash_of_row(schema: &TableSchema, row: &RowImage) -> Option<u64> {
    if schema.key.is_empty() {
        return schema.whole_of(row).as_ref().map(hash_of_key);
    }
    let mut hasher = DefaultHasher::new();
    for &index in &schema.key {
        match row.cell(index) {
            CellRef::Value(value) => {
                hasher.write(&(value.len() as u32).to_be_bytes());
                hasher.write(value);
            }
            CellRef::Null => hasher.write(&u32::MAX.to_be_bytes()),
            CellRef::Absent | CellRef::Unchanged => return None,
        }
    }
    Some(hasher.finish())
}

/// The same of a key. Bytes are hashed as a stream: where they are cut does not matter.
fn hash_of_key(key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// Takes a hash for what it is.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, octets: &[u8]) {
        self.0 = octets.iter().fold(self.0, |hash, octet| hash << 8 | u64::from(*octet));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::schema::{Column, TableId, TableName};
    use crate::value::{ColumnDecoder, ValueError, ValueType, ValueWriter};

    #[derive(Debug)]
    struct Octets;

    impl ColumnDecoder for Octets {
        fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
            out.bytes(bytes);
            Ok(())
        }
    }

    fn schema() -> TableSchema {
        let column = |name: &str| Column {
            name: name.to_owned(),
            database_type: "bytea".to_owned(),
            value_type: ValueType::Bytes,
            nullable: true,
            decoder: Arc::new(Octets),
        };
        let columns = ["a", "b", "c"].map(column).to_vec();
        TableSchema::new(TableId(1), TableName::new("s", "t"), columns, vec![2, 0])
    }

    fn rows() -> impl Strategy<Value = Vec<RowImage>> {
        let cell = || prop::option::of(prop::collection::vec(0_u8..3, 0..3));
        let row = (cell(), cell(), cell()).prop_map(|(a, b, c)| RowImage::from_values(&[a, b, c]));
        prop::collection::vec(row, 0..40)
    }

    proptest! {
        #[test]
        fn a_row_hashes_as_its_key_does(rows in rows()) {
            let schema = schema();
            for row in &rows {
                prop_assert_eq!(hash_of_row(&schema, row), schema.key_of(row).map(|key| hash_of_key(&key)));
            }
        }

        #[test]
        fn each_row_is_found_once_by_its_key_also_among_rows_of_one_hash(mut rows in rows(), merged: bool) {
            let schema = schema();
            let mut seen = std::collections::HashSet::new();
            rows.retain(|row| schema.key_of(row).is_some_and(|key| seen.insert(key)));
            let mut index = RowIndex::new(&schema, &rows);
            if merged {
                // As if all rows but the first had the hash of another.
                index.others = (1..rows.len() as u32).collect();
                index.places.retain(|_, at| *at == 0);
            }
            for (at, row) in rows.iter().enumerate() {
                let key = schema.key_of(row).expect("a key");
                prop_assert_eq!(index.take(&key, &schema, &rows), Some(at));
                prop_assert_eq!(index.take(&key, &schema, &rows), None);
            }
        }
    }
}
