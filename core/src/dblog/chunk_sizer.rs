// SPDX-License-Identifier: Apache-2.0
//! How many rows the next chunk asks for: as many as fit the time and the bytes that a chunk should take.

use crate::dblog::settings::EngineSettings;

/// Sizes of one table's chunks. Pure: the same observations give the same sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSizer {
    rows: u32,
    rows_min: u32,
    rows_max: u32,
    bytes_max: u64,
    time_target_us: u64,
}

impl ChunkSizer {
    /// Starts at the settings' first size.
    pub fn new(settings: &EngineSettings) -> Self {
        let rows_max = settings.chunk_rows_max.max(1);
        let rows_min = settings.chunk_rows_min.clamp(1, rows_max);
        ChunkSizer {
            rows: settings.chunk_rows_start.clamp(rows_min, rows_max),
            rows_min,
            rows_max,
            bytes_max: settings.chunk_bytes_max.max(1),
            time_target_us: settings.chunk_time_target_us.max(1),
        }
    }

    /// Rows that the next chunk asks for.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes of values after which the next chunk's read stops.
    pub fn bytes(&self) -> u64 {
        self.bytes_max
    }

    /// Learns from a chunk of `rows` rows and `bytes` bytes that took `took_us`: moves towards the size that would take
    /// the target time, at most by a factor of two, and never past what the bytes allow. A short chunk at a range's end
    /// teaches nothing about time.
    pub fn observe(&mut self, rows: u32, bytes: u64, took_us: u64) {
        if rows == 0 {
            return;
        }
        let current = u64::from(self.rows);
        let mut next = current;
        if u64::from(rows) * 2 >= current {
            let fitting = u64::from(rows).saturating_mul(self.time_target_us) / took_us.max(1);
            next = fitting.clamp(current / 2, current.saturating_mul(2));
        }
        let row_bytes = (bytes / u64::from(rows)).max(1);
        next = next.min(self.bytes_max / row_bytes);
        self.rows = next.clamp(u64::from(self.rows_min), u64::from(self.rows_max)) as u32;
    }

    /// Halves the size: the log outran the chunk.
    pub fn shrink(&mut self) {
        self.rows = (self.rows / 2).max(self.rows_min);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizer() -> ChunkSizer {
        ChunkSizer::new(&EngineSettings {
            chunk_rows_start: 1_000,
            chunk_rows_min: 10,
            chunk_rows_max: 8_000,
            chunk_bytes_max: 1_000_000,
            chunk_time_target_us: 100_000,
            ..EngineSettings::default()
        })
    }

    #[test]
    fn fast_chunks_grow_by_at_most_two_and_stop_at_the_maximum() {
        let mut sizer = sizer();
        let sizes: Vec<u32> = (0..5)
            .map(|_| {
                sizer.observe(sizer.rows(), 10, 1);
                sizer.rows()
            })
            .collect();
        assert_eq!(sizes, [2_000, 4_000, 8_000, 8_000, 8_000]);
    }

    #[test]
    fn slow_chunks_shrink_to_the_minimum() {
        let mut sizer = sizer();
        for _ in 0..20 {
            sizer.observe(sizer.rows(), 10, 10_000_000);
        }
        assert_eq!(sizer.rows(), 10);
    }

    #[test]
    fn wide_rows_hold_the_size_to_the_bytes_allowed() {
        let mut sizer = sizer();
        sizer.observe(1_000, 10_000_000, 100_000);
        assert_eq!(sizer.rows(), 100);
    }

    #[test]
    fn the_short_chunk_at_a_ranges_end_does_not_grow_the_next() {
        let mut sizer = sizer();
        sizer.observe(3, 30, 1);
        assert_eq!(sizer.rows(), 1_000);
        sizer.observe(0, 0, 1);
        assert_eq!(sizer.rows(), 1_000);
    }

    #[test]
    fn an_outrun_chunk_is_halved() {
        let mut sizer = sizer();
        sizer.shrink();
        assert_eq!(sizer.rows(), 500);
    }
}
