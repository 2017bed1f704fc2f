// SPDX-License-Identifier: Apache-2.0
//! A real MySQL or MariaDB for a test.
//!
//! It runs as a child process only, whatever `HIGHWATER_TESTBED` says: there is no container back end.

mod native;
mod options;
pub(crate) mod programs;
mod replica;
mod session;
mod shared;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use mysql_async::{Conn, OptsBuilder};

use crate::address;
use crate::certificates::{Authority, TlsFiles};
use crate::error::{Error, Result};
use crate::fetch::debian::Mirrors;
use crate::run_dir::RunDir;
use crate::settings;
use crate::skip;
use crate::versions::{self, MysqlLine};

pub use options::{MysqlOptions, ROLE, ROLE_DATABASE, ROLE_PASSWORD, SUPERUSER};
pub use shared::MysqlDatabase;

use native::Native;

/// A running server on 127.0.0.1, killed and removed when dropped; its directory is kept when the test fails.
///
/// Every method takes `&self`: a test may share it between tasks.
#[derive(Debug)]
pub struct Mysql {
    line: MysqlLine,
    settings: Mutex<Vec<(String, String)>>,
    authority: Option<Authority>,
    ca_path: Option<PathBuf>,
    server: Native,
}

impl Mysql {
    /// Starts a server; a second or two once the cache is warm.
    pub async fn start(options: MysqlOptions) -> Result<Self> {
        let began = Instant::now();
        let line = options.line;
        let dir = RunDir::new()?;
        let prepared = options.tls.as_ref().map(|tls| tls.prepare(dir.path())).transpose()?;
        let (authority, tls) = prepared.unzip();
        let ca_path = tls.as_ref().map(|files: &TlsFiles| files.ca.clone());
        let settings = settings::merged(&options::defaults(line), &options.settings);
        let server = tokio::task::spawn_blocking(move || Native::prepare(line, tls, dir))
            .await
            .map_err(|e| Error::during("preparing a server", e))??;
        server.start(&settings).await?;
        let this = Self {
            line,
            settings: Mutex::new(settings),
            authority,
            ca_path,
            server,
        };
        eprintln!(
            "testbed: {} {} (process, pid {}) at 127.0.0.1:{} in {} ms",
            this.server.programs().name(),
            this.version(),
            this.pid().unwrap_or_default(),
            this.port(),
            began.elapsed().as_millis()
        );
        Ok(this)
    }

    /// Fetches a line's programs and makes its data template, so that a test has not to wait for it.
    /// Blocks; returns the exact version.
    pub fn fetch(line: MysqlLine) -> Result<String> {
        let programs = programs::Programs::fetch(line)?;
        programs.template()?;
        Ok(programs.version)
    }

    /// True where the suite cannot do without a line: where Debian's packages, the only source, are to be had at all.
    pub fn is_needed(line: MysqlLine) -> bool {
        versions::mysql(line).is_needed && Mirrors::of_this_machine().is_some()
    }

    /// Fetches a line for a test; false, and counted as skipped, where it is not to be had and not needed.
    ///
    /// # Panics
    /// When it is needed and not to be had.
    pub fn is_to_be_had(line: MysqlLine) -> bool {
        match Self::fetch(line) {
            Ok(_) => true,
            Err(error) => {
                assert!(!Self::is_needed(line), "{error}");
                skip::counted(versions::mysql(line).name, &error);
                false
            }
        }
    }

    async fn boot(&self) -> Result<()> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.server.start(&settings).await
    }

    fn set(&self, over: &[(&str, &str)]) {
        let mut present = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        *present = settings::merged(&present, &settings::owned(over));
    }

    /// A new session of the superuser without a database.
    pub async fn connect(&self) -> Result<Conn> {
        session::open(session::superuser(self.port())).await
    }

    /// A new session of the superuser in `database`.
    pub async fn connect_to(&self, database: &str) -> Result<Conn> {
        session::open(session::superuser(self.port()).db_name(Some(database))).await
    }

    /// What a client needs to log in over TCP as `user`, to which TLS and more can be added.
    pub fn client(&self, user: &str, password: &str) -> OptsBuilder {
        session::superuser(self.port()).user(Some(user)).pass(Some(password))
    }

    /// A connection URL; an empty password is left out.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        address::of_database("mysql", (user, password), self.port(), database)
    }

    /// Stops the server in an orderly way.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    /// Kills the server, as a crash of the machine would.
    pub async fn kill9(&self) -> Result<()> {
        self.server.process().kill9()
    }

    /// Starts the server again on its data and port; an orderly stop comes first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// As [`Mysql::restart`], with these settings over the present ones.
    pub async fn restart_with(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.set(settings);
        self.restart().await
    }

    /// Freezes the server: connections stay open and silent.
    pub async fn pause(&self) -> Result<()> {
        self.server.process().pause()
    }

    /// Lets a frozen server go on.
    pub async fn resume(&self) -> Result<()> {
        self.server.process().resume();
        Ok(())
    }

    /// The server's process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.process().pid()
    }

    /// Always `127.0.0.1`.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The TCP port, the same after a restart.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The directory of the data, the log and the Unix socket.
    pub fn dir(&self) -> &Path {
        self.server.dir().path()
    }

    /// The Unix socket.
    pub fn socket_path(&self) -> PathBuf {
        self.server.at("socket")
    }

    /// The data directory, with the binlogs (`binlog.000001` …).
    pub fn data_dir(&self) -> PathBuf {
        self.server.at("data")
    }

    /// The log file.
    pub fn log_path(&self) -> PathBuf {
        self.server.at("log")
    }

    /// The directory of the client programs (`mysql`, `mysqlbinlog`; of MariaDB `mariadb`, `mariadb-binlog`). MySQL 8
    /// comes without.
    pub fn bin_dir(&self) -> Option<&Path> {
        self.server.programs().clients()
    }

    /// The line of releases.
    pub fn line(&self) -> MysqlLine {
        self.line
    }

    /// The exact version in the server's own words: `9.7.4-1`, `10.11.14-MariaDB-0+deb12u2`.
    pub fn version(&self) -> &str {
        &self.server.programs().version
    }

    /// The certificate of the authority that signed the server's, in PEM, if [`MysqlOptions::tls`] is there.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::ca_pem)
    }

    /// The file with [`Mysql::ca_pem`].
    pub fn ca_path(&self) -> Option<&Path> {
        self.ca_path.as_deref()
    }

    /// The authority that the server trusts for client certificates, if [`MysqlOptions::tls`] is there.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Keeps the run directory when the server goes, for a test that fails without a panic.
    pub fn keep_dir(&self) {
        self.server.dir().keep();
    }

    /// The end of this process.
    fn end(&self) {
        self.server.end();
    }
}
