// SPDX-License-Identifier: Apache-2.0
//! An engine of our own, where neither Docker nor a public image is to be had: Debian's podman serves the Docker API
//! on a private socket, with images made from Debian's packages.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cache;
use crate::command;
use crate::container::images::LocalImage;
use crate::container::owner;
use crate::container::podman::Podman;
use crate::error::{Error, Result};
use crate::run_dir::{self, RunDir};
use crate::server_process::ServerProcess;

/// Time for the engine's socket to appear.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The programs that are needed, all of them Debian packages.
const PROGRAMS: [&str; 4] = ["podman", "runc", "debootstrap", "iptables"];
/// The file in an engine's directory that names its owner.
const OWNER: &str = "engine-owner";

/// A running podman with a Docker-compatible socket. Dropping it removes its containers; those of a killed process
/// go when the next engine starts.
#[derive(Debug)]
pub struct LocalEngine {
    process: ServerProcess,
    podman: Podman,
    dir: RunDir,
}

impl LocalEngine {
    /// Starts the engine with these images, which are made first if they are not in the cache; the error says why
    /// this machine cannot run containers.
    pub async fn start(images: &[LocalImage]) -> Result<Self> {
        let images = images.to_vec();
        let (dir, podman) = tokio::task::spawn_blocking(move || Self::prepare(&images))
            .await
            .map_err(|e| Error::during("preparing a container engine", e))??;
        let socket = dir.path().join("podman.sock");
        let mut service = podman.command();
        service
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", socket.display()));
        let log = dir.path().join("log");
        let mut process = ServerProcess::start("podman", service, &log, libc::SIGTERM)?;
        process
            .wait_ready(START_LIMIT, |_| {
                let answers = std::os::unix::net::UnixStream::connect(&socket).is_ok();
                async move { answers.then_some(()) }
            })
            .await?;
        Ok(Self { process, podman, dir })
    }

    fn prepare(images: &[LocalImage]) -> Result<(RunDir, Podman)> {
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return Err(Error::new("an engine of our own needs root"));
        }
        for program in PROGRAMS {
            command::output(Command::new(program).arg("--version"))?;
        }
        remove_orphans();
        let stores = images.iter().map(|image| image.store()).collect::<Result<Vec<_>>>()?;
        let dir = RunDir::new()?;
        cache::write(&dir.path().join(OWNER), owner::this_process())?;
        let podman = Podman::new(dir.path(), &dir.path().join("storage"), &stores)?;
        if let Some(image) = images.first() {
            let mut probe = podman.command();
            command::output(probe.args(["run", "--rm", "--network=none", &image.name(), "true"]))
                .map_err(|e| Error::during("this machine cannot run a container", e))?;
        }
        Ok((dir, podman))
    }

    /// What `DOCKER_HOST` has to say for testcontainers to find this engine.
    pub fn docker_host(&self) -> String {
        format!("unix://{}/podman.sock", self.dir.path().display())
    }

    /// The engine's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        // Containers first, or their mounts keep the directory busy.
        remove_containers(&self.podman);
    }
}

fn remove_containers(podman: &Podman) {
    let mut remove = podman.command();
    if let Err(error) = command::output(remove.args(["rm", "--all", "--force", "--time=0"])) {
        eprintln!("testbed: {error}");
    }
}

/// Ends the containers of engines whose owner was killed, and removes their directories.
fn remove_orphans() {
    for dir in run_dir::all() {
        let owner = std::fs::read_to_string(dir.join(OWNER));
        if owner.is_ok_and(|owner| owner::is_dead(&owner)) {
            eprintln!("testbed: removing the containers of a killed test in {}", dir.display());
            if let Err(error) = remove_orphan(&dir) {
                eprintln!("testbed: {error}");
            }
        }
    }
}

fn remove_orphan(dir: &Path) -> Result<()> {
    remove_containers(&Podman::found(dir)?);
    cache::remove_dir(dir)
}
