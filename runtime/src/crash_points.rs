// SPDX-License-Identifier: Apache-2.0
//! Named places where a test kills or stops the process, as `kill -9` and `kill -STOP` would. Compiled in only with the
//! feature `crash-points`; without it [`reach`] is nothing.
//!
//! `HIGHWATER_CRASH_AT=before_commit:3` ends the process with SIGKILL when it reaches the place for the third time.
//! `HIGHWATER_STOP_AT=before_commit:3` stops it there with SIGSTOP; it goes on from there with SIGCONT.
//! `HIGHWATER_PHASES=path` appends a line `<phase> <count>` to that file at each place, so that a killer outside can
//! choose its moment.

/// A place in the life of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// At least one window is open.
    OpenWindow,
    /// A checkpoint was taken inside a source transaction.
    InsideSplitTransaction,
    /// All of a transaction is appended, nothing of it committed.
    BeforeCommit,
    /// Committed, not yet told to the engine.
    AfterCommit,
    /// Saved, and the source not yet told.
    BeforeAcknowledge,
    /// A chunk's rows were read.
    Snapshot,
    /// Changes of the log were forwarded, no snapshot runs.
    Stream,
    /// Keys that are gone are about to leave.
    Renewal,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 8] = [
        Phase::OpenWindow,
        Phase::InsideSplitTransaction,
        Phase::BeforeCommit,
        Phase::AfterCommit,
        Phase::BeforeAcknowledge,
        Phase::Snapshot,
        Phase::Stream,
        Phase::Renewal,
    ];

    /// Its name in `HIGHWATER_CRASH_AT` and in the phases file.
    pub fn name(self) -> &'static str {
        match self {
            Phase::OpenWindow => "open_window",
            Phase::InsideSplitTransaction => "inside_split_transaction",
            Phase::BeforeCommit => "before_commit",
            Phase::AfterCommit => "after_commit",
            Phase::BeforeAcknowledge => "before_acknowledge",
            Phase::Snapshot => "snapshot",
            Phase::Stream => "stream",
            Phase::Renewal => "renewal",
        }
    }
}

/// Says that the process is at this place.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn reach(_phase: Phase) {}

/// Says that the process is at this place, and dies or stops there when it was told to.
#[cfg(feature = "crash-points")]
pub fn reach(phase: Phase) {
    armed::reach(phase);
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};

    use super::Phase;

    /// A phase's name, and the how-manieth time that it is reached.
    struct Place {
        name: String,
        nth: u64,
    }

    impl Place {
        fn from_environment(variable: &str) -> Option<Self> {
            let text = std::env::var(variable).ok()?;
            let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
            Some(Place {
                name: name.to_owned(),
                nth: nth.parse().unwrap_or(1),
            })
        }

        fn is(&self, phase: Phase, count: u64) -> bool {
            self.name == phase.name() && self.nth == count
        }
    }

    struct Plan {
        crash_at: Option<Place>,
        stop_at: Option<Place>,
        counts: [AtomicU64; Phase::ALL.len()],
        phases: Option<Mutex<File>>,
    }

    fn plan() -> &'static Plan {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| {
            let phases = std::env::var_os("HIGHWATER_PHASES")
                .and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok())
                .map(Mutex::new);
            Plan {
                crash_at: Place::from_environment("HIGHWATER_CRASH_AT"),
                stop_at: Place::from_environment("HIGHWATER_STOP_AT"),
                counts: Default::default(),
                phases,
            }
        })
    }

    pub(super) fn reach(phase: Phase) {
        let plan = plan();
        let count = plan.counts[phase as usize].fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(phases) = &plan.phases {
            let mut file = phases.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = file.write_all(format!("{} {count}\n", phase.name()).as_bytes());
        }
        let is_here = |place: &Option<Place>| place.as_ref().is_some_and(|place| place.is(phase, count));
        if is_here(&plan.crash_at) {
            die();
        }
        if is_here(&plan.stop_at) {
            // SAFETY: kill and getpid take no memory of ours.
            unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
        }
    }

    /// Neither destructors nor exit handlers run, nothing is flushed.
    fn die() -> ! {
        // SAFETY: kill and getpid take no memory of ours.
        unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
        loop {
            std::thread::park();
        }
    }
}
