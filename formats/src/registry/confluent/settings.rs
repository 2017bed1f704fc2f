// SPDX-License-Identifier: Apache-2.0
//! Where a registry is and how to enter.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// A registry's address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfluentSettings {
    /// Its address, with a path where the interface does not begin at the root (Apicurio: `/apis/ccompat/v7`).
    pub url: String,
    /// Who asks; nobody in particular when missing.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Certificates (PEM) that alone are trusted; the system's when missing.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection, and for an answer, milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

impl ConfluentSettings {
    /// An address with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        ConfluentSettings {
            url: url.into(),
            credentials: None,
            ca_file: None,
            timeout_ms: timeout_ms(),
        }
    }
}

fn timeout_ms() -> u64 {
    10_000
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Credentials {
    /// HTTP basic authentication.
    Basic {
        /// User or API key.
        user: String,
        /// Password or API secret.
        password: Secret,
    },
    /// A bearer token.
    Bearer {
        /// The token.
        token: Secret,
    },
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Secret(secret.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let settings: ConfluentSettings = serde_json::from_str(
            r#"{"url": "http://r", "credentials": {"kind": "basic", "user": "u", "password": "hunter2"}}"#,
        )
        .unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(settings.timeout_ms, 10_000);
    }
}
