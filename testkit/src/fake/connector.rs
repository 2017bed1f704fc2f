// SPDX-License-Identifier: Apache-2.0
//! The connector of the fake server.

use std::sync::Arc;

use highwater_core::change::Change;
use highwater_core::connector::{
    Capabilities, Catalog, CatalogTable, Finding, LogReader, Reconcile, SourceConnector, StartSnapshot,
};
use highwater_core::position::{ResumePoint, RunId};
use highwater_core::schema::TableName;
use highwater_core::source_block::{SourceBlock, SourceField};
use highwater_core::value::{ValueType, ValueWriter};
use highwater_core::{Error, ErrorKind, Result};

use crate::fake::readers::{FakeChunks, FakeLog, FakeWatermarks};
use crate::fake::server::{FakeServer, FakeWay};
use crate::model::{LogCursor, ModelPosition};

/// The connector.
#[derive(Debug, Clone)]
pub struct FakeConnector {
    server: FakeServer,
    way: FakeWay,
    bytes_estimate: Option<u64>,
}

impl FakeConnector {
    /// Captures every table of the server.
    pub fn new(server: FakeServer, way: FakeWay) -> Self {
        FakeConnector {
            server,
            way,
            bytes_estimate: None,
        }
    }

    /// Says of each table that it has so many bytes.
    #[must_use]
    pub fn claiming_bytes(mut self, bytes: u64) -> Self {
        self.bytes_estimate = Some(bytes);
        self
    }

    /// The server.
    pub fn server(&self) -> &FakeServer {
        &self.server
    }
}

impl SourceConnector for FakeConnector {
    type Position = ModelPosition;
    type Log = FakeLog;
    type Chunks = FakeChunks;
    type Watermarks = FakeWatermarks;

    fn kind(&self) -> &'static str {
        "fake"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            reconcile: self.way.reconcile(),
            ordered: true,
            delivers_once: true,
            not_promised: Vec::new(),
        }
    }

    fn source_block(&self) -> Arc<dyn SourceBlock<ModelPosition>> {
        Arc::new(FakeSourceBlock::default())
    }

    async fn preflight(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn discover(&self) -> Result<Catalog> {
        let state = self.server.state();
        let captured = state.database.tables.iter().filter(|table| !table.dropped);
        let tables = captured.map(|table| CatalogTable {
            schema: table.shape().clone(),
            rows_estimate: Some(table.rows.len() as u64),
            bytes_estimate: self.bytes_estimate,
        });
        Ok(Catalog {
            tables: tables.collect(),
        })
    }

    async fn open_log(&self, from: Option<&ResumePoint<ModelPosition>>, run: RunId) -> Result<FakeLog> {
        let mut state = self.server.state();
        if state.log_is_open {
            return Err(
                Error::new(ErrorKind::Unsuitable, "the fake server's log is in use").with_fix("close the other reader")
            );
        }
        let start = match from {
            Some(from) if from.position.0 < state.database.acknowledged => {
                return Err(Error::new(
                    ErrorKind::PositionLost,
                    "the fake server no longer holds the log from there",
                )
                .with("position", from.position)
                .with("acknowledged", state.database.acknowledged)
                .with_fix("start anew under another name"));
            }
            Some(from) => from.clone(),
            None => {
                state.database.acknowledged = state.database.end();
                ResumePoint::at(ModelPosition(state.database.end()))
            }
        };
        state.log_is_open = true;
        let cursor = LogCursor::open(&state.database, &start, run.0);
        let epoch = state.epoch;
        drop(state);
        Ok(FakeLog::new(
            self.server.clone(),
            self.way,
            cursor,
            start.position,
            epoch,
        ))
    }

    async fn begin_anew(&self, _: &ResumePoint<ModelPosition>) -> Result<()> {
        let mut state = self.server.state();
        let invisible: Vec<u64> = state.database.invisible_transactions().collect();
        invisible.into_iter().for_each(|xid| state.database.reveal(xid));
        Ok(())
    }

    async fn open_log_with_snapshot(&self, run: RunId) -> Result<FakeLog> {
        let log = self.open_log(None, run).await?;
        if self.way.reconcile() == Reconcile::Window {
            let mut state = self.server.state();
            state.start_snapshot = StartSnapshot::Held(*log.start());
            state.start_snapshots_taken += 1;
        }
        Ok(log)
    }

    async fn open_chunks(&self) -> Result<FakeChunks> {
        let epoch = self.server.state().epoch;
        Ok(FakeChunks::new(self.server.clone(), self.way, epoch))
    }

    async fn open_watermarks(&self, run: RunId) -> Result<FakeWatermarks> {
        let epoch = self.server.state().epoch;
        Ok(FakeWatermarks::new(self.server.clone(), self.way, run, epoch))
    }

    async fn add_tables(&self, tables: &[TableName]) -> Result<()> {
        let state = self.server.state();
        match tables.iter().find(|table| state.database.table_number(table).is_none()) {
            Some(table) => Err(Error::new(
                ErrorKind::NotFound,
                format!("table \"{table}\" does not exist"),
            )),
            None => Ok(()),
        }
    }
}

/// The `source` block of the fake's events: schema, table, transaction and position.
#[derive(Debug)]
pub struct FakeSourceBlock {
    fields: [SourceField; 4],
}

impl Default for FakeSourceBlock {
    fn default() -> Self {
        let field = |name, value_type, optional| SourceField {
            name,
            value_type,
            optional,
        };
        FakeSourceBlock {
            fields: [
                field("schema", ValueType::String, false),
                field("table", ValueType::String, false),
                field("txId", ValueType::Int64, true),
                field("position", ValueType::Int64, false),
            ],
        }
    }
}

impl SourceBlock<ModelPosition> for FakeSourceBlock {
    fn connector(&self) -> &'static str {
        "fake"
    }

    fn record_name(&self) -> &'static str {
        "io.highwater.fake.Source"
    }

    fn database<'a>(&'a self, _change: &'a Change<ModelPosition>) -> &'a str {
        "model"
    }

    fn sequence(&self, _change: &Change<ModelPosition>, _out: &mut String) -> bool {
        false
    }

    fn fields(&self) -> &[SourceField] {
        &self.fields
    }

    fn write(&self, change: &Change<ModelPosition>, out: &mut dyn ValueWriter) {
        out.string(&change.schema.name.schema);
        out.string(&change.schema.name.table);
        match change.transaction.0 {
            0 => out.null(),
            transaction => out.long(transaction as i64),
        }
        out.long(change.position.0 as i64);
    }
}
