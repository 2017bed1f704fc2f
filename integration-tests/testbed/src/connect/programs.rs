// SPDX-License-Identifier: Apache-2.0
//! Debezium's plug-in for Postgres, fetched once. Kafka Connect itself comes with Kafka's tools.

use std::path::PathBuf;
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::fetch::maven::{self, Artefact};
use crate::versions::DEBEZIUM;

/// Raised when the way in which the folder is made changes.
const RECIPE: &str = "1";

/// Fetches the plug-in if it is not in the cache and returns the folder that holds it: a `plugin.path`. Blocks.
pub(crate) fn fetch() -> Result<PathBuf> {
    let plugin = Artefact {
        group: "io.debezium",
        name: "debezium-connector-postgres",
        version: DEBEZIUM,
    };
    cache::entry("debezium", &format!("{RECIPE} {DEBEZIUM}"), |dir| {
        eprintln!("testbed: fetching debezium {DEBEZIUM} from Maven");
        let archive = maven::copy_file(plugin, "tar.gz", "plugin", dir)?;
        command::output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(dir))?;
        std::fs::remove_file(&archive).map_err(|e| Error::during(format!("cannot remove {}", archive.display()), e))
    })
    .map_err(|e| Error::during(format!("cannot get debezium {DEBEZIUM}"), e))
}
