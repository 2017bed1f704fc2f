// SPDX-License-Identifier: Apache-2.0
//! What a transaction of MariaDB begins with, and what its files begin with: GTID (162) and GTID_LIST (163).

use super::xa::XaId;
use super::{EventHeader, FieldReader, ProtocolError};
use crate::gtid::MariadbGtid;

const FLAG_STANDALONE: u8 = 0x01;
const FLAG_GROUP_COMMIT: u8 = 0x02;
const FLAG_TRANSACTIONAL: u8 = 0x04;
const FLAG_DDL: u8 = 0x20;
const FLAG_PREPARED_XA: u8 = 0x40;
const FLAG_COMPLETED_XA: u8 = 0x80;
const EXTRA_MORE_ENGINES: u8 = 0x01;
const EXTRA_START_ALTER: u8 = 0x02;
const EXTRA_COMMIT_ALTER: u8 = 0x04;
const EXTRA_ROLLBACK_ALTER: u8 = 0x08;
/// The lower bits of a GTID_LIST's first field are a count, the others flags.
const LIST_COUNT_MASK: u32 = 0x0FFF_FFFF;

/// The start of a transaction, or of what is logged without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MariadbGtidEvent {
    /// Its name.
    pub gtid: MariadbGtid,
    /// Whether one statement follows that no XID ends (DDL, mostly).
    pub standalone: bool,
    /// Whether it can be rolled back.
    pub transactional: bool,
    /// Whether it is DDL.
    pub ddl: bool,
    /// The group that it was committed with.
    pub group_commit_id: Option<u64>,
    /// What it does to an XA transaction.
    pub xa: Option<XaStep>,
    /// What it does to an ALTER TABLE that is logged in two parts (`binlog_alter_two_phase`).
    pub alter: Option<AlterStep>,
}

/// A step of an XA transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XaStep {
    /// Its changes follow, and XA PREPARE.
    Prepare(XaId),
    /// `XA COMMIT` or `XA ROLLBACK` follows.
    Complete(XaId),
}

/// A step of an ALTER TABLE in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterStep {
    /// It begins: the table is not changed yet.
    Start,
    /// The one that began under this number is done.
    Commit(u64),
    /// The one that began under this number is not done.
    Rollback(u64),
}

impl MariadbGtidEvent {
    /// Reads the body. The server pads it, so that what is left is not looked at.
    pub(super) fn parse(fields: &mut FieldReader<'_>, header: &EventHeader) -> Result<Self, ProtocolError> {
        let sequence = fields.u64("sequence")?;
        let domain = fields.u32("domain")?;
        let flags = fields.u8("flags")?;
        let has = |flag: u8| flags & flag != 0;
        let group_commit_id = match has(FLAG_GROUP_COMMIT) {
            true => Some(fields.u64("group of the commit")?),
            false => None,
        };
        let xa = match (has(FLAG_PREPARED_XA), has(FLAG_COMPLETED_XA)) {
            (true, _) => Some(XaStep::Prepare(XaId::parse_short(fields)?)),
            (false, true) => Some(XaStep::Complete(XaId::parse_short(fields)?)),
            (false, false) => None,
        };
        let alter = read_alter(fields)?;
        fields.take_rest();
        Ok(Self {
            gtid: MariadbGtid {
                domain,
                server: header.server_id,
                sequence,
            },
            standalone: has(FLAG_STANDALONE),
            transactional: has(FLAG_TRANSACTIONAL),
            ddl: has(FLAG_DDL),
            group_commit_id,
            xa,
            alter,
        })
    }
}

fn read_alter(fields: &mut FieldReader<'_>) -> Result<Option<AlterStep>, ProtocolError> {
    if fields.is_at_end() {
        return Ok(None);
    }
    let extra = fields.u8("more flags")?;
    if extra & EXTRA_MORE_ENGINES != 0 {
        fields.u8("number of engines")?;
    }
    Ok(if extra & EXTRA_START_ALTER != 0 {
        Some(AlterStep::Start)
    } else if extra & EXTRA_COMMIT_ALTER != 0 {
        Some(AlterStep::Commit(fields.u64("start of the ALTER")?))
    } else if extra & EXTRA_ROLLBACK_ALTER != 0 {
        Some(AlterStep::Rollback(fields.u64("start of the ALTER")?))
    } else {
        None
    })
}

/// Reads GTID_LIST.
pub(super) fn parse_gtid_list(fields: &mut FieldReader<'_>) -> Result<Vec<MariadbGtid>, ProtocolError> {
    let count = fields.u32("how many GTIDs there are")? & LIST_COUNT_MASK;
    let mut gtids = Vec::new();
    for _ in 0..count {
        gtids.push(MariadbGtid {
            domain: fields.u32("domain")?,
            server: fields.u32("server")?,
            sequence: fields.u64("sequence")?,
        });
    }
    Ok(gtids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event_type;

    #[test]
    fn the_number_of_engines_stands_before_the_start_of_an_alter() {
        let header = EventHeader {
            timestamp: 0,
            code: event_type::MARIADB_GTID,
            server_id: 3,
            length: 0,
            end_position: 0,
            flags: 0,
        };
        let extra = EXTRA_MORE_ENGINES | EXTRA_COMMIT_ALTER;
        let body = [
            &9u64.to_le_bytes()[..],
            &[5, 0, 0, 0, FLAG_DDL, extra, 2],
            &7u64.to_le_bytes(),
        ]
        .concat();
        let event = MariadbGtidEvent::parse(&mut FieldReader::new("MARIADB_GTID", &body), &header).unwrap();
        assert_eq!(event.alter, Some(AlterStep::Commit(7)));
        assert_eq!(event.gtid.to_string(), "5-3-9");
    }
}
