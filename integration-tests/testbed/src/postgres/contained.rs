// SPDX-License-Identifier: Apache-2.0
//! The container back end of Postgres. The image's own entry point is not used: the same script serves the official
//! images and any image with the programs of Debian's packages.

use std::time::Duration;

use testcontainers::bollard::Docker;

use crate::certificates::TlsFiles;
use crate::container::contained::{Contained, HOME, Recipe};
use crate::error::{Error, Result};
use crate::ports::Port;
use crate::postgres::options::{self, SUPERUSER};
use crate::run_dir::RunDir;

/// Time for a server to accept connections, initdb in the container included.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Time for a fast shutdown.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// The server's port inside.
const PORT: u16 = 5432;

/// Makes a data directory if there is none, then becomes the server, which is process 1 and gets every signal.
const SCRIPT: &str = r#"set -eu
PATH="$PATH:/usr/local/bin:/usr/lib/postgresql/$HWTB_MAJOR/bin"
if command -v gosu >/dev/null; then as="gosu postgres"; else as="setpriv --reuid=postgres --regid=postgres --init-groups"; fi
if [ ! -d /hwtb/data ]; then
  mkdir /hwtb/data; chmod 700 /hwtb/data; chown -R postgres /hwtb
  $as initdb -D /hwtb/data -U postgres -E UTF8 --no-locale -A trust --no-sync
  $as postgres --single -D /hwtb/data -c fsync=off postgres < /hwtb/role.sql
  cat /hwtb/hba > /hwtb/data/pg_hba.conf
fi
set --
while IFS= read -r line; do set -- "$@" -c "$line"; done < /hwtb/settings
exec $as postgres -D /hwtb/data -k /tmp -h '*' -p 5432 "$@"
"#;

/// A Postgres in a container.
#[derive(Debug)]
pub(crate) struct ContainedPostgres {
    container: Contained,
    version: String,
    // After the container: nobody else may get the port before it is gone.
    port: Port,
}

impl ContainedPostgres {
    /// Makes the container and waits for the server.
    pub(crate) async fn start(
        (docker, image): (Docker, String),
        major: u16,
        hba: &[String],
        tls: Option<&TlsFiles>,
        settings: &[(String, String)],
        dir: RunDir,
    ) -> Result<Self> {
        let at = |name: &str| format!("{HOME}/{name}");
        let mut files = vec![
            (at("settings"), lines(settings, tls.is_some()).into_bytes(), 0o644),
            (at("hba"), options::hba(hba).into_bytes(), 0o644),
            (at("role.sql"), options::role_sql().into_bytes(), 0o644),
        ];
        if let Some(tls) = tls {
            for (path, name, mode) in [
                (&tls.ca, "ca.pem", 0o644),
                (&tls.certificate, "server.crt", 0o644),
                (&tls.key, "server.key", 0o600),
            ] {
                let content =
                    std::fs::read(path).map_err(|e| Error::during(format!("cannot read {}", path.display()), e))?;
                files.push((at(name), content, mode));
            }
        }
        let port = Port::reserve()?;
        let recipe = Recipe {
            name: format!("postgres {major}"),
            docker,
            image,
            script: SCRIPT,
            arguments: Vec::new(),
            environment: vec![("HWTB_MAJOR", major.to_string())],
            files,
            ports: vec![(port.number(), PORT)],
        };
        let container = Contained::create(recipe, dir).await?;
        let version = wait_ready(&container, port.number()).await?;
        Ok(Self {
            container,
            version,
            port,
        })
    }

    pub(crate) fn container(&self) -> &Contained {
        &self.container
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        self.container.end_with("SIGINT", STOP_LIMIT).await
    }

    pub(crate) async fn kill9(&self) -> Result<()> {
        self.container.kill9().await
    }

    pub(crate) async fn start_again(&self, settings: &[(String, String)], with_tls: bool) -> Result<()> {
        self.container
            .write(&format!("{HOME}/settings"), &lines(settings, with_tls))
            .await?;
        self.container.start().await?;
        wait_ready(&self.container, self.port()).await.map(drop)
    }
}

/// One setting a line, as the script reads them.
fn lines(settings: &[(String, String)], with_tls: bool) -> String {
    let mut text: String = settings
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    if with_tls {
        text += &format!(
            "ssl_ca_file={HOME}/ca.pem\nssl_cert_file={HOME}/server.crt\nssl_key_file={HOME}/server.key\nssl=on\n"
        );
    }
    text
}

/// Waits until the server answers a query and returns its version.
async fn wait_ready(container: &Contained, port: u16) -> Result<String> {
    container
        .wait_ready(START_LIMIT, || async {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(port).user(SUPERUSER).dbname("postgres");
            config.connect_timeout(Duration::from_secs(2));
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.ok()?;
            let driving = tokio::spawn(connection);
            let version = client.query_one("SHOW server_version", &[]).await.ok()?.try_get(0).ok();
            driving.abort();
            version
        })
        .await
}
