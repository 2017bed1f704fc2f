// SPDX-License-Identifier: Apache-2.0
//! Why a benchmark has no figure to show.

use std::fmt;

/// A message for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// The result of everything a benchmark does.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with its message: lower case, the thing named.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Puts what was being done in front of an error from elsewhere.
    pub(crate) fn during(doing: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self(format!("{doing}: {cause}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<highwater_testbed::Error> for Failure {
    fn from(error: highwater_testbed::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let cause = error.as_db_error().map(ToString::to_string);
        Self(format!("postgres: {error} {}", cause.unwrap_or_default()))
    }
}

impl From<rdkafka::error::KafkaError> for Failure {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        Self(format!("kafka: {error}"))
    }
}

impl From<highwater_core::Error> for Failure {
    fn from(error: highwater_core::Error) -> Self {
        Self(error.to_string())
    }
}
