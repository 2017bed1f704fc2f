// SPDX-License-Identifier: Apache-2.0
//! Chunks read as of a moment: what of the log is remembered for them, in memory and in runs outside it, how their rows
//! are judged, and what happens when no more can be remembered.
//!
//! A chunk's rows are judged when they arrive, by memory and by one recall of the runs written so far; whatever the log
//! delivers from then on is held against the rows at once. So a chunk needs one recall, however long it waits.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::change::{Change, ChangeVersion, ChunkId, Op};
use crate::connector::Reconcile;
use crate::dblog::action::{Action, Report};
use crate::dblog::engine::Engine;
use crate::dblog::mutation::Mutation;
use crate::dblog::remembered::{KeyNews, digest};
use crate::dblog::settings::AsOfFallback;
use crate::dblog::spilled::{self, Recalled};
use crate::dblog::window::{Touch, Window};
use crate::error::Result;
use crate::position::Position;
use crate::schema::Key;
use crate::spill::{SpillEntry, SpillRun};

impl<P: Position> Engine<P> {
    /// The way of a copy that begins now. The log's start is the moment of `first` copies only: a table that came later has
    /// changed unseen since, and who asks for another copy wants newer rows.
    pub(super) fn way_of_new_copies(&self, first: bool) -> Reconcile {
        if self.moments_over || (self.has_one_moment() && !first) {
            Reconcile::Window
        } else {
            self.reconcile
        }
    }

    /// Whether all reads as of a moment are as of the same one, which cannot be had again.
    pub(super) fn has_one_moment(&self) -> bool {
        self.reconcile == Reconcile::AsOf && self.settings.as_of_fallback == AsOfFallback::Windows
    }

    /// Whether nothing but chunks needs what is remembered: the log does not repeat, and after a crash there are windows.
    fn remembers_for_chunks_only(&self) -> bool {
        !self.unordered && self.settings.as_of_fallback == AsOfFallback::Windows
    }

    /// Remembers a change for chunks read as of an earlier moment; `false` if it is a repeat.
    pub(super) fn remember(&mut self, slot: usize, change: &Change<P>, actions: &mut Vec<Action<P>>) -> bool {
        let commit = &change.commit;
        let key = change.key();
        if matches!(change.version, ChangeVersion::At(_)) {
            self.unordered = true;
            let known = key.as_ref().and_then(|key| self.remembered.last(slot, key));
            if *commit <= self.delivered || known.is_some_and(|known| known.commit >= *commit) {
                return false;
            }
        } else if self.moments_over {
            return true;
        }
        if self.newest_commit < *commit {
            self.newest_commit = commit.clone();
        }
        if change.op == Op::Truncate {
            self.remembered.record_truncate(slot, commit);
            self.held_before(slot, commit).for_each(Window::truncate);
        }
        if let Some(key) = key {
            self.remember_key(slot, key, commit, Touch::of(change));
        }
        if let Some(old_key) = change.old_key() {
            self.remember_key(slot, old_key, commit, Touch::Whole);
        }
        self.bound_memory(actions);
        true
    }

    fn remember_key(&mut self, slot: usize, key: Key, commit: &P, touch: Touch) {
        let touch = self.remembered.record(slot, key.clone(), commit, touch);
        if !self.mutated.breaks(Mutation::WindowRule) {
            self.held_before(slot, commit).for_each(|window| {
                window.touch(&key, touch);
            });
        }
    }

    /// Windows whose rows are here and were read as of a moment before `commit`.
    fn held_before(&mut self, slot: usize, commit: &P) -> impl Iterator<Item = &mut Window<P>> {
        self.windows.iter_mut().filter(move |window| {
            let moment = window.held.as_ref().and_then(|held| held.at.as_ref());
            window.slot == slot && window.way == Reconcile::AsOf && moment.is_some_and(|moment| moment < commit)
        })
    }

    /// Sends keys outside when memory is half full; past the cap what relied on them is read otherwise.
    fn bound_memory(&mut self, actions: &mut Vec<Action<P>>) {
        let all = self.remembers_for_chunks_only();
        if self.settings.spill_bytes_max > 0
            && !self.spilled.is_leaving()
            && let Some(keys) = self.remembered.part_for_run((!all).then_some(&self.delivered))
            && let Some((run, entries)) = self.spilled.send(keys)
        {
            self.counters.runs_spilled += 1;
            actions.push(Action::Spill { run, entries });
        }
        if self.remembered.is_full(self.spilled.leaving_len()) && (all || *self.remembered.floor() < self.delivered) {
            self.memory_over("more has changed than can be remembered", actions);
        }
    }

    /// A run is kept outside: memory is free of it.
    pub(super) fn spilled(&mut self, run: SpillRun) {
        self.spilled.written(run);
    }

    /// Runs cannot be kept or read: as at the cap.
    pub(super) fn spill_failed(&mut self, message: &str, actions: &mut Vec<Action<P>>) {
        let what = format!("what is remembered of the log could not be kept outside memory: {message}");
        for table in self.tables_as_of() {
            let code = "spill_failed";
            self.report(
                table,
                code,
                &format!("{what}; what relied on it is read again"),
                actions,
            );
        }
        self.memory_over(&what, actions);
    }

    /// Nothing that lies before the log's proven progress can be told any more: reads that relied on it are done again at
    /// a newer moment, or, as the settings say, everything unfinished becomes ordinary windows.
    fn memory_over(&mut self, why: &str, actions: &mut Vec<Action<P>>) {
        self.counters.memory_overflows += 1;
        if self.has_one_moment() {
            return self.snapshot_gone(why, actions);
        }
        self.remembered.lose(self.delivered.clone());
        self.forget_runs(actions);
        let floor = self.remembered.floor().clone();
        let relied = |window: &Window<P>| {
            let moment = window.held.as_ref().and_then(|held| held.at.as_ref());
            window.recalling && moment.is_some_and(|moment| *moment < floor)
        };
        while let Some(at) = self.windows.iter().position(relied) {
            self.restart(at, false);
        }
        // Of the others no run can know anything.
        self.windows.iter_mut().for_each(|window| window.recalling = false);
    }

    /// The one moment can be read no more: the rest of the copies that were read there is read between marks.
    pub(super) fn snapshot_gone(&mut self, why: &str, actions: &mut Vec<Action<P>>) {
        if !self.has_one_moment() || self.moments_over {
            return;
        }
        for table in self.tables_as_of() {
            let message = format!("{why}; the rest of the copy is read between marks");
            self.report(table, "copy_by_windows", &message, actions);
        }
        self.end_moments(actions);
    }

    /// No chunk is read as of a moment any more: what is unfinished becomes ordinary windows. The engine is one of marks from
    /// here on, unless the log repeats, which only memory tells.
    pub(super) fn end_moments(&mut self, actions: &mut Vec<Action<P>>) {
        if self.remembers_for_chunks_only() {
            self.remembered.clear(self.delivered.clone());
        } else {
            self.remembered.lose(self.delivered.clone());
        }
        self.forget_runs(actions);
        self.moments_over = true;
        for copy in &mut self.copies {
            copy.way = Reconcile::Window;
        }
        while let Some(at) = self.windows.iter().position(|window| window.way == Reconcile::AsOf) {
            self.restart(at, false);
        }
        if self.remembers_for_chunks_only() {
            self.tell_announced(actions);
            self.reconcile = Reconcile::Window;
        }
    }

    fn forget_runs(&mut self, actions: &mut Vec<Action<P>>) {
        actions.extend(self.spilled.give_up().into_iter().map(Action::Forget));
    }

    /// Tables that are being copied as of a moment.
    fn tables_as_of(&self) -> Vec<usize> {
        let as_of = self
            .copies
            .iter()
            .filter(|copy| copy.way == Reconcile::AsOf && !copy.is_over());
        let mut tables: Vec<usize> = as_of.map(|copy| copy.slot).collect();
        tables.sort_unstable();
        tables.dedup();
        tables
    }

    pub(super) fn report(&self, slot: usize, code: &str, message: &str, actions: &mut Vec<Action<P>>) {
        actions.push(Action::Report(Report {
            table: self.tables[slot].name.clone(),
            chunk: None,
            code: code.to_owned(),
            message: message.to_owned(),
        }));
    }

    /// Rows have arrived: those whose key the log delivered with a commit after their moment go. What runs know is asked.
    pub(super) fn judge_as_of(&mut self, at: usize, actions: &mut Vec<Action<P>>) {
        let window = &mut self.windows[at];
        let (slot, chunk) = (window.slot, window.chunk);
        let Some(held) = &mut window.held else { return };
        let Some(moment) = held.at.clone() else { return };
        if self.mutated.breaks(Mutation::WindowRule) {
            return;
        }
        let truncated = self.remembered.truncated(slot);
        if truncated.is_some_and(|truncated| *truncated > moment) {
            return held.drop_all();
        }
        let keys: Vec<Key> = held.keyed_rows().filter_map(|(_, key, _)| key).collect();
        for key in &keys {
            let mut known = self.spilled.last(slot, key).cloned();
            if let Some(last) = self.remembered.last(slot, key) {
                match &mut known {
                    Some(known) => known.merge(&last.commit, last.touch),
                    None => known = Some(last.clone()),
                }
            }
            if let Some(KeyNews { touch, .. }) = known.filter(|known| known.commit > moment) {
                held.touch(key, touch);
            }
        }
        let runs = self.spilled.newer_than(&moment);
        if !runs.is_empty() && !keys.is_empty() && !self.mutated.breaks(Mutation::RecallOfRuns) {
            window.recalling = true;
            let digests = keys.iter().map(|key| digest(slot, key)).collect();
            actions.push(Action::Recall { chunk, runs, digests });
        }
    }

    /// What runs know of a chunk's keys.
    pub(super) fn recalled(&mut self, chunk: ChunkId, entries: &[SpillEntry], actions: &mut Vec<Action<P>>) {
        let Ok(recalled) = recalled_keys::<P>(entries) else {
            return self.spill_failed("an entry that came back cannot be read", actions);
        };
        let Some(window) = self.windows.iter_mut().find(|w| w.chunk == chunk && w.recalling) else {
            return;
        };
        window.recalling = false;
        let slot = window.slot;
        let Some(held) = &mut window.held else { return };
        let Some(moment) = held.at.clone() else { return };
        for known in recalled.iter().filter(|known| known.slot == slot) {
            if known.news.commit > moment {
                held.touch_earlier(&known.key, known.news.touch);
            }
        }
        self.close_due(actions);
    }

    /// No read under way, and none to come, can be older than this: what lies before needs no memory. Where all reads have
    /// one moment, copies may still be asked for that need all since then.
    pub(super) fn raise_floor(&mut self, actions: &mut Vec<Action<P>>) {
        if self.has_one_moment() {
            return;
        }
        let mut floor = if self.copies.iter().all(|copy| !copy.has_reads_to_come()) && self.windows.is_empty() {
            Some(self.delivered.clone())
        } else {
            self.newest_moment.clone()
        };
        for window in self.windows.iter().filter(|window| window.way == Reconcile::AsOf) {
            floor = match &window.held {
                // Its rows are judged by all that is remembered, and by the log ever since.
                Some(_) if !window.recalling => continue,
                Some(held) => floor.min(held.at.clone()),
                None => floor.min(window.moment_floor.clone()),
            };
        }
        let floor = floor.unwrap_or_else(|| self.remembered.floor().clone());
        self.remembered.raise(floor.min(self.delivered.clone()));
        let outdated = self.spilled.outdated(self.remembered.floor());
        actions.extend(outdated.into_iter().map(Action::Forget));
    }
}

/// What came back of each key, taken together in the order in which the log said it.
fn recalled_keys<P: Position>(entries: &[SpillEntry]) -> Result<Vec<Recalled<P>>> {
    let mut recalled: Vec<Recalled<P>> = entries.iter().map(spilled::read).collect::<Result<_>>()?;
    recalled.sort_by_key(|recalled| recalled.run);
    let mut keys: Vec<Recalled<P>> = Vec::new();
    let mut places: HashMap<(usize, Key), usize, BuildHasherDefault<DefaultHasher>> = HashMap::default();
    for later in recalled {
        let at = *places.entry((later.slot, later.key.clone())).or_insert(keys.len());
        match keys.get_mut(at) {
            Some(known) => known.news.merge(&later.news.commit, later.news.touch),
            None => keys.push(later),
        }
    }
    Ok(keys)
}
