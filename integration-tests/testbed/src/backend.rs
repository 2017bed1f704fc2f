// SPDX-License-Identifier: Apache-2.0
//! Which back end a server runs on: `HIGHWATER_TESTBED=process|container|auto`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use testcontainers::bollard::Docker;

use crate::container::engine;
use crate::error::{Error, Result};

/// How a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// As a child of this process.
    Process,
    /// In a container of a Docker-compatible engine.
    Container,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Container => "container",
        })
    }
}

/// What was chosen for one server.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    Process,
    Container { docker: Docker, image: String },
}

/// Chooses for a server with the official image `official`, which the variable `variable` may replace by a local one.
///
/// `auto`, the default, takes a container where an engine answers and has the image or can pull it, and a process
/// elsewhere. Each image's decision is made once in a process and printed.
pub(crate) async fn choose(variable: &str, official: &str) -> Result<Choice> {
    let image = std::env::var(variable)
        .ok()
        .filter(|image| !image.is_empty())
        .unwrap_or_else(|| official.to_owned());
    let wanted = std::env::var("HIGHWATER_TESTBED").unwrap_or_default();
    match wanted.as_str() {
        "process" => Ok(Choice::Process),
        "container" => {
            let docker = engine::with_image(&image).await?;
            Ok(Choice::Container { docker, image })
        }
        "" | "auto" => Ok(automatic(image).await),
        other => Err(Error::new(format!(
            "HIGHWATER_TESTBED={other:?} is none of \"process\", \"container\", \"auto\""
        ))),
    }
}

async fn automatic(image: String) -> Choice {
    static REFUSED: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);
    let known = |image: &str| {
        REFUSED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_some_and(|refused| refused.contains_key(image))
    };
    if known(&image) {
        return Choice::Process;
    }
    match engine::with_image(&image).await {
        Ok(docker) => Choice::Container { docker, image },
        Err(error) => {
            let why = error.to_string();
            eprintln!("testbed: {image} is not to be had as a container ({why}): native processes are used");
            REFUSED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_default()
                .insert(image, why);
            Choice::Process
        }
    }
}
