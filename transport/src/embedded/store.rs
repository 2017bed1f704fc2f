// SPDX-License-Identifier: Apache-2.0
//! What the threads and handles of one open store share.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_core::transport::WriterId;
use highwater_core::{Class, Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot, watch};

use super::committer::Request;
use super::disk::Disk;
use super::lock::Lock;
use super::settings::EmbeddedSettings;
use super::state::State;
use crate::failure::fenced;

/// Requests that may wait for the committing thread.
pub(super) const REQUESTS_MAX: usize = 64;

pub(super) struct Store {
    pub(super) settings: EmbeddedSettings,
    /// The folder, absolute.
    pub(super) path: PathBuf,
    pub(super) disk: Arc<Disk>,
    state: Mutex<State>,
    /// Counts changes of the state that readers care about.
    pub(super) commits: watch::Sender<u64>,
    /// Tells long work to end.
    pub(super) stopping: AtomicBool,
    /// Memory of blocks that were written, for the next ones: fresh memory costs more than filling it.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Buffers kept for later, and the size in bytes of the largest that is kept.
const SPARE_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 8 << 20;

impl Store {
    pub(super) fn new(settings: EmbeddedSettings, path: PathBuf, disk: Arc<Disk>, state: State) -> Self {
        let (commits, _) = watch::channel(0);
        Store {
            settings,
            path,
            disk,
            state: Mutex::new(state),
            commits,
            stopping: AtomicBool::new(false),
            spare: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-made change: entries are applied whole under one lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// Whether `epoch` is the writer's newest.
    pub(super) fn check_epoch(&self, id: &WriterId, epoch: u64) -> Result<()> {
        if self.state().epochs.get(&id.0) == Some(&epoch) {
            Ok(())
        } else {
            Err(fenced(id))
        }
    }
}

/// The open store: the last of its handles closes it.
pub(super) struct Handle {
    pub(super) store: Arc<Store>,
    pub(super) requests: Option<mpsc::Sender<Request>>,
    pub(super) upkeep: Option<std::sync::mpsc::Sender<super::upkeep::Round>>,
    pub(super) threads: Vec<std::thread::JoinHandle<()>>,
    /// Holds the lock until it is closed.
    pub(super) _lock: Arc<Lock>,
}

/// The store ended while something was asked of it.
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Cancelled, "the embedded transport was closed").with_class(Class::Retryable)
}

impl Handle {
    /// Has the committing thread do something and waits for its answer.
    pub(super) async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(closed)?;
        requests.send(request(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.store.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        self.upkeep = None;
        self.requests = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(path = %self.store.path.display(), "a thread of the embedded transport panicked");
            }
        }
    }
}
