// SPDX-License-Identifier: Apache-2.0
//! Finding an engine, and an image on it.

use std::path::Path;
use std::time::Duration;

use testcontainers::bollard::Docker;
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};

use crate::error::{Error, Result};

/// Where an engine listens by default.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Time for an engine to answer a ping.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// Time for an image to be pulled.
const PULL_LIMIT: Duration = Duration::from_secs(300);

/// A connection to the engine of `DOCKER_HOST`, or to that of the default socket; whether it answers is not asked.
pub(crate) fn connect() -> Result<Docker> {
    let host = host();
    Docker::connect_with_host(&host).map_err(|e| Error::during(format!("no container engine answers at {host}"), e))
}

fn host() -> String {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    host.unwrap_or_else(|| DEFAULT_HOST.to_owned())
}

/// The engine, if it answers.
pub(crate) async fn answering() -> Result<Docker> {
    let host = host();
    let is_missing = |path: &str| !Path::new(path).exists();
    if host.strip_prefix("unix://").is_some_and(is_missing) {
        return Err(Error::new(format!("no container engine at {host}")));
    }
    let docker = connect()?;
    let silent = |cause: &dyn std::fmt::Display| Error::during(format!("no container engine answers at {host}"), cause);
    match tokio::time::timeout(PING_LIMIT, docker.ping()).await {
        Ok(Ok(_)) => Ok(docker),
        Ok(Err(e)) => Err(silent(&e)),
        Err(_) => Err(silent(&format!("silent for {PING_LIMIT:?}"))),
    }
}

/// The engine, once it has `image`: there already, or pulled.
pub(crate) async fn with_image(image: &str) -> Result<Docker> {
    let docker = answering().await?;
    if docker.inspect_image(image).await.is_ok() {
        return Ok(docker);
    }
    let pull = generic(image).with_startup_timeout(PULL_LIMIT).pull_image();
    match tokio::time::timeout(PULL_LIMIT, pull).await {
        Ok(Ok(_)) => Ok(docker),
        Ok(Err(e)) => Err(Error::during(format!("the container engine cannot pull {image:?}"), e)),
        Err(_) => Err(Error::new(format!(
            "the container engine did not pull {image:?} within {PULL_LIMIT:?}"
        ))),
    }
}

/// testcontainers' name of an image: a colon after the last slash parts the tag.
pub(crate) fn generic(image: &str) -> GenericImage {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => GenericImage::new(name, tag),
        _ => GenericImage::new(image, "latest"),
    }
}
