// SPDX-License-Identifier: Apache-2.0
//! The notation of GTID sets: `uuid:1-5:7:tag:1-3, uuid:2`.

use std::fmt;
use std::str::FromStr;

use super::set::{Gtid, GtidSet};
use super::source::{SourceUuid, Tag, TransactionSource};
use super::walk::Part;
use super::{GtidError, Interval};

impl FromStr for GtidSet {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut set = GtidSet::default();
        let whole = Part::whole(text);
        if whole.text.is_empty() {
            return Ok(set);
        }
        for server in whole.split(',') {
            read_server(&mut set, server)?;
        }
        Ok(set)
    }
}

/// Reads one server's part, `uuid:1-5:7:tag:1-3`: what follows a tag is of that tag.
fn read_server(set: &mut GtidSet, server: Part<'_>) -> Result<(), GtidError> {
    let mut parts = server.split(':');
    let uuid = parts.next().unwrap_or(server);
    let mut source = TransactionSource {
        uuid: SourceUuid::parse(uuid.text).ok_or_else(|| uuid.malformed("no server UUID"))?,
        tag: Tag::default(),
    };
    // Where a source was named that has had no number yet.
    let mut unnumbered = Some(server);
    for part in parts {
        if part.text.starts_with(|first: char| first.is_ascii_digit()) {
            set.insert(&source, read_interval(part)?);
            unnumbered = None;
        } else {
            let named_before = unnumbered.is_some() && !source.tag.is_none();
            let tag = Tag::parse(part.text).filter(|tag| !tag.is_none() && !named_before);
            source.tag = tag.ok_or_else(|| part.malformed("neither a number nor a tag"))?;
            unnumbered = Some(part);
        }
    }
    unnumbered.map_or(Ok(()), |part| Err(part.malformed("no number")))
}

fn read_interval(part: Part<'_>) -> Result<Interval, GtidError> {
    let mut ends = part.split('-');
    let first_part = ends.next().unwrap_or(part);
    let first: u64 = first_part.number("no transaction number")?;
    let last = match ends.next() {
        Some(last) => last.number("no transaction number")?,
        None => first,
    };
    match Interval::new(first, last) {
        Some(interval) if ends.next().is_none() => Ok(interval),
        _ => Err(part.malformed("no range of transaction numbers")),
    }
}

impl FromStr for Gtid {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let set: GtidSet = text.parse()?;
        let mut sources = set.iter();
        match (sources.next(), sources.next()) {
            (Some((source, intervals)), None) if intervals.count() == 1 => Ok(Gtid {
                source: source.clone(),
                number: intervals.iter().map(Interval::first).sum(),
            }),
            _ => Err(Part::whole(text).malformed("not one transaction")),
        }
    }
}

impl fmt::Display for GtidSet {
    /// As the server prints it, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<SourceUuid> = None;
        for (source, intervals) in self.iter() {
            if before == Some(source.uuid) {
                write!(f, ":{}", source.tag.as_str())?;
            } else {
                let separator = if before.is_some() { "," } else { "" };
                write!(f, "{separator}{source}")?;
                before = Some(source.uuid);
            }
            for interval in intervals.iter() {
                write!(f, ":{}", interval.first())?;
                if interval.last() > interval.first() {
                    write!(f, "-{}", interval.last())?;
                }
            }
        }
        Ok(())
    }
}
