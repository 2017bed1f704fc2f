// SPDX-License-Identifier: Apache-2.0
//! A MySQL or MariaDB as a child of this process.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mysql_async::prelude::Queryable;

use crate::cache;
use crate::certificates::TlsFiles;
use crate::command;
use crate::error::{Error, Result};
use crate::mysql::programs::Programs;
use crate::mysql::session;
use crate::ports::Port;
use crate::run_dir::RunDir;
use crate::server_process::ServerProcess;
use crate::server_slot::ServerSlot;
use crate::versions::MysqlLine;

/// Time for a server to accept connections, crash recovery on a busy machine included.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Time for an orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Time for one attempt to log in to a server that may not be ready.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// A server's data and the process that runs on it.
#[derive(Debug)]
pub(crate) struct Native {
    programs: Programs,
    process: ServerSlot,
    port: Port,
    tls: Option<TlsFiles>,
    // Last: the directory goes after the process.
    dir: RunDir,
}

impl Native {
    /// Prepares a data directory; nothing runs yet. Blocks while a cold cache is filled.
    pub(crate) fn prepare(line: MysqlLine, tls: Option<TlsFiles>, dir: RunDir) -> Result<Self> {
        let programs = Programs::fetch(line)?;
        command::copy_dir(&programs.template()?, &dir.path().join("data"))?;
        cache::create_dir(&dir.path().join("tmp"))?;
        Ok(Self {
            programs,
            process: ServerSlot::default(),
            port: Port::reserve()?,
            tls,
            dir,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(crate) fn process(&self) -> &ServerSlot {
        &self.process
    }

    pub(crate) fn dir(&self) -> &RunDir {
        &self.dir
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the server and waits until it answers a query.
    pub(crate) async fn start(&self, settings: &[(String, String)]) -> Result<()> {
        if let Some(pid) = self.process.pid() {
            return Err(Error::new(format!(
                "this server runs already (pid {pid}): stop it first"
            )));
        }
        let name = format!("{} {}", self.programs.name(), self.programs.version);
        let mut process = ServerProcess::start(&name, self.command(settings), &self.at("log"), libc::SIGKILL)?;
        process
            .wait_ready(START_LIMIT, |_| async {
                let answer = async {
                    let mut session = session::open(session::superuser(self.port())).await.ok()?;
                    session.query_drop("DO 1").await.ok()?;
                    session.disconnect().await.ok()
                };
                tokio::time::timeout(PROBE_LIMIT, answer).await.ok()?
            })
            .await?;
        self.process.fill(process);
        Ok(())
    }

    fn command(&self, settings: &[(String, String)]) -> Command {
        let mut command = self.programs.command();
        let port = self.port().to_string();
        let path = |name: &str| self.at(name).display().to_string();
        let mut own = vec![
            ("datadir", path("data")),
            ("socket", path("socket")),
            ("pid-file", path("pid")),
            ("tmpdir", path("tmp")),
            ("bind-address", "127.0.0.1".into()),
            ("port", port.clone()),
            // Any number that no other server has.
            ("server-id", port.clone()),
            ("report-host", "127.0.0.1".into()),
            ("report-port", port),
        ];
        if let Some(tls) = &self.tls {
            own.push(("ssl-ca", tls.ca.display().to_string()));
            own.push(("ssl-cert", tls.certificate.display().to_string()));
            own.push(("ssl-key", tls.key.display().to_string()));
        }
        command.args(own.iter().map(|(name, value)| format!("--{name}={value}")));
        command.args(settings.iter().map(|(name, value)| format!("--{name}={value}")));
        command
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        self.process.stop(libc::SIGTERM, STOP_LIMIT).await
    }

    /// The end of the process: the server is killed and its directory removed, unless it is to be kept.
    pub(crate) fn end(&self) {
        let _ = self.process.kill9();
        self.dir.dispose();
    }
}
