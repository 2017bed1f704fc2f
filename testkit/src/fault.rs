// SPDX-License-Identifier: Apache-2.0
//! Faults to wrap around any connector: the next call of a named operation fails with a chosen error, before it reaches
//! the connector or after it took effect.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_core::change::LogItem;
use highwater_core::connector::{
    Capabilities, Catalog, ChunkReader, ChunkRequest, ChunkRows, Finding, LogReader, Retention, SourceConnector,
    StartSnapshot, UnloggedChange, WatermarkWriter,
};
use highwater_core::position::{Lineage, MarkId, MarkPlace, ResumePoint, RunId};
use highwater_core::schema::{Key, TableName};
use highwater_core::source_block::SourceBlock;
use highwater_core::spill::{Spill, SpillEntry, SpillRun};
use highwater_core::{Error, ErrorKind, Result};

/// A call that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`SourceConnector::discover`].
    Discover,
    /// [`SourceConnector::open_log`].
    OpenLog,
    /// [`SourceConnector::open_chunks`].
    OpenChunks,
    /// [`SourceConnector::open_watermarks`].
    OpenWatermarks,
    /// [`LogReader::next`].
    NextLog,
    /// [`LogReader::acknowledge`].
    Acknowledge,
    /// [`ChunkReader::read`].
    ReadChunk,
    /// [`WatermarkWriter::mark`].
    Mark,
    /// [`WatermarkWriter::visibility_horizon`].
    VisibilityHorizon,
    /// [`Spill::write`].
    WriteRun,
    /// [`Spill::recall`].
    Recall,
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The call does nothing.
    Before,
    /// The call takes effect and its reply is lost.
    After,
}

type Faults = HashMap<Operation, VecDeque<(Strike, ErrorKind)>>;

/// The faults that are to come. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan(Arc<Mutex<Faults>>);

impl FaultPlan {
    /// The next call of `operation` that no earlier fault takes fails.
    pub fn fail_next(&self, operation: Operation, strike: Strike, kind: ErrorKind) {
        self.lock().entry(operation).or_default().push_back((strike, kind));
    }

    /// Faults of `operation` that have not struck.
    pub fn left(&self, operation: Operation) -> usize {
        self.lock().get(&operation).map_or(0, VecDeque::len)
    }

    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_of(&self, operation: Operation) -> Option<(Strike, Error)> {
        let (strike, kind) = self.lock().get_mut(&operation).and_then(VecDeque::pop_front)?;
        Some((strike, Error::new(kind, format!("injected fault in {operation:?}"))))
    }

    async fn around<T>(&self, operation: Operation, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Some((strike, error)) = self.next_of(operation) else {
            return call.await;
        };
        if strike == Strike::After {
            call.await?;
        }
        Err(error)
    }

    fn around_blocking<T>(&self, operation: Operation, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some((strike, error)) = self.next_of(operation) else {
            return call();
        };
        if strike == Strike::After {
            call()?;
        }
        Err(error)
    }
}

/// A connector, log, chunk reader, mark writer or store of runs with faults around it.
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    plan: FaultPlan,
}

impl<T> Faulty<T> {
    /// Wraps `inner`.
    pub fn new(inner: T, plan: FaultPlan) -> Self {
        Faulty { inner, plan }
    }
}

impl<C: SourceConnector> SourceConnector for Faulty<C> {
    type Position = C::Position;
    type Log = Faulty<C::Log>;
    type Chunks = Faulty<C::Chunks>;
    type Watermarks = Faulty<C::Watermarks>;

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn source_block(&self) -> Arc<dyn SourceBlock<C::Position>> {
        self.inner.source_block()
    }

    async fn preflight(&self) -> Result<Vec<Finding>> {
        self.inner.preflight().await
    }

    async fn discover(&self) -> Result<Catalog> {
        self.plan.around(Operation::Discover, self.inner.discover()).await
    }

    async fn open_log(&self, from: Option<&ResumePoint<C::Position>>, run: RunId) -> Result<Self::Log> {
        let inner = self
            .plan
            .around(Operation::OpenLog, self.inner.open_log(from, run))
            .await?;
        Ok(Faulty::new(inner, self.plan.clone()))
    }

    async fn begin_anew(&self, lost: &ResumePoint<C::Position>) -> Result<()> {
        self.inner.begin_anew(lost).await
    }

    async fn open_log_with_snapshot(&self, run: RunId) -> Result<Self::Log> {
        let opening = self.inner.open_log_with_snapshot(run);
        let inner = self.plan.around(Operation::OpenLog, opening).await?;
        Ok(Faulty::new(inner, self.plan.clone()))
    }

    async fn open_chunks(&self) -> Result<Self::Chunks> {
        let inner = self
            .plan
            .around(Operation::OpenChunks, self.inner.open_chunks())
            .await?;
        Ok(Faulty::new(inner, self.plan.clone()))
    }

    async fn open_watermarks(&self, run: RunId) -> Result<Self::Watermarks> {
        let inner = self
            .plan
            .around(Operation::OpenWatermarks, self.inner.open_watermarks(run))
            .await?;
        Ok(Faulty::new(inner, self.plan.clone()))
    }

    async fn add_tables(&self, tables: &[TableName]) -> Result<()> {
        self.inner.add_tables(tables).await
    }
}

impl<L: LogReader> LogReader for Faulty<L> {
    type Position = L::Position;

    fn start(&self) -> &L::Position {
        self.inner.start()
    }

    async fn next(&mut self, items: &mut Vec<LogItem<L::Position>>) -> Result<()> {
        self.plan.around(Operation::NextLog, self.inner.next(items)).await
    }

    async fn acknowledge(&mut self, position: &L::Position) -> Result<()> {
        self.plan
            .around(Operation::Acknowledge, self.inner.acknowledge(position))
            .await
    }

    fn foreign_marks(&self) -> u64 {
        self.inner.foreign_marks()
    }

    fn lag_bytes(&self) -> Option<u64> {
        self.inner.lag_bytes()
    }

    fn lineage(&self) -> Lineage {
        self.inner.lineage()
    }

    fn retention(&self) -> Option<Retention> {
        self.inner.retention()
    }

    fn overload(&self) -> Option<Arc<str>> {
        self.inner.overload()
    }

    fn unlogged_changes(&mut self) -> Vec<UnloggedChange> {
        self.inner.unlogged_changes()
    }

    fn start_snapshot(&self) -> StartSnapshot<Self::Position> {
        self.inner.start_snapshot()
    }

    fn release_snapshot(&mut self) {
        self.inner.release_snapshot();
    }
}

impl<R: ChunkReader> ChunkReader for Faulty<R> {
    type Position = R::Position;

    async fn read(&mut self, request: &ChunkRequest) -> Result<ChunkRows<R::Position>> {
        self.plan.around(Operation::ReadChunk, self.inner.read(request)).await
    }

    async fn split(&mut self, table: &TableName, parts: u32) -> Result<Vec<Key>> {
        self.inner.split(table, parts).await
    }
}

impl<W: WatermarkWriter> WatermarkWriter for Faulty<W> {
    type Position = W::Position;

    async fn mark(&mut self, mark: MarkId) -> Result<MarkPlace<W::Position>> {
        self.plan.around(Operation::Mark, self.inner.mark(mark)).await
    }

    async fn visibility_horizon(&mut self) -> Result<Option<u64>> {
        self.plan
            .around(Operation::VisibilityHorizon, self.inner.visibility_horizon())
            .await
    }
}

impl<S: Spill> Spill for Faulty<S> {
    fn write(&mut self, run: SpillRun, entries: &[SpillEntry]) -> Result<()> {
        let (plan, inner) = (&self.plan, &mut self.inner);
        plan.around_blocking(Operation::WriteRun, || inner.write(run, entries))
    }

    fn recall(&mut self, runs: &[SpillRun], digests: &[u64]) -> Result<Vec<SpillEntry>> {
        let (plan, inner) = (&self.plan, &mut self.inner);
        plan.around_blocking(Operation::Recall, || inner.recall(runs, digests))
    }

    fn forget(&mut self, run: SpillRun) {
        self.inner.forget(run);
    }
}
