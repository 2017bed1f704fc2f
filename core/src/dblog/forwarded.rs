// SPDX-License-Identifier: Apache-2.0
//! Transactions whose changes have left although a read may not see them yet.
//!
//! Commit order is not visibility order: a commit that waits for a synchronous standby is in the log, and a SELECT still
//! sees the row before it. So what was forwarded is remembered until a read proves it visible. Kept as runs of ids; at the
//! cap the nearest runs become one, which takes in ids that were never forwarded and so can only make the check stricter.

use crate::position::TransactionSnapshot;

/// A set of transaction ids as runs, ascending, neither overlapping nor adjacent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forwarded {
    runs: Vec<(u64, u64)>,
    horizon: u64,
    runs_max: usize,
}

impl Forwarded {
    pub(super) fn new(runs_max: u32) -> Self {
        Forwarded {
            runs: Vec::new(),
            horizon: 0,
            runs_max: (runs_max as usize).max(1),
        }
    }

    /// A set from runs read back from a checkpoint, in any order.
    pub(super) fn from_runs(runs: impl IntoIterator<Item = (u64, u64)>, runs_max: u32) -> Self {
        let mut sorted: Vec<(u64, u64)> = runs.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut set = Forwarded::new(runs_max);
        for (first, last) in sorted {
            match set.runs.last_mut() {
                Some(run) if first <= run.1.saturating_add(1) => run.1 = run.1.max(last),
                _ => set.runs.push((first, last)),
            }
        }
        set.bound();
        set
    }

    pub(super) fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }

    /// Takes in a transaction, unless everything below the horizon is known to be visible.
    #[inline]
    pub(super) fn insert(&mut self, id: u64) {
        if id < self.horizon {
            return;
        }
        match self.runs.last_mut() {
            Some(run) if id > run.1 => {
                if id == run.1 + 1 {
                    run.1 = id;
                } else {
                    self.runs.push((id, id));
                    self.bound();
                }
            }
            None => self.runs.push((id, id)),
            Some(_) => self.insert_among(id),
        }
    }

    fn insert_among(&mut self, id: u64) {
        let at = self.runs.partition_point(|run| run.1 < id);
        if self.runs.get(at).is_some_and(|run| run.0 <= id) {
            return;
        }
        let joins_left = at > 0 && self.runs[at - 1].1 + 1 == id;
        let joins_right = self.runs.get(at).is_some_and(|run| run.0 == id + 1);
        match (joins_left, joins_right) {
            (true, true) => {
                self.runs[at - 1].1 = self.runs[at].1;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].1 = id,
            (false, true) => self.runs[at].0 = id,
            (false, false) => {
                self.runs.insert(at, (id, id));
                self.bound();
            }
        }
    }

    /// Past the cap, closes the smallest gaps down to half of it (so that the cost is spread over many insertions).
    fn bound(&mut self) {
        if self.runs.len() <= self.runs_max {
            return;
        }
        let keep = self.runs_max / 2 + 1;
        let mut gaps: Vec<u64> = self.runs.windows(2).map(|pair| pair[1].0 - pair[0].1).collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        let mut wide_left = keep - 1;
        let limit = gaps.get(wide_left).copied().unwrap_or(0);
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(keep);
        for run in self.runs.drain(..) {
            match merged.last_mut() {
                Some(last) if run.0 - last.1 <= limit || wide_left == 0 => last.1 = run.1,
                Some(_) => {
                    wide_left -= 1;
                    merged.push(run);
                }
                None => merged.push(run),
            }
        }
        self.runs = merged;
    }

    /// Forgets what lies below `horizon`: visible to every read that begins from now on.
    pub(super) fn forget_below(&mut self, horizon: u64) {
        self.horizon = self.horizon.max(horizon);
        let gone = self.runs.partition_point(|run| run.1 < horizon);
        self.runs.drain(..gone);
        if let Some(first) = self.runs.first_mut() {
            first.0 = first.0.max(horizon);
        }
    }

    /// Forgets what `view` sees: visibility is never taken back, so every later read sees it too.
    pub(super) fn forget_visible(&mut self, view: &TransactionSnapshot) {
        self.horizon = self.horizon.max(view.xmin);
        let mut left: Vec<(u64, u64)> = Vec::new();
        for &id in &view.in_progress {
            if self.contains(id) {
                match left.last_mut() {
                    Some(run) if run.1 + 1 == id => run.1 = id,
                    _ => left.push((id, id)),
                }
            }
        }
        for &(first, last) in &self.runs {
            if last >= view.xmax {
                let first = first.max(view.xmax);
                match left.last_mut() {
                    Some(run) if run.1 + 1 == first => run.1 = last,
                    _ => left.push((first, last)),
                }
            }
        }
        self.runs = left;
    }

    fn contains(&self, id: u64) -> bool {
        let at = self.runs.partition_point(|run| run.1 < id);
        self.runs.get(at).is_some_and(|run| run.0 <= id)
    }

    /// Whether `view` sees every transaction of this set.
    pub(super) fn seen_by(&self, view: &TransactionSnapshot) -> bool {
        let all_begun = self.runs.last().is_none_or(|run| run.1 < view.xmax);
        all_begun && !view.in_progress.iter().any(|&id| self.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::position::TransactionId;

    fn ids(set: &Forwarded) -> BTreeSet<u64> {
        set.runs.iter().flat_map(|&(first, last)| first..=last).collect()
    }

    fn view() -> impl Strategy<Value = TransactionSnapshot> {
        (0u64..40, 0u64..20, prop::collection::btree_set(0u64..60, 0..6)).prop_map(|(xmin, width, ids)| {
            let xmax = xmin + width;
            let in_progress = ids.into_iter().filter(|id| (xmin..xmax).contains(id)).collect();
            TransactionSnapshot {
                xmin,
                xmax,
                in_progress,
            }
        })
    }

    proptest! {
        #[test]
        fn holds_exactly_what_was_inserted_while_there_is_room(inserted: Vec<u8>) {
            let mut set = Forwarded::new(1_000);
            inserted.iter().for_each(|&id| set.insert(u64::from(id)));
            prop_assert_eq!(ids(&set), inserted.iter().map(|&id| u64::from(id)).collect::<BTreeSet<_>>());
            prop_assert!(set.runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }

        #[test]
        fn past_the_cap_nothing_is_lost_and_the_runs_stay_few(inserted: Vec<u16>, runs_max in 1u32..9) {
            let mut set = Forwarded::new(runs_max);
            inserted.iter().for_each(|&id| set.insert(u64::from(id)));
            prop_assert!(set.runs.len() <= runs_max as usize);
            prop_assert!(inserted.iter().all(|&id| set.contains(u64::from(id))));
        }

        #[test]
        fn forgetting_by_a_view_keeps_exactly_what_it_does_not_see(inserted in prop::collection::vec(0u64..60, 0..40), view in view()) {
            let mut set = Forwarded::new(1_000);
            inserted.iter().for_each(|&id| set.insert(id));
            let unseen: BTreeSet<u64> = ids(&set).into_iter().filter(|&id| !view.sees(TransactionId(id))).collect();
            prop_assert_eq!(set.seen_by(&view), unseen.is_empty());
            set.forget_visible(&view);
            prop_assert_eq!(ids(&set), unseen);
        }

        #[test]
        fn runs_read_back_are_the_same_set(inserted: Vec<u8>) {
            let mut set = Forwarded::new(1_000);
            inserted.iter().for_each(|&id| set.insert(u64::from(id)));
            let back = Forwarded::from_runs(set.runs().iter().rev().copied(), 1_000);
            prop_assert_eq!(back.runs(), set.runs());
        }
    }

    #[test]
    fn nothing_below_the_horizon_is_taken_in_again() {
        let mut set = Forwarded::new(8);
        (1..=10).for_each(|id| set.insert(id));
        set.forget_below(6);
        set.insert(3);
        assert_eq!(set.runs(), [(6, 10)]);
    }
}
