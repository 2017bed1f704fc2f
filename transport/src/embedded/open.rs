// SPDX-License-Identifier: Apache-2.0
//! Opening the store: take the lock, read the journal, make the files what it says.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::block::is_intact;
use super::committer::Committer;
use super::disk::{Disk, damaged, failed};
use super::entry::{Commit, Entry};
use super::journal::{Found, Journal};
use super::lock::Lock;
use super::segment_file::SegmentFile;
use super::settings::EmbeddedSettings;
use super::state::{State, partition_folder, segment_path};
use super::store::{Handle, REQUESTS_MAX, Store};
use super::upkeep::Upkeep;

/// Whether what an entry says of the files is true: the bytes it committed are there and whole.
fn is_there(store: &Path, state: &State, commit: &Commit) -> Result<bool> {
    for growth in &commit.growth {
        let before = state
            .partition(&growth.topic, growth.partition)
            .and_then(|partition| partition.segments.last());
        for segment in &growth.segments {
            let from = before
                .filter(|last| last.base == segment.base)
                .map_or(0, |last| last.bytes);
            let path = segment_path(store, &growth.topic, growth.partition, segment.base, segment.generation);
            let Some(file) = SegmentFile::open(path)? else {
                return Ok(false);
            };
            let bytes = file
                .file
                .metadata()
                .map_err(|source| failed("read", &file.path, 0, source))?
                .len();
            if bytes < segment.bytes {
                return Ok(false);
            }
            let mut blocks = file.blocks(from, segment.bytes);
            while blocks.at < segment.bytes {
                let Ok(Some(header)) = blocks.header() else {
                    return Ok(false);
                };
                let Ok(payload) = blocks.payload(&header) else {
                    return Ok(false);
                };
                if !is_intact(&header, &payload) {
                    return Ok(false);
                }
                blocks.pass(&header);
            }
        }
    }
    Ok(true)
}

/// The state that the journal tells. Commits that were never proven to be on the disk are checked; the first that is not
/// whole, as a power failure leaves it when not every commit is forced to the disk, ends the journal.
fn replay(store: &Path, journal: &mut Journal, found: &[Found]) -> Result<State> {
    let proof = |entry: &Entry| match entry {
        Entry::Synced | Entry::Begun => true,
        Entry::Commit(commit) => commit.synced,
        _ => false,
    };
    let proven = found
        .iter()
        .rposition(|found| proof(&found.entry))
        .map_or(0, |at| at + 1);
    let mut state = State::default();
    for (at, found) in found.iter().enumerate() {
        if let Entry::Commit(commit) = &found.entry
            && at >= proven
            && !is_there(store, &state, commit)?
        {
            tracing::warn!(path = %store.display(), "commits that were not forced to the disk are lost, as the fsync setting allows");
            journal.cut(found.start)?;
            break;
        }
        state.apply(&found.entry).ok_or_else(|| {
            damaged(
                &store.join("journal"),
                found.start,
                "an entry speaks of a topic that does not exist",
            )
        })?;
    }
    Ok(state)
}

/// Removes what no entry speaks of and cuts what was never committed; a file that is missing or short is an error.
fn settle_files(disk: &Disk, store: &Path, state: &State) -> Result<()> {
    for (name, topic) in &state.topics {
        for (partition, number) in topic.partitions.iter().zip(0..) {
            let folder = partition_folder(store, name, number);
            disk.make_folder(&folder)?;
            let mut known = HashSet::new();
            for segment in &partition.segments {
                let path = segment_path(store, name, number, segment.base, segment.generation);
                let bytes = match path.metadata() {
                    Ok(metadata) => metadata.len(),
                    Err(_) if segment.bytes == 0 => {
                        disk.create(&path)?;
                        0
                    }
                    Err(source) => return Err(failed("read", &path, 0, source)),
                };
                if bytes < segment.bytes {
                    return Err(damaged(&path, bytes, "it is shorter than what was committed"));
                }
                if bytes > segment.bytes {
                    disk.set_len(&disk.open(&path)?, &path, segment.bytes)?;
                }
                known.insert(path);
            }
            let listed = std::fs::read_dir(&folder).map_err(|source| failed("list", &folder, 0, source))?;
            for entry in listed {
                let path = entry.map_err(|source| failed("list", &folder, 0, source))?.path();
                if !known.contains(&path) {
                    disk.remove(&path)?;
                }
            }
        }
    }
    Ok(())
}

/// Opens the store and starts its threads. Blocks.
pub(super) fn open(settings: EmbeddedSettings, disk: Arc<Disk>) -> Result<Handle> {
    settings.check()?;
    disk.make_folder(&settings.path)?;
    let path: PathBuf = settings
        .path
        .canonicalize()
        .map_err(|source| failed("open", &settings.path, 0, source))?;
    let lock = Arc::new(Lock::take(&path)?);
    disk.make_folder(&path.join("topics"))?;
    disk.make_folder(&path.join("open"))?;
    let (mut journal, found) = Journal::open(Arc::clone(&disk), path.join("journal"))?;
    let state = replay(&path, &mut journal, &found)?;
    drop(found);
    settle_files(&disk, &path, &state)?;
    start(Arc::new(Store::new(settings, path, disk, state)), journal, lock)
}

fn start(store: Arc<Store>, journal: Journal, lock: Arc<Lock>) -> Result<Handle> {
    let unstartable = |source: std::io::Error| {
        Error::new(
            ErrorKind::LimitReached,
            "could not start a thread for the embedded transport",
        )
        .with_source(source)
        .with_fix("raise the limit of processes (ulimit -u)")
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(unstartable)?;
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    let committer = Committer::new(Arc::clone(&store), journal, Arc::clone(&lock));
    let committing = std::thread::Builder::new()
        .name("hw-commit".to_owned())
        .spawn(move || runtime.block_on(committer.run(requested)))
        .map_err(unstartable)?;
    let (rounds, asked) = std::sync::mpsc::channel();
    let upkeep = Upkeep::new(Arc::clone(&store), requests.downgrade(), Arc::clone(&lock));
    let keeping = std::thread::Builder::new()
        .name("hw-upkeep".to_owned())
        .spawn(move || upkeep.run(&asked))
        .map_err(unstartable)?;
    let threads = vec![keeping, committing];
    Ok(Handle {
        store,
        requests: Some(requests),
        upkeep: Some(rounds),
        threads,
        _lock: lock,
    })
}
