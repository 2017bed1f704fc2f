// SPDX-License-Identifier: Apache-2.0
//! What a server's refusal means for a caller: SQLSTATE in, kind and class out.

use crate::protocol::{ProtocolError, ServerError};
use highwater_core::{Class, Error, ErrorKind};

/// A resource is in use by another session: a slot by another consumer, for example.
pub const OBJECT_IN_USE: &str = "55006";
/// The object is not in the state that the command needs: an invalidated slot, a setting too low.
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
/// A named object (publication, slot, type) does not exist.
pub const UNDEFINED_OBJECT: &str = "42704";
/// A table does not exist.
pub const UNDEFINED_TABLE: &str = "42P01";
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
        UNDEFINED_TABLE => "create the table, or take it out of `tables`",
        OBJECT_IN_USE => "stop its other user, or choose another name in `slot.name`",
        OBJECT_NOT_IN_PREREQUISITE_STATE if server.message.contains("wal_level") => {
            "set `wal_level = logical` (ALTER SYSTEM SET wal_level = logical) and restart the server"
        }
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
}
