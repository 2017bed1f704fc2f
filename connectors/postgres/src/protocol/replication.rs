// SPDX-License-Identifier: Apache-2.0
//! The streaming replication protocol: its commands, and the messages inside CopyData while it streams.

use crate::stream_settings::{OriginFilter, StreamOptions, Streaming};

use super::quoting::{quote_identifier, quote_replication_literal};
use super::{FieldReader, Lsn, ProtocolError};
use crate::server_version::ServerVersion;
use bytes::{BufMut, BytesMut};

/// Microseconds between 1970-01-01 and 2000-01-01, the server's epoch.
pub const POSTGRES_EPOCH_UNIX_US: i64 = 946_684_800_000_000;

/// A message inside CopyData while the server streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamMessage<'a> {
    /// A part of the log.
    XLogData(XLogData<'a>),
    /// The server shows that it lives.
    Keepalive(Keepalive),
}

/// One message of the output plug-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XLogData<'a> {
    /// Where the change lies in the log; zero for messages that lie nowhere, a relation's for example.
    pub start: Lsn,
    /// The end of the log as the server knows it; for a logical slot it equals `start`.
    pub end: Lsn,
    /// When it was sent, microseconds since 2000-01-01 00:00 UTC.
    pub sent_us: i64,
    /// The plug-in's message.
    pub payload: &'a [u8],
    /// Where the payload begins in the CopyData body.
    pub payload_start: usize,
}

/// A sign of life, sent when idle and when a reply is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How far the server has read the log: nothing committed before it is still to come.
    pub end: Lsn,
    /// When it was sent, microseconds since 2000-01-01 00:00 UTC.
    pub sent_us: i64,
    /// Whether the server wants a status update at once.
    pub reply_requested: bool,
}

/// Parses the body of a CopyData message.
#[inline]
pub fn parse_stream_message(body: &[u8]) -> Result<StreamMessage<'_>, ProtocolError> {
    let mut reader = FieldReader::new("CopyData", body);
    match reader.u8("kind")? {
        b'w' => {
            let start = Lsn(reader.u64("start position")?);
            let end = Lsn(reader.u64("end position")?);
            let sent_us = reader.i64("send time")?;
            Ok(StreamMessage::XLogData(XLogData {
                start,
                end,
                sent_us,
                payload: reader.rest(),
                payload_start: reader.offset(),
            }))
        }
        b'k' => {
            let end = Lsn(reader.u64("end position")?);
            let sent_us = reader.i64("send time")?;
            let reply_requested = reader.u8("reply flag")? != 0;
            reader.finish()?;
            Ok(StreamMessage::Keepalive(Keepalive {
                end,
                sent_us,
                reply_requested,
            }))
        }
        _ => Err(reader.malformed("unknown kind of stream message")),
    }
}

/// What the client tells the server about its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Received up to here.
    pub written: Lsn,
    /// Durable up to here: the slot's `confirmed_flush_lsn` becomes this, and the server may forget what lies before.
    pub flushed: Lsn,
    /// The client's clock, microseconds since 2000-01-01 00:00 UTC.
    pub sent_us: i64,
    /// Whether the server shall answer at once with a keepalive.
    pub reply_requested: bool,
}

impl StatusUpdate {
    /// Appends the update as a whole CopyData message.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(b'd');
        out.put_i32(4 + 1 + 8 * 4 + 1);
        out.put_u8(b'r');
        out.put_u64(self.written.0);
        out.put_u64(self.flushed.0);
        out.put_u64(self.flushed.0);
        out.put_i64(self.sent_us);
        out.put_u8(u8::from(self.reply_requested));
    }
}

/// What `START_REPLICATION` asks pgoutput for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartReplication<'a> {
    /// The slot's name.
    pub slot: &'a str,
    /// Transactions that ended before are left out, but nothing before the slot's own position is ever sent again.
    pub start: Lsn,
    /// The publications' names.
    pub publications: &'a [&'a str],
    /// What the output plug-in is asked for.
    pub options: StreamOptions,
    /// What the server has.
    pub version: ServerVersion,
}

impl StartReplication<'_> {
    /// The command's text: binary values and logical messages where the server has them. Only options that the server's
    /// version knows are named.
    pub fn command(&self) -> String {
        // A list of quoted identifiers inside one literal, as SplitIdentifierString reads it.
        let names: Vec<String> = self.publications.iter().map(|name| quote_identifier(name)).collect();
        let mut more = String::new();
        if self.version.sends_binary() {
            more += ", \"binary\" 'true'";
        }
        if self.version.sends_messages() {
            more += ", \"messages\" 'true'";
        }
        match self.options.streaming {
            Streaming::Off => {}
            Streaming::On => more += ", \"streaming\" 'on'",
            Streaming::Parallel => more += ", \"streaming\" 'parallel'",
        }
        if self.options.two_phase {
            more += ", \"two_phase\" 'on'";
        }
        if self.options.origin == OriginFilter::None {
            more += ", \"origin\" 'none'";
        }
        format!(
            "START_REPLICATION SLOT {} LOGICAL {} (\"proto_version\" '{}', \"publication_names\" {}{more})",
            quote_identifier(self.slot),
            self.start,
            self.options.protocol_version,
            quote_replication_literal(&names.join(","))
        )
    }
}

/// What happens to the snapshot of the moment in which a slot is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotSnapshot {
    /// None is taken.
    Nothing,
    /// It is exported for other connections, until this connection's next command.
    Export,
}

/// What a slot is created with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotOptions {
    /// It sends prepared transactions before they are decided. Since version 15.
    pub two_phase: bool,
    /// Standbys keep it in step. Since version 17.
    pub failover: bool,
}

/// The text of the command that creates a logical pgoutput slot on a server of `version`.
pub fn create_slot_command(
    slot: &str,
    temporary: bool,
    snapshot: SlotSnapshot,
    options: SlotOptions,
    version: ServerVersion,
) -> String {
    let options = if version.has_slot_options() {
        let snapshot = match snapshot {
            SlotSnapshot::Nothing => "nothing",
            SlotSnapshot::Export => "export",
        };
        let two_phase = if options.two_phase { ", TWO_PHASE true" } else { "" };
        let failover = if options.failover { ", FAILOVER true" } else { "" };
        format!("(SNAPSHOT '{snapshot}'{two_phase}{failover})")
    } else {
        match snapshot {
            SlotSnapshot::Nothing => "NOEXPORT_SNAPSHOT".to_owned(),
            SlotSnapshot::Export => "EXPORT_SNAPSHOT".to_owned(),
        }
    };
    format!(
        "CREATE_REPLICATION_SLOT {}{} LOGICAL \"pgoutput\" {options}",
        quote_identifier(slot),
        if temporary { " TEMPORARY" } else { "" },
    )
}

/// The text of the command by which standbys keep a slot in step from now on. Since version 17.
pub fn alter_slot_command(slot: &str) -> String {
    format!("ALTER_REPLICATION_SLOT {} (FAILOVER true)", quote_identifier(slot))
}

/// The text of the command that drops a slot; with `wait`, after its present user has let go of it.
pub fn drop_slot_command(slot: &str, wait: bool) -> String {
    format!(
        "DROP_REPLICATION_SLOT {}{}",
        quote_identifier(slot),
        if wait { " WAIT" } else { "" }
    )
}

/// The text of the command that asks who the server is: system id, timeline, log position, database.
pub const IDENTIFY_SYSTEM: &str = "IDENTIFY_SYSTEM";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_log_data_without_copying() {
        let mut body = b"w".to_vec();
        for number in [0x150_0010_u64, 0x150_0020, 7] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        body.extend_from_slice(b"payload");
        let StreamMessage::XLogData(data) = parse_stream_message(&body).unwrap() else {
            panic!("not log data")
        };
        assert_eq!(
            (data.start, data.end, data.sent_us),
            (Lsn(0x150_0010), Lsn(0x150_0020), 7)
        );
        assert_eq!(data.payload, b"payload");
        assert_eq!(&body[data.payload_start..], b"payload");
    }

    #[test]
    fn reads_a_keepalive_and_refuses_a_cut_one() {
        let body = b"k\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x09\x01";
        let expected = Keepalive {
            end: Lsn(0x1_0000_0002),
            sent_us: 9,
            reply_requested: true,
        };
        assert_eq!(parse_stream_message(body), Ok(StreamMessage::Keepalive(expected)));
        for length in 0..body.len() {
            assert!(parse_stream_message(&body[..length]).is_err());
        }
    }

    #[test]
    fn a_status_update_has_the_bytes_of_the_manual() {
        let mut out = BytesMut::new();
        StatusUpdate {
            written: Lsn(2),
            flushed: Lsn(1),
            sent_us: 3,
            reply_requested: true,
        }
        .encode(&mut out);
        let expected = b"d\0\0\0\x26r\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03\x01";
        assert_eq!(out.as_ref(), expected);
        let (_, total) = (out[0], i32::from_be_bytes([out[1], out[2], out[3], out[4]]));
        assert_eq!(total as usize + 1, out.len());
    }

    #[test]
    fn names_in_commands_are_quoted() {
        let mut start = StartReplication {
            slot: "s\"x",
            start: Lsn(0x1_0000_0002),
            publications: &["a'b", "c\"d"],
            options: StreamOptions {
                protocol_version: 1,
                streaming: Streaming::Off,
                two_phase: false,
                origin: OriginFilter::Any,
            },
            version: ServerVersion(17),
        };
        assert_eq!(
            start.command(),
            "START_REPLICATION SLOT \"s\"\"x\" LOGICAL 1/2 (\"proto_version\" '1', \"publication_names\" \
             '\"a''b\",\"c\"\"d\"', \"binary\" 'true', \"messages\" 'true')"
        );
        start.version = ServerVersion(13);
        assert!(
            start.command().ends_with("'\"a''b\",\"c\"\"d\"')"),
            "neither binary nor messages"
        );
        let create =
            |version, options| create_slot_command("hw", true, SlotSnapshot::Export, options, ServerVersion(version));
        assert_eq!(
            create(15, SlotOptions::default()),
            "CREATE_REPLICATION_SLOT \"hw\" TEMPORARY LOGICAL \"pgoutput\" (SNAPSHOT 'export')"
        );
        assert_eq!(
            create(
                15,
                SlotOptions {
                    two_phase: true,
                    ..SlotOptions::default()
                }
            ),
            "CREATE_REPLICATION_SLOT \"hw\" TEMPORARY LOGICAL \"pgoutput\" (SNAPSHOT 'export', TWO_PHASE true)"
        );
        assert_eq!(
            create(
                17,
                SlotOptions {
                    failover: true,
                    ..SlotOptions::default()
                }
            ),
            "CREATE_REPLICATION_SLOT \"hw\" TEMPORARY LOGICAL \"pgoutput\" (SNAPSHOT 'export', FAILOVER true)"
        );
        assert_eq!(
            alter_slot_command("hw"),
            "ALTER_REPLICATION_SLOT \"hw\" (FAILOVER true)"
        );
        assert_eq!(
            create(14, SlotOptions::default()),
            "CREATE_REPLICATION_SLOT \"hw\" TEMPORARY LOGICAL \"pgoutput\" EXPORT_SNAPSHOT"
        );
        assert_eq!(drop_slot_command("hw", true), "DROP_REPLICATION_SLOT \"hw\" WAIT");
    }

    #[test]
    fn options_are_named_only_where_they_are_asked_for() {
        let start = StartReplication {
            slot: "hw",
            start: Lsn(1),
            publications: &["p"],
            options: StreamOptions {
                protocol_version: 4,
                streaming: Streaming::Parallel,
                two_phase: true,
                origin: OriginFilter::None,
            },
            version: ServerVersion(17),
        };
        assert!(start.command().ends_with(
            "(\"proto_version\" '4', \"publication_names\" '\"p\"', \"binary\" 'true', \"messages\" 'true', \
             \"streaming\" 'parallel', \"two_phase\" 'on', \"origin\" 'none')"
        ));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_stream_message(&bytes);
        }
    }
}
