// SPDX-License-Identifier: Apache-2.0
//! What may happen next in a life, and how often.

use highwater_core::dblog::input::{Control, Input, SnapshotRows, SnapshotScope};
use highwater_core::error::Class;
use highwater_core::position::MarkPlace;
use highwater_testkit::fault::Strike;
use highwater_testkit::model::read::See;
use highwater_testkit::model::rows::PARTITION_ROWS;
use highwater_testkit::model::{ModelPosition, Write};
use rand::Rng;

use crate::life::{Asked, Cursor, Life, Reply};
use crate::scenario::Source;

impl Life<'_> {
    fn one_in(&mut self, many: u32) -> bool {
        self.rng.random_range(0..many) == 0
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// One step of an unquiet time.
    pub(crate) fn unrest(&mut self) -> Result<(), String> {
        if self.rng.random_range(0..1_000) < self.scenario.crash_permille {
            if self.rng.random() {
                self.commit_everything()?;
            }
            return self.crash();
        }
        match self.rng.random_range(0..100) {
            0..22 => self.write(),
            22..30 => self.end_transaction(),
            30..36 => self.reveal(),
            36..56 => {
                let items_max = self.rng.random_range(1..=6);
                return self.deliver(items_max);
            }
            56..70 => self.do_asked(),
            70..82 => return self.do_reply(),
            82..85 => return self.step(Input::Retry),
            85..89 => return self.step(Input::CheckpointDue),
            89..92 => self.outlet.commit(),
            92..94 => return self.hear_of_commit(),
            94..96 => self.do_acknowledge(),
            96..98 => return self.request_missing(),
            98 => return self.steer(),
            _ => return self.rare(),
        }
        Ok(())
    }

    /// A row comes back while its delete may be on its way: what a renewal has to get right.
    fn come_back(&mut self) {
        let compares = self.engine.renewals().iter().any(|renewal| renewal.copied);
        if self.come_back == 0 || !compares || !self.one_in(8) {
            return;
        }
        self.come_back -= 1;
        let table = self.rng.random_range(0..self.scenario.tables);
        let mut gone = (0..self.scenario.ids).filter(|id| self.database.last(table, *id).is_none());
        if let Some(id) = gone.next_back() {
            let xid = self.database.begin(vec![Write::Put { table, id, big: true }]);
            self.database.commit(xid, true);
        }
    }

    /// Everything that the log has becomes durable, whether a read would see it or not.
    fn commit_everything(&mut self) -> Result<(), String> {
        self.deliver(64)?;
        self.step(Input::CheckpointDue)?;
        while self.outlet.is_asked() {
            self.outlet.commit();
        }
        Ok(())
    }

    /// One step on the way to rest: the same machinery, without writers and faults.
    pub(crate) fn calm_step(&mut self) -> Result<(), String> {
        self.come_back();
        match self.rng.random_range(0..7) {
            0 => self.deliver(16)?,
            1 => self.do_asked(),
            2 => self.do_reply()?,
            3 => self.step(Input::Retry)?,
            4 => self.step(Input::CheckpointDue)?,
            5 => self.outlet.commit(),
            _ => {
                self.hear_of_commit()?;
                self.do_acknowledge();
            }
        }
        Ok(())
    }

    fn write(&mut self) {
        let writes = (0..self.rng.random_range(1..=4)).map(|_| self.one_write()).collect();
        let xid = self.database.begin(writes);
        if !self.one_in(4) {
            self.commit(xid);
        }
    }

    fn one_write(&mut self) -> Write {
        let table = self.rng.random_range(0..self.scenario.tables);
        let id = self.rng.random_range(0..self.scenario.ids);
        let moves = !self.scenario.source.is_unordered();
        match self.rng.random_range(0..20) {
            0..12 => Write::Put {
                table,
                id,
                big: !self.percent(self.scenario.partial_percent),
            },
            12..16 => Write::Delete { table, id },
            16..18 if moves => Write::Move {
                table,
                id,
                to: self.rng.random_range(0..self.scenario.ids),
            },
            16..18 if self.scenario.source == Source::WriteTimes => self.delete_range(table, id),
            _ => Write::Elsewhere,
        }
    }

    /// A whole partition, or some rows of one.
    fn delete_range(&mut self, table: usize, id: u64) -> Write {
        let first = id - id % PARTITION_ROWS;
        let last = first + PARTITION_ROWS - 1;
        let (from, through) = match self.rng.random_range(0..4) {
            0 => (first, last),
            1 => (first, id),
            2 => (id, last),
            _ => (id, id),
        };
        Write::DeleteRange { table, from, through }
    }

    fn commit(&mut self, xid: u64) {
        let visible = !self.percent(self.scenario.invisible_percent);
        self.database.commit(xid, visible);
    }

    fn end_transaction(&mut self) {
        let open: Vec<u64> = self.database.open_transactions().collect();
        if self.one_in(10) {
            self.database.waste_xid();
        }
        if open.is_empty() {
            return;
        }
        let xid = open[self.rng.random_range(0..open.len())];
        if self.one_in(8) {
            self.database.rollback(xid);
        } else {
            self.commit(xid);
        }
    }

    fn reveal(&mut self) {
        let invisible: Vec<u64> = self.database.invisible_transactions().collect();
        if !invisible.is_empty() && self.one_in(self.scenario.reveals_one_in) {
            self.database
                .reveal(invisible[self.rng.random_range(0..invisible.len())]);
        }
    }

    pub(crate) fn settle_transactions(&mut self) {
        for xid in self.database.open_transactions().collect::<Vec<_>>() {
            self.database.commit(xid, true);
        }
        for xid in self.database.invisible_transactions().collect::<Vec<_>>() {
            self.database.reveal(xid);
        }
    }

    /// The database does one of the things that it was asked for; it may fail before or behind it.
    fn do_asked(&mut self) {
        if self.store.is_asked() && (self.asked.is_empty() || self.rng.random()) {
            return self.do_store();
        }
        if self.asked.is_empty() {
            return;
        }
        let asked = self.asked.swap_remove(self.rng.random_range(0..self.asked.len()));
        let chunk = match &asked {
            Asked::Mark(_, chunk) => *chunk,
            Asked::Read(request) => request.chunk,
        };
        let fails = !self.calm && self.percent(self.scenario.fault_percent);
        if fails && self.rng.random() {
            self.replies.push(Reply::Failed(chunk, Class::Retryable));
            return;
        }
        let reply = self.reply_to(asked);
        self.replies.push(if fails {
            Reply::Failed(chunk, Class::Retryable)
        } else {
            reply
        });
    }

    fn reply_to(&mut self, asked: Asked) -> Reply {
        match asked {
            Asked::Mark(mark, _) if self.scenario.source == Source::MarksAtPositions => {
                Reply::Marked(mark, MarkPlace::AtPosition(ModelPosition(self.database.end())))
            }
            Asked::Mark(mark, _) => {
                self.database.mark(mark, self.run);
                Reply::Marked(mark, MarkPlace::InLog(mark))
            }
            Asked::Read(request) => {
                let chunk = request.chunk;
                let see = self.see(request.at_start);
                let rows = match self.scenario.source {
                    Source::WriteTimes => self.database.read_with_write_times(&request),
                    _ => self.database.read(&request, see),
                };
                rows.map_or(Reply::Failed(chunk, Class::User), |rows| Reply::Read(chunk, rows))
            }
        }
    }

    fn do_store(&mut self) {
        let fails = !self.calm && self.percent(self.scenario.fault_percent);
        let strike = if self.rng.random() {
            Strike::Before
        } else {
            Strike::After
        };
        let reply = self.store.act(fails.then_some(strike));
        self.replies.extend(reply.map(Reply::Stored));
    }

    fn see(&mut self, at_start: bool) -> See {
        match self.scenario.source {
            Source::MarksInLog | Source::MarksAtPositions => See::Transactions,
            Source::OneOrder | Source::WriteTimes => See::Ordered,
            Source::ExportedSnapshot if at_start => See::At(self.log_start),
            Source::ExportedSnapshot => See::Transactions,
            Source::Moments | Source::OrderedMoments => {
                let resolved = match &self.cursor {
                    Cursor::Unordered(cursor) => cursor.resolved(),
                    Cursor::Ordered(cursor) => cursor.position(),
                };
                See::At(self.rng.random_range(resolved..=self.database.end()))
            }
        }
    }

    /// Something happens in the database while nobody captures it.
    pub(crate) fn live_unwatched(&mut self) {
        match self.rng.random_range(0..8) {
            0..5 => self.write(),
            5..7 => self.end_transaction(),
            _ => self.reveal(),
        }
    }

    fn do_compare(&mut self) -> Result<(), String> {
        let fails = !self.calm && self.percent(self.scenario.fault_percent);
        if let Some(table) = self.renewals.again() {
            return self.step(Input::CompareAgain(table));
        }
        match self.renewals.act(&self.outlet.committed, fails) {
            Some((table, Ok(last))) => self.step(Input::Compared { table, last }),
            // More left than a driver can watch, or a topic cannot be read.
            Some((_, Err(()))) if self.rng.random() => Ok(()),
            Some((table, Err(()))) => self.step(Input::CompareFailed(table)),
            None => Ok(()),
        }
    }

    fn do_reply(&mut self) -> Result<(), String> {
        if self.renewals.is_asked() && (self.replies.is_empty() || self.rng.random()) {
            return self.do_compare();
        }
        if self.replies.is_empty() {
            return Ok(());
        }
        let reply = self.replies.swap_remove(self.rng.random_range(0..self.replies.len()));
        self.step(match reply {
            Reply::Marked(mark, place) => Input::MarkWritten { mark, place },
            Reply::Read(chunk, rows) => Input::ChunkRead { chunk, rows },
            Reply::Stored(input) => input,
            Reply::Failed(chunk, class) => Input::ChunkFailed {
                chunk,
                class,
                message: "injected".to_owned(),
            },
        })
    }

    fn hear_of_commit(&mut self) -> Result<(), String> {
        match self.outlet.reply() {
            Some(id) => self.step(Input::CheckpointSaved(id)),
            None => Ok(()),
        }
    }

    fn do_acknowledge(&mut self) {
        if let Some(position) = self.acknowledge.take() {
            self.database.acknowledged = self.database.acknowledged.max(position);
        }
    }

    /// A person steers.
    fn steer(&mut self) -> Result<(), String> {
        let Some(&snapshot) = self.running.iter().next() else {
            return Ok(());
        };
        let control = match self.rng.random_range(0..9) {
            0..3 => Control::Pause(snapshot),
            3..6 => Control::Resume(snapshot),
            6 => Control::Throttle {
                windows_max: self.rng.random_range(0..4),
            },
            7 => Control::Spare(self.one_in(2)),
            _ => {
                self.incomplete.extend(0..self.scenario.tables);
                Control::Cancel(snapshot)
            }
        };
        self.step(Input::Control(control))
    }

    /// A truncation, a new column, a table dropped, a snapshot gone, an extra copy, a horizon.
    fn rare(&mut self) -> Result<(), String> {
        let table = self.rng.random_range(0..self.scenario.tables);
        let ordered = !self.scenario.source.is_unordered();
        match self.rng.random_range(0..12) {
            0..2 if ordered => {
                self.database.truncate(table);
            }
            2..5 => {
                self.database.add_column(table);
            }
            5 if self.one_in(4) => {
                self.database.drop_table(table);
            }
            6..8 => {
                let horizon = self.database.view().xmin;
                return self.step(Input::VisibilityHorizon(horizon));
            }
            8 if self.scenario.source == Source::ExportedSnapshot => {
                let why = "it was let go".to_owned();
                return self.step(Input::SnapshotGone { why });
            }
            _ => return self.extra_copy(table),
        }
        Ok(())
    }

    fn extra_copy(&mut self, table: usize) -> Result<(), String> {
        if self.database.tables[table].dropped {
            return Ok(());
        }
        let ids = self.scenario.ids;
        let of_table = &self.database.tables[table];
        let mut key = || of_table.key_of(self.rng.random_range(0..ids));
        let (a, b, c) = (key(), key(), key());
        let rows = match self.rng.random_range(0..4) {
            0 => SnapshotRows::Keys(vec![a, b, c]),
            1 => SnapshotRows::Range {
                after: Some(a),
                through: None,
            },
            2 => SnapshotRows::Range {
                after: None,
                through: Some(a),
            },
            _ => SnapshotRows::Condition("even".into()),
        };
        let table = of_table.name().clone();
        let mut scopes = vec![SnapshotScope {
            table: table.clone(),
            rows,
        }];
        if self.one_in(3) {
            // A second scope of the table is a snapshot of its own.
            let rows = SnapshotRows::All { starts: Vec::new() };
            scopes.push(SnapshotScope { table, rows });
        }
        self.step(Input::Snapshot(scopes))
    }
}
