// SPDX-License-Identifier: Apache-2.0
//! Numbers of transactions, as ranges: few even where a server has executed billions.

use std::cmp::Ordering;

/// The highest number that a transaction can have: the server stops before the end of 63 bits.
pub const NUMBER_MAX: u64 = i64::MAX as u64 - 1;

/// The numbers from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    first: u64,
    last: u64,
}

impl Interval {
    /// From `first`, at least 1, to `last`, at most [`NUMBER_MAX`] and not below `first`.
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (1 <= first && first <= last && last <= NUMBER_MAX).then_some(Self { first, last })
    }

    /// The lowest number.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The highest number.
    pub fn last(self) -> u64 {
        self.last
    }

    fn count(self) -> u64 {
        self.last - self.first + 1
    }
}

/// A set of numbers: intervals in ascending order, each at least one number apart from the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intervals(Vec<Interval>);

impl Intervals {
    /// The intervals in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Interval> + '_ {
        self.0.iter().copied()
    }

    /// Whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are. All of them fit: there are fewer than 2⁶³.
    pub fn count(&self) -> u64 {
        self.iter().map(Interval::count).sum()
    }

    /// Whether `number` is one of them.
    pub fn contains(&self, number: u64) -> bool {
        let compare = |interval: &Interval| match (interval.last < number, number < interval.first) {
            (true, _) => Ordering::Less,
            (_, true) => Ordering::Greater,
            _ => Ordering::Equal,
        };
        self.0.binary_search_by(compare).is_ok()
    }

    /// Adds `added`. A number after the last one, the way of a log that is read, costs no search.
    pub fn insert(&mut self, added: Interval) {
        match self.0.last_mut() {
            Some(last) if last.last + 1 < added.first => self.0.push(added),
            Some(last) if last.first <= added.first => last.last = last.last.max(added.last),
            None => self.0.push(added),
            Some(_) => self.insert_inside(added),
        }
    }

    fn insert_inside(&mut self, added: Interval) {
        let start = self.0.partition_point(|interval| interval.last + 1 < added.first);
        let end = self.0.partition_point(|interval| interval.first <= added.last + 1);
        let touched = self.0.get(start..end).unwrap_or_default();
        let merged = Interval {
            first: touched
                .first()
                .map_or(added.first, |interval| interval.first.min(added.first)),
            last: touched
                .last()
                .map_or(added.last, |interval| interval.last.max(added.last)),
        };
        self.0.splice(start..end, [merged]);
    }

    /// Adds every number of `other`.
    pub fn union(&mut self, other: &Self) {
        for interval in other.iter() {
            self.insert(interval);
        }
    }

    /// The numbers that `other` lacks.
    pub fn subtract(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut removed = other.0.iter().peekable();
        for &interval in &self.0 {
            let mut first = interval.first;
            while let Some(hole) = removed.peek() {
                if hole.first > interval.last {
                    break;
                }
                left.extend(Interval::new(first, hole.first - 1));
                first = first.max(hole.last + 1);
                if hole.last > interval.last {
                    break;
                }
                removed.next();
            }
            left.extend(Interval::new(first, interval.last));
        }
        Self(left)
    }

    /// Whether `other` has every number of this set.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        let mut larger = other.0.iter().peekable();
        self.0.iter().all(|interval| {
            while larger.next_if(|candidate| candidate.last < interval.first).is_some() {}
            larger
                .peek()
                .is_some_and(|candidate| candidate.first <= interval.first && interval.last <= candidate.last)
        })
    }
}
