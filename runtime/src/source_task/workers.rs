// SPDX-License-Identifier: Apache-2.0
//! Chunk readers and the writer of marks, each with a connection of its own, beside the capture loop.

use std::sync::Arc;

use highwater_core::change::ChunkId;
use highwater_core::connector::{ChunkReader, ChunkRequest, ChunkRows, SourceConnector, WatermarkWriter};
use highwater_core::position::{MarkId, MarkPlace, RunId};
use highwater_core::schema::{Key, TableName};
use highwater_core::spill::{SpillEntry, SpillRun};
use highwater_core::transport::Transport;
use highwater_core::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::comparing::{Comparison, Finding, compare};
use super::spilling::{Ask, SpillPlace, serve};

/// Requests that may wait for a reader, and marks that may wait for the writer. The engine keeps fewer windows open.
const REQUESTS_MAX: usize = 1_024;
/// Results that may wait for the capture loop; each may hold a chunk.
const RESULTS_MAX: usize = 4;

/// What a worker did.
pub(crate) enum Done<P> {
    Mark {
        mark: MarkId,
        place: MarkPlace<P>,
    },
    Chunk {
        chunk: ChunkId,
        rows: ChunkRows<P>,
    },
    Failed {
        chunk: ChunkId,
        error: Error,
    },
    /// Where a table can be cut for reading side by side; empty when it cannot.
    Split {
        table: TableName,
        starts: Vec<Key>,
    },
    /// Every transaction below is visible to every later read.
    Horizon(u64),
    /// A run is kept outside memory.
    Spilled(SpillRun),
    /// What runs have of a chunk's keys.
    Recalled {
        chunk: ChunkId,
        entries: Vec<SpillEntry>,
    },
    /// A run cannot be kept or asked.
    SpillFailed(Error),
    /// Some keys of a table are gone.
    Compared {
        number: u64,
        finding: Finding,
    },
    /// A table's topic could not be read.
    NotCompared {
        number: u64,
        table: TableName,
        error: Error,
    },
}

enum Read {
    Chunk(ChunkRequest),
    Split { table: TableName, parts: u32 },
}

enum Write {
    Mark { mark: MarkId, chunk: ChunkId },
    Horizon,
}

/// The workers of one run. Dropping it ends them.
pub(crate) struct Workers<P> {
    reads: mpsc::Sender<Read>,
    writes: mpsc::Sender<Write>,
    spills: Option<mpsc::Sender<Ask>>,
    done: mpsc::Receiver<Done<P>>,
    results: mpsc::Sender<Done<P>>,
    tasks: JoinSet<()>,
}

impl<P: Send + 'static> Workers<P> {
    /// Starts `readers` chunk readers, one writer of marks, and the store of runs if it has a place. They connect when they
    /// have something to do, and again after a failure.
    pub(super) fn start<C: SourceConnector<Position = P>>(
        connector: &Arc<C>,
        run: RunId,
        readers: u32,
        spill: Option<SpillPlace>,
    ) -> Self {
        let (reads, read_requests) = mpsc::channel(REQUESTS_MAX);
        let (writes, write_requests) = mpsc::channel(REQUESTS_MAX);
        let (results, done) = mpsc::channel(RESULTS_MAX);
        let read_requests = Arc::new(Mutex::new(read_requests));
        let mut tasks = JoinSet::new();
        for _ in 0..readers.max(1) {
            tasks.spawn(read_chunks(connector.clone(), read_requests.clone(), results.clone()));
        }
        tasks.spawn(write_marks(connector.clone(), run, write_requests, results.clone()));
        let spills = spill.map(|place| {
            let (spills, asks) = mpsc::channel(REQUESTS_MAX);
            // It ends when nobody can ask any more: with the workers.
            let results = results.clone();
            tasks.spawn_blocking(move || serve(&place, asks, &results));
            spills
        });
        Workers {
            reads,
            writes,
            spills,
            done,
            results,
            tasks,
        }
    }

    /// The next thing that was done; waits for ever when nothing is asked. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Done<P> {
        match self.done.recv().await {
            Some(done) => done,
            // Cannot be: the tasks live as long as `self`. A loop that waits is better than one that spins.
            None => std::future::pending().await,
        }
    }

    pub(crate) fn read(&self, request: ChunkRequest) -> Result<()> {
        self.reads
            .try_send(Read::Chunk(request))
            .map_err(|_| too_many("chunk reads"))
    }

    pub(crate) fn split(&self, table: TableName, parts: u32) -> Result<()> {
        self.reads
            .try_send(Read::Split { table, parts })
            .map_err(|_| too_many("tables to cut"))
    }

    pub(crate) fn mark(&self, mark: MarkId, chunk: ChunkId) -> Result<()> {
        self.writes
            .try_send(Write::Mark { mark, chunk })
            .map_err(|_| too_many("marks"))
    }

    pub(super) fn spill(&self, ask: Ask) -> Result<()> {
        let spills = self
            .spills
            .as_ref()
            .ok_or_else(|| Error::bug("a store of remembered keys was asked and there is none"))?;
        spills.try_send(ask).map_err(|_| too_many("questions to the store"))
    }

    /// Compares the keys of a table; what it finds comes among the results.
    pub(super) fn compare(&mut self, comparison: Comparison, transport: Arc<dyn Transport>) -> AbortHandle {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(compare(comparison, transport, self.results.clone()))
    }

    /// Asks for the horizon of visibility, unless much is waiting already.
    pub(crate) fn horizon(&self) {
        let _ = self.writes.try_send(Write::Horizon);
    }
}

fn too_many(what: &str) -> Error {
    Error::bug(format!("more than {REQUESTS_MAX} {what} wait at once"))
}

async fn read_chunks<C: SourceConnector>(
    connector: Arc<C>,
    requests: Arc<Mutex<mpsc::Receiver<Read>>>,
    results: mpsc::Sender<Done<C::Position>>,
) {
    let mut reader = None;
    loop {
        let Some(request) = requests.lock().await.recv().await else {
            return;
        };
        let done = read_one(&*connector, &mut reader, request).await;
        if results.send(done).await.is_err() {
            return;
        }
    }
}

async fn read_one<C: SourceConnector>(
    connector: &C,
    reader: &mut Option<C::Chunks>,
    request: Read,
) -> Done<C::Position> {
    match request {
        Read::Chunk(request) => match read_chunk(connector, reader, &request).await {
            Ok(rows) => Done::Chunk {
                chunk: request.chunk,
                rows,
            },
            Err(error) => {
                *reader = None;
                Done::Failed {
                    chunk: request.chunk,
                    error,
                }
            }
        },
        Read::Split { table, parts } => {
            let starts = match open(connector, reader).await {
                Ok(reader) => reader.split(&table, parts).await,
                Err(error) => Err(error),
            };
            let starts = starts.unwrap_or_else(|error| {
                tracing::debug!(%table, %error, "the table is read as one range");
                *reader = None;
                Vec::new()
            });
            Done::Split { table, starts }
        }
    }
}

async fn open<'a, C: SourceConnector>(connector: &C, reader: &'a mut Option<C::Chunks>) -> Result<&'a mut C::Chunks> {
    if reader.is_none() {
        *reader = Some(connector.open_chunks().await?);
    }
    reader
        .as_mut()
        .ok_or_else(|| Error::bug("a chunk reader that was opened is gone"))
}

async fn read_chunk<C: SourceConnector>(
    connector: &C,
    reader: &mut Option<C::Chunks>,
    request: &ChunkRequest,
) -> Result<ChunkRows<C::Position>> {
    open(connector, reader).await?.read(request).await
}

async fn write_marks<C: SourceConnector>(
    connector: Arc<C>,
    run: RunId,
    mut requests: mpsc::Receiver<Write>,
    results: mpsc::Sender<Done<C::Position>>,
) {
    let mut writer: Option<C::Watermarks> = None;
    while let Some(request) = requests.recv().await {
        let done = match request {
            Write::Mark { mark, chunk } => match write_mark(&*connector, run, &mut writer, mark).await {
                Ok(place) => Done::Mark { mark, place },
                Err(error) => {
                    writer = None;
                    Done::Failed { chunk, error }
                }
            },
            Write::Horizon => match horizon(&*connector, run, &mut writer).await {
                Ok(Some(horizon)) => Done::Horizon(horizon),
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, "the horizon of visibility could not be read");
                    writer = None;
                    continue;
                }
            },
        };
        if results.send(done).await.is_err() {
            return;
        }
    }
}

async fn opened<'a, C: SourceConnector>(
    connector: &C,
    run: RunId,
    writer: &'a mut Option<C::Watermarks>,
) -> Result<&'a mut C::Watermarks> {
    if writer.is_none() {
        *writer = Some(connector.open_watermarks(run).await?);
    }
    writer
        .as_mut()
        .ok_or_else(|| Error::new(ErrorKind::Bug, "a writer of marks that was opened is gone"))
}

async fn write_mark<C: SourceConnector>(
    connector: &C,
    run: RunId,
    writer: &mut Option<C::Watermarks>,
    mark: MarkId,
) -> Result<MarkPlace<C::Position>> {
    opened(connector, run, writer).await?.mark(mark).await
}

async fn horizon<C: SourceConnector>(
    connector: &C,
    run: RunId,
    writer: &mut Option<C::Watermarks>,
) -> Result<Option<u64>> {
    opened(connector, run, writer).await?.visibility_horizon().await
}
