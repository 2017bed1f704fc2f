// SPDX-License-Identifier: Apache-2.0
//! A real Postgres for a test.

mod contained;
mod native;
mod options;
pub(crate) mod programs;
mod shared;
mod standby;
pub(crate) mod unprivileged;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio_postgres::{Client, NoTls};

use crate::address;
use crate::backend::{self, Backend, Choice};
use crate::certificates::{Authority, TlsFiles};
use crate::container::contained::HOME;
use crate::error::{Error, Result, explain};
use crate::run_dir::RunDir;
use crate::settings;
use crate::versions;

pub use crate::certificates::TlsOptions;
pub use options::{PgOptions, ROLE, ROLE_PASSWORD, SUPERUSER};
pub use shared::TestDatabase;

use contained::ContainedPostgres;
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
    server: Server,
    /// Of a standby, the name by which its primary knows it.
    standby_name: Option<String>,
}

#[derive(Debug)]
enum Server {
    Native(Box<Native>),
    Contained(Box<ContainedPostgres>),
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
        let prepared = options.tls.as_ref().map(|tls| tls.prepare(dir.path())).transpose()?;
        let (authority, tls) = prepared.unzip();
        let ca_path = tls.as_ref().map(|files: &TlsFiles| files.ca.clone());
        let settings = settings::merged(&settings::owned(&options::DEFAULT_SETTINGS), &options.settings);
        let variable = format!("HIGHWATER_IMAGE_POSTGRES_{major}");
        let server = match backend::choose(&variable, programs::pin(major)?.image).await? {
            Choice::Process => Server::Native(Box::new(start_native(major, options.hba, tls, &settings, dir).await?)),
            Choice::Container { docker, image } => Server::Contained(Box::new(
                ContainedPostgres::start((docker, image), major, &options.hba, tls.as_ref(), &settings, dir).await?,
            )),
        };
        let this = Self {
            major,
            settings: Mutex::new(settings),
            authority,
            ca_path,
            server,
            standby_name: None,
        };
        eprintln!(
            "testbed: postgres {} ({}, pid {}) at 127.0.0.1:{} in {} ms",
            this.version(),
            this.backend(),
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
        match &self.server {
            Server::Native(server) => server.start(&settings).await,
            Server::Contained(server) => server.start_again(&settings, self.authority.is_some()).await,
        }
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
        address::of_database("postgres", (user, password), self.port(), database)
    }

    /// Stops the server in an orderly way (fast shutdown).
    pub async fn stop(&self) -> Result<()> {
        match &self.server {
            Server::Native(server) => server.stop().await,
            Server::Contained(server) => server.stop().await,
        }
    }

    /// Kills the server and all its children, as a crash of the machine would.
    pub async fn kill9(&self) -> Result<()> {
        match &self.server {
            Server::Native(server) => server.process().kill9(),
            Server::Contained(server) => server.kill9().await,
        }
    }

    /// Starts the server again on its data and port; an orderly stop comes first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// As [`Postgres::restart`], with these settings over the present ones.
    pub async fn restart_with(&self, settings: &[(&str, &str)]) -> Result<()> {
        {
            let mut present = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            *present = settings::merged(&present, &settings::owned(settings));
        }
        self.restart().await
    }

    /// Freezes the server and its children: connections stay open and silent.
    pub async fn pause(&self) -> Result<()> {
        match &self.server {
            Server::Native(server) => server.process().pause(),
            Server::Contained(server) => server.container().pause().await,
        }
    }

    /// Lets a frozen server go on.
    pub async fn resume(&self) -> Result<()> {
        match &self.server {
            Server::Native(server) => {
                server.process().resume();
                Ok(())
            }
            Server::Contained(server) => server.container().resume().await,
        }
    }

    /// How the server runs.
    pub fn backend(&self) -> Backend {
        match &self.server {
            Server::Native(_) => Backend::Process,
            Server::Contained(_) => Backend::Container,
        }
    }

    /// The postmaster's process id, if it runs; in a container, as the engine's machine sees it.
    pub fn pid(&self) -> Option<u32> {
        match &self.server {
            Server::Native(server) => server.pid(),
            Server::Contained(server) => server.container().pid(),
        }
    }

    /// Always `127.0.0.1`.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The TCP port, the same after a restart.
    pub fn port(&self) -> u16 {
        match &self.server {
            Server::Native(server) => server.port(),
            Server::Contained(server) => server.port(),
        }
    }

    /// The directory of the Unix socket, of the log and of the data of a native server.
    pub fn socket_dir(&self) -> &Path {
        self.dir().path()
    }

    /// The data directory; of a container, the path inside of it.
    pub fn data_dir(&self) -> PathBuf {
        match &self.server {
            Server::Native(server) => server.data_dir(),
            Server::Contained(_) => PathBuf::from(HOME).join("data"),
        }
    }

    /// The log file of a native server.
    pub fn log_path(&self) -> PathBuf {
        self.dir().path().join("log")
    }

    /// The directory of the server's programs; with Debian's packages it has the clients too (`psql`,
    /// `pg_recvlogical`, `pgbench`). None for a container.
    pub fn bin_dir(&self) -> Option<&Path> {
        match &self.server {
            Server::Native(server) => Some(server.bin()),
            Server::Contained(_) => None,
        }
    }

    /// The major version.
    pub fn major(&self) -> u16 {
        self.major
    }

    /// The exact version in the server's own words.
    pub fn version(&self) -> &str {
        match &self.server {
            Server::Native(server) => server.version(),
            Server::Contained(server) => server.version(),
        }
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
        self.dir().keep();
    }

    fn dir(&self) -> &RunDir {
        match &self.server {
            Server::Native(server) => server.dir(),
            Server::Contained(server) => server.container().dir(),
        }
    }

    /// The end of this process.
    fn end(&self) {
        match &self.server {
            Server::Native(server) => server.end(),
            Server::Contained(server) => server.container().end(),
        }
    }
}

/// Prepares a data directory off the runtime's threads and starts a native server on it.
async fn start_native(
    major: u16,
    hba: Vec<String>,
    tls: Option<TlsFiles>,
    settings: &[(String, String)],
    dir: RunDir,
) -> Result<Native> {
    let server = tokio::task::spawn_blocking(move || Native::prepare(major, &hba, tls, dir))
        .await
        .map_err(|e| Error::during("preparing postgres", e))??;
    server.start(settings).await?;
    Ok(server)
}
