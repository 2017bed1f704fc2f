// SPDX-License-Identifier: Apache-2.0
//! The programs of a MySQL or MariaDB, fetched once, and a data directory to copy.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::fetch::debian;
use crate::fetch::maven::{self, Artefact};
use crate::mysql::options;
use crate::versions::{self, MYSQL_MAVEN, MysqlLine, MysqlPin, MysqlSource};

/// Raised when the way in which a folder or a template is made changes.
const RECIPE: &str = "1";
/// The archive in the Maven artefact.
const ARCHIVE: &str = "mysql-Linux-amd64.tar.gz";
/// Where the Maven artefact's build is put, below the root of the libraries.
const GENERIC: &str = "mysql";
/// What the server of MariaDB is to be told before the system tables are made: the log-in by Unix socket, a plug-in that
/// is not there, is not asked for.
const BEFORE_TABLES: &str = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n";
/// The SQL scripts by which MariaDB's system tables come to be, in their order. Those before 11 are called `mysql_…`.
const TABLES: [&str; 5] = [
    "system_tables.sql",
    "performance_tables.sql",
    "system_tables_data.sql",
    "add_gis_sp_bootstrap.sql",
    "sys_schema.sql",
];

/// A fetched MySQL or MariaDB.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pin: &'static MysqlPin,
    server: PathBuf,
    /// The client programs.
    clients: Option<PathBuf>,
    /// The messages and, of MariaDB, the scripts of the system tables.
    share: PathBuf,
    base: PathBuf,
    /// The server's own words: `9.7.4-1`, `10.11.14-MariaDB-0+deb12u2`.
    pub(crate) version: String,
}

impl Programs {
    /// Fetches the programs of a line if they are not in the cache. Blocks; a minute when cold.
    pub(crate) fn fetch(line: MysqlLine) -> Result<Self> {
        let pin = versions::mysql(line);
        let got = match pin.source {
            MysqlSource::Debian(suite, packages) => fetch_debian(pin, suite, packages),
            MysqlSource::Maven(version, suite, libraries) => fetch_maven(pin, version, suite, libraries),
        };
        let (base, clients) = got.map_err(|e| Error::during(format!("cannot get {}", pin.name), e))?;
        let server = ["sbin/mariadbd", "sbin/mysqld", "bin/mysqld"]
            .map(|program| base.join(program))
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| Error::new(format!("{} came without a server in {}", pin.name, base.display())))?;
        let said = command::output(Command::new(&server).args(["--no-defaults", "--version"]))?;
        let version = said
            .split_once(" Ver ")
            .and_then(|(_, rest)| rest.split(' ').next())
            .unwrap_or(said.trim())
            .to_owned();
        if !version.starts_with(pin.version) {
            return Err(Error::new(format!(
                "{} was asked for, which is {}…, and {version:?} came",
                pin.name, pin.version
            )));
        }
        let share = share(line, &base)?;
        Ok(Self {
            pin,
            server,
            clients,
            share,
            base,
            version,
        })
    }

    /// The name of the line: `mysql-9`.
    pub(crate) fn name(&self) -> &'static str {
        self.pin.name
    }

    /// The directory of `mysql`, `mysqlbinlog` and the other clients, where the source has them.
    pub(crate) fn clients(&self) -> Option<&Path> {
        self.clients.as_deref()
    }

    /// The server's program with the places of its files.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.server);
        command.arg("--no-defaults");
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } == 0 {
            // It refuses to be root unless it is told to be.
            command.arg("--user=root");
        }
        let at = |name: &str, path: &Path| format!("--{name}={}", path.display());
        command
            .arg(at("basedir", &self.base))
            .arg(at("lc-messages-dir", &self.share))
            .arg(at("character-sets-dir", &self.share.join("charsets")));
        command
    }

    /// A data directory to copy: initialised, the users made, no binlog in it.
    pub(crate) fn template(&self) -> Result<PathBuf> {
        let sql = options::users_sql(self.pin.line);
        let stamp = format!("{RECIPE} {} {sql}", self.version);
        let entry = cache::entry(&format!("mysql/data-{}", self.pin.name), &stamp, |dir| {
            match self.pin.line.is_mariadb() {
                true => self.bootstrap(dir, &sql),
                false => self.initialise(dir, &sql),
            }
        })?;
        Ok(entry.join("data"))
    }

    fn initialise(&self, dir: &Path, sql: &str) -> Result<()> {
        let (data, users) = (dir.join("data"), dir.join("users.sql"));
        cache::write(&users, sql)?;
        let mut server = self.command();
        server
            .arg("--initialize-insecure")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--init-file={}", users.display()))
            .arg("--skip-log-bin");
        server.args(options::small_files(self.pin.line).map(|(name, value)| format!("--{name}={value}")));
        command::output(&mut server)?;
        // Each copy gets an identity of its own.
        let own = data.join("auto.cnf");
        match std::fs::remove_file(&own) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::during(format!("cannot remove {}", own.display()), e))
            }
            _ => Ok(()),
        }
    }

    fn bootstrap(&self, dir: &Path, sql: &str) -> Result<()> {
        let data = dir.join("data");
        cache::create_dir(&data.join("mysql"))?;
        let mut script = BEFORE_TABLES.to_owned();
        for name in TABLES {
            let path = ["mariadb_", "mysql_", "maria_"]
                .map(|prefix| self.share.join(format!("{prefix}{name}")))
                .into_iter()
                .find(|path| path.is_file())
                .ok_or_else(|| Error::new(format!("no script …{name} in {}", self.share.display())))?;
            script += &std::fs::read_to_string(&path)
                .map_err(|e| Error::during(format!("cannot read {}", path.display()), e))?;
            script += "\n";
        }
        script += "FLUSH PRIVILEGES;\n";
        script += sql;
        let input = dir.join("bootstrap.sql");
        cache::write(&input, script)?;
        let script = File::open(&input).map_err(|e| Error::during("cannot read the bootstrap script", e))?;
        let mut server = self.command();
        server
            .arg("--bootstrap")
            .arg(format!("--datadir={}", data.display()))
            .args(["--skip-log-bin", "--max-allowed-packet=64M", "--net-buffer-length=16K"]);
        server.args(options::small_files(self.pin.line).map(|(name, value)| format!("--{name}={value}")));
        command::output_of_input(&mut server, Stdio::from(script)).map(drop)
    }
}

/// The directory of the server's messages.
fn share(line: MysqlLine, base: &Path) -> Result<PathBuf> {
    let marker = match line.is_mariadb() {
        true => "maria_add_gis_sp_bootstrap.sql",
        false => "charsets/Index.xml",
    };
    let places = ["share/mariadb", "share/mysql", "share"].map(|place| base.join(place));
    let found = places.into_iter().find(|place| place.join(marker).is_file());
    found.ok_or_else(|| Error::new(format!("no {marker} below {}", base.display())))
}

/// The base directory and that of the clients.
fn fetch_debian(pin: &MysqlPin, suite: &str, packages: &[&str]) -> Result<(PathBuf, Option<PathBuf>)> {
    let name = format!("mysql/{}", pin.name);
    let packages: Vec<String> = packages.iter().map(|&package| package.to_owned()).collect();
    let place = cache::root().join(&name);
    let root = cache::entry(&name, &format!("{RECIPE} {suite} {packages:?}"), |root| {
        eprintln!("testbed: fetching {} from Debian {suite}", pin.name);
        debian::unpack(suite, &packages, root, &place, &["usr/sbin", "usr/bin"])
    })?;
    Ok((root.join("usr"), Some(root.join("usr/bin"))))
}

fn fetch_maven(
    pin: &MysqlPin,
    version: &'static str,
    suite: &str,
    libraries: &[&str],
) -> Result<(PathBuf, Option<PathBuf>)> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::new(format!(
            "it is built for x86_64 only, and this is {}",
            std::env::consts::ARCH
        )));
    }
    let (group, artefact) = MYSQL_MAVEN;
    let jar = Artefact {
        group,
        name: artefact,
        version,
    };
    let name = format!("mysql/{}", pin.name);
    let libraries: Vec<String> = libraries.iter().map(|&package| package.to_owned()).collect();
    let place = cache::root().join(&name);
    let root = cache::entry(&name, &format!("{RECIPE} {version} {suite} {libraries:?}"), |root| {
        eprintln!(
            "testbed: fetching {} from Maven, its libraries from Debian {suite}",
            pin.name
        );
        unpack_jar(jar, root)?;
        debian::unpack(suite, &libraries, root, &place, &[&format!("{GENERIC}/bin")])
    })?;
    Ok((root.join(GENERIC), None))
}

/// Unpacks the archive in the jar to where it is to be below `root`.
fn unpack_jar(jar: Artefact, root: &Path) -> Result<()> {
    let (unpacked, server) = (root.join("jar"), root.join(GENERIC));
    cache::create_dir(&unpacked)?;
    cache::create_dir(&server)?;
    maven::unpack(jar, &unpacked)?;
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "-xzf"]).arg(unpacked.join(ARCHIVE));
    command::output(tar.arg("-C").arg(&server))?;
    cache::remove_dir(&unpacked)
}
