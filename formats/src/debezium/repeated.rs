// SPDX-License-Identifier: Apache-2.0
//! Parts of a record that are mostly those of the record before: its times, and the head of its source block. They are
//! kept as they were written. Rows of one transaction, or one chunk, share the source's time; events that were taken in
//! one go share the present.

/// The parts written last.
#[derive(Default)]
pub(crate) struct Repeated {
    pub(super) source: SourceParts,
    pub(super) present: PresentPart,
    /// A buffer for the source's sequence, which is another one for each event.
    pub(super) sequence: String,
}

impl Repeated {
    /// Forgets what was written: plans changed places.
    pub(super) fn forget(&mut self) {
        self.source.of = None;
        self.present.of = None;
    }
}

/// The source block around its sequence.
#[derive(Default)]
pub(super) struct SourceParts {
    /// Plan, time of the source in microseconds, and whether it is an event of the log.
    of: Option<(usize, i64, bool)>,
    database: String,
    /// From the block's beginning to the database.
    pub(super) head: Vec<u8>,
    /// The times behind the sequence.
    pub(super) times: Vec<u8>,
}

impl SourceParts {
    /// Whether the parts must be written anew, as those of what is given; they are empty then.
    pub(super) fn begin(&mut self, plan: usize, time_us: i64, from_log: bool, database: &str) -> bool {
        let of = Some((plan, time_us, from_log));
        if self.of == of && self.database == database {
            return false;
        }
        self.of = of;
        self.database.clear();
        self.database.push_str(database);
        self.head.clear();
        self.times.clear();
        true
    }
}

/// The end of the envelope: when it was written.
#[derive(Default)]
pub(super) struct PresentPart {
    /// Plan, and the time in microseconds.
    of: Option<(usize, i64)>,
    pub(super) bytes: Vec<u8>,
}

impl PresentPart {
    /// As [`SourceParts::begin`].
    pub(super) fn begin(&mut self, plan: usize, now_us: i64) -> bool {
        let of = Some((plan, now_us));
        if self.of == of {
            return false;
        }
        self.of = of;
        self.bytes.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_anew_when_anything_that_they_show_differs() {
        let mut repeated = Repeated::default();
        assert!(repeated.source.begin(1, 5, true, "shop"));
        assert!(!repeated.source.begin(1, 5, true, "shop"));
        assert!(repeated.source.begin(2, 5, true, "shop"));
        assert!(repeated.source.begin(2, 6, true, "shop"));
        assert!(repeated.source.begin(2, 6, false, "shop"));
        assert!(repeated.source.begin(2, 6, false, "mall"));
        assert!(repeated.present.begin(1, 5));
        assert!(!repeated.present.begin(1, 5));
        assert!(repeated.present.begin(1, 6) && repeated.present.begin(2, 6));
        repeated.forget();
        assert!(repeated.present.begin(2, 6) && repeated.source.begin(2, 6, false, "mall"));
    }
}
