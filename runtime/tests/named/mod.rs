// SPDX-License-Identifier: Apache-2.0
//! A connector whose settings name the first few tables of its database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater_core::Result;
use highwater_core::connector::{Capabilities, Catalog, Finding, SourceConnector};
use highwater_core::position::{ResumePoint, RunId};
use highwater_core::schema::TableName;
use highwater_core::source_block::SourceBlock;

pub struct Named<C> {
    inner: C,
    tables: Arc<AtomicUsize>,
}

impl<C> Named<C> {
    pub fn new(inner: C, tables: Arc<AtomicUsize>) -> Self {
        Named { inner, tables }
    }
}

impl<C: SourceConnector> SourceConnector for Named<C> {
    type Position = C::Position;
    type Log = C::Log;
    type Chunks = C::Chunks;
    type Watermarks = C::Watermarks;

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
        let mut catalog = self.inner.discover().await?;
        catalog.tables.truncate(self.tables.load(Ordering::SeqCst));
        Ok(catalog)
    }

    async fn open_log(&self, from: Option<&ResumePoint<C::Position>>, run: RunId) -> Result<C::Log> {
        self.inner.open_log(from, run).await
    }

    async fn begin_anew(&self, lost: &ResumePoint<C::Position>) -> Result<()> {
        self.inner.begin_anew(lost).await
    }

    async fn open_log_with_snapshot(&self, run: RunId) -> Result<C::Log> {
        self.inner.open_log_with_snapshot(run).await
    }

    async fn open_chunks(&self) -> Result<C::Chunks> {
        self.inner.open_chunks().await
    }

    async fn open_watermarks(&self, run: RunId) -> Result<C::Watermarks> {
        self.inner.open_watermarks(run).await
    }

    async fn add_tables(&self, tables: &[TableName]) -> Result<()> {
        self.inner.add_tables(tables).await
    }
}
