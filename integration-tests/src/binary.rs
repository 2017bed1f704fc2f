// SPDX-License-Identifier: Apache-2.0
//! The `highwater` binary under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary with crash points compiled in, built when the first test asks for it: a test may not run an older one.
/// `HIGHWATER_BIN` names another binary instead.
///
/// # Panics
/// When it does not build.
pub fn highwater() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("HIGHWATER_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--message-format=json-render-diagnostics"])
        .args([
            "-p",
            "highwater-cli",
            "--bin",
            "highwater",
            "--features",
            "crash-points",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().expect("cargo runs");
    assert!(
        output.status.success(),
        "highwater does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back()
        .expect("cargo names the binary");
    kept_apart(&built)
}

/// A second name of the file, so that a build with other features, which replaces the first, does not change what the
/// tests of this process run.
fn kept_apart(built: &Path) -> PathBuf {
    let apart = built.with_file_name(format!("highwater-under-test-{}", std::process::id()));
    let folder = built.parent().expect("invariant: a binary lies in a folder");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix("highwater-under-test-")
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    std::fs::hard_link(built, &apart)
        .or_else(|_| std::fs::copy(built, &apart).map(|_| ()))
        .expect("a second name of the binary");
    apart
}
