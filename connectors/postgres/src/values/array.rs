// SPDX-License-Identifier: Apache-2.0
//! The binary form of arrays, which `int2vector` and `oidvector` share.

use super::cursor::Cursor;

/// The most dimensions of an array (`MAXDIM` in `src/include/utils/array.h`).
pub(super) const DIMENSIONS_MAX: usize = 6;

/// One dimension of an array.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dimension {
    pub(super) length: usize,
    pub(super) lower: i32,
}

/// What stands before an array's items.
#[derive(Debug)]
pub(super) struct Header {
    dimensions: [Dimension; DIMENSIONS_MAX],
    count: usize,
    /// The object id of the items' type.
    pub(super) item_oid: u32,
    /// How many items follow.
    pub(super) items: usize,
}

impl Header {
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Option<Self> {
        let count = usize::try_from(cursor.i32()?).ok()?;
        let _has_nulls = cursor.i32()?;
        let mut header = Self {
            dimensions: [Dimension::default(); DIMENSIONS_MAX],
            count,
            item_oid: cursor.u32()?,
            items: usize::from(count > 0),
        };
        for dimension in header.dimensions.get_mut(..count)? {
            dimension.length = usize::try_from(cursor.i32()?).ok()?;
            dimension.lower = cursor.i32()?;
            header.items = header.items.checked_mul(dimension.length)?;
        }
        // Each item has its length before it. This keeps a few bytes from announcing millions of items.
        (header.items <= cursor.left() / 4).then_some(header)
    }

    /// The dimensions; none for an empty array.
    pub(super) fn dimensions(&self) -> &[Dimension] {
        self.dimensions.get(..self.count).unwrap_or_default()
    }
}
