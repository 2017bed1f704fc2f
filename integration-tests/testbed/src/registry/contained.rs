// SPDX-License-Identifier: Apache-2.0
//! The container back end of the registry. The image's own entry point is not used: the same script serves the
//! official image and ours, which both have the application in `/deployments`.

use testcontainers::bollard::Docker;

use crate::container::contained::{Contained, HOME, Recipe};
use crate::error::Result;
use crate::registry::java_arguments;
use crate::run_dir::RunDir;
use crate::versions::REGISTRY;

/// The registry's port inside.
const PORT: u16 = 8080;
/// Becomes the registry, which is process 1 and gets every signal. The arguments are the virtual machine's.
const SCRIPT: &str = r#"set -eu
mkdir -p /hwtb
for jar in /deployments/*-runner.jar; do :; done
exec java "$@" -jar "$jar"
"#;

/// Makes the container; the registry is not yet ready.
pub(crate) async fn create((docker, image): (Docker, String), port: u16, dir: RunDir) -> Result<Contained> {
    let recipe = Recipe {
        name: format!("registry {REGISTRY}"),
        docker,
        image,
        script: SCRIPT,
        arguments: java_arguments("0.0.0.0", PORT, HOME),
        environment: Vec::new(),
        files: Vec::new(),
        ports: vec![(port, PORT)],
    };
    Contained::create(recipe, dir).await
}
