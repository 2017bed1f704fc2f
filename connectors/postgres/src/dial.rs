// SPDX-License-Identifier: Apache-2.0
//! The way to the server, the same for every connection: a socket, and TLS as the settings demand it.
//!
//! [`crate::connection`] and [`crate::query_connection`] begin with what [`dial`] returns, so that a server is verified in
//! one way, whoever speaks to it afterwards.

use crate::failure::{protocol_error, unreachable};
use crate::protocol::certificate;
use crate::protocol::handshake::{self, Channel, TlsAnswer};
use crate::settings::{Settings, TlsMode};
use crate::socket::{BulkTcp, Socket, Stream};
use crate::tls;
use bytes::BytesMut;
use highwater_core::{Error, ErrorKind, Result};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Opens a socket to the server and encrypts it as the settings demand it. Nothing of the session was said yet.
pub(crate) async fn dial(settings: &Settings) -> Result<(Stream, Channel)> {
    let socket = connect_socket(settings).await?;
    secure(settings, socket).await
}

/// Gives `opening` a session as long as the settings allow.
pub(crate) async fn in_time<T>(settings: &Settings, opening: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = settings.connect_timeout();
    tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
        let what = format!("{}: no connection within {limit:?}", place(settings));
        Err(Error::new(ErrorKind::Unreachable, what))
    })
}

/// What opening a session does, for messages.
pub(crate) fn connecting(settings: &Settings) -> String {
    format!("connecting to {} as \"{}\"", place(settings), settings.user)
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
