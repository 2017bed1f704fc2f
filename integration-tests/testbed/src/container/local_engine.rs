// SPDX-License-Identifier: Apache-2.0
//! An engine and images of our own, where neither Docker nor a public image is to be had: Debian's podman serves the
//! Docker API on a private socket, and images are made from Debian's packages.
//!
//! Everything the engine writes lies in its run directory: nothing of the machine's own podman is seen or changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::fetch::debian::Mirrors;
use crate::postgres::programs;
use crate::run_dir::RunDir;
use crate::server_process::ServerProcess;

/// Raised when the way in which an image is made changes.
const RECIPE: &str = "1";
/// Time for the engine's socket to appear.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The programs that are needed, all of them Debian packages.
const PROGRAMS: [&str; 4] = ["podman", "runc", "debootstrap", "iptables"];

/// Limits and cgroups as a nested or old machine allows them: the defaults of podman ask for more.
const CONFIGURATION: &str = "[containers]\n\
    default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
    [engine]\n\
    runtime = \"runc\"\n\
    cgroup_manager = \"cgroupfs\"\n\
    events_logger = \"file\"\n";

/// A running podman with a Docker-compatible socket.
#[derive(Debug)]
pub struct LocalEngine {
    process: ServerProcess,
    dir: RunDir,
}

impl LocalEngine {
    /// Starts the engine, if this machine can run containers; the error says why it cannot.
    pub async fn start() -> Result<Self> {
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return Err(Error::new("an engine of our own needs root"));
        }
        for program in PROGRAMS {
            command::output(Command::new(program).arg("--version"))?;
        }
        let dir = RunDir::new()?;
        cache::write(&dir.path().join("containers.conf"), CONFIGURATION)?;
        let socket = dir.path().join("podman.sock");
        let mut service = podman(dir.path());
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
        Ok(Self { process, dir })
    }

    /// What `DOCKER_HOST` has to say for testcontainers to find this engine.
    pub fn docker_host(&self) -> String {
        format!("unix://{}/podman.sock", self.dir.path().display())
    }

    /// The engine's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Makes (once; its archive is cached) and loads an image with a Postgres of Debian's packages; returns its name.
    /// Blocks. A container that cannot even run `true` is an error: then this machine cannot run containers.
    pub fn load_postgres(&self, major: u16) -> Result<String> {
        let archive = postgres_archive(major)?;
        let image = format!("localhost/highwater-postgres:{major}");
        command::output(podman(self.dir.path()).arg("import").arg(&archive).arg(&image))?;
        command::output(podman(self.dir.path()).args(["run", "--rm", "--network=none", &image, "true"]))
            .map_err(|e| Error::during("this machine cannot run a container", e))?;
        Ok(image)
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        // Containers first, or their mounts keep the directory busy.
        let _ = command::output(podman(self.dir.path()).args(["rm", "--all", "--force", "--time=0"]));
    }
}

/// A podman that keeps everything in `dir`.
fn podman(dir: &Path) -> Command {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut podman = Command::new("podman");
    podman.env("CONTAINERS_CONF", at("containers.conf"));
    // vfs asks nothing of the file system below: overlay on overlay, as in a nested container, does not mount.
    podman.args([
        "--storage-driver=vfs",
        "--root",
        &at("storage"),
        "--runroot",
        &at("run"),
        "--tmpdir",
        &at("tmp"),
    ]);
    podman.args(["--network-config-dir", &at("networks")]);
    podman
}

fn postgres_archive(major: u16) -> Result<PathBuf> {
    let pin = programs::pin(major)?;
    let mirrors = Mirrors::of_this_machine()
        .ok_or_else(|| Error::new("no Debian mirror in this machine's apt sources to make an image from"))?;
    let entry = cache::entry(
        &format!("images/postgres-{major}"),
        &format!("{RECIPE} {}", pin.suite),
        |dir| {
            eprintln!(
                "testbed: making a container image of postgres {major} from Debian {}",
                pin.suite
            );
            let root = dir.join("root");
            let mut debootstrap = Command::new("debootstrap");
            debootstrap
                .args(["--variant=minbase", &format!("--include=postgresql-{major}"), pin.suite])
                .arg(&root);
            command::output(debootstrap.arg(mirrors.main()))?;
            let mut tar = Command::new("tar");
            tar.arg("-cf").arg(dir.join("image.tar")).arg("-C").arg(&root);
            for part in [
                "proc",
                "sys",
                "dev",
                "var/cache/apt",
                "var/lib/apt/lists",
                "usr/share/doc",
                "usr/share/man",
            ] {
                tar.arg(format!("--exclude=./{part}/*"));
            }
            command::output(tar.arg("."))?;
            cache::remove_dir(&root)
        },
    )
    .map_err(|e| Error::during(format!("cannot make an image of postgres {major}"), e))?;
    Ok(entry.join("image.tar"))
}
