// SPDX-License-Identifier: Apache-2.0
//! What can be asked over the local socket, and the forms of answers.

use highwater_core::{Class, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::source_task::SnapshotRequest;
use crate::tail::TailRequest;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// [`crate::telemetry::status::Status`].
    Status,
    /// Topics with their offsets, one an item.
    Topics,
    /// Decoded events, one an item.
    Tail(TailRequest),
    /// Copies to make.
    Snapshot {
        /// Which.
        requests: Vec<SnapshotRequest>,
    },
    /// Read no further chunks of a snapshot.
    Pause {
        /// Its number.
        snapshot: u64,
    },
    /// Go on with it.
    Resume {
        /// Its number.
        snapshot: u64,
    },
    /// Give up what is left of it.
    Cancel {
        /// Its number.
        snapshot: u64,
    },
    /// At most so many windows open at once.
    Throttle {
        /// The new maximum; 0 holds back every chunk.
        windows_max: u32,
    },
    /// Certificates of finished chunks, one an item, oldest first.
    Certificates {
        /// Of this table only (`schema.table`).
        #[serde(default)]
        table: Option<String>,
    },
    /// Read the pipeline file again and capture tables that it now names.
    Reload,
}

/// A line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// One of many.
    Item(Value),
    /// All is said and done.
    End(Value),
    /// It could not be done.
    Error(Told),
}

/// An error as it crosses the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What happened.
    pub message: String,
    /// What mends it.
    pub fix: Option<String>,
    /// `user`, `retryable` or `fatal`.
    pub class: String,
}

impl Told {
    /// The error in this form.
    pub fn of(error: &Error) -> Self {
        Told {
            message: error.message().to_owned(),
            fix: error.fix().map(str::to_owned),
            class: format!("{:?}", error.class()).to_lowercase(),
        }
    }

    /// Back to an error, of the same class.
    pub fn into_error(self) -> Error {
        let (kind, class) = match self.class.as_str() {
            "retryable" => (ErrorKind::Unreachable, Class::Retryable),
            "fatal" => (ErrorKind::Bug, Class::Fatal),
            _ => (ErrorKind::Configuration, Class::User),
        };
        let error = Error::new(kind, self.message).with_class(class);
        match self.fix {
            Some(fix) => error.with_fix(fix),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_look_as_documented() {
        let tail: Request = serde_json::from_str(r#"{"do":"tail","topic":"shop.public.movies","max":1}"#).unwrap();
        let Request::Tail(tail) = tail else { panic!("a tail") };
        assert_eq!(
            (tail.topic.as_str(), tail.max, tail.from_beginning),
            ("shop.public.movies", Some(1), false)
        );
        let keys = r#"{"do":"snapshot","requests":[{"table":"public.movies","rows":{"keys":[["1"],["2"]]}}]}"#;
        let request: Request = serde_json::from_str(keys).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), keys);
        assert!(serde_json::from_str::<Request>(r#"{"do":"explode"}"#).is_err());
    }

    #[test]
    fn an_error_keeps_its_class_and_fix_over_the_socket() {
        for class in [Class::User, Class::Retryable, Class::Fatal] {
            let error = Error::new(ErrorKind::Storage, "disk full")
                .with_class(class)
                .with_fix("free some");
            let back = Told::of(&error).into_error();
            assert_eq!(
                (back.class(), back.message(), back.fix()),
                (class, "disk full", Some("free some"))
            );
        }
    }
}
