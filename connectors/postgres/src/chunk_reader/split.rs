// SPDX-License-Identifier: Apache-2.0
//! Where a table is cut so that several readers work on it: how much of it is looked at, and which of the keys found.

use highwater_core::schema::Key;

/// Pages looked at for each part of a split table.
const SPLIT_PAGES_PER_PART: u32 = 64;
/// Rows taken of each page that is looked at, on average.
const SPLIT_ROWS_PER_PAGE: f64 = 2.0;

/// A table's size as the last ANALYZE or VACUUM saw it.
pub(super) struct TableSize {
    pub(super) rows: u64,
    pub(super) pages: u64,
}

impl TableSize {
    /// How to sample keys for a split, or `None` where the table is too small to need one.
    pub(super) fn sample(&self, parts: u32) -> Option<Sample> {
        let pages = u64::from(parts * SPLIT_PAGES_PER_PART).min(self.pages);
        if self.pages < u64::from(parts) || self.rows < u64::from(parts) {
            return None;
        }
        let rows_per_page = self.rows as f64 / self.pages as f64;
        Some(Sample {
            pages_share: pages as f64 / self.pages as f64,
            rows_share: (SPLIT_ROWS_PER_PAGE / rows_per_page).min(1.0),
            // Far more than are expected: a limit that cuts would cut the high keys.
            rows_max: u32::try_from(pages).unwrap_or(u32::MAX).saturating_mul(16),
        })
    }
}

/// Which part of a table is looked at.
pub(super) struct Sample {
    /// Of its pages, from 0 to 1.
    pub(super) pages_share: f64,
    /// Of those pages' rows, from 0 to 1.
    pub(super) rows_share: f64,
    pub(super) rows_max: u32,
}

/// Keys that cut the sorted sample into `parts`.
pub(super) fn every_part(keys: &[Key], parts: u32) -> Vec<Key> {
    let cuts = (1..parts as usize).filter_map(|part| keys.get(part * keys.len() / parts as usize));
    let mut cuts: Vec<Key> = cuts.cloned().collect();
    cuts.dedup();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_divide_a_sample_evenly() {
        let keys: Vec<Key> = (0..100_u8).map(|number| Key::from_columns(&[Some([number])])).collect();
        let cuts = every_part(&keys, 4);
        assert_eq!(cuts, [keys[25].clone(), keys[50].clone(), keys[75].clone()]);
        assert!(every_part(&[], 4).is_empty());
    }
}
