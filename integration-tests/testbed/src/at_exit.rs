// SPDX-License-Identifier: Apache-2.0
//! What is to be done when the process ends: a static is never dropped, so shared servers are ended here.

use std::sync::{Mutex, Once, PoisonError};

type Task = Box<dyn FnOnce() + Send>;

static TASKS: Mutex<Vec<Task>> = Mutex::new(Vec::new());

/// Runs `task` when the process exits by itself; not when it is killed, for which the parent-death signal is there.
pub(crate) fn run(task: impl FnOnce() + Send + 'static) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler has the right type and does not unwind.
        unsafe { libc::atexit(run_all) };
    });
    TASKS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Box::new(task));
}

extern "C" fn run_all() {
    let tasks = std::mem::take(&mut *TASKS.lock().unwrap_or_else(PoisonError::into_inner));
    for task in tasks {
        // A panic must not cross into C.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
    }
}
