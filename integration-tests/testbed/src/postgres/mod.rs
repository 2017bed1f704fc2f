// SPDX-License-Identifier: Apache-2.0
//! A real Postgres for a test.

pub(crate) mod native;
mod options;
pub(crate) mod programs;
mod shared;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio_postgres::{Client, NoTls};

use crate::certificates::{Authority, TlsFiles};
use crate::error::{Error, Result};
use crate::run_dir::RunDir;
use crate::versions;

pub use options::{PgOptions, ROLE, ROLE_PASSWORD, SUPERUSER, TlsOptions};
pub use shared::TestDatabase;

use native::Native;

/// A running Postgres on 127.0.0.1, killed and removed when dropped; its directory is kept when the test fails.
///
/// Every method takes `&self`: a test may share it between tasks.
#[derive(Debug)]
pub struct Postgres {
    major: u16,
    settings: Mutex<Vec<(String, String)>>,
    authority: Option<Authority>,
    ca_path: Option<PathBuf>,
    server: Native,
}

impl Postgres {
    /// Starts a server; well under a second once the cache is warm.
    pub async fn start(options: PgOptions) -> Result<Self> {
        let began = Instant::now();
        let major = match options.major {
            0 => versions::POSTGRES_MAJORS[versions::POSTGRES_MAJORS.len() - 1],
            major => major,
        };
        let dir = RunDir::new()?;
        let authority = options.tls.as_ref().map(|_| Authority::new()).transpose()?;
        let tls = match (&options.tls, &authority) {
            (Some(tls), Some(authority)) => {
                let names: Vec<&str> = tls.names.iter().map(String::as_str).collect();
                Some(TlsFiles::write(dir.path(), authority, &names)?)
            }
            _ => None,
        };
        let ca_path = tls.as_ref().map(|files| files.ca.clone());
        let hba = options.hba.clone();
        let server = tokio::task::spawn_blocking(move || Native::prepare(major, &hba, tls, dir))
            .await
            .map_err(|e| Error::during("preparing postgres", e))??;
        let defaults = options::DEFAULT_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Mutex::new(options::merged(&defaults, &options.settings));
        let this = Self {
            major,
            settings,
            authority,
            ca_path,
            server,
        };
        this.boot().await?;
        eprintln!(
            "testbed: postgres {} (process, pid {}) at 127.0.0.1:{} in {} ms",
            this.version(),
            this.pid().unwrap_or_default(),
            this.port(),
            began.elapsed().as_millis()
        );
        Ok(this)
    }

    /// Fetches a major's programs and makes its data template, so that a test has not to wait for it.
    /// Blocks; returns the exact version.
    pub fn fetch(major: u16) -> Result<String> {
        let programs = programs::Programs::fetch(major)?;
        programs.template()?;
        Ok(programs.version)
    }

    async fn boot(&self) -> Result<()> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.server.start(&settings).await
    }

    /// A new client session of the superuser in the database `postgres`; its connection is driven by a task of the
    /// current runtime.
    pub async fn connect(&self) -> Result<Client> {
        self.connect_to("postgres").await
    }

    /// A new client session of the superuser in `database`.
    pub async fn connect_to(&self, database: &str) -> Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port())
            .user(SUPERUSER)
            .dbname(database);
        let (client, connection) = config.connect(NoTls).await.map_err(|e| {
            Error::during(
                format!("cannot connect to postgres at 127.0.0.1:{}", self.port()),
                explain(&e),
            )
        })?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A connection URL; an empty password is left out.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        let secret = if password.is_empty() {
            String::new()
        } else {
            format!(":{}", percent_encoded(password))
        };
        let (user, database) = (percent_encoded(user), percent_encoded(database));
        format!("postgres://{user}{secret}@127.0.0.1:{}/{database}", self.port())
    }

    /// Stops the server in an orderly way (fast shutdown).
    pub async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    /// Kills the server and all its children, as a crash of the machine would.
    pub async fn kill9(&self) -> Result<()> {
        self.server.kill9()
    }

    /// Starts the server again on its data and port; an orderly stop comes first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// As [`Postgres::restart`], with these settings over the present ones.
    pub async fn restart_with(&self, settings: &[(&str, &str)]) -> Result<()> {
        let over: Vec<(String, String)> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        {
            let mut present = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            *present = options::merged(&present, &over);
        }
        self.restart().await
    }

    /// Freezes the server and its children: connections stay open and silent.
    pub async fn pause(&self) -> Result<()> {
        self.server.pause()
    }

    /// Lets a frozen server go on.
    pub async fn resume(&self) -> Result<()> {
        self.server.resume();
        Ok(())
    }

    /// The postmaster's process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Always `127.0.0.1`.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The TCP port, the same after a restart.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The directory of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.server.dir().path()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.server.data_dir()
    }

    /// The server's log file.
    pub fn log_path(&self) -> PathBuf {
        self.server.log_path()
    }

    /// The directory of the server's programs; with Debian's packages it has the clients too (`psql`,
    /// `pg_recvlogical`, `pgbench`).
    pub fn bin_dir(&self) -> &Path {
        self.server.bin()
    }

    /// The major version.
    pub fn major(&self) -> u16 {
        self.major
    }

    /// The exact version in the server's own words.
    pub fn version(&self) -> &str {
        self.server.version()
    }

    /// The certificate of the authority that signed the server's, in PEM, if TLS is on.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::ca_pem)
    }

    /// The file with [`Postgres::ca_pem`].
    pub fn ca_path(&self) -> Option<&Path> {
        self.ca_path.as_deref()
    }

    /// The authority that the server trusts for client certificates, if TLS is on.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Keeps the run directory when the server goes, for a test that fails without a panic.
    pub fn keep_dir(&self) {
        self.server.dir().keep();
    }
}

fn explain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
