// SPDX-License-Identifier: Apache-2.0
//! The registry's application, fetched once.

use std::path::PathBuf;
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::fetch::maven::{self, Artefact};
use crate::versions::REGISTRY;

/// Raised when the way in which the folder is made changes.
const RECIPE: &str = "1";

/// Fetches the application if it is not in the cache and returns its jar. Blocks.
pub(crate) fn fetch() -> Result<PathBuf> {
    maven::java_version()?;
    let app = Artefact {
        group: "io.apicurio",
        name: "apicurio-registry-app",
        version: REGISTRY,
    };
    let dir = cache::entry("registry", &format!("{RECIPE} {REGISTRY}"), |dir| {
        eprintln!("testbed: fetching the registry {REGISTRY} from Maven");
        let archive = maven::copy_file(app, "tar.gz", "all", dir)?;
        command::output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(dir))?;
        std::fs::remove_file(&archive).map_err(|e| Error::during(format!("cannot remove {}", archive.display()), e))
    })
    .map_err(|e| Error::during(format!("cannot get the registry {REGISTRY}"), e))?;
    Ok(dir.join(format!("apicurio-registry-app-{REGISTRY}-runner.jar")))
}
