// SPDX-License-Identifier: Apache-2.0
//! ErrorResponse and NoticeResponse.

use super::{FieldReader, ProtocolError};
use std::fmt;

/// The error that a server reports, with its SQLSTATE.
///
/// The server's `DETAIL` may quote values of rows (a violated key, an invalid input); it is kept apart and is not
/// part of [`fmt::Display`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`, never translated.
    pub severity: String,
    /// The SQLSTATE, five characters.
    pub sqlstate: String,
    /// The primary message, in the server's language.
    pub message: String,
    /// More about the problem; empty when the server sent none. May hold row values: never log it.
    pub detail: String,
    /// What to do, as the server sees it; empty when the server sent none.
    pub hint: String,
}

impl ServerError {
    /// Parses the body of an ErrorResponse or NoticeResponse. Text that is not UTF-8 (errors before the encoding is
    /// settled) is read with replacement characters.
    pub fn parse(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut reader = FieldReader::new("ErrorResponse", body);
        let mut error = Self::default();
        let mut localized_severity = String::new();
        loop {
            let code = reader.u8("field code")?;
            if code == 0 {
                break;
            }
            let text = String::from_utf8_lossy(reader.c_bytes("field text")?).into_owned();
            match code {
                b'S' => localized_severity = text,
                b'V' => error.severity = text,
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'D' => error.detail = text,
                b'H' => error.hint = text,
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = localized_severity;
        }
        Ok(error)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)?;
        if self.hint.is_empty() {
            Ok(())
        } else {
            write!(f, "; hint: {}", self.hint)
        }
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_of_an_error() {
        let body = b"SFEHLER\0VERROR\0C42501\0Mpermission denied\0Hask\0Dkey (1)\0Fmain.c\0L12\0\0";
        let error = ServerError::parse(body).unwrap();
        assert_eq!(error.severity, "ERROR");
        assert_eq!(error.sqlstate, "42501");
        assert_eq!(error.to_string(), "permission denied (SQLSTATE 42501); hint: ask");
        assert_eq!(error.detail, "key (1)");
    }

    #[test]
    fn a_cut_error_is_malformed_at_every_length() {
        let body = b"SERROR\0C42501\0Mno\0\0";
        for length in 0..body.len() {
            assert!(ServerError::parse(&body[..length]).is_err(), "cut at {length}");
        }
    }
}
