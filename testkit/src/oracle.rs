// SPDX-License-Identifier: Apache-2.0
//! The convergence oracle: compares every event that left with the journal of what the database did, key by key.
//!
//! It is generic over keys and cell values, so the same oracle judges the simulation (numbers) and topics of a real
//! transport (decoded text). A partial image agrees with any value in its unchanged cells; it is merged, as a consumer
//! would, onto what left before, and a key whose cells are not all known at the end is a violation.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// One cell of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellState<V> {
    /// A value.
    Value(V),
    /// NULL.
    Null,
    /// Not carried: as it was.
    Unchanged,
}

/// A row; cells that are missing at the end count as NULL, so that a column added later compares equal.
#[derive(Debug, Clone)]
pub struct RowState<V>(pub Vec<CellState<V>>);

impl<V: Clone + PartialEq + Debug> RowState<V> {
    fn cell(&self, at: usize) -> &CellState<V> {
        self.0.get(at).unwrap_or(&CellState::Null)
    }

    /// Whether every cell that is carried has the value that `whole` has.
    pub fn agrees_with(&self, whole: &Self) -> bool {
        (0..self.0.len().max(whole.0.len()))
            .all(|at| *self.cell(at) == CellState::Unchanged || self.cell(at) == whole.cell(at))
    }

    /// Whether every cell is known.
    pub fn is_whole(&self) -> bool {
        !self.0.contains(&CellState::Unchanged)
    }

    /// This row as a consumer has it who knew `before`.
    pub fn merged_over(&self, before: Option<&Self>) -> Self {
        let merge = |at: usize, cell: &CellState<V>| match (cell, before) {
            (CellState::Unchanged, Some(before)) => before.cell(at).clone(),
            _ => cell.clone(),
        };
        RowState(self.0.iter().enumerate().map(|(at, cell)| merge(at, cell)).collect())
    }
}

/// What the log must look like downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRule {
    /// Every change exactly once, in order; a row that was read equals the last change that left.
    ExactlyOnce,
    /// Changes may be passed over for newer ones and rows may be ahead, but nothing is older than what left before.
    NewestOnly,
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The log.
    Log,
    /// A chunk or a repair.
    Read,
}

/// What is wrong. `key` and `at` (index into the key's journal) say where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation<K> {
    /// The key.
    pub key: K,
    /// What happened.
    pub what: &'static str,
    /// How far the key's journal had left before.
    pub at: usize,
}

#[derive(Debug, Clone)]
struct KeyHistory<V> {
    states: Vec<Option<RowState<V>>>,
    /// Index of the state that left last; before anything left, the one at the log's start.
    at: usize,
    consumer: Option<RowState<V>>,
}

/// The journal and how far it has been seen to leave.
#[derive(Debug, Clone)]
pub struct Oracle<K, V> {
    rule: LogRule,
    keys: BTreeMap<K, KeyHistory<V>>,
}

impl<K: Ord + Clone + Debug, V: Clone + PartialEq + Debug> Oracle<K, V> {
    /// An oracle without history.
    pub fn new(rule: LogRule) -> Self {
        Oracle {
            rule,
            keys: BTreeMap::new(),
        }
    }

    /// The history of one key: its states in commit order (`None`: no such row), each row whole. The first `before_log`
    /// were committed before the log began.
    pub fn history(&mut self, key: K, states: Vec<Option<RowState<V>>>, before_log: usize) {
        let states = std::iter::once(None).chain(states).collect();
        self.keys.insert(
            key,
            KeyHistory {
                states,
                at: before_log,
                consumer: None,
            },
        );
    }

    /// An event that left: the row's state from now on, `None` if it is gone.
    pub fn observe(&mut self, key: &K, origin: Origin, state: Option<RowState<V>>) -> Result<(), Violation<K>> {
        let rule = self.rule;
        let violation = |what, at| {
            Err(Violation {
                key: key.clone(),
                what,
                at,
            })
        };
        let Some(history) = self.keys.get_mut(key) else {
            return violation("a key that the database never had", 0);
        };
        let agrees = |known: &Option<RowState<V>>| match (&state, known) {
            (None, None) => true,
            (Some(state), Some(known)) => state.agrees_with(known),
            _ => false,
        };
        let from = match (rule, origin) {
            (_, Origin::Log) => history.at + 1,
            (_, Origin::Read) => history.at,
        };
        let found = match rule {
            LogRule::ExactlyOnce => history.states.get(from).is_some_and(agrees).then_some(from),
            LogRule::NewestOnly => (from..history.states.len()).find(|&at| agrees(&history.states[at])),
        };
        let Some(found) = found else {
            let (before, after) = history.states.split_at(from.min(history.states.len()));
            return violation(
                complaint(origin, before.iter().any(agrees), after.iter().any(agrees)),
                history.at,
            );
        };
        history.at = found;
        history.consumer = state.map(|state| state.merged_over(history.consumer.as_ref()));
        Ok(())
    }

    /// The table was emptied: every row in it (those whose key `in_table` takes) is gone.
    pub fn observe_truncate(&mut self, in_table: impl Fn(&K) -> bool) -> Result<(), Violation<K>> {
        let alive = |history: &KeyHistory<V>| history.states.get(history.at).is_some_and(Option::is_some);
        let keys: Vec<K> = self
            .keys
            .iter()
            .filter(|(key, history)| in_table(key) && alive(history))
            .map(|(key, _)| key.clone())
            .collect();
        keys.iter().try_for_each(|key| self.observe(key, Origin::Log, None))
    }

    /// The end: every change has left, and whoever applied the events has what the database has. `copied` says for which
    /// keys a copy was completed; of the others only what the log said must be right.
    pub fn finish(&self, copied: impl Fn(&K) -> bool) -> Result<(), Violation<K>> {
        for (key, history) in &self.keys {
            let violation = |what| {
                Err(Violation {
                    key: key.clone(),
                    what,
                    at: history.at,
                })
            };
            if self.rule == LogRule::ExactlyOnce && history.at + 1 != history.states.len() {
                return violation("changes of the log are missing at the end");
            }
            let last = history.states.last().and_then(Option::as_ref);
            match (&history.consumer, last) {
                (None, None) => {}
                (Some(_), None) => return violation("a deleted row is still there"),
                (None, Some(_)) if copied(key) => return violation("a row is missing"),
                (None, Some(_)) => {}
                (Some(consumer), Some(last)) => {
                    if !consumer.agrees_with(last) {
                        return violation("the last state that left is not the row's final state");
                    }
                    if copied(key) && !consumer.is_whole() {
                        return violation("a column of the row never left");
                    }
                }
            }
        }
        Ok(())
    }

    /// Number of keys that the database ever had.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the database never had a key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// What is wrong with a state that is not the next one.
fn complaint(origin: Origin, was_before: bool, comes_later: bool) -> &'static str {
    match (was_before, comes_later, origin) {
        (true, _, Origin::Log) => "the log's event left already, or something newer did",
        (true, _, Origin::Read) => "a row that was read is older than what left before",
        (false, true, _) => "something between this event and the one before is missing",
        (false, false, _) => "a state that the database never had",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[u64]) -> Option<RowState<u64>> {
        Some(RowState(cells.iter().map(|&cell| CellState::Value(cell)).collect()))
    }

    fn partial(first: u64) -> Option<RowState<u64>> {
        Some(RowState(vec![CellState::Value(first), CellState::Unchanged]))
    }

    fn oracle(rule: LogRule) -> Oracle<&'static str, u64> {
        let mut oracle = Oracle::new(rule);
        oracle.history("k", vec![row(&[1, 9]), row(&[2, 9]), None, row(&[4, 8])], 1);
        oracle
    }

    #[test]
    fn a_faithful_run_passes() {
        let mut oracle = oracle(LogRule::ExactlyOnce);
        oracle.observe(&"k", Origin::Read, row(&[1, 9])).unwrap();
        oracle.observe(&"k", Origin::Log, partial(2)).unwrap();
        oracle.observe(&"k", Origin::Log, None).unwrap();
        oracle.observe(&"k", Origin::Log, row(&[4, 8])).unwrap();
        oracle.finish(|_| true).unwrap();
    }

    #[test]
    fn a_stale_row_a_repeat_a_gap_and_an_invention_are_told_apart() {
        let mut first = oracle(LogRule::ExactlyOnce);
        first.observe(&"k", Origin::Log, row(&[2, 9])).unwrap();
        let what = |result: Result<(), Violation<&'static str>>| result.unwrap_err().what;
        assert_eq!(
            what(first.clone().observe(&"k", Origin::Read, row(&[1, 9]))),
            "a row that was read is older than what left before"
        );
        assert_eq!(
            what(first.clone().observe(&"k", Origin::Log, row(&[2, 9]))),
            "the log's event left already, or something newer did"
        );
        assert_eq!(
            what(first.clone().observe(&"k", Origin::Log, row(&[4, 8]))),
            "something between this event and the one before is missing"
        );
        assert_eq!(
            what(first.observe(&"k", Origin::Log, row(&[5, 5]))),
            "a state that the database never had"
        );
    }

    #[test]
    fn a_column_that_never_left_is_a_violation_at_the_end() {
        let mut oracle = Oracle::new(LogRule::ExactlyOnce);
        oracle.history("k", vec![row(&[1, 9]), row(&[2, 9])], 1);
        oracle.observe(&"k", Origin::Log, partial(2)).unwrap();
        assert_eq!(
            oracle.finish(|_| true).unwrap_err().what,
            "a column of the row never left"
        );
        oracle.finish(|_| false).unwrap();
    }

    #[test]
    fn newest_only_lets_changes_be_passed_over_and_never_goes_back() {
        let mut oracle = oracle(LogRule::NewestOnly);
        oracle.observe(&"k", Origin::Log, row(&[4, 8])).unwrap();
        assert!(oracle.observe(&"k", Origin::Log, row(&[2, 9])).is_err());
        oracle.finish(|_| true).unwrap();
    }
}
