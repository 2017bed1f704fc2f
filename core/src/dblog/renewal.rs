// SPDX-License-Identifier: Apache-2.0
//! A log that begins anew: how readers who have what left before the gap come to have what the source has now.
//!
//! ```text
//!   topic   …k1 k2 k3 …  │ k1(r)  k9(c)  k1(u) …           │ k2(d)
//!                        ends: where the gap lies           │ deletes: there before the gap, not behind it
//!   engine  begin_anew ──┴─ copy of the whole table ── copied ── Watch, SaveCheckpoint ── saved ── Compare ── Remove
//! ```
//!
//! # Why it holds
//!
//! Let the new log begin at P, and let key `k` have been alive downstream when the old one ended (its last record before
//! `ends` is not a tombstone). *A key without a record since is gone*: if a row of `k` was there at P and the log did not
//! touch `k` since, then it is there still, every read between marks found it and no window dropped it, so the copy of the
//! whole table, which began behind P, has sent it. If the log did touch `k`, its event is a record. So when the copy is
//! over, a key without a record since `ends` was not there at P and did not come since: it is absent at every position that
//! was delivered, and its delete may leave at once. *Nothing stale*: an insert that is yet to be delivered leaves behind the
//! delete. What leaves while keys are compared is watched: [`Action::Watch`] comes before the checkpoint behind which
//! records are read, so each event is read or watched, and a key that was watched is not removed.
//!
//! *Crashes.* The checkpoint names the tables, their `ends`, and whether the copy is over; the copy goes on as every copy
//! does. What was sent since `ends` is in the topics and nowhere else, deletes too: a comparison that is begun again finds
//! a key that was removed with a record since, so no delete is lost and none leaves twice. A log that is lost again in the
//! meantime begins anew with new `ends`: a key that was not yet compared is alive before those as well.
//!
//! The engine does not know how keys look in a topic, so whoever drives it compares them; it says when. A driver that has
//! room for some keys only compares part by part, and each part from a watch of its own on
//! ([`crate::dblog::input::Input::CompareAgain`]): the argument is about one key, and holds for each.

use crate::checkpoint::CheckpointId;
use crate::dblog::action::{Action, Report};
use crate::dblog::copy::TableCopy;
use crate::dblog::engine::Engine;
use crate::dblog::forwarded::Forwarded;
use crate::dblog::input::{SnapshotId, SnapshotRows, SnapshotScope};
use crate::dblog::mutation::Mutation;
use crate::position::{Position, ResumePoint};
use crate::schema::TableName;

/// A table whose log was lost, on its way to being right again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The table.
    pub table: TableName,
    /// Per partition of its topic, the next record to be written when the log began anew.
    pub ends: Vec<u64>,
    /// Whether the copy of the whole table is over, so that keys can be compared.
    pub copied: bool,
    pub(super) stage: Stage,
}

/// How far the comparison of keys is, in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is to be asked for with the next checkpoint.
    Waiting,
    /// What leaves is watched; records are read once this checkpoint is durable.
    Watched(CheckpointId),
    /// Keys are compared.
    Comparing,
    /// Keys that are gone wait for the end of a transaction. Whether they are the last.
    Due(bool),
    /// It failed, and waits for word that it may be tried again.
    Failed,
}

impl Renewal {
    /// A renewal that has just begun.
    pub fn new(table: TableName, ends: Vec<u64>) -> Self {
        Renewal {
            table,
            ends,
            copied: false,
            stage: Stage::Waiting,
        }
    }

    fn is_compared(&self) -> bool {
        matches!(self.stage, Stage::Watched(_) | Stage::Comparing | Stage::Due(_))
    }
}

impl<P: Position> Engine<P> {
    /// Gives up the position of the checkpoint that this engine was restored from: the log begins anew at `start`. Each of
    /// `tables` is copied whole and then compared; other copies that had not ended are given up, and their tables count as
    /// never copied. Before the first step.
    pub fn begin_anew(&mut self, start: ResumePoint<P>, tables: Vec<Renewal>) {
        self.delivered = start.position.clone();
        self.newest_commit = start.position.clone();
        self.remembered.clear(start.position.clone());
        self.skip = start.inside.clone();
        self.resume = start;
        self.forwarded = Forwarded::new(self.settings.forwarded_runs_max);
        for copy in std::mem::take(&mut self.copies) {
            self.known.remove(&copy.table);
        }
        self.renewals = tables;
        self.copy_renewed();
        self.dirty = true;
    }

    /// Gives up the renewals of tables that are not captured any more, and says of which. A copy of theirs that runs ends,
    /// and when they are captured again they count as never copied. Before the first step.
    pub fn keep_renewals(&mut self, is_captured: impl Fn(&TableName) -> bool) -> Vec<TableName> {
        let given_up = self.renewals.extract_if(.., |one| !is_captured(&one.table));
        let tables: Vec<TableName> = given_up.map(|one| one.table).collect();
        for table in &tables {
            self.copies.retain(|copy| !copy.whole || copy.table != *table);
            self.known.remove(table);
            self.dirty = true;
        }
        tables
    }

    /// Tables whose log was lost and that are not right yet.
    pub fn renewals(&self) -> &[Renewal] {
        &self.renewals
    }

    /// Whether a table waits for a copy that nobody makes: it was cancelled. Until one of all its rows is asked for, or the
    /// engine is restored, what is gone of it stays downstream.
    pub fn is_held_up(&self, renewal: &Renewal) -> bool {
        let copies = |copy: &TableCopy| copy.whole && !copy.is_over() && copy.table == renewal.table;
        !renewal.copied && !self.copies.iter().any(copies)
    }

    /// Every table that is not copied yet has a copy that runs.
    pub(super) fn copy_renewed(&mut self) {
        let lacking = self.renewals.iter().filter(|one| self.is_held_up(one));
        let tables: Vec<TableName> = lacking.map(|one| one.table.clone()).collect();
        if !tables.is_empty() {
            let snapshot = SnapshotId(self.next_snapshot);
            self.next_snapshot += 1;
            self.dirty = true;
            for table in tables {
                let rows = SnapshotRows::All { starts: Vec::new() };
                self.add_copy(snapshot, SnapshotScope { table, rows }, false);
            }
        }
    }

    /// A person cancelled copies of these tables. A renewal that needed one says so.
    pub(super) fn cancelled(&mut self, tables: &[TableName], actions: &mut Vec<Action<P>>) {
        let concerned = |one: &&Renewal| tables.contains(&one.table) && self.is_held_up(one);
        for renewal in self.renewals.iter().filter(concerned) {
            actions.push(Action::Report(Report {
                table: renewal.table.clone(),
                chunk: None,
                code: "renewal_cancelled".to_owned(),
                message: "the copy that makes the table right again after its log was lost is cancelled: rows that changed \
                          meanwhile are stale downstream, and rows that are gone remain there, until a copy of all its rows is \
                          made; the next run begins one, or ask for it now"
                    .to_owned(),
            }));
        }
    }

    /// A copy of this whole table is over.
    pub(super) fn copied_whole(&mut self, table: &TableName) {
        for renewal in self.renewals.iter_mut().filter(|one| one.table == *table) {
            renewal.copied = true;
            self.dirty = true;
        }
    }

    /// Before checkpoint `id`: what leaves from here on may not have been read when keys are compared. One table at a time,
    /// so that the driver's memory holds the keys of one.
    pub(super) fn watch(&mut self, id: CheckpointId, actions: &mut Vec<Action<P>>) {
        let late = self.mutated.breaks(Mutation::WatchBeforeCompare);
        let waits = |one: &&mut Renewal| one.copied && one.stage == Stage::Waiting;
        if self.renewals.iter().any(Renewal::is_compared) {
            return;
        }
        if let Some(renewal) = self.renewals.iter_mut().find(waits) {
            renewal.stage = Stage::Watched(id);
            if !late {
                actions.push(Action::Watch(renewal.table.clone()));
            }
        }
    }

    /// Checkpoint `id` is durable, and with it everything that left before what is watched.
    pub(super) fn compare(&mut self, id: CheckpointId, actions: &mut Vec<Action<P>>) {
        let late = self.mutated.breaks(Mutation::WatchBeforeCompare);
        let is_durable = |one: &&mut Renewal| matches!(one.stage, Stage::Watched(watched) if watched <= id);
        for renewal in self.renewals.iter_mut().filter(is_durable) {
            renewal.stage = Stage::Comparing;
            if late {
                actions.push(Action::Watch(renewal.table.clone()));
            }
            actions.push(Action::Compare {
                table: renewal.table.clone(),
                ends: renewal.ends.clone(),
            });
        }
    }

    /// Keys were compared; those that are gone leave between transactions.
    pub(super) fn compared(&mut self, table: &TableName, last: bool, actions: &mut Vec<Action<P>>) {
        for renewal in self.renewals.iter_mut().filter(|one| one.table == *table) {
            if renewal.stage == Stage::Comparing {
                renewal.stage = Stage::Due(last);
            }
        }
        self.remove_due(actions);
    }

    /// A table cannot be compared for now. What was found of it and did not leave yet is forgotten.
    pub(super) fn compare_failed(&mut self, table: &TableName) {
        for renewal in self.renewals.iter_mut().filter(|one| one.table == *table) {
            renewal.stage = Stage::Failed;
        }
    }

    /// A comparison is to be made again, or gone on with; the same of what was found.
    pub(super) fn compare_again(&mut self, table: &TableName) {
        for renewal in self.renewals.iter_mut().filter(|one| one.table == *table) {
            renewal.stage = Stage::Waiting;
            self.dirty = true;
        }
    }

    /// Lets the deletes of keys that are gone leave. Only between transactions.
    pub(super) fn remove_due(&mut self, actions: &mut Vec<Action<P>>) {
        if self.open.is_some() {
            return;
        }
        let (position, dirty) = (&self.delivered, &mut self.dirty);
        self.renewals.retain_mut(|renewal| {
            let Stage::Due(last) = renewal.stage else { return true };
            renewal.stage = Stage::Comparing;
            *dirty = true;
            actions.push(Action::Remove {
                table: renewal.table.clone(),
                position: position.clone(),
                last,
            });
            !last
        });
    }
}
