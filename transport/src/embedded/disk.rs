// SPDX-License-Identifier: Apache-2.0
//! File operations, each with an error that names the file and what mends it. Tests take space away here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use highwater_core::{Class, Error, ErrorKind, Result};

/// The file system under the store.
#[derive(Default)]
pub(super) struct Disk {
    /// Bytes that may still be written; `None`: as many as there is room for.
    room: Mutex<Option<u64>>,
}

/// The error of a failed operation on a file.
pub(super) fn failed(action: &str, path: &Path, needed_bytes: u64, source: io::Error) -> Error {
    let full = matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    let error = match (full, source.kind()) {
        (true, _) => Error::new(
            ErrorKind::Storage,
            format!("no space is left to {action} \"{}\"", path.display()),
        )
        .with("needed_bytes", needed_bytes)
        .with_fix("free more than that on its file system; the work then goes on from the last checkpoint"),
        (false, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => Error::new(
            ErrorKind::Storage,
            format!("no permission to {action} \"{}\"", path.display()),
        )
        .with_fix("give this user the right to write there, or set another path"),
        _ => Error::new(ErrorKind::Storage, format!("could not {action} \"{}\"", path.display()))
            .with("cause", &source)
            .with_fix("check the disk and its file system, then start again"),
    };
    error.with_source(source)
}

/// The error of a file whose content is not what was written.
pub(super) fn damaged(path: &Path, at: u64, why: &str) -> Error {
    Error::new(
        ErrorKind::Storage,
        format!("file \"{}\" is damaged: {why}", path.display()),
    )
    .with_class(Class::User)
    .with("byte", at)
    .with_fix("check the disk; restore the store's folder from a copy, or move it away and take a new snapshot")
}

impl Disk {
    /// Leaves room for so many bytes more, as a disk that fills up would.
    #[cfg(test)]
    pub(super) fn set_room(&self, bytes: Option<u64>) {
        *self.room.lock().unwrap() = bytes;
    }

    fn granted(&self, wanted: usize) -> usize {
        let mut room = self.room.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(left) = room.as_mut() else { return wanted };
        let granted = usize::try_from(*left).unwrap_or(usize::MAX).min(wanted);
        *left -= granted as u64;
        granted
    }

    /// Makes a new file, empty.
    pub(super) fn create(&self, path: &Path) -> Result<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        file.map_err(|source| failed("make", path, 4_096, source))
    }

    /// Opens a file that exists.
    pub(super) fn open(&self, path: &Path) -> Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.map_err(|source| failed("open", path, 0, source))
    }

    /// Writes all of `bytes` at `at`; on an error any part of it may be written.
    pub(super) fn write_at(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> Result<()> {
        let granted = self.granted(bytes.len());
        let written = file.write_all_at(&bytes[..granted], at).and_then(|()| {
            if granted == bytes.len() {
                Ok(())
            } else {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
        });
        written.map_err(|source| failed("write", path, bytes.len() as u64, source))
    }

    /// Cuts a file.
    pub(super) fn set_len(&self, file: &File, path: &Path, bytes: u64) -> Result<()> {
        file.set_len(bytes).map_err(|source| failed("cut", path, 0, source))
    }

    /// Forces a file's content to the disk.
    pub(super) fn sync(&self, file: &File, path: &Path) -> Result<()> {
        file.sync_data()
            .map_err(|source| failed("force to disk", path, 0, source))
    }

    /// Forces a folder's entries to the disk.
    pub(super) fn sync_folder(&self, path: &Path) -> Result<()> {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        synced.map_err(|source| failed("force to disk", path, 0, source))
    }

    /// Makes a folder and those above it.
    pub(super) fn make_folder(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path).map_err(|source| failed("make", path, 4_096, source))
    }

    /// Removes a file; one that is gone already is as good.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, 0, source)),
            _ => Ok(()),
        }
    }

    /// Gives a file its final name.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|source| failed("rename", from, 0, source))
    }
}
