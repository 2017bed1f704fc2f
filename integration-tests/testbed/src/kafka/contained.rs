// SPDX-License-Identifier: Apache-2.0
//! The container back end of Kafka. The image's own entry point is not used: it formats without credentials, and the
//! same script serves the official image and ours, which both have the libraries in `/opt/kafka/libs`.

use testcontainers::bollard::Docker;

use crate::container::contained::{Contained, HOME, Recipe};
use crate::error::Result;
use crate::kafka::configuration::Configuration;
use crate::kafka::options::{KAFKA_PASSWORD, KAFKA_USER};
use crate::kafka::{READY, START_LIMIT, programs};
use crate::run_dir::RunDir;
use crate::versions::KAFKA;

/// Formats a log directory if there is none, then becomes the broker, which is process 1 and gets every signal. The
/// arguments are the virtual machine's.
const SCRIPT: &str = r#"set -eu
set -- "$@" -Dlog4j2.configurationFile=/hwtb/log4j2.xml -cp '/opt/kafka/libs/*'
if [ ! -f /hwtb/data/meta.properties ]; then
  scram="name=$HWTB_USER,password=$HWTB_PASSWORD"
  java "$@" kafka.tools.StorageTool format --cluster-id "$HWTB_CLUSTER" --config /hwtb/server.properties \
    --add-scram "SCRAM-SHA-256=[$scram]" --add-scram "SCRAM-SHA-512=[$scram]"
fi
exec java "$@" kafka.Kafka /hwtb/server.properties
"#;

/// Makes the container and waits for the broker.
pub(crate) async fn start(
    (docker, image): (Docker, String),
    configuration: &Configuration,
    dir: RunDir,
) -> Result<Contained> {
    let mut files = configuration.files("0.0.0.0", HOME)?;
    files.push(("log4j2.xml", programs::LOG_CONFIGURATION.to_owned()));
    let recipe = Recipe {
        name: format!("kafka {KAFKA}"),
        docker,
        image,
        script: SCRIPT,
        arguments: configuration.java(),
        environment: vec![
            ("HWTB_CLUSTER", programs::cluster_id()),
            ("HWTB_USER", KAFKA_USER.to_owned()),
            ("HWTB_PASSWORD", KAFKA_PASSWORD.to_owned()),
        ],
        files: files
            .into_iter()
            .map(|(name, content)| (format!("{HOME}/{name}"), content.into_bytes(), 0o644))
            .collect(),
        ports: configuration.ports().map(|(_, port)| (port, port)).collect(),
    };
    let container = Contained::create(recipe, dir).await?;
    wait_ready(&container, 0).await?;
    Ok(container)
}

/// Starts the broker again on its data.
pub(crate) async fn start_again(container: &Contained) -> Result<()> {
    let starts = starts(container).await;
    container.start().await?;
    wait_ready(container, starts).await
}

/// Waits until the broker says once more than `before` that it serves: the log is that of all its runs.
async fn wait_ready(container: &Contained, before: usize) -> Result<()> {
    container
        .wait_ready(START_LIMIT, || async {
            (starts(container).await > before).then_some(())
        })
        .await
}

async fn starts(container: &Contained) -> usize {
    container.log().await.matches(READY).count()
}
