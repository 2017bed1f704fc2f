// SPDX-License-Identifier: Apache-2.0
//! Debian's podman with a state of its own: nothing of the machine's is seen or changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::error::{Error, Result};

/// Limits and cgroups as a nested or old machine allows them: the defaults of podman ask for more. Logs are files,
/// for a container's journal may not be there.
const CONFIGURATION: &str = "[containers]\n\
    default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
    log_driver = \"k8s-file\"\n\
    [engine]\n\
    runtime = \"runc\"\n\
    cgroup_manager = \"cgroupfs\"\n\
    events_logger = \"file\"\n";
/// The file in a podman's directory with its arguments, one a line.
const ARGUMENTS: &str = "podman-arguments";

/// Podman on a directory.
#[derive(Debug)]
pub(crate) struct Podman {
    dir: PathBuf,
    arguments: Vec<String>,
}

impl Podman {
    /// A podman that keeps its state in `dir` and its images and containers in `storage`; images are also found in
    /// `stores`, which are only read.
    pub(crate) fn new(dir: &Path, storage: &Path, stores: &[PathBuf]) -> Result<Self> {
        let at = |name: &str| dir.join(name).display().to_string();
        let driver = driver();
        let mut arguments = vec![format!("--storage-driver={driver}")];
        if driver == "overlay" {
            // Its own mount of the storage would keep the directory from being moved or removed.
            arguments.push("--storage-opt=overlay.skip_mount_home=true".into());
        }
        for store in stores {
            arguments.push(format!("--storage-opt={driver}.imagestore={}", store.display()));
        }
        arguments.push(format!("--root={}", storage.display()));
        arguments.push(format!("--runroot={}", at("run")));
        arguments.push(format!("--tmpdir={}", at("tmp")));
        arguments.push(format!("--network-config-dir={}", at("networks")));
        cache::write(&dir.join("containers.conf"), CONFIGURATION)?;
        cache::write(&dir.join(ARGUMENTS), arguments.join("\n"))?;
        Ok(Self {
            dir: dir.to_owned(),
            arguments,
        })
    }

    /// The podman that another process made in `dir`.
    pub(crate) fn found(dir: &Path) -> Result<Self> {
        let path = dir.join(ARGUMENTS);
        let text =
            std::fs::read_to_string(&path).map_err(|e| Error::during(format!("cannot read {}", path.display()), e))?;
        Ok(Self {
            dir: dir.to_owned(),
            arguments: text.lines().map(str::to_owned).collect(),
        })
    }

    pub(crate) fn command(&self) -> Command {
        let mut podman = Command::new("podman");
        podman.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        podman.args(&self.arguments);
        podman
    }
}

/// How layers are stored: `overlay`, or `vfs`, which copies whole images, where that does not mount: on another
/// overlay, as in a nested container.
pub(crate) fn driver() -> &'static str {
    let nested = [Path::new("/tmp").to_owned(), cache::root()]
        .iter()
        .any(|dir| is_overlay(dir));
    if nested { "vfs" } else { "overlay" }
}

fn is_overlay(dir: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes()) else {
        return false;
    };
    // SAFETY: statfs fills the structure, of which zeroes are a valid value, and reads a string that ends in zero.
    unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        libc::statfs(path.as_ptr(), &raw mut found) == 0 && found.f_type == libc::OVERLAYFS_SUPER_MAGIC
    }
}
