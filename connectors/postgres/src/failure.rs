// SPDX-License-Identifier: Apache-2.0
//! What a server's refusal means for a caller: SQLSTATE in, kind and class out.

use crate::protocol::{ProtocolError, ServerError};
use highwater_core::{Class, Error, ErrorKind};
use std::io;
use tokio_postgres::error::DbError;

/// A resource is in use by another session: a slot by another consumer, for example.
pub const OBJECT_IN_USE: &str = "55006";
/// The object is not in the state that the command needs: an invalidated slot, a setting too low.
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
/// A named object (publication, slot, type) does not exist.
pub const UNDEFINED_OBJECT: &str = "42704";
/// A table does not exist.
pub const UNDEFINED_TABLE: &str = "42P01";
/// The server broke a rule of its own.
pub const INTERNAL_ERROR: &str = "XX000";
/// The object exists already.
pub const DUPLICATE_OBJECT: &str = "42710";

/// The error for what the server sent, while doing `what` (`reading table public.movies`).
pub fn protocol_error(error: ProtocolError, what: &str) -> Error {
    match error {
        ProtocolError::Server(server) => server_error(&server, what),
        ProtocolError::Authentication(_) => {
            Error::new(ErrorKind::Authentication, format!("{what}: {error}")).with_source(error)
        }
        ProtocolError::Unsupported { .. } => {
            Error::new(ErrorKind::Unsuitable, format!("{what}: {error}")).with_source(error)
        }
        ProtocolError::Malformed { .. } | ProtocolError::Length { .. } | ProtocolError::Unexpected { .. } => {
            Error::new(ErrorKind::CorruptMessage, format!("{what}: {error}")).with_source(error)
        }
    }
}

/// The error for the server's refusal of `what`.
pub fn server_error(server: &ServerError, what: &str) -> Error {
    let (kind, class) = classify(&server.sqlstate);
    let mut error = Error::new(kind, format!("{what}: {}", server.message)).with("sqlstate", &server.sqlstate);
    if let Some(class) = class {
        error = error.with_class(class);
    }
    if let Some(remedy) = remedy(server) {
        error = error.with_fix(remedy);
    } else if !server.hint.is_empty() {
        error = error.with_fix(server.hint.clone());
    }
    // The source keeps the SQLSTATE for callers; its detail may hold row values and is left out.
    error.with_source(ServerError {
        detail: String::new(),
        ..server.clone()
    })
}

/// The error of a statement that tokio-postgres ran for `what`: the server's refusal, a broken connection, or an answer
/// that could not be read.
pub fn query_error(error: tokio_postgres::Error, what: &str) -> Error {
    if let Some(refusal) = error.as_db_error() {
        return server_error(&ServerError::from(refusal), what);
    }
    let broken = match io_error(&error) {
        Some(cause) => !is_malformed(cause),
        None => error.is_closed(),
    };
    let kind = match broken {
        true => ErrorKind::Unreachable,
        false => ErrorKind::CorruptMessage,
    };
    Error::new(kind, format!("{what}: {}", reason(&error))).with_source(error)
}

/// The error of a session that tokio-postgres could not open. What is neither the server's refusal nor a broken
/// connection is an authentication that cannot go on: a missing password, a method that is not spoken, a server that
/// could not prove in SCRAM that it knows the password.
pub fn session_error(error: tokio_postgres::Error, what: &str) -> Error {
    let refused = match io_error(&error) {
        Some(cause) => cause.kind() == io::ErrorKind::InvalidInput,
        None => error.as_db_error().is_none() && std::error::Error::source(&error).is_some(),
    };
    if !refused {
        return query_error(error, what);
    }
    let what = format!("{what}: authentication failed: {}", reason(&error));
    Error::new(ErrorKind::Authentication, what)
        .with_fix("correct `user` and `password`, and let pg_hba.conf ask this role for scram-sha-256")
        .with_source(error)
}

fn io_error(error: &tokio_postgres::Error) -> Option<&io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// tokio-postgres reports bytes that are no message with these two kinds; neither comes from a socket.
fn is_malformed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
}

/// The innermost words, which say what happened; those around them only say that something did.
fn reason(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl From<&DbError> for ServerError {
    /// Without the detail, which may hold row values.
    fn from(refusal: &DbError) -> Self {
        Self {
            severity: refusal.severity().to_owned(),
            sqlstate: refusal.code().code().to_owned(),
            message: refusal.message().to_owned(),
            detail: String::new(),
            hint: refusal.hint().unwrap_or_default().to_owned(),
        }
    }
}

/// The SQLSTATE of an error that came from the server.
pub fn sqlstate(error: &Error) -> Option<&str> {
    let source = std::error::Error::source(error)?;
    source
        .downcast_ref::<ServerError>()
        .map(|server| server.sqlstate.as_str())
}

/// A broken or refused connection.
pub fn unreachable(what: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unreachable, format!("{what}: {error}")).with_source(error)
}

/// What mends a refusal, where the server's words and hints leave it open. Told by SQLSTATE: messages are translated.
fn remedy(server: &ServerError) -> Option<&'static str> {
    Some(match server.sqlstate.as_str() {
        "28P01" => "correct `user` and `password`",
        "28000" => {
            "correct `user`, `password` and `tls`, or add a line to the server's pg_hba.conf that lets the role in"
        }
        "3D000" => "correct `database`, or create it",
        "42501" => {
            "grant what is missing: `highwater check FILE` prints the statements (GRANT SELECT for a table, ALTER ROLE … \
             REPLICATION for the log)"
        }
        "25006" => {
            "make it on the primary: this server is a standby, or default_transaction_read_only is on (`highwater check FILE` \
             prints the statement)"
        }
        UNDEFINED_TABLE => "create the table, or take it out of `tables`",
        OBJECT_IN_USE => "stop its other user, or choose another name in `slot.name`",
        OBJECT_NOT_IN_PREREQUISITE_STATE if server.message.contains("wal_level") => {
            "set `wal_level = logical` (ALTER SYSTEM SET wal_level = logical) and restart the server"
        }
        "58P01" => crate::slot::GO_ON,
        "53300" => "raise `max_connections`, or `max_wal_senders` for the log, or end other sessions",
        "53400" => "raise `max_replication_slots`, or drop a slot that nobody uses",
        _ => return None,
    })
}

fn classify(sqlstate: &str) -> (ErrorKind, Option<Class>) {
    match (sqlstate, sqlstate.get(..2).unwrap_or_default()) {
        ("42501", _) => (ErrorKind::Privilege, None),
        (UNDEFINED_OBJECT | UNDEFINED_TABLE | "3D000" | "3F000" | "42703", _) => (ErrorKind::NotFound, None),
        // The other consumer may be our own predecessor, which the server has not missed yet.
        (OBJECT_IN_USE, _) => (ErrorKind::Unsuitable, Some(Class::Retryable)),
        ("58P01", _) => (ErrorKind::PositionLost, None),
        // Too many connections; the server starts, stops or is out of memory or disk; a lock was not to be had in time.
        ("55P03", _) | (_, "08" | "53" | "57" | "58") => (ErrorKind::Unreachable, None),
        (_, "28") => (ErrorKind::Authentication, None),
        // A serialization failure or a deadlock.
        (_, "40") => (ErrorKind::Unsuitable, Some(Class::Retryable)),
        _ => (ErrorKind::Unsuitable, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    fn of(sqlstate: &str) -> Error {
        let server = ServerError {
            sqlstate: sqlstate.into(),
            message: "no".into(),
            detail: "key (7)".into(),
            ..ServerError::default()
        };
        server_error(&server, "reading table public.movies")
    }

    #[test]
    fn users_retries_and_lost_positions_are_told_apart() {
        for (sqlstate, kind, class) in [
            ("28P01", ErrorKind::Authentication, Class::User),
            ("42501", ErrorKind::Privilege, Class::User),
            ("42P01", ErrorKind::NotFound, Class::User),
            ("55006", ErrorKind::Unsuitable, Class::Retryable),
            ("53300", ErrorKind::Unreachable, Class::Retryable),
            ("57P01", ErrorKind::Unreachable, Class::Retryable),
            ("58P01", ErrorKind::PositionLost, Class::User),
            ("40001", ErrorKind::Unsuitable, Class::Retryable),
            ("XX000", ErrorKind::Unsuitable, Class::User),
        ] {
            let error = of(sqlstate);
            assert_eq!((error.kind(), error.class()), (kind, class), "{sqlstate}");
            assert_eq!(super::sqlstate(&error), Some(sqlstate));
        }
    }

    #[test]
    fn row_values_in_the_servers_detail_go_nowhere() {
        assert!(!format!("{:?}", of("23505")).contains("key (7)"));
    }

    /// What becomes of a session whose server says `bytes` and hangs up.
    async fn opening(bytes: &[u8]) -> Error {
        let (client, mut server) = tokio::io::duplex(1024);
        server.write_all(bytes).await.unwrap();
        server.shutdown().await.unwrap();
        let mut config = tokio_postgres::Config::new();
        config.user("mover").ssl_mode(tokio_postgres::config::SslMode::Disable);
        let opened = config.connect_raw(client, tokio_postgres::NoTls).await;
        session_error(opened.err().expect("no session"), "connecting")
    }

    #[tokio::test]
    async fn a_session_that_does_not_open_tells_refusals_breaks_and_nonsense_apart() {
        for (bytes, kind, word) in [
            (&b""[..], ErrorKind::Unreachable, "closed"),
            (b"R\0\0\0\x08\0\0", ErrorKind::Unreachable, "bytes"),
            (b"R\0\0\0\x03", ErrorKind::CorruptMessage, "length"),
            (b"T\0\0\0\x06\0\0", ErrorKind::CorruptMessage, "unexpected message"),
            (b"R\0\0\0\x08\0\0\0\x03", ErrorKind::Authentication, "password missing"),
            (b"R\0\0\0\x08\0\0\0\x07", ErrorKind::Authentication, "unsupported"),
            (b"E\0\0\0\x17SFATAL\0C53300\0Mno\0\0", ErrorKind::Unreachable, "no"),
        ] {
            let error = opening(bytes).await;
            assert_eq!(error.kind(), kind, "{bytes:?}: {error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
