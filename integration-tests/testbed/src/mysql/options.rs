// SPDX-License-Identifier: Apache-2.0
//! How a MySQL or MariaDB is to be started.

use crate::certificates::TlsOptions;
use crate::settings;
use crate::versions::MysqlLine;

/// The superuser: trusted without a password on 127.0.0.1 and the Unix socket.
pub const SUPERUSER: &str = "root";
/// A user with the least that capturing needs: SELECT, REPLICATION SLAVE and REPLICATION CLIENT, and all of the
/// database [`ROLE_DATABASE`], which is its own. It must give its password (`caching_sha2_password` on MySQL,
/// `mysql_native_password` on MariaDB).
pub const ROLE: &str = "highwater";
/// The password of [`ROLE`].
pub const ROLE_PASSWORD: &str = "highwater-secret";
/// The only database, besides those of the server itself, in which [`ROLE`] may write. Of a new server it is empty.
pub const ROLE_DATABASE: &str = "highwater";

/// How a MySQL or MariaDB is to be started.
#[derive(Debug, Clone)]
pub struct MysqlOptions {
    /// The line of releases.
    pub line: MysqlLine,
    /// Server variables over the defaults: a binlog in row format with full images and metadata, GTIDs, nothing synced
    /// to the disk, and of MySQL no performance schema, which costs 240 MB.
    pub settings: Vec<(String, String)>,
    /// TLS with an authority of its own. Without it MySQL and MariaDB 11 still offer TLS, with a certificate that
    /// nobody signed.
    pub tls: Option<TlsOptions>,
}

impl MysqlOptions {
    /// The default options for a line.
    pub fn line(line: MysqlLine) -> Self {
        Self {
            line,
            settings: Vec::new(),
            tls: None,
        }
    }

    /// The same options with one more server variable, as on the server's command line: `gtid_mode`, `OFF`.
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
}

/// Settings of every server. Nothing is synced: a killed process loses nothing by it, only a killed machine would. A
/// benchmark sets `sync_binlog` and `innodb_flush_log_at_trx_commit` to 1.
const DEFAULT_SETTINGS: [(&str, &str); 10] = [
    ("log_bin", "binlog"),
    ("binlog_format", "ROW"),
    ("binlog_row_image", "FULL"),
    ("binlog_row_metadata", "FULL"),
    ("sync_binlog", "0"),
    ("innodb_flush_log_at_trx_commit", "2"),
    ("innodb_buffer_pool_size", "64M"),
    ("character_set_server", "utf8mb4"),
    ("skip_name_resolve", "ON"),
    ("secure_file_priv", ""),
];

const MYSQL_SETTINGS: [(&str, &str); 4] = [
    ("gtid_mode", "ON"),
    ("enforce_gtid_consistency", "ON"),
    ("mysqlx", "OFF"),
    ("performance_schema", "OFF"),
];

const MARIADB_SETTINGS: [(&str, &str); 2] = [("gtid_strict_mode", "ON"), ("log_slave_updates", "ON")];

/// The default settings of a line.
pub(crate) fn defaults(line: MysqlLine) -> Vec<(String, String)> {
    let mut all = settings::owned(&DEFAULT_SETTINGS);
    all.extend(settings::owned(&small_files(line)));
    all.extend(match line.is_mariadb() {
        true => settings::owned(&MARIADB_SETTINGS),
        false => settings::owned(&MYSQL_SETTINGS),
    });
    all
}

/// What keeps a data directory small, for every test copies one. The template is made with it too.
pub(crate) fn small_files(line: MysqlLine) -> [(&'static str, &'static str); 1] {
    [match line {
        MysqlLine::Mysql9 => ("innodb_redo_log_capacity", "32M"),
        // Of two files.
        MysqlLine::Mysql8 => ("innodb_log_file_size", "16M"),
        MysqlLine::MariaDb10 | MysqlLine::MariaDb11 => ("innodb_log_file_size", "32M"),
    }]
}

/// The SQL by which the users come to be, a statement a line.
pub(crate) fn users_sql(line: MysqlLine) -> String {
    // MariaDB makes no user in its system tables that it was not asked for.
    let (create, with) = match line.is_mariadb() {
        true => ("CREATE OR REPLACE USER", ""),
        false => ("CREATE USER", " WITH caching_sha2_password"),
    };
    let mut sql = String::new();
    let hosts: &[&str] = if line.is_mariadb() {
        &["localhost", "127.0.0.1"]
    } else {
        &["127.0.0.1"]
    };
    for host in hosts {
        sql += &format!("{create} '{SUPERUSER}'@'{host}' IDENTIFIED BY '';\n");
        sql += &format!("GRANT ALL ON *.* TO '{SUPERUSER}'@'{host}' WITH GRANT OPTION;\n");
    }
    sql += &format!("{create} '{ROLE}'@'%' IDENTIFIED{with} BY '{ROLE_PASSWORD}';\n");
    sql += &format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{ROLE}'@'%';\n");
    sql += &format!("CREATE DATABASE {ROLE_DATABASE};\n");
    sql += &format!("GRANT ALL ON {ROLE_DATABASE}.* TO '{ROLE}'@'%';\n");
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_server_gets_settings_that_the_other_does_not_know() {
        let names = |line| -> Vec<String> { defaults(line).into_iter().map(|(name, _)| name).collect() };
        let (mysql, mariadb) = (names(MysqlLine::Mysql9), names(MysqlLine::MariaDb10));
        assert!(mysql.contains(&"gtid_mode".to_owned()) && !mariadb.contains(&"gtid_mode".to_owned()));
        assert!(mariadb.contains(&"gtid_strict_mode".to_owned()) && !mysql.contains(&"gtid_strict_mode".to_owned()));
    }
}
