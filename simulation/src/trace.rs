// SPDX-License-Identifier: Apache-2.0
//! A fingerprint of everything that happened in a life: the same seed must give the same one.

use std::sync::OnceLock;

use highwater_core::change::Change;
use highwater_core::dblog::action::Action;
use highwater_testkit::model::ModelPosition;

/// With `HIGHWATER_TRACE=1`, prints a line of the story. For one seed: many are unreadable.
pub fn tell(line: impl FnOnce() -> String) {
    static TOLD: OnceLock<bool> = OnceLock::new();
    if *TOLD.get_or_init(|| std::env::var_os("HIGHWATER_TRACE").is_some()) {
        eprintln!("{}", line());
    }
}

/// FNV-1a over numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace(pub u64);

impl Default for Trace {
    fn default() -> Self {
        Trace(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// Takes in a number.
    pub fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }

    /// Takes in bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        bytes.iter().for_each(|byte| self.number(u64::from(*byte)));
    }

    fn change(&mut self, change: &Change<ModelPosition>) {
        self.number(change.op as u64);
        self.number(change.commit.0);
        self.number(change.ordinal);
        self.number(change.table().0);
        if let Some(key) = change.key() {
            self.bytes(key.as_bytes());
        }
    }

    /// Takes in an action.
    pub fn action(&mut self, action: &Action<ModelPosition>) {
        match action {
            Action::Emit(change) => self.change(change),
            Action::Schema(schema) => self.number(schema.fingerprint().0),
            Action::WriteMark { mark, chunk } => {
                self.number(mark.0);
                self.number(chunk.0);
            }
            Action::ReadChunk(request) => {
                self.number(request.chunk.0);
                self.number(u64::from(request.rows_max));
            }
            Action::Spill { run, entries } => {
                self.number(run.0);
                entries.iter().for_each(|entry| self.bytes(&entry.value));
            }
            Action::Recall { chunk, runs, digests } => {
                self.number(chunk.0);
                runs.iter().for_each(|run| self.number(run.0));
                digests.iter().for_each(|digest| self.number(*digest));
            }
            Action::Forget(run) => self.number(run.0),
            Action::SaveCheckpoint { id, checkpoint } => {
                self.number(id.0);
                self.bytes(&checkpoint.bytes);
            }
            Action::Acknowledge(position) => self.number(position.0),
            Action::Started { snapshot, .. } => self.number(snapshot.0),
            Action::Certificate(certificate) => {
                self.number(certificate.chunk.0);
                self.number(certificate.rows_emitted);
            }
            Action::Done { snapshot, outcome } => {
                self.number(snapshot.0);
                self.number(*outcome as u64);
            }
            Action::Report(report) => self.bytes(report.code.as_bytes()),
            Action::Watch(table) => self.bytes(table.table.as_bytes()),
            Action::Compare { table, ends } => {
                self.bytes(table.table.as_bytes());
                ends.iter().for_each(|end| self.number(*end));
            }
            Action::Remove { position, last, .. } => {
                self.number(position.0);
                self.number(u64::from(*last));
            }
        }
    }
}
