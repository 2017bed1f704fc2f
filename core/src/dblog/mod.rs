// SPDX-License-Identifier: Apache-2.0
//! Snapshot plus log, as a state machine: [`input::Input`] in, [`action::Action`] out. No I/O, no clock, no `async`.
//!
//! ```text
//!            log  ──●───────[low]──●──●────────[high]──●──▶   every event passes at once
//!                             │    │  │           │
//!   write low mark ───────────┘    │  │           │
//!   read the chunk        └──── SELECT ────┘      │
//!   write high mark                         └─────┘
//!   keys touched between the marks ───────┴──▶ their rows are dropped; the rest leaves at [high]
//! ```
//!
//! # Why it holds (`Window`)
//!
//! Let a chunk be read at a moment between its low and its high mark, and let `r` be its row for key `k`.
//! *Nothing stale*: when `r` leaves at the high mark, no event of `k` stood between the marks. Events before the low mark
//! were committed before the read began, and the read saw them (see below), so `r` is at least as new as everything of
//! `k` that has left. *Complete*: a change that the read did not see stands behind the low mark and comes by the log.
//! Windows need not know of each other: each one's claim holds at its own high mark, so any number may overlap, also
//! windows over the same key, and the next chunk of a stretch is asked for as soon as the last key of this one is known.
//!
//! *The read saw what had left.* Commit order is not visibility order, so this is checked, not assumed: a read names the
//! transactions that it sees, and every transaction that was begun to be forwarded before recording started must be among
//! them (`forwarded.rs`). Else it is read again at the pace of `Retry`, under the same low mark: the set to be seen does
//! not grow, so it ends. What may still be invisible is part of the checkpoint.
//!
//! *Recording* starts when the low mark is seen in the log (or, for marks at positions, when everything up to there was
//! delivered), whether or not the rows have arrived. If that were later than the read, an event could be missed; it is
//! not: a read is asked for when the mark is written, and everything delivered until recording starts precedes the mark.
//!
//! *Both keys* of a change are touched: the row leaves its old key and enters its new one. *Truncation* drops all rows: a
//! row that came to be after it is in the log between the marks.
//!
//! *Partial images* (columns that the log leaves out as unchanged): the row is dropped like any other, since it may be
//! older than the event, and the key is read again under marks of its own. A partial image that moves its row to a new key
//! is read again also outside windows: nothing downstream has the columns under that key.
//!
//! *Shapes*: between the marks the last shape that the table took on must be the chunk's, else it is read again. If there
//! was none, the chunk's own is at least as new as the log's and is adopted before its rows. A copy whose table is replaced,
//! or gets another key, begins anew: its stretches say nothing of the rows that are there now (`shapes.rs`).
//!
//! # The other two ways
//!
//! `AsOf`: a chunk is the state at T. Its rows leave once the log is proven delivered up to T; a key that the log
//! delivered with a later commit keeps what it has. See `remembered.rs` and `as_of_side.rs`. That memory spills to a store of
//! runs ([`crate::spill::Spill`]) and has a cap. At the cap, where the store fails and after a crash, what is unfinished
//! becomes ordinary windows, or, on a source without marks, is read again at a newer T ([`AsOfFallback`]).
//! Where a snapshot was taken as the log began ([`Engine::with_snapshot`]), T is the log's start and the same for all reads:
//! a commit is either in the snapshot or delivered, so the keys remembered are those delivered. Only first copies are read
//! there. A table that is captured later has changed unseen since T; a row that a partial image took away has to be read as
//! it is now. When the snapshot goes, or the program does, what is left of these copies is cut at the last finished chunk
//! like any other, and the engine is one of marks from then on: what may be invisible was noted since the log began.
//!
//! `Version`: every cell carries its write time; see `cell_memory.rs`. Log events pass unjudged (the source repeats and does
//! not order them, and each carries its write times), a chunk's cells leave only if nothing newer of them has left.
//!
//! # Crashes
//!
//! A checkpoint is made between inputs and commits with every event emitted before it. It names what is left to read; an
//! open window is left to read, a closed one is not. Inside a transaction it names the last change by its ordinal, counted
//! by the log's reader before any filter; after a restart the transaction is delivered again and skipped up to there.
//! The source is acknowledged only when a checkpoint is durable, up to that checkpoint's position between transactions.
//!
//! # A log that is lost
//!
//! Where the source no longer has what follows the checkpoint, [`Engine::begin_anew`] takes another start: every table is
//! copied whole, and keys that are downstream and no longer in the source are removed. See `renewal.rs`.

pub mod action;
mod as_of_side;
mod byte_form;
mod cell_memory;
mod cell_verdict;
pub mod checkpoint_codec;
mod chunk_side;
pub mod chunk_sizer;
mod closing;
pub mod copy;
pub mod engine;
mod forwarded;
pub mod input;
mod log_side;
#[cfg(feature = "mutations")]
pub mod mutation;
#[cfg(not(feature = "mutations"))]
mod mutation;
mod remembered;
mod renewal;
mod requests;
mod row_index;
pub mod settings;
mod shapes;
mod spilled;
mod window;

pub use copy::{CopyState, SnapshotProgress};
pub use engine::{Engine, EngineCounters};
pub use renewal::Renewal;
pub use settings::{AsOfFallback, EngineSettings};
