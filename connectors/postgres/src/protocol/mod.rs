// SPDX-License-Identifier: Apache-2.0
//! The wire protocol, without I/O: bytes in, values and replies out.
//!
//! ```text
//! socket bytes -> framing (tag + body) -> handshake             until ReadyForQuery
//!                                      -> replication -> pgoutput  a replication stream
//!                                      -> data_row              rows of a query
//! ```
//!
//! Nothing here opens a socket, reads a clock or starts a task, so that every parser of foreign bytes can be driven by a
//! property test or a fuzzer. No parser panics and none indexes its input: whatever cannot be read is a
//! [`ProtocolError`] that says at which message and field.

pub mod certificate;
pub mod data_row;
pub mod field_reader;
pub mod framing;
pub mod handshake;
pub mod lsn;
pub mod pgoutput;
pub mod quoting;
pub mod replication;
pub mod server_error;
pub mod stream_messages;
pub mod two_phase_messages;

pub use field_reader::FieldReader;
pub use lsn::Lsn;
pub use server_error::ServerError;

use std::fmt;

/// Why bytes from the server could not be understood, or what the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// A message ended before the named field, or the field's bytes are not what the protocol allows.
    Malformed {
        /// The message that was read, by its name in the protocol's manual.
        message: &'static str,
        /// The field or rule that failed.
        what: &'static str,
    },
    /// A message announced a length outside the bounds of the protocol or of [`framing::FRAME_BYTES_MAX`].
    Length {
        /// The message's tag.
        tag: u8,
        /// The announced length in bytes, the length field included.
        length: i64,
    },
    /// A message that has no place in the state that the connection is in.
    Unexpected {
        /// The message's tag.
        tag: u8,
        /// What the connection was doing.
        state: &'static str,
    },
    /// A pgoutput message that this connector does not ask for and must not skip.
    Unsupported {
        /// The pgoutput message's tag.
        tag: u8,
        /// What the message is, and what makes a server send it.
        why: &'static str,
    },
    /// Authentication cannot go on: the method is not spoken, a password is missing, or the server proved to be false.
    Authentication(String),
    /// The server answered with an error.
    Server(Box<ServerError>),
}

impl ProtocolError {
    /// A message of the kind `message` that broke the rule `what`.
    pub(crate) fn malformed(message: &'static str, what: &'static str) -> Self {
        Self::Malformed { message, what }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { message, what } => write!(f, "malformed {message} message from the server: {what}"),
            Self::Length { tag, length } => {
                write!(
                    f,
                    "message {} from the server announces {length} bytes",
                    printable(*tag)
                )
            }
            Self::Unexpected { tag, state } => {
                write!(f, "unexpected message {} from the server {state}", printable(*tag))
            }
            Self::Unsupported { tag, why } => write!(f, "logical replication message {}: {why}", printable(*tag)),
            Self::Authentication(what) => write!(f, "authentication failed: {what}"),
            Self::Server(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// A tag as a person can read it: the letter where it is one, else its number.
fn printable(tag: u8) -> String {
    if tag.is_ascii_graphic() {
        format!("`{}`", char::from(tag))
    } else {
        format!("{tag:#04x}")
    }
}
