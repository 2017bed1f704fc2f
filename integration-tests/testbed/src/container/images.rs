// SPDX-License-Identifier: Apache-2.0
//! Images made from Debian's packages, for machines that can pull none. Each is made once and kept as a read-only
//! image store, from which an engine of our own starts containers without a copy.
//!
//! They have the layout of the official ones as far as the handles rely on it: where Postgres' programs lie,
//! `/opt/kafka/libs` and `/deployments`. The official images could not be pulled where this was written: what is
//! known of them is their published build files.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::command;
use crate::container::podman::{self, Podman};
use crate::error::{Error, Result};
use crate::fetch::debian::Mirrors;
use crate::kafka;
use crate::postgres;
use crate::registry;
use crate::run_dir::RunDir;
use crate::versions::{JAVA_PACKAGE, JAVA_SUITE, KAFKA, REGISTRY};

/// Raised when the way in which an image is made changes.
const RECIPE: &str = "2";
/// What no container needs of a Debian system.
const LEFT_OUT: [&str; 8] = [
    "proc",
    "sys",
    "dev",
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
];

/// An image of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalImage {
    /// A Postgres of this major version.
    Postgres(u16),
    /// A Java with Kafka and the registry: one image for both, for Java is most of either.
    Java,
}

impl LocalImage {
    /// The name by which an engine knows it.
    pub fn name(self) -> String {
        match self {
            Self::Postgres(major) => format!("localhost/highwater-postgres:{major}"),
            Self::Java => format!("localhost/highwater-java:{KAFKA}"),
        }
    }

    /// The image store that holds it; made, in a minute or two, if it is not in the cache. Blocks.
    pub(crate) fn store(self) -> Result<PathBuf> {
        let (key, suite, package, content) = match self {
            Self::Postgres(major) => {
                let suite = postgres::programs::pin(major)?.suite.ok_or_else(|| {
                    Error::new(format!(
                        "no Debian suite to make an image of postgres {major} from: name an image"
                    ))
                })?;
                (
                    format!("postgres-{major}"),
                    suite,
                    format!("postgresql-{major}"),
                    String::new(),
                )
            }
            Self::Java => {
                let content = format!("kafka {KAFKA} registry {REGISTRY}");
                ("java".to_owned(), JAVA_SUITE, JAVA_PACKAGE.to_owned(), content)
            }
        };
        let stamp = format!("{RECIPE} {} {suite} {package} {content}", podman::driver());
        let entry = cache::entry(&format!("images/{key}"), &stamp, |dir| {
            eprintln!("testbed: making a container image with {package} of Debian {suite} {content}");
            let root = dir.join("root");
            debootstrap(suite, &package, &root)?;
            if self == Self::Java {
                add_servers(&root)?;
            }
            import(&root, dir, &self.name())?;
            cache::remove_dir(&root)
        })
        .map_err(|e| Error::during(format!("cannot make the image {}", self.name()), e))?;
        Ok(entry.join("store"))
    }
}

fn debootstrap(suite: &str, package: &str, root: &Path) -> Result<()> {
    let mirrors = Mirrors::of_this_machine()
        .ok_or_else(|| Error::new("no Debian mirror in this machine's apt sources to make an image from"))?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={package}"), suite]);
    command::output(debootstrap.arg(root).arg(mirrors.main())).map(drop)
}

/// Puts Kafka and the registry where the official images have them.
fn add_servers(root: &Path) -> Result<()> {
    let libraries = kafka::programs::libraries()?;
    let registry = registry::programs::fetch()?;
    let registry = registry.parent().unwrap_or(&registry);
    cache::create_dir(&root.join("opt/kafka"))?;
    for (from, to) in [(libraries.as_path(), "opt/kafka/libs"), (registry, "deployments")] {
        command::output(Command::new("cp").arg("-r").arg(from).arg(root.join(to)))?;
    }
    Ok(())
}

fn import(root: &Path, dir: &Path, name: &str) -> Result<()> {
    let archive = dir.join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive).arg("-C").arg(root);
    tar.args(LEFT_OUT.map(|part| format!("--exclude=./{part}/*")));
    command::output(tar.arg("."))?;
    let state = RunDir::new()?;
    let podman = Podman::new(state.path(), &dir.join("store"), &[])?;
    command::output(podman.command().arg("import").arg(&archive).arg(name))?;
    std::fs::remove_file(&archive).map_err(|e| Error::during(format!("cannot remove {}", archive.display()), e))
}
