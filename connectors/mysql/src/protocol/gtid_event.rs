// SPDX-License-Identifier: Apache-2.0
//! What a transaction of MySQL begins with: GTID, ANONYMOUS_GTID and GTID_TAGGED.

use super::{FieldReader, ProtocolError};
use crate::gtid::{Gtid, NUMBER_MAX, SourceUuid, TAG_BYTES_MAX, Tag, TransactionSource};

/// The server may have logged statements instead of rows.
const FLAG_STATEMENTS: u8 = 1;
/// What announces the two numbers that tell which transactions may be applied at once.
const LOGICAL_CLOCK: u8 = 2;
/// The time of the commit on the server that wrote the transaction first follows.
const MICROS_ORIGINAL_FOLLOWS: u64 = 1 << 55;
/// The version of the server that wrote the transaction first follows.
const VERSION_ORIGINAL_FOLLOWS: u32 = 1 << 31;
/// The version of the serialization that is known.
const SERIALIZATION_VERSION: u64 = 1;

/// The start of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GtidEvent {
    /// Its name; `None` where the server has none (`gtid_mode` off).
    pub gtid: Option<Gtid>,
    /// Whether statements may follow in place of rows.
    pub may_have_statements: bool,
    /// The last transaction of this file that must be applied before.
    pub last_committed: i64,
    /// Its number in this file.
    pub sequence_number: i64,
    /// When this server committed it, in microseconds since 1970 in UTC. From 8.0.1 on.
    pub commit_micros: Option<u64>,
    /// When the server that wrote it first committed it.
    pub original_commit_micros: Option<u64>,
    /// The bytes of all its events, compressed or not. From 8.0.2 on.
    pub length: Option<u64>,
    /// This server's version, 80015 for 8.0.15. From 8.0.14 on.
    pub server_version: Option<u32>,
    /// The version of the server that wrote it first.
    pub original_server_version: Option<u32>,
}

impl GtidEvent {
    /// Reads GTID and ANONYMOUS_GTID. What is newer than the server that wrote it is missing at the end.
    pub(super) fn parse(fields: &mut FieldReader<'_>) -> Result<Self, ProtocolError> {
        let flags = fields.u8("flags")?;
        let uuid = SourceUuid(fields.array("server uuid")?);
        let number = fields.u64("transaction number")?;
        let mut event = Self {
            gtid: name(fields, uuid, Tag::default(), number)?,
            may_have_statements: flags & FLAG_STATEMENTS != 0,
            ..Self::default()
        };
        if fields.is_at_end() || fields.u8("kind of clock")? != LOGICAL_CLOCK {
            fields.take_rest();
            return Ok(event);
        }
        event.last_committed = fields.i64("last committed transaction")?;
        event.sequence_number = fields.i64("sequence number")?;
        if !fields.is_at_end() {
            event.read_times(fields)?;
        }
        if !fields.is_at_end() {
            event.length = Some(fields.packed("length of the transaction")?);
        }
        if !fields.is_at_end() {
            event.read_versions(fields)?;
        }
        fields.take_rest();
        Ok(event)
    }

    fn read_times(&mut self, fields: &mut FieldReader<'_>) -> Result<(), ProtocolError> {
        let commit = fields.integer(7, "time of the commit")?;
        let micros = commit & !MICROS_ORIGINAL_FOLLOWS;
        self.commit_micros = Some(micros);
        self.original_commit_micros = Some(if commit == micros {
            micros
        } else {
            fields.integer(7, "time of the original commit")?
        });
        Ok(())
    }

    fn read_versions(&mut self, fields: &mut FieldReader<'_>) -> Result<(), ProtocolError> {
        let server = fields.u32("version of the server")?;
        let version = server & !VERSION_ORIGINAL_FOLLOWS;
        self.server_version = Some(version);
        self.original_server_version = Some(if server == version {
            version
        } else {
            fields.u32("version of the original server")?
        });
        Ok(())
    }
}

/// The name of a transaction; none where its number is 0.
fn name(fields: &FieldReader<'_>, uuid: SourceUuid, tag: Tag, number: u64) -> Result<Option<Gtid>, ProtocolError> {
    match number {
        0 => Ok(None),
        1..=NUMBER_MAX => Ok(Some(Gtid {
            source: TransactionSource { uuid, tag },
            number,
        })),
        _ => Err(fields.malformed("transaction number")),
    }
}

/// Reads GTID_TAGGED: numbered fields, of which those that a reader does not know stand last.
pub(super) fn parse_tagged(fields: &mut FieldReader<'_>) -> Result<GtidEvent, ProtocolError> {
    let whole = fields.rest().len();
    if fields.varint("version of the serialization")? != SERIALIZATION_VERSION {
        return Err(fields.malformed("version of the serialization"));
    }
    let length = fields.varint("length of the message")?;
    let read = whole - fields.rest().len();
    let left = usize::try_from(length).ok().and_then(|length| length.checked_sub(read));
    let left = left.ok_or_else(|| fields.malformed("length of the message"))?;
    let mut message = fields.part(left, "message")?;
    let last_needed = message.varint("last field that must be known")?;
    let mut tagged = Tagged::default();
    while !message.is_at_end() {
        let field = message.varint("number of a field")?;
        if tagged.read(field, &mut message)? {
            continue;
        }
        if field <= last_needed {
            return Err(message.malformed("a field that is not known and must not be passed over"));
        }
        break;
    }
    tagged.finish(fields)
}

/// The fields of a GTID_TAGGED as they come.
#[derive(Default)]
struct Tagged {
    uuid: Option<SourceUuid>,
    tag: Tag,
    number: u64,
    event: GtidEvent,
}

impl Tagged {
    /// Reads the value of a field; false when it is not known.
    fn read(&mut self, field: u64, message: &mut FieldReader<'_>) -> Result<bool, ProtocolError> {
        let event = &mut self.event;
        match field {
            0 => event.may_have_statements = message.varint("flags")? & u64::from(FLAG_STATEMENTS) != 0,
            1 => self.uuid = Some(read_uuid(message)?),
            2 => {
                let number = message.signed_varint("transaction number")?;
                self.number = u64::try_from(number).map_err(|_| message.malformed("transaction number"))?;
            }
            3 => self.tag = read_tag(message)?,
            4 => event.last_committed = message.signed_varint("last committed transaction")?,
            5 => event.sequence_number = message.signed_varint("sequence number")?,
            6 => event.commit_micros = Some(message.varint("time of the commit")?),
            7 => event.original_commit_micros = Some(message.varint("time of the original commit")?),
            8 => event.length = Some(message.varint("length of the transaction")?),
            9 => event.server_version = Some(read_version(message)?),
            10 => event.original_server_version = Some(read_version(message)?),
            11 => {
                message.varint("ticket of the commit group")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(self, fields: &FieldReader<'_>) -> Result<GtidEvent, ProtocolError> {
        let uuid = self.uuid.ok_or_else(|| fields.malformed("no server uuid"))?;
        let gtid = name(fields, uuid, self.tag, self.number)?;
        if gtid.is_none() {
            return Err(fields.malformed("no transaction number"));
        }
        let mut event = self.event;
        event.gtid = gtid;
        // What equals this server's own is left out.
        event.original_commit_micros = event.original_commit_micros.or(event.commit_micros);
        event.original_server_version = event.original_server_version.or(event.server_version);
        Ok(event)
    }
}

fn read_uuid(message: &mut FieldReader<'_>) -> Result<SourceUuid, ProtocolError> {
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        let value = message.varint("server uuid")?;
        *byte = u8::try_from(value).map_err(|_| message.malformed("server uuid"))?;
    }
    Ok(SourceUuid(uuid))
}

fn read_tag(message: &mut FieldReader<'_>) -> Result<Tag, ProtocolError> {
    let length = usize::try_from(message.varint("length of the tag")?).unwrap_or(usize::MAX);
    if length > TAG_BYTES_MAX {
        return Err(message.malformed("length of the tag"));
    }
    let tag = message.text(length, "tag")?;
    Tag::parse(tag).ok_or_else(|| message.malformed("tag"))
}

fn read_version(message: &mut FieldReader<'_>) -> Result<u32, ProtocolError> {
    let version = message.varint("version of a server")?;
    u32::try_from(version).map_err(|_| message.malformed("version of a server"))
}
