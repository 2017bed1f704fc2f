// SPDX-License-Identifier: Apache-2.0
//! Java programs from Maven's repositories, through `mvn`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::versions::{JAVA_MAJOR_MIN, MAVEN_DEPENDENCY_PLUGIN};

/// A Maven artefact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Artefact {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// Copies artefacts with everything they need at run time into `dir`.
pub(crate) fn copy_with_dependencies(artefacts: &[Artefact], dir: &Path) -> Result<()> {
    let pom = dir.join("pom.xml");
    cache::write(&pom, project(artefacts))?;
    let mut mvn = maven(&pom);
    mvn.arg(format!("-DoutputDirectory={}", dir.display()))
        .arg("-DincludeScope=runtime");
    command::output(mvn.arg(goal("copy-dependencies"))).map(drop)
}

/// Copies one file, `group:name:version:type:classifier`, into `dir` and returns its path.
pub(crate) fn copy_file(artefact: Artefact, kind: &str, classifier: &str, dir: &Path) -> Result<PathBuf> {
    let Artefact { group, name, version } = artefact;
    let pom = dir.join("pom.xml");
    cache::write(&pom, project(&[]))?;
    let mut mvn = maven(&pom);
    mvn.arg(format!("-Dartifact={group}:{name}:{version}:{kind}:{classifier}"));
    mvn.arg(format!("-DoutputDirectory={}", dir.display()));
    command::output(mvn.arg(goal("copy")))?;
    Ok(dir.join(format!("{name}-{version}-{classifier}.{kind}")))
}

/// Unpacks a jar into `dir`.
pub(crate) fn unpack(artefact: Artefact, dir: &Path) -> Result<()> {
    let Artefact { group, name, version } = artefact;
    let pom = dir.join("pom.xml");
    cache::write(&pom, project(&[]))?;
    let mut mvn = maven(&pom);
    mvn.arg(format!("-Dartifact={group}:{name}:{version}:jar"));
    mvn.arg(format!("-DoutputDirectory={}", dir.display()));
    command::output(mvn.arg(goal("unpack"))).map(drop)
}

fn maven(pom: &Path) -> Command {
    let mut mvn = Command::new("mvn");
    mvn.args(["--batch-mode", "--quiet", "--no-transfer-progress", "-f"])
        .arg(pom);
    mvn
}

fn goal(name: &str) -> String {
    format!("org.apache.maven.plugins:maven-dependency-plugin:{MAVEN_DEPENDENCY_PLUGIN}:{name}")
}

fn project(artefacts: &[Artefact]) -> String {
    let dependencies: String = artefacts
        .iter()
        .map(|Artefact { group, name, version }| {
            format!(
                "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\
                 <version>{version}</version></dependency>"
            )
        })
        .collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>highwater</groupId><artifactId>testbed</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{dependencies}</dependencies></project>\n"
    )
}

/// Checks that a Java new enough is on the path; returns its own words about its version.
pub(crate) fn java_version() -> Result<String> {
    let said = command::output(Command::new("java").arg("--version"))?;
    let first = said.lines().next().unwrap_or_default().trim().to_owned();
    let major = first
        .split(' ')
        .nth(1)
        .and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(major) if major >= JAVA_MAJOR_MIN => Ok(first),
        _ => Err(Error::new(format!(
            "java {JAVA_MAJOR_MIN} or newer is needed, found {first:?}: run `make setup`"
        ))),
    }
}
