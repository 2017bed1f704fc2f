// SPDX-License-Identifier: Apache-2.0
//! The fake's log, chunk reader and mark writer.

use std::time::Duration;

use highwater_core::change::LogItem;
use highwater_core::connector::{ChunkReader, ChunkRequest, ChunkRows, LogReader, StartSnapshot, WatermarkWriter};
use highwater_core::position::{MarkId, MarkPlace, RunId};
use highwater_core::schema::{Key, TableName};
use highwater_core::{Error, ErrorKind, Result, Scope};

use crate::fake::server::{FakeServer, FakeWay};
use crate::model::read::See;
use crate::model::write_times::with_write_times;
use crate::model::{LogCursor, ModelPosition, key_of_id};

/// Items that one call delivers at most.
const ITEMS_MAX: usize = 256;
/// How often an idle log says how far it is.
const IDLE_PROGRESS_EVERY: Duration = Duration::from_millis(20);

fn broken() -> Error {
    Error::new(ErrorKind::Unreachable, "the connection to the fake server broke")
}

/// The log.
#[derive(Debug)]
pub struct FakeLog {
    server: FakeServer,
    way: FakeWay,
    cursor: LogCursor,
    start: ModelPosition,
    epoch: u64,
    idle_at: Option<u64>,
}

impl FakeLog {
    pub(super) fn new(server: FakeServer, way: FakeWay, cursor: LogCursor, start: ModelPosition, epoch: u64) -> Self {
        FakeLog {
            server,
            way,
            cursor,
            start,
            epoch,
            idle_at: None,
        }
    }

    /// Appends what there is; `false` if that is nothing but the progress of the call before.
    fn take(&mut self, items: &mut Vec<LogItem<ModelPosition>>) -> Result<bool> {
        let state = self.server.state();
        if state.epoch != self.epoch {
            return Err(broken());
        }
        if self.cursor.is_at_end(&state.database) && self.idle_at == Some(self.cursor.position()) {
            return Ok(false);
        }
        let start = items.len();
        self.cursor.deliver(&state.database, ITEMS_MAX, items);
        self.idle_at = matches!(items.last(), Some(LogItem::Progress(_))).then(|| self.cursor.position());
        if self.way == FakeWay::WriteTimes {
            for item in items.iter_mut().skip(start) {
                if let LogItem::Change(change) = item {
                    *change = with_write_times(change.clone(), None);
                }
            }
        }
        Ok(items.len() > start)
    }
}

impl Drop for FakeLog {
    fn drop(&mut self) {
        let mut state = self.server.state();
        if state.epoch == self.epoch {
            state.log_is_open = false;
            state.start_snapshot = StartSnapshot::None;
        }
    }
}

impl LogReader for FakeLog {
    type Position = ModelPosition;

    fn start(&self) -> &ModelPosition {
        &self.start
    }

    async fn next(&mut self, items: &mut Vec<LogItem<ModelPosition>>) -> Result<()> {
        loop {
            let shared = self.server.0.clone();
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.take(items)? {
                return Ok(());
            }
            if tokio::time::timeout(IDLE_PROGRESS_EVERY, changed).await.is_err() {
                self.idle_at = None;
            }
        }
    }

    async fn acknowledge(&mut self, position: &ModelPosition) -> Result<()> {
        let mut state = self.server.state();
        if state.epoch != self.epoch {
            return Err(broken());
        }
        state.database.acknowledged = state.database.acknowledged.max(position.0);
        Ok(())
    }

    fn foreign_marks(&self) -> u64 {
        self.cursor.foreign_marks
    }

    fn start_snapshot(&self) -> StartSnapshot<ModelPosition> {
        self.server.state().start_snapshot.clone()
    }

    fn release_snapshot(&mut self) {
        self.server.state().start_snapshot = StartSnapshot::None;
    }

    fn lag_bytes(&self) -> Option<u64> {
        let state = self.server.state();
        Some(state.database.end().saturating_sub(self.cursor.position()))
    }
}

/// The chunk reader.
#[derive(Debug)]
pub struct FakeChunks {
    server: FakeServer,
    way: FakeWay,
    epoch: u64,
}

impl FakeChunks {
    pub(super) fn new(server: FakeServer, way: FakeWay, epoch: u64) -> Self {
        FakeChunks { server, way, epoch }
    }
}

impl ChunkReader for FakeChunks {
    type Position = ModelPosition;

    async fn read(&mut self, request: &ChunkRequest) -> Result<ChunkRows<ModelPosition>> {
        tokio::task::yield_now().await;
        let mut state = self.server.state();
        if state.epoch != self.epoch {
            return Err(broken());
        }
        let start = match (request.at_start, &state.start_snapshot) {
            (true, StartSnapshot::Held(start)) => Some(start.0),
            (true, _) => return Err(broken()),
            (false, _) => None,
        };
        if start.is_some() {
            state.read_at_start.insert(request.table.clone());
        }
        let database = &state.database;
        let rows = match self.way {
            _ if start.is_some() => database.read(request, See::At(start.unwrap_or_default())),
            FakeWay::MarksInLog | FakeWay::MarksAtPositions => database.read(request, See::Transactions),
            FakeWay::Ordered => database.read(request, See::Ordered),
            FakeWay::Moments => database.read(request, See::At(database.end())),
            FakeWay::WriteTimes => database.read_with_write_times(request),
        };
        rows.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("table \"{}\" does not exist", request.table),
            )
            .with_scope(Scope::Table)
        })
    }

    async fn split(&mut self, table: &TableName, parts: u32) -> Result<Vec<Key>> {
        let state = self.server.state();
        let Some(number) = state.database.table_number(table) else {
            return Ok(Vec::new());
        };
        let ids: Vec<u64> = state.database.tables[number].rows.keys().copied().collect();
        let size = ids.len().div_ceil(parts.max(1) as usize).max(1);
        Ok(ids
            .chunks(size)
            .skip(1)
            .filter_map(|part| part.first())
            .map(|&id| key_of_id(id))
            .collect())
    }
}

/// The mark writer.
#[derive(Debug)]
pub struct FakeWatermarks {
    server: FakeServer,
    way: FakeWay,
    run: RunId,
    epoch: u64,
}

impl FakeWatermarks {
    pub(super) fn new(server: FakeServer, way: FakeWay, run: RunId, epoch: u64) -> Self {
        FakeWatermarks {
            server,
            way,
            run,
            epoch,
        }
    }
}

impl WatermarkWriter for FakeWatermarks {
    type Position = ModelPosition;

    async fn mark(&mut self, mark: MarkId) -> Result<MarkPlace<ModelPosition>> {
        tokio::task::yield_now().await;
        if self.server.state().epoch != self.epoch {
            return Err(broken());
        }
        Ok(match self.way {
            FakeWay::MarksInLog | FakeWay::Ordered => {
                self.server.with(|database| database.mark(mark, self.run.0));
                MarkPlace::InLog(mark)
            }
            _ => MarkPlace::AtPosition(ModelPosition(self.server.with(|database| database.end()))),
        })
    }

    async fn visibility_horizon(&mut self) -> Result<Option<u64>> {
        let state = self.server.state();
        match self.way {
            FakeWay::MarksInLog | FakeWay::MarksAtPositions => Ok(Some(state.database.view().xmin)),
            _ => Ok(None),
        }
    }
}
