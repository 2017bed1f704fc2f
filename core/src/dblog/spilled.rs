// SPDX-License-Identifier: Apache-2.0
//! Runs of remembered keys that left memory for a [`crate::spill::Spill`]: which there are, which one is on its way, and
//! the form of their entries. Whole keys are kept beside their digests, so that two keys of one digest stay two keys.

use bytes::Bytes;

use crate::dblog::byte_form::{Reader, Writer};
use crate::dblog::remembered::{KeyNews, KeyTables, digest};
use crate::error::Result;
use crate::position::Position;
use crate::schema::Key;
use crate::spill::{SpillEntry, SpillRun};

/// A run that is asked to be written; until it is, its keys are looked up here.
#[derive(Debug)]
struct Leaving<P> {
    run: SpillRun,
    newest: P,
    keys: KeyTables<P>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Spilled<P> {
    /// Runs that are written, with the newest commit in each.
    runs: Vec<(SpillRun, P)>,
    leaving: Option<Leaving<P>>,
    next_run: u64,
}

/// What a run said of a key.
#[derive(Debug)]
pub(super) struct Recalled<P> {
    pub run: SpillRun,
    pub slot: usize,
    pub key: Key,
    pub news: KeyNews<P>,
}

impl<P: Position> Spilled<P> {
    pub(super) fn new() -> Self {
        Spilled {
            runs: Vec::new(),
            leaving: None,
            next_run: 1,
        }
    }

    /// Whether a run is on its way: one at a time.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Keys that are on their way and still in memory.
    pub(super) fn leaving_len(&self) -> usize {
        self.leaving.as_ref().map_or(0, |leaving| leaving.keys.len())
    }

    /// What a run on its way has of the key.
    pub(super) fn last(&self, slot: usize, key: &Key) -> Option<&KeyNews<P>> {
        self.leaving.as_ref()?.keys.get(slot, key)
    }

    /// Sends keys on their way.
    pub(super) fn send(&mut self, keys: KeyTables<P>) -> Option<(SpillRun, Vec<SpillEntry>)> {
        let entries = keys.sorted();
        let newest = entries.iter().map(|(_, _, news)| &news.commit).max()?.clone();
        let run = SpillRun(self.next_run);
        self.next_run += 1;
        let entry = |(slot, key, news): (usize, &Key, &KeyNews<P>)| SpillEntry {
            digest: digest(slot, key),
            value: value(run, slot, key, news),
        };
        let entries = entries.into_iter().map(entry).collect();
        self.leaving = Some(Leaving { run, newest, keys });
        Some((run, entries))
    }

    /// A run is written. One that was given up meanwhile is nothing any more.
    pub(super) fn written(&mut self, run: SpillRun) {
        if let Some(leaving) = self.leaving.take_if(|leaving| leaving.run == run) {
            self.runs.push((run, leaving.newest));
        }
    }

    /// Written runs that may know of changes after `moment`.
    pub(super) fn newer_than(&self, moment: &P) -> Vec<SpillRun> {
        let newer = self.runs.iter().filter(|(_, newest)| newest > moment);
        newer.map(|(run, _)| *run).collect()
    }

    /// Takes out the runs that know of nothing after `floor`.
    pub(super) fn outdated(&mut self, floor: &P) -> Vec<SpillRun> {
        let gone = self.runs.extract_if(.., |(_, newest)| *newest <= *floor);
        gone.map(|(run, _)| run).collect()
    }

    /// Takes out all of them, the one on its way too.
    pub(super) fn give_up(&mut self) -> Vec<SpillRun> {
        let written = self.runs.drain(..).map(|(run, _)| run);
        written.chain(self.leaving.take().map(|leaving| leaving.run)).collect()
    }
}

fn value<P: Position>(run: SpillRun, slot: usize, key: &Key, news: &KeyNews<P>) -> Bytes {
    let mut out = Writer::default();
    out.number(slot as u64);
    out.key(key);
    out.octets(&news.commit.encode());
    out.number(run.0);
    out.touch(news.touch);
    out.finish()
}

/// Reads an entry back.
pub(super) fn read<P: Position>(entry: &SpillEntry) -> Result<Recalled<P>> {
    let mut input = Reader::new(&entry.value);
    let slot = input.number()? as usize;
    let key = input.key()?;
    let commit = P::decode(input.octets()?)?;
    let run = SpillRun(input.number()?);
    let touch = input.touch()?;
    input.finish()?;
    Ok(Recalled {
        run,
        slot,
        key,
        news: KeyNews { commit, touch },
    })
}
