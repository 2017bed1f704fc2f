// SPDX-License-Identifier: Apache-2.0
//! Where the frames of a replayed transaction come from: its file first, then what never went to disk.

use super::spill::SpillReader;
use crate::protocol::framing::FrameBatch;
use highwater_core::Result;

/// The frames of one transaction, in the order in which they were kept.
#[derive(Debug)]
pub(super) struct ReplaySource {
    file: Option<SpillReader>,
    tail: Option<Vec<u8>>,
    batch: Option<FrameBatch>,
}

impl ReplaySource {
    pub(super) fn new(file: Option<SpillReader>, tail: Vec<u8>) -> Self {
        Self {
            file,
            tail: Some(tail),
            batch: None,
        }
    }

    /// Frames that were not read to their end; `None` when all were. Cancel-safe.
    pub(super) async fn batch(&mut self) -> Result<Option<&mut FrameBatch>> {
        while self.batch.as_ref().is_none_or(FrameBatch::is_exhausted) {
            if let Some(file) = &mut self.file {
                self.batch = file.next_batch().await?;
                if self.batch.is_some() {
                    continue;
                }
                self.file = None;
            }
            match self.tail.take() {
                Some(tail) => self.batch = Some(FrameBatch::over(tail.into())),
                None => return Ok(None),
            }
        }
        Ok(self.batch.as_mut())
    }
}
