// SPDX-License-Identifier: Apache-2.0
//! A mistake in a pipeline file.

use std::fmt;

use crate::nearest::nearest;

/// What is wrong with a pipeline file, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecError {
    path: Vec<String>,
    /// Line in the file, from 1; 0 where the pipeline did not come from a file.
    line: u32,
    message: String,
    suggestion: Option<String>,
}

impl SpecError {
    /// A mistake at a place that [`SpecError::within`] and [`SpecError::at_line`] tell later. `message` is lower case and
    /// holds no value of a secret.
    pub fn new(message: impl Into<String>) -> Self {
        SpecError {
            message: message.into(),
            ..SpecError::default()
        }
    }

    /// A name that is not one of `known`.
    pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> Self {
        let suggestion = nearest(name, known.iter().copied()).map(|near| format!("did you mean \"{near}\"?"));
        let suggestion = suggestion.or_else(|| (!known.is_empty()).then(|| format!("known: {}", known.join(", "))));
        SpecError {
            message: format!("unknown {what} \"{name}\""),
            suggestion,
            ..SpecError::default()
        }
    }

    /// Puts `segment` before the path.
    pub fn within(mut self, segment: &str) -> Self {
        self.path.insert(0, segment.to_owned());
        self
    }

    /// Sets the line unless a deeper one is known.
    pub fn at_line(mut self, line: u32) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// Says what would be right.
    pub fn with_suggestion(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// The path of the setting: `source.settings.slotname`.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for segment in &self.path {
            if !path.is_empty() && !segment.starts_with('[') {
                path.push('.');
            }
            path.push_str(segment);
        }
        path
    }

    /// The line in the file, from 1; `None` where the pipeline did not come from a file.
    pub fn line(&self) -> Option<u32> {
        (self.line > 0).then_some(self.line)
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would be right, where known.
    pub fn suggestion(&self) -> Option<&str> {
        self.suggestion.as_deref()
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SpecError {}

impl serde::de::Error for SpecError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        SpecError::new(message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        SpecError::unknown("setting", field, expected).within(field)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        SpecError::unknown("choice", variant, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        SpecError::new(format!("setting \"{field}\" is missing"))
    }

    /// Texts are left out: they may come from a secret.
    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        SpecError::new(format!("expected {expected}, found {}", kind_of(found)))
    }

    fn invalid_value(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        SpecError::new(format!("expected {expected}, found {}", kind_of(found)))
    }
}

fn kind_of(found: serde::de::Unexpected<'_>) -> String {
    use serde::de::Unexpected;
    match found {
        Unexpected::Str(_) | Unexpected::Bytes(_) => "a text".to_owned(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        other => other.to_string(),
    }
}
