// SPDX-License-Identifier: Apache-2.0
//! What a registry answered, and which error it means.

use highwater_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// The longest reason that is passed on, in characters.
const REASON_CHARS_MAX: usize = 2_000;

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Null when the body is not JSON.
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn new(status: u16, body: &[u8]) -> Self {
        Answer {
            status,
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The registry's own reason.
    fn reason(&self) -> String {
        let message = self
            .body
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("no reason given");
        message.chars().take(REASON_CHARS_MAX).collect()
    }

    /// An answer that a registry does not give.
    pub(super) fn unexpected(&self, missing: &str) -> Error {
        Error::new(
            ErrorKind::Unsuitable,
            format!("the schema registry's answer lacks {missing}"),
        )
        .with("status", self.status)
        .with_fix("make sure that the url leads to a Confluent-compatible interface (Apicurio: /apis/ccompat/v7)")
    }
}

/// A field of a successful answer.
pub(super) fn number(answer: &Answer, field: &str) -> Result<u32> {
    let number = answer
        .body
        .get(field)
        .and_then(Value::as_u64)
        .and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| answer.unexpected(field))
}

/// A field of a successful answer.
pub(super) fn text<'a>(answer: &'a Answer, field: &str) -> Result<&'a str> {
    answer
        .body
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| answer.unexpected(field))
}

/// The error of an answer that is no success.
pub(super) fn refuse(place: &str, doing: &str, answer: &Answer) -> Error {
    let reason = answer.reason();
    let error = |kind| Error::new(kind, format!("{doing}: the registry at {place} says: {reason}"));
    let error = match answer.status {
        401 => error(ErrorKind::Authentication).with_fix("correct the registry's credentials"),
        403 => error(ErrorKind::Privilege).with_fix("give the registry's user the right to read and write these subjects"),
        404 => error(ErrorKind::NotFound).with_fix(
            "use the registry that the topic was written with, and the url of its Confluent-compatible interface \
             (Apicurio: /apis/ccompat/v7)",
        ),
        409 => error(ErrorKind::SchemaRejected).with_fix(
            "undo the change of the table, or make it a compatible one (new columns nullable, types only wider), or set \
             the subject's compatibility in the registry to a rule that allows it",
        ),
        422 => error(ErrorKind::SchemaRejected).with_fix("change what the registry names, or the rules it has set"),
        408 | 429 | 500.. => error(ErrorKind::Unreachable).with_fix("see the registry's own log; it is tried again"),
        _ => error(ErrorKind::Unsuitable).with_fix("check the url of the registry and what stands between"),
    };
    error.with("status", answer.status)
}
