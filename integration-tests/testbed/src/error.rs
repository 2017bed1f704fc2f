// SPDX-License-Identifier: Apache-2.0
//! What went wrong with a server of the test-bed, with the end of its log.

use std::fmt;

/// A server could not be fetched, started, reached or stopped.
///
/// The message names the server and, where there is one, the fix; `Display` prints the end of the server's log too.
#[derive(Debug)]
pub struct Error {
    message: String,
    log_tail: Option<String>,
}

/// The result of everything the test-bed does.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a message: lower case, the thing named, the fix said.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            log_tail: None,
        }
    }

    /// The same error with the last lines of a log.
    #[must_use]
    pub fn with_log(mut self, tail: impl Into<String>) -> Self {
        self.log_tail = Some(tail.into());
        self
    }

    /// Puts what was being done in front of an error from elsewhere.
    pub fn during(doing: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::new(format!("{doing}: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.log_tail {
            Some(tail) => write!(f, "\n--- end of its log ---\n{tail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// An error with all its causes in one line.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
