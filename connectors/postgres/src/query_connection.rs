// SPDX-License-Identifier: Apache-2.0
//! Queries: a tokio-postgres client that is opened when it is first needed and again when it broke.
//!
//! A session is taken out while a statement runs and put back after it, so that one whose statement was dropped half-way
//! is never used again. Statements go out with their parameters' types: one round trip, and nothing prepared to be kept.

use crate::catalog_row::{CatalogRow, FullXid, Parameter, only_row};
use crate::dial::{connecting, dial, in_time};
use crate::failure::{query_error, session_error};
use crate::protocol::handshake::Channel;
use crate::server_version::{ServerVersion, major_of};
use crate::settings::Settings;
use crate::socket::Stream;
use highwater_core::{Error, Result};
use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Row};

/// A lazily opened, re-opened connection for queries.
#[derive(Debug)]
pub struct QueryConnection {
    settings: Arc<Settings>,
    application_name: &'static str,
    set_up: &'static str,
    idle: Option<Session>,
}

impl QueryConnection {
    /// A connection that is opened when it is first needed. `set_up` is run on each new session.
    pub fn new(settings: Arc<Settings>, application_name: &'static str, set_up: &'static str) -> Self {
        Self {
            settings,
            application_name,
            set_up,
            idle: None,
        }
    }

    /// Runs one statement. Cancel-safe: the next call opens a new connection.
    pub async fn query(&mut self, sql: &str, parameters: &[Parameter<'_>], what: &str) -> Result<Vec<Row>> {
        let session = self.take().await?;
        let result = session.client.query_typed(sql, parameters).await;
        self.put_back(session, result, what)
    }

    /// Runs statements without parameters, as one transaction unless they say otherwise. Cancel-safe: the next call opens
    /// a new connection.
    pub async fn batch(&mut self, sql: &str, what: &str) -> Result<()> {
        let session = self.take().await?;
        let result = session.client.batch_execute(sql).await;
        self.put_back(session, result, what)
    }

    /// The next transaction id to be given out: every transaction that runs now has one below it, or none yet.
    pub(crate) async fn next_transaction(&mut self) -> Result<u64> {
        let sql = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())";
        self.transaction_id(sql, "reading the next transaction id").await
    }

    /// The oldest transaction that runs, or the next one to begin.
    pub(crate) async fn oldest_transaction(&mut self) -> Result<u64> {
        let sql = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())";
        self.transaction_id(sql, "reading the oldest transaction that runs")
            .await
    }

    async fn transaction_id(&mut self, sql: &str, what: &str) -> Result<u64> {
        let row = only_row(self.query(sql, &[], what).await?, what)?;
        Ok(row.column::<FullXid>(0)?.0)
    }

    /// The server's version, for what differs between versions; 0 when it named none.
    pub async fn server_version(&mut self) -> Result<ServerVersion> {
        let session = self.take().await?;
        let version = session.server_version;
        self.idle = Some(session);
        Ok(version)
    }

    /// Whether a session stands ready: not before the first statement, nor after one that broke it, nor once the server
    /// has ended it.
    pub fn is_open(&self) -> bool {
        self.idle.as_ref().is_some_and(|session| !session.client.is_closed())
    }

    /// The session that stands ready, else a new one.
    async fn take(&mut self) -> Result<Session> {
        let ready = self.is_open();
        if let Some(session) = self.idle.take().filter(|_| ready) {
            return Ok(session);
        }
        in_time(
            &self.settings,
            Session::open(&self.settings, self.application_name, self.set_up),
        )
        .await
    }

    /// After an answer, also a refusal, the session is good for another statement, unless the server ended it.
    fn put_back<T>(&mut self, session: Session, result: Result<T, tokio_postgres::Error>, what: &str) -> Result<T> {
        match result {
            Ok(answer) => {
                self.idle = Some(session);
                Ok(answer)
            }
            Err(error) if error.as_db_error().is_some_and(leaves_the_session) => {
                self.idle = Some(session);
                Err(query_error(error, what))
            }
            Err(error) => Err(session.failure(error, what)),
        }
    }
}

/// What ended a connection, once it has ended.
type End = Arc<Mutex<Option<tokio_postgres::Error>>>;

/// A client and the task that moves its bytes.
#[derive(Debug)]
struct Session {
    client: Client,
    driver: JoinHandle<()>,
    end: End,
    server_version: ServerVersion,
}

impl Session {
    async fn open(settings: &Settings, application_name: &str, set_up: &str) -> Result<Self> {
        let what = connecting(settings);
        let (stream, channel) = dial(settings).await?;
        let mut config = Config::new();
        config
            .user(&settings.user)
            .dbname(&settings.database)
            .application_name(application_name);
        if let Some(password) = &settings.password {
            config.password(password.reveal()?);
        }
        // Whether to encrypt was decided when the server was dialled: "direct" hands the stream over as it is, plain or not.
        config
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        let (client, connection) = config
            .connect_raw(stream, Dialled(channel))
            .await
            .map_err(|error| session_error(error, &what))?;
        let server_version = ServerVersion(major_of(connection.parameter("server_version").unwrap_or_default()));
        let end = End::default();
        let session = Self {
            client,
            driver: tokio::spawn(drive(connection, end.clone())),
            end,
            server_version,
        };
        if !set_up.is_empty() {
            let done = session.client.batch_execute(set_up).await;
            done.map_err(|error| session.failure(error, "setting up a session"))?;
        }
        Ok(session)
    }

    /// The error of a statement that got no answer: what ended the connection says more than that it is closed.
    fn failure(&self, error: tokio_postgres::Error, what: &str) -> Error {
        let cause = match error.is_closed() {
            true => self.end.lock().unwrap_or_else(PoisonError::into_inner).take(),
            false => None,
        };
        query_error(cause.unwrap_or(error), what)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Whether a refusal ends the statement alone. The severity is never translated.
fn leaves_the_session(refusal: &DbError) -> bool {
    matches!(refusal.parsed_severity(), Some(Severity::Error))
}

/// Moves a connection's bytes until it ends, and leaves behind what ended it before a waiting statement learns that it
/// did. Notices are passed over: they may quote values.
async fn drive(mut connection: tokio_postgres::Connection<Stream, Secured>, end: End) {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
            None => return,
        }
    }
}

/// Tells tokio-postgres what its stream is secured with; [`dial`] has secured it.
struct Dialled(Channel);

impl TlsConnect<Stream> for Dialled {
    type Stream = Secured;
    type Error = Infallible;
    type Future = Ready<Result<Secured, Infallible>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(Secured {
            stream,
            channel: self.0,
        }))
    }
}

/// A stream that knows the certificate at its other end, to which SCRAM binds the session.
struct Secured {
    stream: Stream,
    channel: Channel,
}

impl TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.channel {
            Channel::Tls {
                server_end_point: Some(data),
            } => ChannelBinding::tls_server_end_point(data.clone()),
            Channel::Tls { server_end_point: None } | Channel::Plain => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
