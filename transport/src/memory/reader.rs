// SPDX-License-Identifier: Apache-2.0
//! Reads: what is in the store is committed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_core::transport::{Offsets, Reader, Record};
use highwater_core::{Error, Result};
use tokio::sync::watch;

use super::{Partition, Shared, State};
use crate::failure::{offset_not_held, partition_not_found};

pub(super) struct MemoryReader {
    pub(super) shared: Arc<Shared>,
    pub(super) commits: watch::Receiver<u64>,
    pub(super) positions: Offsets,
}

fn partition<'a>(state: &'a State, topic: &str, number: u32) -> Result<&'a Partition> {
    let topic = state.topics.get(topic);
    topic
        .and_then(|topic| topic.partitions.get(number as usize))
        .ok_or_else(|| Error::bug("a topic in memory lost a partition"))
}

impl MemoryReader {
    fn take(&mut self, records: &mut Vec<Record>, records_max: usize) -> Result<()> {
        let state = self.shared.state();
        let mut room = records_max.max(1);
        for ((topic, number), position) in &mut self.positions {
            let partition = partition(&state, topic, *number)?;
            let held = partition.start..partition.end;
            if *position < held.start || *position > held.end {
                return Err(offset_not_held(topic, *number, *position, held));
            }
            let first = partition.records.partition_point(|record| record.offset < *position);
            let available = partition.records.len() - first;
            records.extend(partition.records.range(first..).take(room).cloned());
            let taken = available.min(room);
            room -= taken;
            *position = if taken == available {
                held.end
            } else {
                partition
                    .records
                    .get(first + taken)
                    .map_or(held.end, |record| record.offset)
            };
            if room == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn poll(&mut self, records: &mut Vec<Record>, records_max: usize, wait: Duration) -> Result<()> {
        let before = records.len();
        self.commits.mark_unchanged();
        self.take(records, records_max)?;
        if records.len() > before || wait.is_zero() {
            return Ok(());
        }
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        while records.len() == before {
            tokio::select! {
                _ = self.commits.changed() => self.take(records, records_max)?,
                () = &mut deadline => break,
            }
        }
        Ok(())
    }

    async fn seek(&mut self, offsets: &Offsets) -> Result<()> {
        for (place, offset) in offsets {
            let position = self
                .positions
                .get_mut(place)
                .ok_or_else(|| partition_not_found(&place.0, place.1))?;
            *position = *offset;
        }
        Ok(())
    }

    fn position(&self) -> Offsets {
        self.positions.clone()
    }

    async fn end(&mut self) -> Result<Offsets> {
        let state = self.shared.state();
        let end =
            |(topic, number): &(String, u32)| Ok(((topic.clone(), *number), partition(&state, topic, *number)?.end));
        self.positions.keys().map(end).collect()
    }
}
