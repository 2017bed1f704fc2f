// SPDX-License-Identifier: Apache-2.0
//! Our own connection to the server, for what brings rows: a thin shell of sockets around [`crate::protocol`].
//!
//! The replication stream and chunk reads use it, everything else is [`crate::query_connection`]'s. The stream, because
//! tokio-postgres does not speak it. Chunks, because a row reaches the engine as a slice of the bytes that came from the
//! socket, one block of reference-counted memory for many rows: a `tokio_postgres::Row` lends its values, but gives no
//! hold on the memory beneath them, so that each row would be copied to be kept.

use crate::dial::{connecting, dial, in_time};
use crate::failure::{protocol_error, unreachable};
use crate::protocol::data_row::parse_text_row;
use crate::protocol::framing::{FRAME_BYTES_MAX, FrameBatch, FrameSplitter, HANDSHAKE_FRAME_BYTES_MAX};
use crate::protocol::handshake::{Credentials, Handshake, Progress};
use crate::protocol::{ProtocolError, ServerError};
use crate::server_version::ServerVersion;
use crate::settings::Settings;
use crate::socket::Stream;
use bytes::{Bytes, BytesMut};
use highwater_core::{Error, ErrorKind, Result};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The room made for a read, in bytes, when less than [`READ_SPARE_BYTES`] is left.
const READ_BYTES: usize = 256 * 1024;
/// The least room a read is given, in bytes.
const READ_SPARE_BYTES: usize = 64 * 1024;
/// The room made for a read while little is expected, in bytes.
const HANDSHAKE_READ_BYTES: usize = 8 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading the rows of tables.
    Chunks,
    /// Replication commands and the stream.
    Replication,
}

/// A row of text values, `None` for NULL.
pub type TextRow = Vec<Option<String>>;

/// A connection that is ready for queries.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    frames: FrameSplitter,
    out: BytesMut,
    encrypted: bool,
    server_version: ServerVersion,
}

impl Connection {
    /// Connects, verifies and authenticates. `application_name` is what `pg_stat_activity` shows.
    pub async fn open(settings: &Settings, purpose: Purpose, application_name: &str) -> Result<Self> {
        in_time(settings, Self::open_unbounded(settings, purpose, application_name)).await
    }

    async fn open_unbounded(settings: &Settings, purpose: Purpose, application_name: &str) -> Result<Self> {
        let what = connecting(settings);
        let (stream, channel) = dial(settings).await?;
        let encrypted = matches!(stream, Stream::Tls(_));
        let mut connection = Self {
            stream,
            frames: FrameSplitter::new(HANDSHAKE_FRAME_BYTES_MAX),
            out: BytesMut::new(),
            encrypted,
            server_version: ServerVersion(0),
        };
        let credentials = Credentials {
            user: settings.user.clone(),
            database: settings.database.clone(),
            password: settings
                .password
                .as_ref()
                .map(|password| password.reveal())
                .transpose()?,
        };
        let replication = purpose == Purpose::Replication;
        let mut handshake = Handshake::start(credentials, channel, replication, application_name, &mut connection.out)
            .map_err(|error| protocol_error(error, &what))?;
        loop {
            connection.flush().await?;
            let (tag, body) = connection.receive(&what).await?;
            let progress = handshake.receive(tag, &body, &mut connection.out);
            if progress.map_err(|error| protocol_error(error, &what))? == Progress::Ready {
                break;
            }
        }
        connection.server_version = ServerVersion(handshake.server_major());
        connection.frames.set_frame_bytes_max(FRAME_BYTES_MAX);
        Ok(connection)
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The server's version, for what differs between versions.
    pub fn server_version(&self) -> ServerVersion {
        self.server_version
    }

    /// What is to be sent; [`Connection::flush`] sends it.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Sends everything in [`Connection::out`]. Cancel-safe: what was sent is gone from the buffer.
    pub async fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            let sent = self
                .stream
                .write_buf(&mut self.out)
                .await
                .map_err(|error| unreachable("sending to the server", error))?;
            if sent == 0 {
                return Err(closed("sending to the server"));
            }
        }
        self.stream
            .flush()
            .await
            .map_err(|error| unreachable("sending to the server", error))
    }

    /// Takes the next message, waiting for it. Notices and changed parameters are passed over once connected; an
    /// ErrorResponse is returned like any other message. Cancel-safe.
    pub async fn receive(&mut self, what: &str) -> Result<(u8, Bytes)> {
        loop {
            if let Some(frame) = self.frames.take_frame().map_err(|error| protocol_error(error, what))? {
                return Ok(frame);
            }
            self.fill(what, HANDSHAKE_READ_BYTES, HANDSHAKE_READ_BYTES / 2).await?;
        }
    }

    /// Takes every complete message that has arrived, waiting for at least one. Cancel-safe.
    pub async fn receive_batch(&mut self, what: &str) -> Result<FrameBatch> {
        loop {
            if let Some(batch) = self.frames.take_batch().map_err(|error| protocol_error(error, what))? {
                return Ok(batch);
            }
            self.fill(what, READ_BYTES, READ_SPARE_BYTES).await?;
        }
    }

    /// Reads once into the buffer. Room is made as bytes come, never for the length that a message announces.
    async fn fill(&mut self, what: &str, room: usize, spare: usize) -> Result<()> {
        let buffer = self.frames.buffer();
        if buffer.capacity() - buffer.len() < spare {
            buffer.reserve(room);
        }
        let read = self
            .stream
            .read_buf(buffer)
            .await
            .map_err(|error| unreachable(what, error))?;
        if read == 0 { Err(closed(what)) } else { Ok(()) }
    }

    /// Runs statements without parameters in one message, as one transaction unless they say otherwise, and returns
    /// the rows of all of them. Not cancel-safe: a connection whose query was dropped is to be dropped too.
    pub async fn batch(&mut self, sql: &str, what: &str) -> Result<Vec<TextRow>> {
        frontend::query(sql, &mut self.out).map_err(|error| invalid(what, &error))?;
        self.flush().await?;
        // The first error is told at the end of the answer, so that the connection stays usable.
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let (tag, body) = self.receive(what).await?;
            match tag {
                b'D' if failure.is_none() => {
                    rows.push(parse_text_row(&body).map_err(|error| protocol_error(error, what))?)
                }
                b'E' if failure.is_none() => failure = Some(server_failure(&body, what)),
                b'Z' => return failure.map_or(Ok(rows), Err),
                // Results' shapes and ends, notices, parameters; CopyBoth is asked for elsewhere.
                b'T' | b'C' | b'D' | b'E' | b'N' | b'S' | b'A' | b'I' => {}
                tag => {
                    let state = "in answer to a query";
                    return Err(protocol_error(ProtocolError::Unexpected { tag, state }, what));
                }
            }
        }
    }

    /// Takes messages up to and including ReadyForQuery, whatever they are.
    pub(crate) async fn take_ready(&mut self, what: &str) -> Result<()> {
        while self.receive(what).await?.0 != b'Z' {}
        Ok(())
    }
}

/// The error in the body of an ErrorResponse.
pub(crate) fn server_failure(body: &[u8], what: &str) -> Error {
    let parsed = ServerError::parse(body).map(|error| ProtocolError::Server(Box::new(error)));
    protocol_error(parsed.unwrap_or_else(|malformed| malformed), what)
}

fn closed(what: &str) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!("{what}: the server closed the connection"),
    )
}

fn invalid(what: &str, error: &std::io::Error) -> Error {
    Error::bug(format!("{what}: {error}"))
}
