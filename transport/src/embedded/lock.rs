// SPDX-License-Identifier: Apache-2.0
//! The store's lock: a lock of the operating system on a file of the store. The system keeps it for a process that is
//! stopped, so nobody takes over from one; whoever takes over all the same has taken the file away, and then the former
//! holder, when it wakes up, writes nothing more.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use highwater_core::{Error, ErrorKind, Result};

use super::disk::failed;

/// The lock of one store, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    store: PathBuf,
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the store for this process.
    pub(super) fn take(store: &Path) -> Result<Lock> {
        let path = store.join("LOCK");
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let mut file = opened.map_err(|source| failed("open", &path, 4_096, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(store, &mut file)),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path, 0, source)),
        }
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(|source| failed("write", &path, 16, source))?;
        let store = store.to_owned();
        Ok(Lock { store, path, file })
    }

    /// An error when the file under the lock's name is no longer the one that is locked: the store is another's then.
    pub(super) fn check(&self) -> Result<()> {
        let mine = self
            .file
            .metadata()
            .map_err(|source| failed("read", &self.path, 0, source))?;
        let is_mine = std::fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino()));
        if is_mine {
            return Ok(());
        }
        let message = format!(
            "another process took the store \"{}\" over: its lock file \"{}\" was taken away from this one",
            self.store.display(),
            self.path.display()
        );
        Err(Error::new(ErrorKind::Fenced, message)
            .with_fix("let the other process work, and never remove the lock file of a process that still lives"))
    }
}

fn in_use(store: &Path, file: &mut File) -> Error {
    let mut holder = String::new();
    // The holder's number is a help only.
    let _ = file.read_to_string(&mut holder);
    Error::new(
        ErrorKind::Unsuitable,
        format!("the store \"{}\" is in use by another process", store.display()),
    )
    .with("pid", holder.trim())
    .with_fix("stop that process, ask it over its local socket, or set another path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_lost_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        first.check().unwrap();
        let refused = Lock::take(folder.path()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsuitable);
        assert_eq!(refused.context()[0], ("pid", std::process::id().to_string()));
        std::fs::remove_file(folder.path().join("LOCK")).unwrap();
        assert_eq!(first.check().unwrap_err().kind(), ErrorKind::Fenced);
        let second = Lock::take(folder.path()).unwrap();
        second.check().unwrap();
        let lost = first.check().unwrap_err();
        assert!(lost.message().contains("LOCK") && lost.fix().is_some(), "{lost}");
    }
}
