// SPDX-License-Identifier: Apache-2.0
//! Looks after the snapshot of the log's start: first copies are read from it, and nothing holds it longer than they do.

use highwater_core::Result;
use highwater_core::connector::{LogReader, SourceConnector, StartSnapshot};
use highwater_core::dblog::input::Input;
use tokio::time::Instant;

use super::capture::Capture;

impl<C: SourceConnector> Capture<C> {
    /// Lets go of the snapshot when no copy reads from it any more, when it is lost, and at the end of its time, also of
    /// copies that are paused or held back. What is left then is read between marks.
    pub(super) async fn watch_start_snapshot(&mut self) -> Result<()> {
        let Some(until) = self.snapshot_until else {
            return Ok(());
        };
        let why = match self.log.start_snapshot() {
            StartSnapshot::None => "there is none".to_owned(),
            StartSnapshot::Lost(why) => why,
            StartSnapshot::Held(_) if Instant::now() >= until => {
                "the snapshot was held for as long as `snapshot.first_load_minutes_max` allows".to_owned()
            }
            StartSnapshot::Held(_) if !self.cuts.hold_any_first() && !self.engine.reads_start_snapshot() => {
                "first copies are done".to_owned()
            }
            StartSnapshot::Held(_) => return Ok(()),
        };
        self.snapshot_until = None;
        self.log.release_snapshot();
        tracing::debug!(%why, "the snapshot of the log's start is let go");
        self.step(Input::SnapshotGone { why }).await
    }
}
