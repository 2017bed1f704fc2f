// SPDX-License-Identifier: Apache-2.0
//! One connection to the server: a thin shell of sockets around [`crate::protocol`].
//!
//! Queries, chunk reads and the replication stream share it, so that there is one way to connect, to verify and to
//! authenticate, and so that rows reach a row image without a copy.

use crate::failure::{protocol_error, unreachable};
use crate::protocol::data_row::parse_text_row;
use crate::protocol::framing::{FRAME_BYTES_MAX, FrameBatch, FrameSplitter, HANDSHAKE_FRAME_BYTES_MAX};
use crate::protocol::handshake::{self, Channel, Credentials, Handshake, Progress, TlsAnswer};
use crate::protocol::{ProtocolError, ServerError, certificate};
use crate::settings::{Settings, TlsMode};
use crate::socket::{BulkTcp, Socket, Stream};
use crate::tls;
use bytes::{Bytes, BytesMut};
use highwater_core::{Error, ErrorKind, Result};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// The room made for a read, in bytes, when less than [`READ_SPARE_BYTES`] is left.
const READ_BYTES: usize = 256 * 1024;
/// The least room a read is given, in bytes.
const READ_SPARE_BYTES: usize = 64 * 1024;
/// The room made for a read while little is expected, in bytes.
const HANDSHAKE_READ_BYTES: usize = 8 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Queries.
    Queries,
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
    server_version: String,
    encrypted: bool,
}

impl Connection {
    /// Connects, verifies and authenticates. `application_name` is what `pg_stat_activity` shows.
    pub async fn open(settings: &Settings, purpose: Purpose, application_name: &str) -> Result<Self> {
        let limit = settings.connect_timeout();
        tokio::time::timeout(limit, Self::open_unbounded(settings, purpose, application_name))
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Unreachable,
                    format!("{}: no connection within {limit:?}", place(settings)),
                ))
            })
    }

    async fn open_unbounded(settings: &Settings, purpose: Purpose, application_name: &str) -> Result<Self> {
        let what = format!("connecting to {} as \"{}\"", place(settings), settings.user);
        let socket = connect_socket(settings).await?;
        let (stream, channel) = secure(settings, socket).await?;
        let encrypted = matches!(stream, Stream::Tls(_));
        let mut connection = Self {
            stream,
            frames: FrameSplitter::new(HANDSHAKE_FRAME_BYTES_MAX),
            out: BytesMut::new(),
            server_version: String::new(),
            encrypted,
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
        connection.frames.set_frame_bytes_max(FRAME_BYTES_MAX);
        connection.server_version = handshake.parameter("server_version").unwrap_or_default().to_owned();
        Ok(connection)
    }

    /// The server's version as it names it: `15.8 (Debian 15.8-0+deb12u1)`.
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// The server's major version; 0 when it named none.
    pub fn server_major(&self) -> u32 {
        let digits: String = self.server_version.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
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
        self.collect(what).await
    }

    /// Runs one statement with parameters in text form, `None` for NULL. Not cancel-safe.
    pub async fn query(&mut self, sql: &str, parameters: &[Option<&str>], what: &str) -> Result<Vec<TextRow>> {
        self.put_query(sql, parameters, what)?;
        frontend::sync(&mut self.out);
        self.flush().await?;
        self.collect(what).await
    }

    /// Appends Parse, Bind and Execute of one statement with parameters in text form and rows in text form.
    pub(crate) fn put_query(&mut self, sql: &str, parameters: &[Option<&str>], what: &str) -> Result<()> {
        let out = &mut self.out;
        let put = || -> std::io::Result<()> {
            frontend::parse("", sql, [], out)?;
            let bound = frontend::bind(
                "",
                "",
                [],
                parameters,
                |value, buffer| {
                    Ok(match value {
                        Some(text) => {
                            buffer.extend_from_slice(text.as_bytes());
                            postgres_protocol::IsNull::No
                        }
                        None => postgres_protocol::IsNull::Yes,
                    })
                },
                [],
                out,
            );
            bound.map_err(|_| std::io::Error::other("parameters too long for one message"))?;
            frontend::execute("", 0, out)
        };
        let mut put = put;
        put().map_err(|error| invalid(what, &error))
    }

    /// Takes text rows up to ReadyForQuery; the first error comes after it, so that the connection stays usable.
    async fn collect(&mut self, what: &str) -> Result<Vec<TextRow>> {
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
                b'T' | b'C' | b'D' | b'E' | b'N' | b'S' | b'A' | b'I' | b'1' | b'2' | b'3' | b'n' | b't' | b's' => {}
                tag => {
                    return Err(protocol_error(
                        ProtocolError::Unexpected {
                            tag,
                            state: "in answer to a query",
                        },
                        what,
                    ));
                }
            }
        }
    }

    /// Takes messages up to and including the next CommandComplete of a statement sent before, rows excluded; used where
    /// several statements are under way.
    pub(crate) async fn take_rows(&mut self, what: &str) -> Result<Vec<TextRow>> {
        let mut rows = Vec::new();
        loop {
            let (tag, body) = self.receive(what).await?;
            match tag {
                b'D' => rows.push(parse_text_row(&body).map_err(|error| protocol_error(error, what))?),
                b'C' | b'I' => return Ok(rows),
                b'E' => return Err(server_failure(&body, what)),
                b'T' | b'N' | b'S' | b'A' | b'1' | b'2' | b'3' | b'n' | b't' | b'Z' => {}
                tag => {
                    return Err(protocol_error(
                        ProtocolError::Unexpected {
                            tag,
                            state: "in answer to a query",
                        },
                        what,
                    ));
                }
            }
        }
    }

    /// Takes messages up to and including ReadyForQuery, whatever they are.
    pub(crate) async fn take_ready(&mut self, what: &str) -> Result<()> {
        while self.receive(what).await?.0 != b'Z' {}
        Ok(())
    }

    /// Says goodbye. Without it the server finds out by itself.
    pub async fn close(mut self) -> Result<()> {
        frontend::terminate(&mut self.out);
        self.flush().await
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

fn place(settings: &Settings) -> String {
    format!(
        "database \"{}\" on {}:{}",
        settings.database, settings.host, settings.port
    )
}

async fn connect_socket(settings: &Settings) -> Result<Socket> {
    let refused = |error| {
        let fix = "start the server, or correct `host` and `port`";
        unreachable(&format!("connecting to {}", place(settings)), error).with_fix(fix)
    };
    if settings.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", settings.host.trim_end_matches('/'), settings.port);
        return UnixStream::connect(path).await.map(Socket::Unix).map_err(refused);
    }
    let stream = TcpStream::connect((settings.host.as_str(), settings.port))
        .await
        .map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10));
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(refused)?;
    Ok(Socket::Tcp(BulkTcp::new(stream)))
}

/// Asks for TLS as the settings demand it. Unix sockets are never encrypted, as with libpq.
async fn secure(settings: &Settings, mut socket: Socket) -> Result<(Stream, Channel)> {
    let what = format!("asking {} for TLS", place(settings));
    let config = match &socket {
        Socket::Tcp(_) => tls::client_config(&settings.tls)?,
        Socket::Unix(_) => None,
    };
    let Some(config) = config else {
        return Ok((Stream::Plain(socket), Channel::Plain));
    };
    let mut request = BytesMut::new();
    handshake::tls_request(&mut request);
    socket
        .write_all(&request)
        .await
        .map_err(|error| unreachable(&what, error))?;
    // Exactly one byte: whatever a man in the middle might have added is left to the TLS handshake, which fails on it.
    let answer = socket.read_u8().await.map_err(|error| unreachable(&what, error))?;
    match handshake::tls_answer(answer).map_err(|error| protocol_error(error, &what))? {
        TlsAnswer::Refused if settings.tls.mode == TlsMode::Prefer => {
            return Ok((Stream::Plain(socket), Channel::Plain));
        }
        TlsAnswer::Refused => {
            let what = format!("{} does not offer TLS", place(settings));
            return Err(Error::new(ErrorKind::Unsuitable, what)
                .with_fix("set `ssl = on` on the server, or `tls.mode: disable` here"));
        }
        TlsAnswer::Accepted => {}
    }
    let name = ServerName::try_from(settings.host.clone()).map_err(|error| {
        Error::new(ErrorKind::Configuration, format!("host \"{}\": {error}", settings.host)).with_source(error)
    })?;
    let stream = TlsConnector::from(config)
        .connect(name, socket)
        .await
        .map_err(|error| tls_failed(settings, error))?;
    let end_point = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let server_end_point = end_point.and_then(|certificate| certificate::tls_server_end_point(certificate));
    Ok((Stream::Tls(Box::new(stream)), Channel::Tls { server_end_point }))
}

/// A certificate that is not trusted does not get better by trying again.
fn tls_failed(settings: &Settings, error: std::io::Error) -> Error {
    let what = format!("TLS with {}: {error}", place(settings));
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Error::new(ErrorKind::Authentication, what)
            .with_fix("name the root that signed the server's certificate in `tls.root_certificates`, and the host as the certificate has it in `host`")
            .with_source(error),
        Some(rustls::Error::AlertReceived(_)) => Error::new(ErrorKind::Authentication, what)
            .with_fix("set `tls.client_certificate` and `tls.client_key` to a certificate that the server trusts")
            .with_source(error),
        _ => Error::new(ErrorKind::Unreachable, what).with_source(error),
    }
}
