// SPDX-License-Identifier: Apache-2.0
//! A set of MySQL's GTIDs.

use std::collections::BTreeMap;
use std::fmt;

use super::intervals::{Interval, Intervals};
use super::source::TransactionSource;

/// The name of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gtid {
    /// What numbered it.
    pub source: TransactionSource,
    /// Its number, from 1.
    pub number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.number)
    }
}

/// Which transactions a server has executed, or lacks. No source is without a number, so equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GtidSet(BTreeMap<TransactionSource, Intervals>);

impl GtidSet {
    /// Whether there is no transaction.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many transactions there are.
    pub fn count(&self) -> u128 {
        self.0.values().map(|intervals| u128::from(intervals.count())).sum()
    }

    /// Each source with its numbers, in the order in which the server prints them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&TransactionSource, &Intervals)> {
        self.0.iter()
    }

    /// Whether any transaction has a tag: only servers of 8.3 and later understand such a set.
    pub fn has_tags(&self) -> bool {
        self.0.keys().any(|source| !source.tag.is_none())
    }

    /// Whether `gtid` is in the set.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.0
            .get(&gtid.source)
            .is_some_and(|intervals| intervals.contains(gtid.number))
    }

    /// Adds the transactions of `source` in `interval`.
    pub fn insert(&mut self, source: &TransactionSource, interval: Interval) {
        if let Some(intervals) = self.0.get_mut(source) {
            intervals.insert(interval);
        } else {
            self.0.entry(source.clone()).or_default().insert(interval);
        }
    }

    /// Adds every transaction of `other`.
    pub fn union(&mut self, other: &Self) {
        for (source, intervals) in &other.0 {
            self.0.entry(source.clone()).or_default().union(intervals);
        }
    }

    /// The transactions that `other` lacks.
    pub fn subtract(&self, other: &Self) -> Self {
        let left = |(source, intervals): (&TransactionSource, &Intervals)| {
            let left = match other.0.get(source) {
                Some(removed) => intervals.subtract(removed),
                None => intervals.clone(),
            };
            (!left.is_empty()).then(|| (source.clone(), left))
        };
        Self(self.0.iter().filter_map(left).collect())
    }

    /// Whether `other` has every transaction of this set.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.0
            .iter()
            .all(|(source, intervals)| other.0.get(source).is_some_and(|larger| intervals.is_subset_of(larger)))
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
