// SPDX-License-Identifier: Apache-2.0
//! The oracle: events of topics against the journal of what was committed.
//!
//! ```text
//!   journal of a key   1 ── 2 ── 3 ── 4 ── 5(delete) ── 6
//!   allowed            r2   ▶ 3 ─ 4 ─ 5 ─ 6      (log: each exactly once, in order; from somewhere on)
//!                           r4 may stand behind 4 and before 5 only
//! ```
//!
//! A key's events of the log are a gapless run of its journal up to its end: nothing lost, nothing repeated, no time
//! travel, no state that never was. A row read by a chunk or repair is the state that the run has reached. A key that
//! the log never mentioned was read at its last state, or was gone when it could have been read.

use std::collections::HashMap;

use crate::event::{Event, Kind};
use crate::journal::{Change, Entry, KeyId};

/// Whether the events may end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything that the journal holds must have arrived.
    Whole,
    /// The capture is still under way: what there is must be right, what is missing may come.
    SoFar,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// What is wrong, one sentence for each fault.
    pub faults: Vec<String>,
    /// Events of the log.
    pub log_events: u64,
    /// Rows that chunks and repairs read.
    pub reads: u64,
    /// Events that left a column out as unchanged.
    pub partial: u64,
    /// Keys that were compared.
    pub keys: u64,
}

impl Verdict {
    /// Ends the test when something is wrong, and shows the first faults.
    ///
    /// # Panics
    /// When something is wrong.
    pub fn assert_right(&self) {
        let first: Vec<&String> = self.faults.iter().take(12).collect();
        assert!(
            self.faults.is_empty(),
            "{} faults, the first: {first:#?}",
            self.faults.len()
        );
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// The entry of the journal that the events have reached.
    reached: Option<usize>,
    last: Option<Kind>,
    /// The revision of the wide column that a reader who merges events by column has.
    wide: Option<i64>,
}

/// Compares events, of each partition in its order, with the journal.
pub fn check(events: &[Event], histories: &HashMap<KeyId, Vec<Entry>>, extent: Extent) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: HashMap<KeyId, Progress> = HashMap::new();
    let empty = Vec::new();
    for event in events {
        count(event, &mut verdict);
        let touched: Vec<KeyId> = match event.key {
            Some(key) => vec![(event.table, key)],
            None => truncated(event, histories),
        };
        if touched.is_empty() && event.kind != Kind::Truncate {
            verdict.faults.push(format!("{event:?}: no key"));
        }
        for id in touched {
            let progress = keys.entry(id).or_default();
            let history = histories.get(&id).unwrap_or(&empty);
            if let Err(fault) = progress.step(event, history) {
                verdict
                    .faults
                    .push(format!("{event:?}: {fault}; {}", around(history, progress.reached)));
            }
        }
    }
    verdict.keys = histories.len() as u64;
    if extent == Extent::Whole {
        let mut ends: Vec<_> = histories.iter().collect();
        ends.sort_by_key(|(id, _)| **id);
        for (id, history) in ends {
            let progress = keys.get(id).copied().unwrap_or_default();
            if let Err(fault) = progress.end(history) {
                verdict
                    .faults
                    .push(format!("{id:?}: {fault}; {}", around(history, progress.reached)));
            }
        }
    }
    verdict
}

fn count(event: &Event, verdict: &mut Verdict) {
    match event.kind {
        Kind::Read(_) => verdict.reads += 1,
        Kind::Tombstone => {}
        _ => verdict.log_events += 1,
    }
    verdict.partial += u64::from(event.partial);
}

/// The keys whose journal says that this transaction emptied their table.
fn truncated(event: &Event, histories: &HashMap<KeyId, Vec<Entry>>) -> Vec<KeyId> {
    let by_this = |entry: &Entry| entry.change == Change::Truncate && Some(entry.transaction) == event.transaction;
    histories
        .iter()
        .filter(|((table, _), history)| *table == event.table && history.iter().any(by_this))
        .map(|(id, _)| *id)
        .collect()
}

impl Progress {
    fn step(&mut self, event: &Event, history: &[Entry]) -> Result<(), String> {
        let result = match event.kind {
            Kind::Tombstone if self.last == Some(Kind::Delete) => Ok(()),
            Kind::Tombstone => Err("a tombstone that no delete comes before".to_owned()),
            Kind::Read(_) => self.read(event, history),
            _ => self.log(event, history),
        };
        self.last = Some(event.kind);
        match event.kind {
            Kind::Put(revision) | Kind::Read(revision) if !event.partial => self.wide = Some(revision.wide),
            Kind::Delete | Kind::Truncate => self.wide = None,
            _ => {}
        }
        result
    }

    fn read(&mut self, event: &Event, history: &[Entry]) -> Result<(), String> {
        let at = position(event, history).ok_or("a state that the journal never had")?;
        let last_of_transaction = history
            .get(at + 1)
            .is_none_or(|next| next.transaction != history[at].transaction);
        if !last_of_transaction {
            return Err("a state that only its own transaction could see".to_owned());
        }
        match self.reached {
            Some(reached) if at < reached => Err("time travel: a read of a state that was left behind".to_owned()),
            Some(reached) if at > reached => {
                self.reached = Some(at);
                Err("the log lost what lies before this read".to_owned())
            }
            _ => {
                self.reached = Some(at);
                Ok(())
            }
        }
    }

    fn log(&mut self, event: &Event, history: &[Entry]) -> Result<(), String> {
        let at = match (self.reached, event.kind) {
            // A put names its place; of a delete or truncation only the transaction is known.
            (_, Kind::Put(_)) => position(event, history),
            (None, _) => history.iter().position(|entry| is_of(entry, event)),
            (Some(reached), _) => (reached + 1..history.len())
                .find(|at| is_of(&history[*at], event))
                .or_else(|| (0..=reached).rev().find(|at| is_of(&history[*at], event))),
        };
        let at = at.ok_or("a change that the journal never had")?;
        if event
            .transaction
            .is_some_and(|transaction| transaction != history[at].transaction)
        {
            return Err("the change of another transaction".to_owned());
        }
        let expected = self.reached.map_or(at, |reached| reached + 1);
        self.reached = Some(self.reached.map_or(at, |reached| reached.max(at)));
        match at.cmp(&expected) {
            std::cmp::Ordering::Less => Err("repeated: the change was there before".to_owned()),
            std::cmp::Ordering::Greater => Err("lost: changes before this one are missing".to_owned()),
            std::cmp::Ordering::Equal => before_is(event, at, history),
        }
    }

    fn end(&self, history: &[Entry]) -> Result<(), String> {
        let Some(last) = history.len().checked_sub(1) else {
            return Ok(());
        };
        match self.reached {
            Some(reached) if reached == last => {}
            None if !matches!(history[last].change, Change::Put(_)) => return Ok(()),
            Some(_) => return Err("lost: the last changes are missing".to_owned()),
            None => return Err("lost: nothing of this key arrived".to_owned()),
        }
        match history[last].change {
            Change::Put(revision) if self.wide != Some(revision.wide) => {
                Err("a column that the log left out never arrived".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// A row before is the row that the change before left.
fn before_is(event: &Event, at: usize, history: &[Entry]) -> Result<(), String> {
    let (Some(before), Some(previous)) = (event.before, at.checked_sub(1).map(|previous| history[previous])) else {
        return Ok(());
    };
    match previous.change {
        Change::Put(revision) if revision.number == before => Ok(()),
        _ => Err("the row before is not the one that was there".to_owned()),
    }
}

/// Where in the journal a row of this very content stands.
fn position(event: &Event, history: &[Entry]) -> Option<usize> {
    let (Kind::Put(found) | Kind::Read(found)) = event.kind else {
        return None;
    };
    history.iter().position(|entry| match entry.change {
        Change::Put(revision) => revision.number == found.number && revision.wide == found.wide,
        _ => false,
    })
}

fn is_of(entry: &Entry, event: &Event) -> bool {
    let change = match event.kind {
        Kind::Delete => Change::Delete,
        Kind::Truncate => Change::Truncate,
        _ => return false,
    };
    entry.change == change
        && event
            .transaction
            .is_none_or(|transaction| transaction == entry.transaction)
}

fn around(history: &[Entry], reached: Option<usize>) -> String {
    let from = reached.unwrap_or(0).saturating_sub(2);
    let shown: Vec<String> = history
        .iter()
        .enumerate()
        .skip(from)
        .take(5)
        .map(|(at, entry)| match entry.change {
            Change::Put(revision) => format!("{at}: put {} in {}", revision.number, entry.transaction),
            other => format!("{at}: {other:?} in {}", entry.transaction),
        })
        .collect();
    format!(
        "journal of {} entries, reached {reached:?}: [{}]",
        history.len(),
        shown.join(", ")
    )
}

#[cfg(test)]
#[path = "journal_check_tests.rs"]
mod tests;
