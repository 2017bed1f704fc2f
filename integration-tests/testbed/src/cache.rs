// SPDX-License-Identifier: Apache-2.0
//! The cache of downloads, unpacked servers and data templates, shared by all processes of a user.
//!
//! An entry is a directory. It is built under a lock in a sibling directory and renamed into place, so that an
//! entry that exists is whole, however many test processes ask for it at once and whichever of them dies.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The test-bed's part of the cache: `$HIGHWATER_CACHE/testbed`, by default `~/.cache/highwater/testbed`.
pub fn root() -> PathBuf {
    match env::var_os("HIGHWATER_CACHE") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache/highwater"),
    }
    .join("testbed")
}

/// Holds a named lock, over processes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] File);

/// Waits for the lock called `name`.
pub(crate) fn lock(name: &str) -> Result<Lock> {
    let file = lock_file(name)?;
    file.lock()
        .map_err(|e| Error::during(format!("cannot lock {name:?} in {}", root().display()), e))?;
    Ok(Lock(file))
}

/// Takes the lock called `name` if nobody holds it.
pub(crate) fn try_lock(name: &str) -> Result<Option<Lock>> {
    let file = lock_file(name)?;
    Ok(file.try_lock().is_ok().then_some(Lock(file)))
}

fn lock_file(name: &str) -> Result<File> {
    let dir = root().join("locks");
    create_dir(&dir)?;
    let path = dir.join(name);
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Error::during(format!("cannot open lock {}", path.display()), e))
}

/// The directory of the cache entry `name`, made by `build` (which gets an empty directory to fill) if it is missing
/// or was made from another `stamp`.
///
/// `build` runs in the entry's final place under another name: paths written into files must be made from the
/// entry's final path, which is `root().join(name)`.
pub(crate) fn entry(name: &str, stamp: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = root().join(name);
    if is_made(&place, stamp) {
        return Ok(place);
    }
    let _lock = lock(&name.replace('/', "-"))?;
    if is_made(&place, stamp) {
        return Ok(place);
    }
    let building = place.with_file_name(format!(
        "{}.building",
        place.file_name().and_then(|name| name.to_str()).unwrap_or("entry")
    ));
    remove_dir(&building)?;
    create_dir(&building)?;
    build(&building)?;
    fs::write(building.join(STAMP), stamp)
        .map_err(|e| Error::during(format!("cannot write {}", building.display()), e))?;
    remove_dir(&place)?;
    fs::rename(&building, &place)
        .map_err(|e| Error::during(format!("cannot move {} into place", place.display()), e))?;
    Ok(place)
}

const STAMP: &str = ".made-from";

fn is_made(place: &Path, stamp: &str) -> bool {
    fs::read_to_string(place.join(STAMP)).is_ok_and(|found| found == stamp)
}

pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::during(format!("cannot create {}", dir.display()), e))
}

pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::during(format!("cannot remove {}", dir.display()), e))
        }
        _ => Ok(()),
    }
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).map_err(|e| Error::during(format!("cannot write {}", path.display()), e))
}
