// SPDX-License-Identifier: Apache-2.0
//! The growing ends of partitions: where a commit's blocks are written, and how that is undone.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use highwater_core::{Error, Result};

use super::block::set_offsets;
use super::disk::failed;
use super::entry::{Growth, Segment};
use super::state::{partition_folder, segment_path};
use super::store::Store;
use crate::failure::topic_not_found;

/// Open files of partition ends that are kept for the next commit.
const TAILS_MAX: usize = 256;

/// Blocks of a transaction for one partition.
pub(super) enum Chunk {
    /// In memory.
    Memory(Vec<u8>),
    /// In the transaction's own file.
    Spilled {
        file: Arc<File>,
        path: PathBuf,
        start: u64,
        bytes: usize,
    },
}

impl Chunk {
    fn load(self) -> Result<Vec<u8>> {
        match self {
            Chunk::Memory(bytes) => Ok(bytes),
            Chunk::Spilled {
                file,
                path,
                start,
                bytes,
            } => {
                let mut content = vec![0; bytes];
                file.read_exact_at(&mut content, start)
                    .map_err(|source| failed("read", &path, 0, source))?;
                Ok(content)
            }
        }
    }
}

/// What a transaction appends to one partition, in order.
pub(super) struct Part {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) chunks: Vec<Chunk>,
}

type Place = (String, u32);

#[derive(Clone)]
struct Tail {
    segment: Segment,
    end: u64,
    file: Arc<File>,
    path: PathBuf,
}

/// How to undo what was written for a transaction.
#[derive(Default)]
pub(super) struct Undo {
    before: Vec<(Place, Tail)>,
    made: Vec<PathBuf>,
}

pub(super) struct Tails {
    store: Arc<Store>,
    tails: HashMap<Place, Tail>,
    /// Files written since they were last forced to the disk.
    dirty: BTreeMap<PathBuf, Arc<File>>,
}

impl Tails {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Tails {
            store,
            tails: HashMap::new(),
            dirty: BTreeMap::new(),
        }
    }

    /// Opens a partition's end; makes its first segment where there is none.
    fn tail(&mut self, place: &Place, made: &mut Vec<PathBuf>) -> Result<Tail> {
        if let Some(tail) = self.tails.get(place) {
            return Ok(tail.clone());
        }
        let (end, last) = {
            let state = self.store.state();
            let partition = state
                .partition(&place.0, place.1)
                .ok_or_else(|| topic_not_found(&place.0))?;
            (partition.end, partition.segments.last().copied())
        };
        match last {
            Some(segment) => {
                let path = segment_path(&self.store.path, &place.0, place.1, segment.base, segment.generation);
                let file = Arc::new(self.store.disk.open(&path)?);
                Ok(Tail {
                    segment,
                    end,
                    file,
                    path,
                })
            }
            None => self.make(place, end, made),
        }
    }

    fn make(&mut self, place: &Place, base: u64, made: &mut Vec<PathBuf>) -> Result<Tail> {
        let path = segment_path(&self.store.path, &place.0, place.1, base, 0);
        let file = Arc::new(self.store.disk.create(&path)?);
        made.push(path.clone());
        self.store
            .disk
            .sync_folder(&partition_folder(&self.store.path, &place.0, place.1))?;
        Ok(Tail {
            segment: Segment {
                base,
                generation: 0,
                bytes: 0,
            },
            end: base,
            file,
            path,
        })
    }

    /// Writes a part behind what is there. What was done is in `undo`, on an error too.
    pub(super) fn write(&mut self, part: Part, undo: &mut Undo) -> Result<Growth> {
        let place = (part.topic, part.partition);
        let mut tail = self.tail(&place, &mut undo.made)?;
        undo.before.push((place.clone(), tail.clone()));
        let mut segments = vec![tail.segment];
        for chunk in part.chunks {
            let mut bytes = chunk.load()?;
            let end =
                set_offsets(&mut bytes, tail.end).ok_or_else(|| Error::bug("a transaction's blocks are damaged"))?;
            let length = bytes.len() as u64;
            if tail.segment.bytes > 0 && tail.segment.bytes + length > self.store.settings.segment_bytes {
                tail = self.make(&place, tail.end, &mut undo.made)?;
                segments.push(tail.segment);
            }
            self.store
                .disk
                .write_at(&tail.file, &tail.path, &bytes, tail.segment.bytes)?;
            tail.segment.bytes += length;
            tail.end = end;
            if let Some(last) = segments.last_mut() {
                *last = tail.segment;
            }
            self.store.give_back(bytes);
            self.dirty.insert(tail.path.clone(), Arc::clone(&tail.file));
        }
        let end = tail.end;
        self.tails.insert(place.clone(), tail);
        Ok(Growth {
            topic: place.0,
            partition: place.1,
            segments,
            end,
        })
    }

    /// Closes a partition's last segment and begins the next; gives its first offset.
    pub(super) fn roll(&mut self, topic: &str, partition: u32) -> Result<u64> {
        let place = (topic.to_owned(), partition);
        let mut made = Vec::new();
        let tail = self.tail(&place, &mut made)?;
        if tail.segment.bytes == 0 {
            return Ok(tail.segment.base);
        }
        let next = self.make(&place, tail.end, &mut made)?;
        let base = next.segment.base;
        self.tails.insert(place, next);
        Ok(base)
    }

    /// Takes back what was written. On an error the files are not what the journal says and nothing more may be written.
    pub(super) fn undo(&mut self, undo: Undo) -> Result<()> {
        for (place, tail) in undo.before.into_iter().rev() {
            self.store.disk.set_len(&tail.file, &tail.path, tail.segment.bytes)?;
            self.tails.insert(place, tail);
        }
        for path in undo.made {
            self.tails.retain(|_, tail| tail.path != path);
            self.dirty.remove(&path);
            self.store.disk.remove(&path)?;
        }
        Ok(())
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Forces what was written to the disk.
    pub(super) fn sync(&mut self) -> Result<()> {
        for (path, file) in &self.dirty {
            self.store.disk.sync(file, path)?;
        }
        self.dirty.clear();
        Ok(())
    }

    /// Closes files that are one too many. Everything written is published.
    pub(super) fn trim(&mut self) {
        if self.tails.len() > TAILS_MAX {
            self.tails.clear();
        }
    }
}
