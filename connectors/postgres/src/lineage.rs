// SPDX-License-Identifier: Apache-2.0
//! Whether a checkpoint's position is one of this server's history.
//!
//! A position is a number, and every server of a cluster counts alike: after a promotion the same number may stand for
//! other changes. So a checkpoint says which history its position is of ([`PgLineage`]), and before the log is opened
//! [`judge`] compares that with what the server says of itself:
//!
//! ```text
//! timeline 1 ────────┬───────────────▶   the old primary
//!                    └─ 2 ──────┬────▶   a standby that was promoted at B
//!                               └─ 3 ▶   a standby of that one: a checkpoint of 1 at or before B, or of 2, goes on here
//!     another 2 ──┘                      a standby that was promoted besides: a checkpoint of the first 2 does not
//! ```
//!
//! 1. The cluster must be the same, by its system identifier.
//! 2. The checkpoint's timeline must be the server's own or one that it came from, and have branched off at the same place.
//! 3. The position must not lie behind the place where the server's history left that timeline: what was delivered from
//!    there on is not in this server.
//! 4. Two standbys that were promoted at the same place bear the same numbers. Their first records differ, by the time that
//!    is in them: those bytes are the timeline's birth. A server may have recycled them, but not one whose slot was never
//!    read after its promotion, for the slot keeps the log from before it.
//! 5. A server that takes writes must have a log that reaches the position.
//!
//! A server process never leaves its history: while the same one runs nothing need be compared but 5. That carries a
//! standby over its promotion, where what is delivered before anybody noticed bears the old timeline.
//!
//! Beside it a checkpoint keeps which partitions were seen: see `log_reader::partitions`.

use crate::protocol::Lsn;
use highwater_core::position::Lineage;
use highwater_core::{Error, ErrorKind, Result};

/// The form of the bytes.
const VERSION: u8 = 2;
/// A record's header, with the checksum of its content.
const RECORD_HEADER_BYTES: usize = 24;
/// A page's header, at its longest, and a record's.
const BIRTH_BYTES_MAX: usize = 40 + RECORD_HEADER_BYTES;
/// A page of the log.
const PAGE_BYTES: u64 = 8_192;

/// The history that a position is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PgLineage {
    /// The cluster.
    pub(crate) system: u64,
    /// The timeline.
    pub(crate) timeline: u32,
    /// Where the timeline branched off.
    pub(crate) begin: Lsn,
    /// The first bytes of the timeline's log, where they could be read; empty else.
    pub(crate) birth: Vec<u8>,
    /// When the server process was started, microseconds since 1970 by its clock.
    pub(crate) process_start_us: i64,
    /// What this transaction or a later one made a partition may not have been copied.
    pub(crate) partitions_unseen_since: u64,
}

/// A timeline that a server's own came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ancestor {
    pub(crate) timeline: u32,
    /// Where the server's history left it.
    pub(crate) end: Lsn,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) system: u64,
    pub(crate) timeline: u32,
    /// The oldest first.
    pub(crate) ancestors: Vec<Ancestor>,
    /// The end of its log.
    pub(crate) end: Lsn,
    pub(crate) in_recovery: bool,
    pub(crate) process_start_us: i64,
}

impl PgLineage {
    pub(crate) fn encode(&self) -> Lineage {
        let mut bytes = vec![VERSION];
        bytes.extend(self.system.to_be_bytes());
        bytes.extend(self.timeline.to_be_bytes());
        bytes.extend(self.begin.0.to_be_bytes());
        bytes.extend(self.process_start_us.to_be_bytes());
        bytes.extend(self.partitions_unseen_since.to_be_bytes());
        bytes.extend(&self.birth);
        Lineage(bytes.into())
    }

    /// Reads a checkpoint's lineage; `None` where it has none.
    pub(crate) fn decode(lineage: &Lineage) -> Result<Option<Self>> {
        let Some((version, bytes)) = lineage.0.split_first() else {
            return Ok(None);
        };
        let fields = || {
            let (system, bytes) = bytes.split_first_chunk()?;
            let (timeline, bytes) = bytes.split_first_chunk()?;
            let (begin, bytes) = bytes.split_first_chunk()?;
            let (start, bytes) = bytes.split_first_chunk()?;
            let (unseen_since, birth) = bytes.split_first_chunk()?;
            Some(Self {
                system: u64::from_be_bytes(*system),
                timeline: u32::from_be_bytes(*timeline),
                begin: Lsn(u64::from_be_bytes(*begin)),
                process_start_us: i64::from_be_bytes(*start),
                partitions_unseen_since: u64::from_be_bytes(*unseen_since),
                birth: birth.to_vec(),
            })
        };
        let read = fields().filter(|read| *version == VERSION && read.birth.len() <= BIRTH_BYTES_MAX);
        read.map(Some).ok_or_else(|| {
            let what = "the checkpoint's lineage has a form that this release does not read";
            Error::new(ErrorKind::Unsuitable, what).with_fix("run the release that wrote it, or a newer one")
        })
    }

    /// How many bytes a timeline that begins at `begin` is known by: its first record's header, and the header of a page
    /// that comes before it or within.
    pub(crate) fn birth_bytes(begin: Lsn) -> usize {
        let in_page = begin.0 % PAGE_BYTES;
        match in_page == 0 || PAGE_BYTES - in_page < RECORD_HEADER_BYTES as u64 {
            true => BIRTH_BYTES_MAX,
            false => RECORD_HEADER_BYTES,
        }
    }
}

impl History {
    /// Reads a timeline's history file: a line for each ancestor, with its number and where it was left.
    pub(crate) fn ancestors(file: &str) -> Option<Vec<Ancestor>> {
        let lines = file.lines().map(str::trim);
        let told = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        told.map(|line| {
            let mut words = line.split_whitespace();
            Some(Ancestor {
                timeline: words.next()?.parse().ok()?,
                end: words.next()?.parse().ok()?,
            })
        })
        .collect()
    }

    /// Where a timeline of this history begins; `None` for one that is not of it.
    pub(crate) fn begin_of(&self, timeline: u32) -> Option<Lsn> {
        let mut begin = Lsn::ZERO;
        for ancestor in &self.ancestors {
            if ancestor.timeline == timeline {
                return Some(begin);
            }
            begin = ancestor.end;
        }
        (timeline == self.timeline).then_some(begin)
    }

    /// Where this history left a timeline; `None` if it did not.
    fn end_of(&self, timeline: u32) -> Option<Lsn> {
        let mut ancestors = self.ancestors.iter();
        ancestors
            .find(|ancestor| ancestor.timeline == timeline)
            .map(|ancestor| ancestor.end)
    }
}

/// Judges whether a log of `history` that is opened at `position` goes on where a checkpoint of `known` stopped, as far as
/// numbers tell. `Ok(true)`: if the birth of the checkpoint's timeline is the same here.
pub(crate) fn judge(known: Option<&PgLineage>, history: &History, position: Lsn) -> Result<bool> {
    if !history.in_recovery && position > history.end {
        let what = "the server's log ends before the checkpoint: it lost what was delivered, or it is another server";
        return Err(lost(what.into(), position).with("end", history.end));
    }
    let Some(known) = known else { return Ok(false) };
    if known.system != history.system {
        let what = format!(
            "the checkpoint is of the database cluster {}, and the server is of {}",
            known.system, history.system
        );
        return Err(lost(what, position));
    }
    if known.process_start_us == history.process_start_us {
        return Ok(false);
    }
    let (timeline, own) = (known.timeline, history.timeline);
    let Some(begin) = history.begin_of(timeline) else {
        let what = format!("the checkpoint is of timeline {timeline}, on which the server, now on {own}, never was");
        return Err(lost(what, position));
    };
    if begin != known.begin {
        let what = format!(
            "the checkpoint is of a timeline {timeline} that began at {}, and the server's began at {begin}: two standbys were \
             promoted",
            known.begin
        );
        return Err(lost(what, position));
    }
    match history.end_of(timeline) {
        Some(end) if position > end => {
            let what = format!(
                "the server left timeline {timeline} at {end}, before the checkpoint: what was delivered since is not in it"
            );
            Err(lost(what, position))
        }
        _ => Ok(!known.birth.is_empty()),
    }
}

/// The error of a timeline that has the right number and began at the right place, but with another record.
pub(crate) fn other_birth(known: &PgLineage, position: Lsn) -> Error {
    let what = format!(
        "the checkpoint is of another timeline {} that began at {}: two standbys were promoted at the same place",
        known.timeline, known.begin
    );
    lost(what, position)
}

fn lost(what: String, position: Lsn) -> Error {
    Error::new(ErrorKind::PositionLost, what)
        .with("checkpoint", position)
        .with_fix(
            "name the server in `host` or `hosts` that the checkpoint is of; if it is gone, topics and server have parted: \
             to go on, run `highwater renew` with the pipeline's file: the next run copies every table again and sends a \
             delete for each row that is gone",
        )
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
mod tests;
