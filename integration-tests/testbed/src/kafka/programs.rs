// SPDX-License-Identifier: Apache-2.0
//! The broker's libraries, fetched once, and a formatted log directory to copy.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::fetch::maven::{self, Artefact};
use crate::kafka::configuration::{Listener, Place, properties};
use crate::kafka::options::{KAFKA_PASSWORD, KAFKA_USER, Security};
use crate::versions::{KAFKA, KAFKA_ARTEFACT, LOG4J};

/// Raised when the way in which the libraries or the template are made changes.
const RECIPE: &str = "1";
/// The cluster's id: any UUID in Kafka's spelling. One for all, for clusters never meet.
const CLUSTER_ID: &str = "aGlnaHdhdGVyLXRlc3Rz";

/// Where the broker writes its log, and how: to its output.
pub(crate) const LOG_CONFIGURATION: &str = "<Configuration><Appenders><Console name=\"out\">\
    <PatternLayout pattern=\"%d{ISO8601} %-5p %c{1} %m%n\"/></Console></Appenders>\
    <Loggers><Root level=\"info\"><AppenderRef ref=\"out\"/></Root></Loggers></Configuration>\n";

fn artefacts() -> [Artefact; 3] {
    let kafka = |name| Artefact {
        group: "org.apache.kafka",
        name,
        version: KAFKA,
    };
    [
        kafka(KAFKA_ARTEFACT),
        kafka("kafka-tools"),
        // Without a binding of its logging interface the broker says nothing.
        Artefact {
            group: "org.apache.logging.log4j",
            name: "log4j-slf4j-impl",
            version: LOG4J,
        },
    ]
}

/// A fetched Kafka.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    libraries: PathBuf,
    template: PathBuf,
}

impl Programs {
    /// Fetches the libraries and formats a log directory if they are not in the cache. Blocks.
    pub(crate) fn fetch() -> Result<Self> {
        let libraries = libraries()?;
        let template = cache::entry("kafka/formatted", &format!("{RECIPE} {KAFKA}"), |dir| {
            format(&libraries, dir)
        })?;
        Ok(Self { libraries, template })
    }

    /// A formatted log directory to copy: the user's SCRAM credentials are in it.
    pub(crate) fn template(&self) -> PathBuf {
        self.template.join("data")
    }

    /// A Java command with Kafka on its class path.
    pub(crate) fn java(&self) -> Command {
        java(&self.libraries)
    }
}

/// The directory of the broker's libraries, fetched if they are not in the cache. Blocks.
pub(crate) fn libraries() -> Result<PathBuf> {
    maven::java_version()?;
    let what = artefacts()
        .map(|artefact| format!("{}:{}", artefact.name, artefact.version))
        .join(" ");
    cache::entry("kafka/libraries", &format!("{RECIPE} {what}"), |dir| {
        eprintln!("testbed: fetching kafka {KAFKA} from Maven");
        cache::write(&dir.join("log4j2.xml"), LOG_CONFIGURATION)?;
        maven::copy_with_dependencies(&artefacts(), dir)
    })
    .map_err(|e| Error::during(format!("cannot get kafka {KAFKA}"), e))
}

fn java(libraries: &Path) -> Command {
    let mut java = Command::new("java");
    java.arg(format!(
        "-Dlog4j2.configurationFile={}",
        libraries.join("log4j2.xml").display()
    ));
    java.arg("-cp").arg(libraries.join("*"));
    java
}

fn format(libraries: &Path, dir: &Path) -> Result<()> {
    let config = dir.join("format.properties");
    // Ports are not written into what is formatted.
    let plain = Listener {
        security: Security::Plaintext,
        port: 1,
        advertised: "127.0.0.1:1".into(),
    };
    let place = Place {
        address: "127.0.0.1",
        internal: 2,
        controller: 3,
    };
    let data = ("log.dirs".into(), dir.join("data").display().to_string());
    let text = properties(&place, &[plain], &[data]);
    cache::write(&config, text)?;
    let mut tool = java(libraries);
    tool.args([
        "kafka.tools.StorageTool",
        "format",
        "--cluster-id",
        &cluster_id(),
        "--config",
    ])
    .arg(&config);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        tool.arg("--add-scram")
            .arg(format!("{mechanism}=[name={KAFKA_USER},password={KAFKA_PASSWORD}]"));
    }
    command::output(&mut tool)
        .map(drop)
        .map_err(|e| Error::during("cannot format kafka's log directory", e))
}

pub(crate) fn cluster_id() -> String {
    // 16 bytes in URL-safe base64 without padding are 22 characters.
    format!("{CLUSTER_ID:A<22}")
}
