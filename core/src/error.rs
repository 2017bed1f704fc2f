// SPDX-License-Identifier: Apache-2.0
//! One error type for every library crate.
//!
//! A message names the object and, in [`Error::fix`], what mends it. Callers ask [`Error::class`] and
//! [`Error::scope`]; nobody matches strings. Row values, keys and secrets never enter a message or its context.

use std::fmt;

/// What Highwater's library functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, pipeline file or command line is wrong.
    Configuration,
    /// The server refused the credentials.
    Authentication,
    /// The role lacks a privilege.
    Privilege,
    /// A table, topic, slot, publication or file that was named does not exist.
    NotFound,
    /// The object exists and cannot be used as it is: a slot in use, a server setting, a wrong plugin.
    Unsuitable,
    /// The server, broker or registry cannot be reached, or the connection broke.
    Unreachable,
    /// The log no longer holds what the checkpoint needs next.
    PositionLost,
    /// A type or value that cannot be carried without loss.
    UnsupportedValue,
    /// The registry refuses a schema.
    SchemaRejected,
    /// A peer sent bytes that its protocol does not allow.
    CorruptMessage,
    /// Local storage is full or fails.
    Storage,
    /// A newer writer with the same identity took over.
    Fenced,
    /// A limit that the settings name was reached.
    LimitReached,
    /// The work was cancelled by shutdown or by request.
    Cancelled,
    /// An invariant of this program does not hold.
    Bug,
}

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Trying again later may work, nothing needs to be changed.
    Retryable,
    /// A person must change something: settings, privileges, a schema, disk space.
    User,
    /// A bug or corruption: stop.
    Fatal,
}

impl Class {
    /// The exit code of a program that ends with an error of this class: 75 retry, 2 user, 70 bug.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Retryable => 75,
            Class::User => 2,
            Class::Fatal => 70,
        }
    }
}

/// How much stops because of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One record.
    Record,
    /// One table or topic.
    Table,
    /// The whole pipeline.
    Pipeline,
}

/// An error with its cause, its reach, its circumstances and its remedy.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    class: Option<Class>,
    scope: Scope,
    message: String,
    fix: Option<String>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that stops the pipeline. `message` is lower case, names the object, has no final stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            class: None,
            scope: Scope::Pipeline,
            message: message.into(),
            fix: None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// A broken invariant of this program.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    /// Narrows or widens what stops.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.0.scope = scope;
        self
    }

    /// Overrides the class that follows from the kind.
    pub fn with_class(mut self, class: Class) -> Self {
        self.0.class = Some(class);
        self
    }

    /// Says what mends it, as an imperative: a setting to change, a command or SQL to run.
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.0.fix = Some(fix.into());
        self
    }

    /// Adds one circumstance: table, column, position, count. Never a row value, key or secret.
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Keeps the underlying error.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The cause.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What stops.
    pub fn scope(&self) -> Scope {
        self.0.scope
    }

    /// The message without context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What mends it, where known.
    pub fn fix(&self) -> Option<&str> {
        self.0.fix.as_deref()
    }

    /// The circumstances, in the order they were added.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// What a caller does about it.
    pub fn class(&self) -> Class {
        use ErrorKind::*;
        self.0.class.unwrap_or(match self.0.kind {
            Unreachable | Fenced | Cancelled => Class::Retryable,
            Bug => Class::Fatal,
            // A byte lost on the way is read again from the checkpoint.
            CorruptMessage => Class::Retryable,
            Configuration | Authentication | Privilege | NotFound | Unsuitable | PositionLost | UnsupportedValue
            | SchemaRejected | Storage | LimitReached => Class::User,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if !self.0.context.is_empty() {
            f.write_str(" (")?;
            for (at, (name, value)) in self.0.context.iter().enumerate() {
                if at > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{name}: {value}")?;
            }
            f.write_str(")")?;
        }
        if let Some(fix) = &self.0.fix {
            write!(f, "; fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_the_object_its_circumstances_and_the_fix() {
        let error = Error::new(ErrorKind::Unsuitable, "replication slot \"hw\" is in use")
            .with("pid", 42)
            .with_fix("stop the other consumer");
        assert_eq!(
            error.to_string(),
            "replication slot \"hw\" is in use (pid: 42); fix: stop the other consumer"
        );
        assert_eq!(error.class(), Class::User);
    }

    #[test]
    fn exit_codes_tell_user_retry_and_bug_apart() {
        let codes = [Class::User, Class::Retryable, Class::Fatal].map(Class::exit_code);
        assert_eq!(codes, [2, 75, 70]);
    }
}
