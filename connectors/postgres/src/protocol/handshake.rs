// SPDX-License-Identifier: Apache-2.0
//! From the first byte to ReadyForQuery, as a state machine.
//!
//! ```text
//! (SSLRequest -> S -> TLS handshake | N) -> StartupMessage
//!     -> Authentication: ok | cleartext | md5 | SASL (SCRAM-SHA-256, -PLUS with channel binding)
//!     -> ParameterStatus*, BackendKeyData -> ReadyForQuery
//! ```
//!
//! The caller moves bytes; nothing here does. A server is believed to be authentic only after it proved in SCRAM that it
//! knows the password: AuthenticationOk inside an unfinished exchange is an error.

use super::{FieldReader, ProtocolError, ServerError};
use crate::server_version::major_of;
use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;

/// Who connects, to what.
#[derive(Clone)]
pub struct Credentials {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password, where there is one.
    pub password: Option<Vec<u8>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// What the connection is secured with when authentication begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// Plain.
    Plain,
    /// TLS, with the channel binding data of the server's certificate where it has any.
    Tls {
        /// See [`super::certificate::tls_server_end_point`].
        server_end_point: Option<Vec<u8>>,
    },
}

/// The server's answer to an SSLRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsAnswer {
    /// Begin the TLS handshake; not one byte may have followed the answer.
    Accepted,
    /// The server has no TLS here.
    Refused,
}

/// The bytes of the request for TLS.
pub fn tls_request(out: &mut BytesMut) {
    frontend::ssl_request(out);
}

/// Reads the single byte that answers [`tls_request`].
pub fn tls_answer(byte: u8) -> Result<TlsAnswer, ProtocolError> {
    match byte {
        b'S' => Ok(TlsAnswer::Accepted),
        b'N' => Ok(TlsAnswer::Refused),
        tag => Err(ProtocolError::Unexpected {
            tag,
            state: "in answer to the request for TLS",
        }),
    }
}

enum State {
    /// Waiting for the server to choose a method.
    Method,
    /// SCRAM, first message sent.
    ScramFirst(ScramSha256),
    /// SCRAM, final message sent; the server's proof is due.
    ScramFinal(ScramSha256),
    /// The server's AuthenticationOk is due.
    Proven,
    /// Parameters come in.
    Parameters,
    /// Complete.
    Ready,
}

/// The state machine, from StartupMessage on.
pub struct Handshake {
    credentials: Credentials,
    channel: Channel,
    state: State,
    server_major: u32,
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Where a handshake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Send what was appended, then read on.
    Continue,
    /// Ready for queries.
    Ready,
}

impl Handshake {
    /// Begins: appends the StartupMessage. `replication` asks for a walsender bound to the database.
    pub fn start(
        credentials: Credentials,
        channel: Channel,
        replication: bool,
        application_name: &str,
        out: &mut BytesMut,
    ) -> Result<Self, ProtocolError> {
        let mut parameters = vec![
            ("user", credentials.user.as_str()),
            ("database", credentials.database.as_str()),
            ("application_name", application_name),
            ("client_encoding", "UTF8"),
            // Text forms are read in a few places: keep them independent of the server's configuration.
            ("DateStyle", "ISO, MDY"),
            ("extra_float_digits", "3"),
        ];
        if replication {
            parameters.push(("replication", "database"));
        }
        frontend::startup_message(parameters, out).map_err(invalid_request)?;
        Ok(Self {
            credentials,
            channel,
            state: State::Method,
            server_major: 0,
        })
    }

    /// The server's major version; 0 before it named one.
    pub fn server_major(&self) -> u32 {
        self.server_major
    }

    /// Takes one message of the server; appends what is to be sent in answer.
    pub fn receive(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) -> Result<Progress, ProtocolError> {
        match (tag, &self.state) {
            (b'E', _) => Err(ProtocolError::Server(Box::new(ServerError::parse(body)?))),
            (b'N', _) => Ok(Progress::Continue),
            // The server offers an older minor version or does not know an option of ours: both are harmless.
            (b'v', State::Method) => Ok(Progress::Continue),
            (b'R', _) => self.authentication(body, out).map(|()| Progress::Continue),
            (b'S', State::Parameters) => {
                let mut reader = FieldReader::new("ParameterStatus", body);
                let name = reader.c_str("name")?;
                let value = reader.c_str("value")?;
                if name == "server_version" {
                    self.server_major = major_of(value);
                }
                Ok(Progress::Continue)
            }
            (b'K', State::Parameters) => {
                FieldReader::new("BackendKeyData", body).i32("process id")?;
                Ok(Progress::Continue)
            }
            (b'Z', State::Parameters) => {
                self.state = State::Ready;
                Ok(Progress::Ready)
            }
            (tag, _) => Err(ProtocolError::Unexpected {
                tag,
                state: "while connecting",
            }),
        }
    }

    fn authentication(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), ProtocolError> {
        let mut reader = FieldReader::new("Authentication", body);
        let method = reader.i32("method")?;
        let state = std::mem::replace(&mut self.state, State::Ready);
        self.state = match (method, state) {
            (0, State::Method | State::Proven) => State::Parameters,
            (0, State::ScramFirst(_) | State::ScramFinal(_)) => {
                let what = "the server ended the SCRAM exchange without proof that it knows the password";
                return Err(ProtocolError::Authentication(what.into()));
            }
            (3, State::Method) => {
                frontend::password_message(self.password("password")?, out).map_err(invalid_request)?;
                State::Proven
            }
            (5, State::Method) => {
                let salt = reader.u32("salt of md5")?.to_be_bytes();
                let hash = md5_hash(self.credentials.user.as_bytes(), self.password("md5")?, salt);
                frontend::password_message(hash.as_bytes(), out).map_err(invalid_request)?;
                State::Proven
            }
            (10, State::Method) => State::ScramFirst(self.scram_begin(&mut reader, out)?),
            (11, State::ScramFirst(mut scram)) => {
                scram.update(reader.rest()).map_err(scram_failed)?;
                frontend::sasl_response(scram.message(), out).map_err(invalid_request)?;
                State::ScramFinal(scram)
            }
            (12, State::ScramFinal(mut scram)) => {
                scram.finish(reader.rest()).map_err(scram_failed)?;
                State::Proven
            }
            (2 | 7 | 8 | 9, _) => {
                let what = "the server asks for Kerberos, GSSAPI or SSPI; configure scram-sha-256 for this role in \
                            pg_hba.conf";
                return Err(ProtocolError::Authentication(what.into()));
            }
            _ => {
                return Err(ProtocolError::Unexpected {
                    tag: b'R',
                    state: "while authenticating",
                });
            }
        };
        Ok(())
    }

    fn password(&self, method: &str) -> Result<&[u8], ProtocolError> {
        let missing =
            || ProtocolError::Authentication(format!("the server asks for a password ({method}), none is set"));
        self.credentials.password.as_deref().ok_or_else(missing)
    }

    fn scram_begin(&self, reader: &mut FieldReader<'_>, out: &mut BytesMut) -> Result<ScramSha256, ProtocolError> {
        let (mut plain, mut plus) = (false, false);
        loop {
            match reader.c_str("SASL mechanism")? {
                "" => break,
                SCRAM_SHA_256 => plain = true,
                SCRAM_SHA_256_PLUS => plus = true,
                _ => {}
            }
        }
        let (binding, mechanism) = match &self.channel {
            Channel::Tls {
                server_end_point: Some(data),
            } if plus => (ChannelBinding::tls_server_end_point(data.clone()), SCRAM_SHA_256_PLUS),
            // Able to bind, not offered: saying so lets the server detect that the offer was taken out on the way.
            Channel::Tls {
                server_end_point: Some(_),
            } if plain => (ChannelBinding::unrequested(), SCRAM_SHA_256),
            _ if plain => (ChannelBinding::unsupported(), SCRAM_SHA_256),
            _ => {
                let what = "the server offers no SASL mechanism that this program speaks (SCRAM-SHA-256)";
                return Err(ProtocolError::Authentication(what.into()));
            }
        };
        let scram = ScramSha256::new(self.password("scram-sha-256")?, binding);
        frontend::sasl_initial_response(mechanism, scram.message(), out).map_err(invalid_request)?;
        Ok(scram)
    }
}

fn scram_failed(error: std::io::Error) -> ProtocolError {
    ProtocolError::Authentication(format!("the SCRAM exchange failed: {error}"))
}

/// A user, database or password with a zero byte cannot be sent.
fn invalid_request(error: std::io::Error) -> ProtocolError {
    ProtocolError::Authentication(format!("the credentials cannot be sent: {error}"))
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
