// SPDX-License-Identifier: Apache-2.0
//! Readers: they read committed blocks from the files, at their own pace, and wait for the next commit at the end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_core::transport::{Offsets, Reader, Record};
use highwater_core::{Error, Result};
use tokio::sync::watch;

use super::block::read_records;
use super::segment_file::SegmentFile;
use super::state::segment_path;
use super::store::{Handle, Store, closed};
use crate::failure::{offset_not_held, partition_not_found};

/// A round of reading ends when it has read this many bytes.
const ROUND_BYTES_MAX: u64 = 4 << 20;
/// Files that a reader keeps open from round to round; one of more partitions opens them anew.
const OPEN_FILES_MAX: usize = 256;

/// Where a reader stands in one partition.
#[derive(Clone)]
struct Place {
    topic: Arc<str>,
    partition: u32,
    /// The next offset to hand out.
    position: u64,
    /// The next offset to read from the files; records between the two are ready.
    read_to: u64,
    open: Option<Open>,
}

#[derive(Clone)]
struct Open {
    file: Arc<SegmentFile>,
    base: u64,
    generation: u32,
    /// The next byte to read.
    at: u64,
}

pub(super) struct EmbeddedReader {
    handle: Arc<Handle>,
    commits: watch::Receiver<u64>,
    places: Vec<Place>,
    /// Read and not handed out yet: the index of its place, and the record. At most a round's worth.
    ready: VecDeque<(usize, Record)>,
    /// The place that the next round begins with.
    turn: usize,
}

/// What a round read: places as they are afterwards, and the records in order.
struct Round {
    places: Vec<(usize, Place)>,
    records: Vec<(usize, Record)>,
}

impl EmbeddedReader {
    pub(super) fn new(handle: Arc<Handle>, positions: Offsets) -> Self {
        let commits = handle.store.commits.subscribe();
        let place = |((topic, partition), position): ((String, u32), u64)| Place {
            topic: topic.into(),
            partition,
            position,
            read_to: position,
            open: None,
        };
        let places = positions.into_iter().map(place).collect();
        EmbeddedReader {
            handle,
            commits,
            places,
            ready: VecDeque::new(),
            turn: 0,
        }
    }

    fn hand_out(&mut self, records: &mut Vec<Record>, records_max: usize) {
        let count = self.ready.len().min(records_max.max(1));
        for (index, record) in self.ready.drain(..count) {
            if let Some(place) = self.places.get_mut(index) {
                place.position = record.offset + 1;
            }
            records.push(record);
        }
        if self.ready.is_empty() {
            self.places.iter_mut().for_each(|place| place.position = place.read_to);
        }
    }

    /// The places at which there is something to read, in turn.
    fn due(&self) -> Result<Vec<(usize, Place)>> {
        let state = self.handle.store.state();
        let mut due = Vec::new();
        for step in 0..self.places.len() {
            let index = (self.turn + step) % self.places.len();
            let Some(place) = self.places.get(index) else { continue };
            let partition = state.partition(&place.topic, place.partition);
            let partition = partition.ok_or_else(|| Error::bug("a topic of the store lost a partition"))?;
            let held = partition.start()..partition.end;
            if place.read_to < held.start || place.read_to > held.end {
                return Err(offset_not_held(&place.topic, place.partition, place.read_to, held));
            }
            if place.read_to < held.end {
                due.push((index, place.clone()));
            }
        }
        Ok(due)
    }

    /// Reads a round if there is anything to read.
    async fn fill(&mut self) -> Result<()> {
        let due = self.due()?;
        if due.is_empty() {
            return Ok(());
        }
        let store = Arc::clone(&self.handle.store);
        let reading = tokio::task::spawn_blocking(move || read_round(&store, due));
        // Dropped here, the round is read again: nothing of this reader has changed.
        let round = reading.await.map_err(|_| closed())??;
        let keep = self.places.len() <= OPEN_FILES_MAX;
        for (index, mut place) in round.places {
            self.turn = index + 1;
            if !keep {
                place.open = None;
            }
            if let Some(mine) = self.places.get_mut(index) {
                *mine = place;
            }
        }
        self.ready.extend(round.records);
        Ok(())
    }

    async fn take(&mut self, records: &mut Vec<Record>, records_max: usize) -> Result<()> {
        if self.ready.is_empty() {
            self.fill().await?;
        }
        self.hand_out(records, records_max);
        Ok(())
    }
}

fn read_round(store: &Store, due: Vec<(usize, Place)>) -> Result<Round> {
    let mut round = Round {
        places: Vec::with_capacity(due.len()),
        records: Vec::new(),
    };
    let mut room = ROUND_BYTES_MAX;
    for (index, mut place) in due {
        let mut records = Vec::new();
        while room > 0 {
            let read = read_segment(store, &mut place, &mut records, &mut room)?;
            if !read {
                break;
            }
        }
        round.records.extend(records.into_iter().map(|record| (index, record)));
        round.places.push((index, place));
        if room == 0 {
            break;
        }
    }
    Ok(round)
}

/// Reads on in the segment that holds the place's next offset; whether there may be more.
fn read_segment(store: &Store, place: &mut Place, records: &mut Vec<Record>, room: &mut u64) -> Result<bool> {
    let (segment, is_last, held, path) = {
        let state = store.state();
        let partition = state.partition(&place.topic, place.partition);
        let partition = partition.ok_or_else(|| Error::bug("a topic of the store lost a partition"))?;
        let held = partition.start()..partition.end;
        if place.read_to < held.start {
            return Err(offset_not_held(&place.topic, place.partition, place.read_to, held));
        }
        let Some((segment, is_last)) = partition.segment_for(place.read_to) else {
            return Ok(false);
        };
        let next = partition
            .segments
            .iter()
            .map(|segment| segment.base)
            .find(|base| *base > place.read_to);
        let held = held.start..if is_last { held.end } else { next.unwrap_or(held.end) };
        let path = segment_path(
            &store.path,
            &place.topic,
            place.partition,
            segment.base,
            segment.generation,
        );
        (segment, is_last, held, path)
    };
    let same = |open: &Open| open.base == segment.base && open.generation == segment.generation;
    let mut open = match place.open.take().filter(same) {
        Some(open) => open,
        None => match SegmentFile::open(path)? {
            Some(file) => Open {
                file: Arc::new(file),
                base: segment.base,
                generation: segment.generation,
                at: 0,
            },
            // Retention or compaction took it since: look again.
            None => return Ok(true),
        },
    };
    let file = Arc::clone(&open.file);
    let mut blocks = file.blocks(open.at, segment.bytes);
    while let Some(header) = blocks.header()? {
        if header.last_offset() >= place.read_to {
            let payload = blocks.payload(&header)?;
            read_records(&header, &payload, place.read_to, &place.topic, place.partition, records)
                .ok_or_else(|| blocks.damaged())?;
            place.read_to = header.last_offset() + 1;
            *room = room.saturating_sub(header.block_bytes());
        }
        blocks.pass(&header);
        open.at = blocks.at;
        if *room == 0 {
            place.open = Some(open);
            return Ok(true);
        }
    }
    // Compaction may have taken the records at the segment's end.
    place.read_to = place.read_to.max(held.end);
    place.open = Some(open);
    Ok(!is_last)
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn poll(&mut self, records: &mut Vec<Record>, records_max: usize, wait: Duration) -> Result<()> {
        let before = records.len();
        self.commits.mark_unchanged();
        self.take(records, records_max).await?;
        if records.len() > before || wait.is_zero() {
            return Ok(());
        }
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        while records.len() == before {
            tokio::select! {
                _ = self.commits.changed() => self.take(records, records_max).await?,
                () = &mut deadline => break,
            }
        }
        Ok(())
    }

    async fn seek(&mut self, offsets: &Offsets) -> Result<()> {
        for (topic, partition) in offsets.keys() {
            let known = self
                .places
                .iter()
                .any(|place| *place.topic == **topic && place.partition == *partition);
            if !known {
                return Err(partition_not_found(topic, *partition));
            }
        }
        // Places that are not named stay: what is ready of them is read again.
        self.ready.clear();
        for place in &mut self.places {
            let wanted = offsets.get(&(place.topic.to_string(), place.partition)).copied();
            place.position = wanted.unwrap_or(place.position);
            place.read_to = place.position;
            place.open = None;
        }
        Ok(())
    }

    fn position(&self) -> Offsets {
        self.places
            .iter()
            .map(|place| ((place.topic.to_string(), place.partition), place.position))
            .collect()
    }

    async fn end(&mut self) -> Result<Offsets> {
        let state = self.handle.store.state();
        let end = |place: &Place| {
            let partition = state.partition(&place.topic, place.partition);
            let partition = partition.ok_or_else(|| Error::bug("a topic of the store lost a partition"))?;
            Ok(((place.topic.to_string(), place.partition), partition.end))
        };
        self.places.iter().map(end).collect()
    }
}
