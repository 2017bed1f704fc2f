// SPDX-License-Identifier: Apache-2.0
//! The engine's durable state as bytes, version [`CHECKPOINT_VERSION`].
//!
//! In it: the resume point with the place inside a split transaction and the lineage; what snapshots have left to read (an open window
//! counts as unread, a finished chunk does not); keys that wait for repair; forwarded transactions that may be invisible;
//! for `AsOf` without marks, keys that changed after the resume point; tables whose log was lost; the next numbers. Not in it:
//! windows, rows, marks (they belong
//! to a run), limits (they are settings).

use std::collections::HashSet;

use bytes::Bytes;

use crate::checkpoint::Checkpoint;
use crate::connector::Reconcile;
use crate::dblog::byte_form::{Reader, Writer, damaged};
use crate::dblog::chunk_sizer::ChunkSizer;
use crate::dblog::copy::{CopyCounts, CopyState, KeyQueue, TableCopy};
use crate::dblog::engine::Engine;
use crate::dblog::forwarded::Forwarded;
use crate::dblog::input::SnapshotId;
use crate::dblog::mutation::Mutation;
use crate::dblog::renewal::Renewal;
use crate::dblog::settings::EngineSettings;
use crate::dblog::window::{Part, Segment};
use crate::error::{Error, ErrorKind, Result};
use crate::position::{InsideTransaction, Lineage, Position, ResumePoint, TransactionId};
use crate::schema::Key;

/// The form written by this release. Version 1, which says nothing of what a copy's keys mean, version 2, which knows no
/// lineage, and version 3, which says nothing of tables whose log was lost, are read too.
pub const CHECKPOINT_VERSION: u32 = 4;

pub(super) fn save<P: Position>(engine: &Engine<P>) -> Checkpoint {
    let mut out = Writer::default();
    write_resume(&mut out, &engine.resume);
    for number in [engine.next_chunk, engine.next_mark, engine.next_snapshot] {
        out.number(number);
    }
    let forgets = engine.mutated.breaks(Mutation::ForwardedInCheckpoint);
    write_runs(&mut out, if forgets { &[] } else { engine.forwarded.runs() });
    out.list(engine.known.iter(), |out, table| out.table(table));
    out.list(engine.copies.iter(), |out, copy| write_copy(out, engine, copy));
    write_remembered(&mut out, engine);
    out.list(engine.renewals.iter(), |out, renewal| {
        out.table(&renewal.table);
        out.list(renewal.ends.iter(), |out, end| out.number(*end));
        out.flag(renewal.copied);
    });
    Checkpoint {
        connector: engine.kind.clone(),
        version: CHECKPOINT_VERSION,
        bytes: out.finish(),
    }
}

pub(super) fn restore<P: Position>(
    settings: EngineSettings,
    reconcile: Reconcile,
    kind: &str,
    checkpoint: &Checkpoint,
) -> Result<Engine<P>> {
    check_origin(kind, checkpoint)?;
    let mut input = Reader::new(&checkpoint.bytes);
    let resume = read_resume(&mut input, checkpoint.version)?;
    let mut engine = Engine::new(settings, kind, reconcile, resume);
    engine.dirty = false;
    if engine.has_one_moment() {
        // It is gone with the run that read at it.
        engine.reconcile = Reconcile::Window;
    }
    engine.next_chunk = input.number()?;
    engine.next_mark = input.number()?;
    engine.next_snapshot = input.number()?;
    engine.forwarded = Forwarded::from_runs(read_runs(&mut input)?, engine.settings.forwarded_runs_max);
    engine.known = input.list(Reader::table)?.into_iter().collect();
    let copies = input.number()?;
    for _ in 0..copies {
        let copy = read_copy(&mut input, &mut engine, checkpoint.version)?;
        engine.copies.push(copy);
    }
    read_remembered(&mut input, &mut engine)?;
    if checkpoint.version >= 4 {
        engine.renewals = input.list(read_renewal)?;
        engine.copy_renewed();
        engine.dirty |= engine.renewals.iter().any(|renewal| renewal.copied);
    }
    input.finish()?;
    Ok(engine)
}

fn check_origin(kind: &str, checkpoint: &Checkpoint) -> Result<()> {
    if checkpoint.connector != kind {
        return Err(Error::new(
            ErrorKind::Configuration,
            "the checkpoint belongs to a connector of another kind",
        )
        .with("checkpoint", &checkpoint.connector)
        .with("connector", kind)
        .with_fix("give this connector a name of its own"));
    }
    if !(1..=CHECKPOINT_VERSION).contains(&checkpoint.version) {
        return Err(Error::new(
            ErrorKind::Unsuitable,
            "the checkpoint has a form that this release does not read",
        )
        .with("version", checkpoint.version)
        .with("supported", CHECKPOINT_VERSION)
        .with_fix("run the release that wrote it, or a newer one"));
    }
    Ok(())
}

fn write_resume<P: Position>(out: &mut Writer, resume: &ResumePoint<P>) {
    out.octets(&resume.position.encode());
    out.option(resume.inside.as_ref(), |out, inside| {
        out.number(inside.transaction.0);
        out.octets(&inside.change.encode());
        out.number(inside.ordinal);
    });
    out.octets(&resume.lineage.0);
}

fn read_resume<P: Position>(input: &mut Reader<'_>, version: u32) -> Result<ResumePoint<P>> {
    let position = P::decode(input.octets()?)?;
    let inside = input.option(|input| {
        Ok(InsideTransaction {
            transaction: TransactionId(input.number()?),
            change: P::decode(input.octets()?)?,
            ordinal: input.number()?,
        })
    })?;
    let lineage = match version {
        ..3 => Lineage::default(),
        _ => Lineage(Bytes::copy_from_slice(input.octets()?)),
    };
    Ok(ResumePoint {
        position,
        inside,
        lineage,
    })
}

/// Runs are ascending: each is written as its distance from the one before and its length.
fn write_runs(out: &mut Writer, runs: &[(u64, u64)]) {
    let mut before = 0;
    out.list(runs.iter(), |out, &(first, last)| {
        out.number(first - before);
        out.number(last - first);
        before = last;
    });
}

fn read_runs(input: &mut Reader<'_>) -> Result<Vec<(u64, u64)>> {
    let mut before = 0u64;
    input.list(|input| {
        let first = before
            .checked_add(input.number()?)
            .ok_or_else(|| damaged("a transaction id is too large"))?;
        before = first
            .checked_add(input.number()?)
            .ok_or_else(|| damaged("a transaction id is too large"))?;
        Ok((first, before))
    })
}

fn write_copy<P: Position>(out: &mut Writer, engine: &Engine<P>, copy: &TableCopy) {
    out.number(copy.snapshot.0);
    out.table(&copy.table);
    out.option(copy.condition.as_ref(), |out, condition| {
        out.octets(condition.as_bytes())
    });
    out.flag(copy.whole);
    out.number(state_number(copy.state));
    let counts = copy.counts;
    for number in [
        counts.chunks_done,
        counts.rows_read,
        counts.rows_dropped,
        counts.rows_emitted,
    ] {
        out.number(number);
    }
    let open = engine
        .windows
        .iter()
        .filter(|w| w.snapshot == copy.snapshot && w.slot == copy.slot)
        .filter(|_| !engine.mutated.breaks(Mutation::OpenWindowInCheckpoint))
        .map(|w| &w.part);
    let mut segments: Vec<&Segment> = Vec::new();
    let mut keys: Vec<&Key> = Vec::new();
    for part in open.chain(&copy.waiting) {
        match part {
            Part::Segment(segment) => segments.push(segment),
            Part::Keys(part) => keys.extend(part),
        }
    }
    segments.extend(&copy.todo);
    keys.extend(copy.keys.iter());
    let mut written = HashSet::new();
    keys.retain(|key| written.insert(*key));
    out.list(segments.into_iter(), |out, segment| {
        out.option(segment.after.as_ref(), |out, key| out.key(key));
        out.option(segment.through.as_ref(), |out, key| out.key(key));
    });
    out.list(keys.into_iter(), |out, key| out.key(key));
    out.option(copy.basis.as_ref(), |out, basis| out.number(*basis));
}

fn read_copy<P: Position>(input: &mut Reader<'_>, engine: &mut Engine<P>, version: u32) -> Result<TableCopy> {
    let snapshot = SnapshotId(input.number()?);
    let table = input.table()?;
    let slot = engine.slot(&table);
    let condition = input.option(Reader::text)?;
    let whole = input.flag()?;
    let state = state_of(input.number()?)?;
    let counts = CopyCounts {
        chunks_done: input.number()?,
        rows_read: input.number()?,
        rows_dropped: input.number()?,
        rows_emitted: input.number()?,
    };
    let segments = input.list(|input| {
        let after = input.option(Reader::key)?;
        Ok(Segment {
            after,
            through: input.option(Reader::key)?,
        })
    })?;
    let mut keys = KeyQueue::default();
    input.list(Reader::key)?.into_iter().for_each(|key| keys.push(key));
    let basis = if version >= 2 {
        input.option(Reader::number)?
    } else {
        None
    };
    if engine.reconcile == Reconcile::Version {
        engine.cells.entry(slot).or_default();
    }
    Ok(TableCopy {
        snapshot,
        slot,
        table,
        condition,
        whole,
        way: engine.way_of_new_copies(false),
        again: false,
        basis,
        state,
        todo: segments.into(),
        keys,
        waiting: Vec::new(),
        sizer: ChunkSizer::new(&engine.settings),
        counts,
    })
}

fn read_renewal(input: &mut Reader<'_>) -> Result<Renewal> {
    let table = input.table()?;
    let ends = input.list(Reader::number)?;
    let mut renewal = Renewal::new(table, ends);
    renewal.copied = input.flag()?;
    Ok(renewal)
}

fn write_remembered<P: Position>(out: &mut Writer, engine: &Engine<P>) {
    // After a crash there are windows: no chunk of the next run is judged by it.
    let entries = match engine.has_one_moment() {
        true => Vec::new(),
        false => engine.remembered.after(&engine.resume.position),
    };
    out.list(entries.into_iter(), |out, (slot, key, news)| {
        out.table(&engine.tables[slot].name);
        out.key(key);
        out.octets(&news.commit.encode());
        out.touch(news.touch);
    });
}

fn read_remembered<P: Position>(input: &mut Reader<'_>, engine: &mut Engine<P>) -> Result<()> {
    let entries = input.list(|input| {
        Ok((
            input.table()?,
            input.key()?,
            P::decode(input.octets()?)?,
            input.touch()?,
        ))
    })?;
    for (table, key, commit, touch) in entries {
        let slot = engine.slot(&table);
        engine.remembered.record(slot, key, &commit, touch);
        engine.newest_commit = engine.newest_commit.clone().max(commit);
    }
    Ok(())
}

fn state_number(state: CopyState) -> u64 {
    match state {
        CopyState::Running => 0,
        CopyState::Paused => 1,
        CopyState::Completed => 2,
        CopyState::Cancelled => 3,
        CopyState::Failed => 4,
    }
}

fn state_of(number: u64) -> Result<CopyState> {
    Ok(match number {
        0 => CopyState::Running,
        1 => CopyState::Paused,
        2 => CopyState::Completed,
        3 => CopyState::Cancelled,
        4 => CopyState::Failed,
        _ => return Err(damaged("a copy is in no known state")),
    })
}
