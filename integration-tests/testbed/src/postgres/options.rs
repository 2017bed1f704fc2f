// SPDX-License-Identifier: Apache-2.0
//! How a Postgres is to be started.

use crate::certificates::TlsOptions;

/// The superuser: trusted without a password.
pub const SUPERUSER: &str = "postgres";
/// A role with LOGIN, REPLICATION and SUPERUSER that must give its password (SCRAM).
pub const ROLE: &str = "highwater";
/// The password of [`ROLE`].
pub const ROLE_PASSWORD: &str = "highwater-secret";

/// Settings of every server, which [`PgOptions::settings`] may override. `fsync` is off: a killed process loses
/// nothing by it, only a killed machine would. A benchmark sets it on.
pub(crate) const DEFAULT_SETTINGS: [(&str, &str); 9] = [
    ("wal_level", "logical"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_prepared_transactions", "20"),
    ("shared_buffers", "64MB"),
    ("fsync", "off"),
    ("jit", "off"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] %u@%d "),
];

/// How a Postgres is to be started.
#[derive(Debug, Clone, Default)]
pub struct PgOptions {
    /// Major version, one of [`crate::versions::POSTGRES`]. 0 means the newest of [`crate::versions::POSTGRES_MAJORS`].
    pub major: u16,
    /// Server settings, over the defaults (`wal_level=logical`, `fsync=off`, 20 senders and slots).
    pub settings: Vec<(String, String)>,
    /// TLS, off by default.
    pub tls: Option<TlsOptions>,
    /// Lines put before those of `pg_hba.conf`: the first that fits a connection decides. By default the superuser is
    /// trusted and every other role gives its password by SCRAM.
    pub hba: Vec<String>,
}

impl PgOptions {
    /// The default options for a major version.
    pub fn major(major: u16) -> Self {
        Self {
            major,
            ..Self::default()
        }
    }

    /// The same options with one more server setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same options with TLS for `localhost` and `127.0.0.1`.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = Some(TlsOptions::default());
        self
    }

    /// The same options with one more line at the head of `pg_hba.conf`.
    #[must_use]
    pub fn with_hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }
}

/// The content of `pg_hba.conf`.
pub(crate) fn hba(first: &[String]) -> String {
    let mut lines = first.to_vec();
    for database in ["all", "replication"] {
        lines.push(format!("local {database} {SUPERUSER} trust"));
        lines.push(format!("host {database} {SUPERUSER} all trust"));
    }
    for database in ["all", "replication"] {
        lines.push(format!("local {database} all scram-sha-256"));
        lines.push(format!("host {database} all all scram-sha-256"));
    }
    lines.join("\n") + "\n"
}

/// The SQL by which [`ROLE`] comes to be, for `postgres --single`.
pub(crate) fn role_sql() -> String {
    format!(
        "SET password_encryption = 'scram-sha-256';\n\
         CREATE ROLE {ROLE} LOGIN SUPERUSER REPLICATION PASSWORD '{ROLE_PASSWORD}';\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_given_come_first_in_the_hba_file() {
        let text = hba(&["host all guest all reject".into()]);
        assert_eq!(text.lines().next(), Some("host all guest all reject"));
        assert!(text.contains("host replication all all scram-sha-256"));
    }
}
