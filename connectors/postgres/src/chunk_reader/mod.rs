// SPDX-License-Identifier: Apache-2.0
//! Chunks: rows of a table in key order, from one snapshot, with what that snapshot could see.
//!
//! ```text
//! BEGIN REPEATABLE READ READ ONLY; LOCK TABLE t IN ACCESS SHARE MODE    what a SELECT takes, before the snapshot
//! shape of t as published, pg_current_snapshot(), the clock             the snapshot is taken here
//! SELECT published columns WHERE key > $1 AND row filter ORDER BY key   binary, by a portal in steps
//! COMMIT
//! ```
//!
//! The lock comes first because a schema change between snapshot and read would show old rows in a new shape, or none at
//! all after a rewrite. It is the lock of every SELECT: no writer waits for it.
//!
//! Rows are slices of the bytes that came from the socket; nothing is copied. That is why chunks are read over our own
//! connection and not with tokio-postgres, whose rows lend their values but not the memory that holds them. The catalogue
//! is asked over the same connection, because it has to be seen in the same snapshot.

mod at_start;
mod catalogue;
mod places;
mod select;
mod split;

use crate::catalog_row::{Parameter, only_row};
use crate::connection::{Connection, Purpose, server_failure};
use crate::discover::{self, shapes_sql};
use crate::failure::protocol_error;
use crate::position::PgPosition;
use crate::protocol::ProtocolError;
use crate::protocol::data_row::parse_data_row;
use crate::protocol::framing::FrameBatch;
use crate::schema;
use crate::schema::TableShape;
use crate::selection::Selection;
use crate::settings::Settings;
use crate::slot::OPEN_TRANSACTIONS;
use crate::start_snapshot::StartSnapshotCell;
use crate::type_catalogue::{TYPES, TypeCatalogue};
use crate::values::PgType;
use catalogue::{VIEW, View, parse_view, put_lock, put_query, take_rows};
use highwater_core::connector::{ChunkReader, ChunkRequest, ChunkRows, ChunkScope};
use highwater_core::image::RowImage;
use highwater_core::position::{ReadView, TransactionSnapshot};
use highwater_core::schema::{Key, TableName, TableSchema};
use highwater_core::{Error, ErrorKind, Result, Scope};
use postgres_protocol::message::frontend;
use select::Select;
use split::{TableSize, every_part};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// What opens the transaction of a chunk, or of a look at a table.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Rows fetched at first from a table whose rows' size is not known yet.
const FIRST_FETCH_ROWS: u32 = 256;
/// The most parts that a table is split into.
const SPLIT_PARTS_MAX: u32 = 1_024;

/// Reads chunks over a connection of its own.
#[derive(Debug)]
pub struct PgChunkReader {
    settings: Arc<Settings>,
    selection: Arc<Selection>,
    /// The server is a standby.
    in_recovery: bool,
    /// Taken out while a read runs: a connection whose read failed or was dropped is never used again.
    idle: Option<Connection>,
    /// What is known of built-in types: it never changes.
    types: BTreeMap<u32, PgType>,
    /// Average bytes of a row by table, to fetch about as much as is wanted.
    row_bytes: HashMap<TableName, u64>,
    start: Arc<StartSnapshotCell>,
}

/// A table in the read's own snapshot.
struct Seen {
    shape: TableShape,
    schema: Arc<TableSchema>,
    snapshot: TransactionSnapshot,
    view: ReadView<PgPosition>,
    time_us: i64,
}

/// How much a fetch may bring.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    rows_max: u32,
    bytes_max: u64,
}

/// What a SELECT brought.
#[derive(Default)]
struct Fetched {
    rows: Vec<RowImage>,
    bytes: u64,
    /// The SELECT has no more rows.
    complete: bool,
    /// Enough bytes came: rows behind are dropped.
    full: bool,
}

impl PgChunkReader {
    /// A reader that connects when it first reads; `start` has the snapshot where the log began, if there is one.
    ///
    /// On a standby (`in_recovery`) what is visible changes in the order of its log and as far as that was replayed, so marks
    /// alone prove what a read saw; its snapshots list no transaction in progress.
    pub fn new(
        settings: Arc<Settings>,
        selection: Arc<Selection>,
        start: Arc<StartSnapshotCell>,
        in_recovery: bool,
    ) -> Self {
        Self {
            settings,
            selection,
            in_recovery,
            start,
            idle: None,
            types: BTreeMap::new(),
            row_bytes: HashMap::new(),
        }
    }

    async fn open(&self) -> Result<Connection> {
        open_session(&self.settings, "highwater chunks").await
    }

    /// Locks the table, takes the snapshot, and finds out the table's shape in it. One round trip, and one more where
    /// the table has types that are not known.
    async fn begin(
        &mut self,
        connection: &mut Connection,
        opening: &str,
        table: &TableName,
        what: &str,
    ) -> Result<Seen> {
        put_lock(connection, opening, table, what)?;
        let publication = self.settings.publication.name.as_str();
        let parameters: [Parameter<'_>; 3] = [
            (&publication, Type::TEXT),
            (&table.schema, Type::TEXT),
            (&table.table, Type::TEXT),
        ];
        let shapes = shapes_sql(connection.server_version());
        put_query(connection, shapes, &parameters, what)?;
        put_query(connection, VIEW, &[], what)?;
        frontend::sync(connection.out());
        connection.flush().await?;
        // BEGIN and LOCK, each with a CommandComplete.
        take_rows(connection, what).await?;
        take_rows(connection, what).await?;
        let shapes = discover::shapes(&take_rows(connection, what).await?)?;
        let view = only_row(take_rows(connection, what).await?, what)?;
        connection.take_ready(what).await?;
        let mut shape = shapes
            .into_iter()
            .next()
            .ok_or_else(|| not_published(table, publication))?;
        let View {
            snapshot,
            time_us,
            in_recovery,
        } = parse_view(&view)?;
        // The snapshot is older than this answer: in recovery now, so it was then. One of a run on a standby that is none any
        // more may have been taken on either side of the promotion.
        if in_recovery != self.in_recovery {
            return Err(role_changed(what));
        }
        if self
            .selection
            .horizon_of(table)
            .is_some_and(|horizon| !in_recovery && snapshot.xmin < horizon)
        {
            return Err(older_transactions(table));
        }
        let view = match in_recovery {
            true => ReadView::Ordered,
            false => ReadView::Transactions(snapshot.clone()),
        };
        self.learn_types(connection, &shape, what).await?;
        schema::note_text_columns(&mut shape.columns, &self.types);
        let schema = shape.schema(&self.types, &self.settings.values)?;
        Ok(Seen {
            shape,
            schema,
            snapshot,
            view,
            time_us,
        })
    }

    /// Reads the table's types in the snapshot, unless all of them are built in and known.
    async fn learn_types(&mut self, connection: &mut Connection, shape: &TableShape, what: &str) -> Result<()> {
        let mut wanted = discover::types_of(&shape.columns);
        if discover::are_built_in(&wanted) && wanted.iter().all(|oid| self.types.contains_key(oid)) {
            return Ok(());
        }
        let mut found = TypeCatalogue::default();
        while !wanted.is_empty() {
            let list = Vec::from_iter(wanted.iter().copied());
            found.add(&catalogue::query(connection, TYPES, &[(&list, Type::OID_ARRAY)], what).await?)?;
            let missing = found.missing();
            if missing == wanted {
                break;
            }
            wanted = missing;
        }
        self.types.extend(found.types());
        Ok(())
    }

    /// Runs a SELECT through a portal: a first step of about as many rows as are wanted, further ones where the rows
    /// turned out smaller.
    async fn fetch(
        &self,
        connection: &mut Connection,
        select: &Select,
        bounds: Bounds,
        row_bytes: Option<u64>,
        what: &str,
    ) -> Result<Fetched> {
        select.put(connection.out()).map_err(|error| unsendable(what, &error))?;
        let mut fetched = Fetched::default();
        let mut step = match row_bytes {
            Some(bytes) => rows_for(bounds.bytes_max, bytes),
            None => FIRST_FETCH_ROWS,
        };
        while !fetched.complete && !fetched.full && fetched.rows.len() < bounds.rows_max as usize {
            let rows_left = bounds.rows_max - fetched.rows.len() as u32;
            let rows = i32::try_from(step.min(rows_left)).unwrap_or(i32::MAX);
            frontend::execute("", rows, connection.out()).map_err(|error| unsendable(what, &error))?;
            frontend::flush(connection.out());
            connection.flush().await?;
            take_step(connection, bounds, &mut fetched, what).await?;
            let average = fetched.bytes / (fetched.rows.len() as u64).max(1);
            step = rows_for(bounds.bytes_max.saturating_sub(fetched.bytes), average);
        }
        frontend::sync(connection.out());
        connection.flush().await?;
        connection.take_ready(what).await?;
        Ok(fetched)
    }

    async fn read_chunk(
        &mut self,
        connection: &mut Connection,
        request: &ChunkRequest,
        what: &str,
    ) -> Result<ChunkRows<PgPosition>> {
        let began = Instant::now();
        let seen = self.begin(connection, BEGIN, &request.table, what).await?;
        if seen.schema.key.is_empty() {
            return self.read_places(connection, request, seen, began, what).await;
        }
        let fetched = self
            .fetch_scope(connection, &seen.shape, &seen.schema, request, what)
            .await?;
        connection.batch("COMMIT", what).await?;
        Ok(chunk_rows(seen.schema, fetched, seen.view, seen.time_us, began))
    }

    /// Reads the rows of a scope in the transaction that is open.
    async fn fetch_scope(
        &mut self,
        connection: &mut Connection,
        shape: &TableShape,
        schema: &TableSchema,
        request: &ChunkRequest,
        what: &str,
    ) -> Result<Fetched> {
        let selects = select::of_scope(shape, schema, &request.scope, request.rows_max)?;
        // Chosen keys are bounded by their number: room for one more lets the end be seen.
        let rows_max = match &request.scope {
            ChunkScope::Range { .. } => request.rows_max,
            ChunkScope::Keys(keys) => u32::try_from(keys.len()).unwrap_or(u32::MAX).saturating_add(1),
        };
        let known = self.row_bytes.get(&request.table).copied();
        let mut fetched = Fetched {
            complete: true,
            ..Fetched::default()
        };
        for select in &selects {
            let bounds = Bounds {
                rows_max: rows_max.saturating_sub(fetched.rows.len() as u32),
                bytes_max: request.bytes_max.saturating_sub(fetched.bytes),
            };
            let part = self.fetch(connection, select, bounds, known, what).await?;
            fetched.bytes += part.bytes;
            fetched.rows.extend(part.rows);
            fetched.complete = part.complete;
            if !fetched.complete {
                break;
            }
        }
        if !fetched.rows.is_empty() {
            self.row_bytes.insert(
                request.table.clone(),
                (fetched.bytes / fetched.rows.len() as u64).max(1),
            );
        }
        Ok(fetched)
    }

    async fn sample_keys(
        &mut self,
        connection: &mut Connection,
        table: &TableName,
        parts: u32,
        what: &str,
    ) -> Result<Vec<Key>> {
        let seen = self.begin(connection, BEGIN, table, what).await?;
        if seen.schema.key.is_empty() {
            connection.batch("ROLLBACK", what).await?;
            return Ok(Vec::new());
        }
        let sql = "SELECT sum(greatest(l.reltuples, 0))::bigint, sum(l.relpages)::bigint FROM pg_catalog.pg_class l \
                    WHERE l.oid = $1 OR l.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1) t)";
        let rows = catalogue::query(connection, sql, &[(&seen.shape.oid, Type::OID)], what).await?;
        let row = only_row(rows, what)?;
        let size = TableSize {
            rows: discover::estimate(&row, 0)?.unwrap_or(0),
            pages: discover::estimate(&row, 1)?.unwrap_or(0),
        };
        let Some(sample) = size.sample(parts) else {
            connection.batch("ROLLBACK", what).await?;
            return Ok(Vec::new());
        };
        let (select, schema) = select::of_sample(&seen.shape, &seen.schema, &sample)?;
        let bounds = Bounds {
            rows_max: sample.rows_max,
            bytes_max: u64::MAX,
        };
        let fetched = self.fetch(connection, &select, bounds, Some(64), what).await?;
        connection.batch("COMMIT", what).await?;
        let keys: Vec<Key> = fetched.rows.iter().filter_map(|row| schema.key_of(row)).collect();
        Ok(every_part(&keys, parts))
    }
}

impl ChunkReader for PgChunkReader {
    type Position = PgPosition;

    async fn read(&mut self, request: &ChunkRequest) -> Result<ChunkRows<PgPosition>> {
        let what = format!("reading a chunk of table {}", request.table);
        if request.at_start {
            return self.read_at_start(request, &what).await;
        }
        let mut connection = match self.idle.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let result = self.read_chunk(&mut connection, request, &what).await;
        if result.is_ok() {
            self.idle = Some(connection);
        }
        result.map_err(|error| of_table(error, &request.table))
    }

    async fn split(&mut self, table: &TableName, parts: u32) -> Result<Vec<Key>> {
        let parts = parts.min(SPLIT_PARTS_MAX);
        if parts < 2 {
            return Ok(Vec::new());
        }
        let what = format!("splitting table {table}");
        let mut connection = match self.idle.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let result = self.sample_keys(&mut connection, table, parts, &what).await;
        if result.is_ok() {
            self.idle = Some(connection);
        }
        result.map_err(|error| of_table(error, table))
    }
}

/// A session for reads. Row-level security is off, which means that a policy that would hide rows is an error instead.
/// Index order is what keyset pagination lives on.
pub(crate) async fn open_session(settings: &Settings, application_name: &'static str) -> Result<Connection> {
    let mut connection = Connection::open(settings, Purpose::Chunks, application_name).await?;
    let chunks = &settings.chunks;
    let set_up = format!(
        "SET row_security = off; SET enable_seqscan = off; SET jit = off; SET statement_timeout = {}; \
         SET lock_timeout = {}",
        chunks.statement_timeout_ms, chunks.lock_timeout_ms
    );
    connection.batch(&set_up, "setting up a session for chunks").await?;
    Ok(connection)
}

fn chunk_rows(
    schema: Arc<TableSchema>,
    fetched: Fetched,
    view: ReadView<PgPosition>,
    read_time_us: i64,
    began: Instant,
) -> ChunkRows<PgPosition> {
    ChunkRows {
        last_key: fetched.rows.last().and_then(|row| schema.key_of(row)),
        exhausted: fetched.complete,
        schema,
        rows: fetched.rows,
        versions: None,
        view,
        read_time_us,
        took_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
    }
}

/// Takes the rows of one step, up to its end.
async fn take_step(connection: &mut Connection, bounds: Bounds, fetched: &mut Fetched, what: &str) -> Result<()> {
    loop {
        let mut batch: FrameBatch = connection.receive_batch(what).await?;
        let block = batch.bytes().clone();
        let mut over = false;
        while let Some(frame) = batch.next_frame() {
            match frame.tag {
                b'D' if fetched.full => {}
                b'D' => {
                    let cells = parse_data_row(frame.body, frame.body_start);
                    let cells = cells.map_err(|error| protocol_error(error, what))?;
                    fetched.bytes += frame.body.len() as u64;
                    fetched.rows.push(RowImage::new(block.clone(), cells));
                    fetched.full = fetched.bytes >= bounds.bytes_max;
                }
                b's' => over = true,
                b'C' => {
                    over = true;
                    fetched.complete = !fetched.full;
                }
                b'E' => return Err(server_failure(frame.body, what)),
                b'1' | b'2' | b'n' | b'N' | b'S' => {}
                tag => {
                    let state = "while reading rows";
                    return Err(protocol_error(ProtocolError::Unexpected { tag, state }, what));
                }
            }
        }
        if over {
            return Ok(());
        }
    }
}

/// How many rows of `row_bytes` fill `bytes`, and a few more.
fn rows_for(bytes: u64, row_bytes: u64) -> u32 {
    u32::try_from(bytes / row_bytes.max(1))
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

fn of_table(error: Error, table: &TableName) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Privilege | ErrorKind::UnsupportedValue => {
            error.with_scope(Scope::Table).with("table", table)
        }
        _ => error,
    }
}

fn older_transactions(table: &TableName) -> Error {
    let what = format!(
        "table {table} was published while transactions were open that still are: what they wrote to it before is in no log, \
         so its copy waits for their end"
    );
    Error::new(ErrorKind::Unreachable, what).with_fix(format!("end them: {OPEN_TRANSACTIONS}"))
}

/// The server was promoted, or came back as a standby.
fn role_changed(what: &str) -> Error {
    let what = format!("{what}: the server is a standby no longer, or is one now; the log is opened anew");
    Error::new(ErrorKind::Unreachable, what)
}

fn not_published(table: &TableName, publication: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("table {table} is not in publication \"{publication}\""),
    )
    .with_scope(Scope::Table)
    .with_fix("add it to the publication, or take it out of `tables.include`")
}

fn unsendable(what: &str, error: &std::io::Error) -> Error {
    Error::bug(format!("{what}: {error}"))
}
