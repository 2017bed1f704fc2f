// SPDX-License-Identifier: Apache-2.0
//! The events of a binlog.

use bytes::Bytes;

use super::format_description::FormatDescription;
use super::gtid_event::{GtidEvent, parse_tagged};
use super::heartbeat::Heartbeat;
use super::mariadb_gtid_event::{MariadbGtidEvent, parse_gtid_list};
use super::payload::TransactionPayload;
use super::query::Query;
use super::rows::{RowsEvent, RowsKind};
use super::statement::{UserVariable, parse_load_query};
use super::table_map::TableMap;
use super::xa::XaPrepare;
use super::{EventHeader, FieldReader, ProtocolError, ValueBytes, event_type};
use crate::gtid::{GtidSet, MariadbGtid};

/// One event, its large parts as slices of the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first event of a file.
    FormatDescription(FormatDescription),
    /// The log goes on elsewhere, or, made for the stream, begins there.
    Rotate {
        /// Where in the file.
        position: u64,
        /// The file's name.
        file: String,
    },
    /// The server was shut down in order.
    Stop,
    /// The transactions of all earlier files.
    PreviousGtids(GtidSet),
    /// A transaction begins, with a GTID or without.
    Gtid(GtidEvent),
    /// A statement, or `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT …`, `XA …`.
    Query(Query),
    /// The transaction is committed.
    Xid(u64),
    /// The XA transaction is prepared, or committed in one phase.
    XaPrepare(XaPrepare),
    /// A table's shape, ahead of its rows. See [`TableMap::columns`].
    TableMap(TableMap),
    /// Rows of a table. See [`RowsEvent::rows`].
    Rows(RowsEvent),
    /// A compressed transaction. See [`TransactionPayload::events`].
    Payload(TransactionPayload),
    /// Nothing happened for a while.
    Heartbeat(Heartbeat),
    /// The statement that the next rows come from, in the client's character set.
    RowsQuery(ValueBytes),
    /// LAST_INSERT_ID (1) or INSERT_ID (2) of the next statement.
    Intvar {
        /// Which.
        kind: u8,
        /// Its value.
        value: u64,
    },
    /// The seeds of RAND() in the next statement.
    Rand(u64, u64),
    /// A variable that the next statement reads.
    UserVariable(UserVariable),
    /// `LOAD DATA` as a statement: its rows are in no event.
    LoadQuery(Query),
    /// A part of the file of a [`Event::LoadQuery`].
    LoadData,
    /// The server says that its log lacks something.
    Incident {
        /// Its number; 1 stands for lost events.
        number: u16,
        /// What the server says.
        message: String,
    },
    /// MariaDB: a transaction begins.
    MariadbGtid(MariadbGtidEvent),
    /// MariaDB: of each domain and server the last transaction in all earlier files, each domain's last at its end.
    MariadbGtidList(Vec<MariadbGtid>),
    /// MariaDB: recovery needs the files from this one on.
    BinlogCheckpoint(String),
    /// MariaDB: the rest of the file is encrypted.
    StartEncryption,
    /// An event that is allowed to be passed over, by the number of its type.
    Ignored(u8),
}

impl Event {
    /// Reads the body of the event that `header` announces. `position` is where the event begins, for errors.
    pub fn parse(header: &EventHeader, body: Bytes, position: u64) -> Result<Self, ProtocolError> {
        let mut fields = FieldReader::new(header.event_name(), &body);
        let event = match header.code {
            event_type::FORMAT_DESCRIPTION => return FormatDescription::parse(&body).map(Self::FormatDescription),
            event_type::ROTATE => Self::Rotate {
                position: fields.u64("position")?,
                file: rest_as_text(&mut fields, "file name")?,
            },
            event_type::STOP => Self::Stop,
            event_type::PREVIOUS_GTIDS => {
                let set = GtidSet::decode(fields.take_rest());
                Self::PreviousGtids(set.map_err(|error| fields.malformed(error.what))?)
            }
            event_type::GTID | event_type::ANONYMOUS_GTID => GtidEvent::parse(&mut fields).map(Self::Gtid)?,
            event_type::GTID_TAGGED => parse_tagged(&mut fields).map(Self::Gtid)?,
            event_type::XID => Self::Xid(fields.u64("transaction")?),
            event_type::XA_PREPARE => XaPrepare::parse(&mut fields).map(Self::XaPrepare)?,
            event_type::HEARTBEAT => Heartbeat::parse(&mut fields, header).map(Self::Heartbeat)?,
            event_type::HEARTBEAT_V2 => Heartbeat::parse_v2(&mut fields).map(Self::Heartbeat)?,
            event_type::INCIDENT => parse_incident(&mut fields)?,
            event_type::MARIADB_GTID => MariadbGtidEvent::parse(&mut fields, header).map(Self::MariadbGtid)?,
            event_type::MARIADB_GTID_LIST => parse_gtid_list(&mut fields).map(Self::MariadbGtidList)?,
            event_type::BINLOG_CHECKPOINT => {
                let length = fields.length(4, "length of the file name")?;
                Self::BinlogCheckpoint(fields.text(length, "file name")?.to_owned())
            }
            event_type::START_ENCRYPTION => {
                fields.take_rest();
                Self::StartEncryption
            }
            _ => return Self::parse_change(header, body, position),
        };
        fields.finish()?;
        Ok(event)
    }

    /// Reads what changes tables, and all that is left.
    fn parse_change(header: &EventHeader, body: Bytes, position: u64) -> Result<Self, ProtocolError> {
        if let Some((kind, compressed)) = RowsKind::of(header.code) {
            return RowsEvent::parse(header.event_name(), kind, compressed, &body).map(Self::Rows);
        }
        let mut fields = FieldReader::new(header.event_name(), &body);
        match header.code {
            event_type::TABLE_MAP => TableMap::parse(&body).map(Self::TableMap),
            event_type::QUERY => Query::parse(&mut fields, &body).map(Self::Query),
            event_type::QUERY_COMPRESSED => Query::parse_compressed(&mut fields, &body).map(Self::Query),
            event_type::EXECUTE_LOAD_QUERY => parse_load_query(&mut fields, &body).map(Self::LoadQuery),
            event_type::TRANSACTION_PAYLOAD => TransactionPayload::parse(&body).map(Self::Payload),
            event_type::ROWS_QUERY => {
                // A byte with the length, which is wrong past 255, comes first.
                fields.u8("length of the statement")?;
                Ok(Self::RowsQuery(body.slice(fields.offset()..).into()))
            }
            event_type::ANNOTATE_ROWS => Ok(Self::RowsQuery(body.into())),
            event_type::INTVAR => Ok(Self::Intvar {
                kind: fields.u8("kind")?,
                value: fields.u64("value")?,
            }),
            event_type::RAND => Ok(Self::Rand(fields.u64("first seed")?, fields.u64("second seed")?)),
            event_type::USER_VAR => UserVariable::parse(&mut fields).map(Self::UserVariable),
            event_type::BEGIN_LOAD_QUERY | event_type::APPEND_BLOCK | event_type::DELETE_FILE => Ok(Self::LoadData),
            event_type::TRANSACTION_CONTEXT | event_type::VIEW_CHANGE | event_type::IGNORABLE => {
                Ok(Self::Ignored(header.code))
            }
            code if header.is_ignorable() => Ok(Self::Ignored(code)),
            code => Err(ProtocolError::UnknownEvent { code, position }),
        }
    }
}

/// What is left, as text.
fn rest_as_text(fields: &mut FieldReader<'_>, what: &'static str) -> Result<String, ProtocolError> {
    let length = fields.rest().len();
    fields.text(length, what).map(str::to_owned)
}

fn parse_incident(fields: &mut FieldReader<'_>) -> Result<Event, ProtocolError> {
    let number = fields.u16("number")?;
    let length = usize::from(fields.u8("length of the message")?);
    let message = String::from_utf8_lossy(fields.bytes(length, "message")?).into_owned();
    Ok(Event::Incident { number, message })
}
