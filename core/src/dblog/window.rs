// SPDX-License-Identifier: Apache-2.0
//! One chunk under way: its marks, the keys that the log touched, and its rows until they may leave.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::change::{Change, ChunkId};
use crate::connector::{ChunkRows, ChunkScope, Reconcile};
use crate::dblog::copy::TableCopy;
use crate::dblog::forwarded::Forwarded;
use crate::dblog::input::SnapshotId;
use crate::dblog::row_index::RowIndex;
use crate::dblog::settings::EngineSettings;
use crate::dblog::shapes::ShapeId;
use crate::image::RowImage;
use crate::position::{MarkId, ReadView, TransactionId, TransactionSnapshot};
use crate::schema::{Key, TableSchema};

/// Hash maps whose behaviour does not differ from run to run. Nothing depends on their order of iteration.
pub(super) type KeyMap<V> = HashMap<Key, V, BuildHasherDefault<DefaultHasher>>;

/// What a chunk covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Segment(Segment),
    Keys(Vec<Key>),
}

/// A stretch of a table in the server's key order, exclusive start, inclusive end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Segment {
    pub after: Option<Key>,
    pub through: Option<Key>,
}

impl Part {
    pub(super) fn scope(&self, condition: Option<&String>) -> ChunkScope {
        match self {
            Part::Segment(segment) => ChunkScope::Range {
                after: segment.after.clone(),
                through: segment.through.clone(),
                condition: condition.cloned(),
            },
            Part::Keys(keys) => ChunkScope::Keys(keys.clone()),
        }
    }
}

/// How far a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The low mark is being written.
    MarkingLow,
    /// The read is under way.
    Reading,
    /// The read saw too little; it is done again at the next retry, under the same low mark.
    Stale,
    /// The rows are here and wait for their moment.
    Holding,
}

/// A mark: where the log had it, or at which position it counts as seen.
#[derive(Debug, Clone)]
pub(super) struct Mark<P> {
    pub id: Option<MarkId>,
    pub bracket: Option<P>,
    pub seen_at: Option<P>,
}

impl<P> Default for Mark<P> {
    fn default() -> Self {
        Mark {
            id: None,
            bracket: None,
            seen_at: None,
        }
    }
}

/// What the log said last about a key inside the window. Once whole, later partial images merge onto what has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    Partial,
    Whole,
    /// Partial, of a row that came from another key: what left under this key before is another row's.
    Moved,
}

impl Touch {
    pub(super) fn of<P>(change: &Change<P>) -> Self {
        match (change.is_partial(), &change.before) {
            (false, _) => Touch::Whole,
            (true, Some(_)) if change.old_key().is_some() => Touch::Moved,
            (true, _) => Touch::Partial,
        }
    }

    /// This, and then `later`.
    pub(super) fn then(self, later: Touch) -> Touch {
        match later {
            Touch::Partial => self,
            Touch::Whole | Touch::Moved => later,
        }
    }
}

/// What the log did inside the window before the rows arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Touched {
    pub keys: KeyMap<Touch>,
    /// Rows of a table without a key that are gone, and by whom.
    pub rows: Vec<(Key, TransactionId)>,
    pub truncated: bool,
    /// Bytes of the keys and rows.
    bytes: u64,
}

impl Touched {
    fn note(&mut self, key: Key, touch: Touch) {
        let bytes = key.as_bytes().len() as u64;
        let noted = self.keys.entry(key).or_insert_with(|| {
            self.bytes += bytes;
            touch
        });
        if touch == Touch::Whole {
            *noted = Touch::Whole;
        }
    }

    fn note_row(&mut self, row: Key, transaction: TransactionId) {
        self.bytes += row.as_bytes().len() as u64;
        self.rows.push((row, transaction));
    }

    /// Whether it keeps to the limits. One key or row always does, however large: reading again would not make it smaller.
    pub(super) fn fits(&self, settings: &EngineSettings) -> bool {
        let count = self.keys.len() + self.rows.len();
        count <= settings.touched_keys_max as usize && (count == 1 || self.bytes <= settings.touched_bytes_max)
    }
}

/// A chunk's rows, waiting.
#[derive(Debug)]
pub(super) struct Held<P> {
    pub rows: ChunkRows<P>,
    pub at: Option<P>,
    pub dropped: Vec<bool>,
    pub rows_dropped: u64,
    /// Keys whose row a partial image took away.
    pub repairs: BTreeSet<Vec<u8>>,
    index: Option<RowIndex>,
}

impl<P> Held<P> {
    pub(super) fn new(rows: ChunkRows<P>, at: Option<P>) -> Self {
        Held {
            rows,
            at,
            dropped: Vec::new(),
            rows_dropped: 0,
            repairs: BTreeSet::new(),
            index: None,
        }
    }

    pub(super) fn drop_row(&mut self, at: usize) {
        if self.dropped.is_empty() {
            self.dropped = vec![false; self.rows.rows.len()];
        }
        if let Some(dropped) = self.dropped.get_mut(at)
            && !*dropped
        {
            *dropped = true;
            self.rows_dropped += 1;
        }
    }

    pub(super) fn drop_all(&mut self) {
        self.rows_dropped = self.rows.rows.len() as u64;
        self.dropped = vec![true; self.rows.rows.len()];
        self.index = Some(RowIndex::default());
        self.repairs.clear();
    }

    /// The log has news of `key`: its row goes. If the news is partial, the key needs a read of its own.
    pub(super) fn touch(&mut self, key: &Key, touch: Touch) {
        let (schema, rows) = (&self.rows.schema, &self.rows.rows);
        // Built on the first event that touches the table: a quiet table's keys are never looked at.
        let index = self.index.get_or_insert_with(|| RowIndex::new(schema, rows));
        if let Some(at) = index.take(key, schema, rows) {
            self.drop_row(at);
            if touch != Touch::Whole {
                self.repairs.insert(key.as_bytes().to_vec());
            }
        } else if touch == Touch::Whole {
            self.repairs.remove(key.as_bytes());
        }
    }

    /// A row of a table without a key is gone: one that equals it goes, unless the read saw that it was gone.
    pub(super) fn lose(&mut self, row: &Key, transaction: TransactionId) {
        if matches!(&self.rows.view, ReadView::Transactions(view) if view.sees(transaction)) {
            return;
        }
        let (schema, rows) = (&self.rows.schema, &self.rows.rows);
        let index = self.index.get_or_insert_with(|| RowIndex::new(schema, rows));
        if let Some(at) = index.take(row, schema, rows) {
            self.drop_row(at);
        }
    }

    /// The same for news that is older than what was held against the rows already.
    pub(super) fn touch_earlier(&mut self, key: &Key, touch: Touch) {
        let repaired = self.repairs.contains(key.as_bytes());
        self.touch(key, touch);
        if repaired {
            self.repairs.insert(key.as_bytes().to_vec());
        }
    }

    pub(super) fn is_dropped(&self, at: usize) -> bool {
        self.dropped.get(at).copied().unwrap_or(false)
    }

    /// Row and key of every row that is still here, with its place.
    pub(super) fn keyed_rows(&self) -> impl Iterator<Item = (usize, Option<Key>, &RowImage)> {
        let schema: &TableSchema = &self.rows.schema;
        self.rows
            .rows
            .iter()
            .enumerate()
            .filter(|(at, _)| !self.is_dropped(*at))
            .map(|(at, row)| (at, schema.key_of(row), row))
    }
}

/// A chunk under way.
#[derive(Debug)]
pub(super) struct Window<P> {
    pub chunk: ChunkId,
    pub snapshot: SnapshotId,
    pub slot: usize,
    pub part: Part,
    pub way: Reconcile,
    pub stage: Stage,
    pub low: Mark<P>,
    pub high: Mark<P>,
    /// The low mark was seen: the log's events are recorded.
    pub recording: bool,
    /// Transactions that left before recording began: the read has to see them.
    pub must_see: Forwarded,
    /// What the rows' read saw, while recording has not begun: more may leave that it has to see.
    pub view: Option<TransactionSnapshot>,
    pub touched: Touched,
    /// The last shape that the table took on since the window was opened, if any.
    pub shape_news: Option<ShapeId>,
    pub held: Option<Held<P>>,
    pub rows_max: u32,
    pub reads_repeated: u32,
    /// Where in the engine's count of log events the read was asked for.
    pub asked_at: u64,
    /// The newest moment that any read had seen when this one was asked for (`AsOf`).
    pub moment_floor: Option<P>,
    /// A read of chosen keys as of a moment has to see what had left by then: it is what asked for the read.
    pub must_see_at: Option<P>,
    /// What runs outside memory know of its keys is being asked (`AsOf`).
    pub recalling: bool,
}

impl<P: Clone + Ord> Window<P> {
    /// A window over `part` that waits for its low mark.
    pub(super) fn new(chunk: ChunkId, copy: &TableCopy, part: Part, way: Reconcile, forwarded_runs_max: u32) -> Self {
        Window {
            chunk,
            snapshot: copy.snapshot,
            slot: copy.slot,
            part,
            way,
            stage: Stage::MarkingLow,
            low: Mark::default(),
            high: Mark::default(),
            recording: false,
            must_see: Forwarded::new(forwarded_runs_max),
            view: None,
            touched: Touched::default(),
            shape_news: None,
            held: None,
            rows_max: copy.sizer.rows(),
            reads_repeated: 0,
            asked_at: 0,
            moment_floor: None,
            must_see_at: None,
            recalling: false,
        }
    }

    pub(super) fn capture(&self) -> crate::change::Capture {
        match self.part {
            Part::Segment(_) => crate::change::Capture::Chunk(self.chunk),
            Part::Keys(_) => crate::change::Capture::Repair(self.chunk),
        }
    }

    /// From here on the log's events are recorded.
    pub(super) fn record(&mut self) {
        self.recording = true;
        self.view = None;
    }

    /// The rows that are here turn out to have been read too early; they are read again under the same low mark.
    pub(super) fn let_go(&mut self) {
        self.held = None;
        self.view = None;
        self.high = Mark::default();
        self.stage = Stage::Stale;
        self.reads_repeated += 1;
    }

    /// Whether the read occupies a chunk reader, or soon will.
    pub(super) fn is_reading(&self) -> bool {
        self.stage != Stage::Holding
    }

    /// Whether log events of its table concern it.
    pub(super) fn listens(&self) -> bool {
        self.recording || self.held.is_some()
    }

    /// A log event inside the window touched `key`.
    pub(super) fn touch(&mut self, key: &Key, touch: Touch) {
        match &mut self.held {
            Some(held) => held.touch(key, touch),
            None => self.touched.note(key.clone(), touch),
        }
    }

    /// A log event inside the window ends a row of a table without a key.
    pub(super) fn lose(&mut self, row: &Key, transaction: TransactionId) {
        match &mut self.held {
            Some(held) => held.lose(row, transaction),
            None => self.touched.note_row(row.clone(), transaction),
        }
    }

    /// A truncation inside the window: whatever was inserted behind it comes by the log.
    pub(super) fn truncate(&mut self) {
        match &mut self.held {
            Some(held) => held.drop_all(),
            None => self.touched.truncated = true,
        }
    }

    /// The rows are here: what the log touched meanwhile goes.
    pub(super) fn hold(&mut self, rows: ChunkRows<P>, at: Option<P>) {
        let mut held = Held::new(rows, at);
        let touched = std::mem::take(&mut self.touched);
        if touched.truncated {
            held.drop_all();
        }
        for (key, touch) in &touched.keys {
            held.touch(key, *touch);
        }
        for (row, transaction) in &touched.rows {
            held.lose(row, *transaction);
        }
        self.held = Some(held);
        self.stage = Stage::Holding;
    }

    /// Takes note that the table has (or had) another shape inside the window.
    pub(super) fn note_shape(&mut self, shape: ShapeId) {
        self.shape_news = Some(shape);
    }

    /// Whether rows of `schema` would leave behind events of another, newer shape.
    pub(super) fn shape_differs(&self, schema: &TableSchema) -> bool {
        self.shape_news.is_some_and(|news| news != ShapeId::of(schema))
    }

    /// Marks at positions count as seen once everything up to there was delivered.
    pub(super) fn reach(&mut self, reached: impl Fn(&P) -> bool) {
        for mark in [&mut self.low, &mut self.high] {
            if mark.seen_at.is_none()
                && let Some(bracket) = &mark.bracket
                && reached(bracket)
            {
                mark.seen_at = Some(bracket.clone());
            }
        }
        if self.low.seen_at.is_some() {
            self.record();
        }
    }
}
