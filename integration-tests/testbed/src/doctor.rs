// SPDX-License-Identifier: Apache-2.0
//! What a machine has and lacks for the test-bed, without downloading anything.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::command;
use crate::fetch::debian::Mirrors;
use crate::fetch::maven;
use crate::postgres::unprivileged;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    subject: &'static str,
    /// What was found, or why it does not do.
    found: Result<String, String>,
}

impl Finding {
    /// True when nothing is to be done.
    pub fn is_fine(&self) -> bool {
        self.found.is_ok()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Ok(found) => write!(f, "ok       {}: {found}", self.subject),
            Err(lack) => write!(f, "LACKING  {}: {lack}", self.subject),
        }
    }
}

/// Looks at everything that the servers need.
pub fn examine() -> Vec<Finding> {
    let finding = |subject, found| Finding { subject, found };
    vec![
        finding("source of postgres", postgres_source()),
        finding("running postgres", unprivileged()),
        finding("source of mysql and mariadb", mysql_source()),
        finding("time zones", time_zones()),
        finding("java", maven::java_version().map_err(|e| e.to_string())),
        finding("maven", program("mvn", "--version")),
    ]
}

fn mysql_source() -> Result<String, String> {
    match Mirrors::of_this_machine().is_some() {
        true => Ok("the Debian mirror of this machine's apt sources".into()),
        false => Err("no Debian mirror is configured: tests on mysql and mariadb are skipped".into()),
    }
}

fn postgres_source() -> Result<String, String> {
    if Mirrors::of_this_machine().is_some() {
        return Ok("the Debian mirror of this machine's apt sources".into());
    }
    program("npm", "--version").map(|version| format!("npm {version}, for no Debian mirror is configured"))
}

fn unprivileged() -> Result<String, String> {
    let mut id = unprivileged::command_for(Path::new("id"));
    let uid = command::output(id.arg("-u")).map_err(|e| e.to_string())?;
    match uid.trim() {
        "0" => Err("still root: postgres would refuse to start".into()),
        uid => Ok(format!("as user {uid}")),
    }
}

fn time_zones() -> Result<String, String> {
    let dir = "/usr/share/zoneinfo";
    match Path::new(dir).join("Etc/UTC").exists() {
        true => Ok(dir.into()),
        false => Err(format!("{dir} is empty: install tzdata")),
    }
}

fn program(name: &str, argument: &str) -> Result<String, String> {
    let said = command::output(Command::new(name).arg(argument)).map_err(|e| e.to_string())?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}
