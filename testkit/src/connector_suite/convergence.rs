// SPDX-License-Identifier: Apache-2.0
//! The clause that all others serve: engine and connector together, a copy under writes, and the oracle's verdict.

use std::collections::VecDeque;

use highwater_core::change::{Capture, Change, ChunkId};
use highwater_core::connector::{ChunkReader, LogReader, SourceConnector, WatermarkWriter};
use highwater_core::dblog::action::{Action, Outcome};
use highwater_core::dblog::input::{Input, SnapshotRows, SnapshotScope};
use highwater_core::dblog::{Engine, EngineSettings};
use highwater_core::image::CellRef;
use highwater_core::position::ResumePoint;
use highwater_core::schema::Key;
use highwater_core::spill::Spill;

use crate::connector_suite::{Harness, LogOf, PATIENCE, PositionOf, RUN, SuiteWrite, fill};
use crate::memory_spill::MemorySpill;
use crate::oracle::{CellState, LogRule, Oracle, Origin, RowState};

const ROWS: u64 = 30;
const WRITES: u64 = 60;

type Row = Option<RowState<Vec<u8>>>;

/// What drives the engine: one thing after the other, so that a failure is easy to follow.
struct Pump<H: Harness> {
    engine: Engine<PositionOf<H>>,
    log: LogOf<H>,
    chunks: <H::Connector as SourceConnector>::Chunks,
    marks: Option<<H::Connector as SourceConnector>::Watermarks>,
    spill: MemorySpill,
    events: Vec<Change<PositionOf<H>>>,
    done: Option<Outcome>,
}

impl<H: Harness> Pump<H> {
    async fn step(&mut self, input: Input<PositionOf<H>>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut actions = Vec::new();
            self.engine.step(input, &mut actions).unwrap();
            for action in actions {
                match action {
                    Action::Emit(change) => self.events.push(change),
                    Action::WriteMark { mark, .. } => {
                        let place = self
                            .marks
                            .as_mut()
                            .expect("a way with marks has a writer")
                            .mark(mark)
                            .await
                            .unwrap();
                        inputs.push_back(Input::MarkWritten { mark, place });
                    }
                    Action::ReadChunk(request) => {
                        let rows = self.chunks.read(&request).await.unwrap();
                        inputs.push_back(Input::ChunkRead {
                            chunk: request.chunk,
                            rows,
                        });
                    }
                    Action::Spill { run, entries } => {
                        self.spill.write(run, &entries).unwrap();
                        inputs.push_back(Input::Spilled(run));
                    }
                    Action::Recall { chunk, runs, digests } => {
                        let entries = self.spill.recall(&runs, &digests).unwrap();
                        inputs.push_back(Input::Recalled { chunk, entries });
                    }
                    Action::Forget(run) => self.spill.forget(run),
                    Action::SaveCheckpoint { id, .. } => inputs.push_back(Input::CheckpointSaved(id)),
                    Action::Acknowledge(position) => self.log.acknowledge(&position).await.unwrap(),
                    Action::Done { outcome, .. } => self.done = Some(outcome),
                    Action::Schema(_) | Action::Started { .. } | Action::Certificate(_) | Action::Report(_) => {}
                    Action::Watch(_) | Action::Compare { .. } | Action::Remove { .. } => {
                        panic!("no log was lost")
                    }
                }
            }
        }
    }

    async fn deliver(&mut self) {
        let mut items = Vec::new();
        self.log.next(&mut items).await.unwrap();
        self.step(Input::Log(items)).await;
    }
}

fn value_of<P>(change: &Change<P>) -> Row {
    let image = change.after.as_ref()?;
    let cell = |cell| match cell {
        CellRef::Value(bytes) => CellState::Value(bytes.to_vec()),
        CellRef::Null => CellState::Null,
        CellRef::Unchanged | CellRef::Absent => CellState::Unchanged,
    };
    Some(RowState(image.iter().map(cell).collect()))
}

/// Writes rows and updates and deletes them, in an order that depends on nothing.
fn script() -> Vec<SuiteWrite> {
    let mut alive: Vec<bool> = (0..=ROWS + 5).map(|id| (1..=ROWS).contains(&id)).collect();
    let mut writes = Vec::new();
    for at in 1..=WRITES {
        let id = at * 7 % (ROWS + 5) + 1;
        let value = 1_000 + at;
        let is_alive = std::mem::replace(&mut alive[id as usize], true);
        writes.push(match (is_alive, at % 4) {
            (true, 0) => {
                alive[id as usize] = false;
                SuiteWrite::Delete { id }
            }
            (true, _) => SuiteWrite::Update { id, value },
            (false, _) => SuiteWrite::Insert { id, value },
        });
    }
    writes
}

pub(super) async fn a_copy_under_writes_ends_in_the_tables_state<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    fill(harness, ROWS).await;
    let capabilities = connector.capabilities();
    let log = connector.open_log(None, RUN).await.unwrap();
    let start = ResumePoint::at(log.start().clone());
    let settings = EngineSettings {
        chunk_rows_start: 3,
        chunk_rows_max: 5,
        chunk_rows_min: 1,
        remembered_keys_max: 8,
        ..EngineSettings::default()
    };
    let mut pump = Pump::<H> {
        engine: Engine::new(settings, connector.kind(), capabilities.reconcile, start),
        log,
        chunks: connector.open_chunks().await.unwrap(),
        marks: connector.open_watermarks(RUN).await.ok(),
        spill: MemorySpill::new(1 << 20),
        events: Vec::new(),
        done: None,
    };
    let rows = SnapshotRows::All {
        starts: vec![harness.key(ROWS / 2)],
    };
    pump.step(Input::Snapshot(vec![SnapshotScope {
        table: harness.table(),
        rows,
    }]))
    .await;
    for write in script() {
        harness.write(vec![write]).await;
        pump.deliver().await;
    }
    let last = SuiteWrite::Insert { id: 999, value: 999 };
    harness.write(vec![last]).await;
    let ended = async {
        let is_last = |change: &Change<_>| change.capture == Capture::Log && change.key() == Some(harness.key(999));
        while pump.done.is_none() || !pump.events.iter().any(is_last) {
            pump.deliver().await;
            pump.step(Input::Retry).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, ended).await.is_ok(),
        "copy and log did not end in {PATIENCE:?}"
    );
    assert_eq!(pump.done, Some(Outcome::Completed));
    judge(harness, &mut pump).await;
}

/// The journal is what the log said; the copy must agree with it, and with a read of the table at the end.
async fn judge<H: Harness>(harness: &H, pump: &mut Pump<H>) {
    let mut journal: Vec<(Key, Vec<Row>)> = Vec::new();
    for change in pump.events.iter().filter(|change| change.capture == Capture::Log) {
        let key = change.key().expect("a change has a key");
        match journal.iter_mut().find(|(known, _)| *known == key) {
            Some((_, states)) => states.push(value_of(change)),
            None => journal.push((key, vec![value_of(change)])),
        }
    }
    let request = highwater_core::connector::ChunkRequest {
        chunk: ChunkId(u64::MAX),
        table: harness.table(),
        scope: highwater_core::connector::ChunkScope::Range {
            after: None,
            through: None,
            condition: None,
        },
        rows_max: 10_000,
        bytes_max: u64::MAX,
        at_start: false,
    };
    let table = pump.chunks.read(&request).await.unwrap();
    let mut consumer: std::collections::HashMap<Key, Row> = std::collections::HashMap::new();
    for change in &pump.events {
        let key = change.key().expect("an event has a key");
        let before = consumer.get(&key).cloned().flatten();
        consumer.insert(key, value_of(change).map(|row| row.merged_over(before.as_ref())));
    }
    let whole = |cell| match cell {
        CellRef::Value(bytes) => CellState::Value(bytes.to_vec()),
        _ => CellState::Null,
    };
    let mut rows = 0;
    for row in &table.rows {
        let key = table.schema.key_of(row).expect("a row has its key");
        let expected = RowState(row.iter().map(whole).collect());
        let seen = consumer
            .get(&key)
            .cloned()
            .flatten()
            .expect("a row of the table never left");
        assert!(
            seen.is_whole() && seen.agrees_with(&expected),
            "the last state that left is not the table's"
        );
        rows += 1;
    }
    let alive = consumer.values().filter(|row| row.is_some()).count();
    assert_eq!(alive, rows, "a row that the table does not have was left behind");
    strict(&journal, pump);
}

/// Where the log orders and delivers once, a row that was read equals what the log said last, whenever it said anything.
fn strict<H: Harness>(journal: &[(Key, Vec<Row>)], pump: &Pump<H>) {
    let first_read = |key: &Key| {
        let mut before_log = pump
            .events
            .iter()
            .take_while(|change| change.capture != Capture::Log || change.key().as_ref() != Some(key));
        before_log
            .find(|change| change.key().as_ref() == Some(key))
            .and_then(value_of)
    };
    let mut oracle: Oracle<Vec<u8>, Vec<u8>> = Oracle::new(LogRule::NewestOnly);
    for (key, states) in journal {
        let mut history: Vec<Row> = first_read(key).into_iter().map(Some).collect();
        let before_log = history.len();
        history.extend(states.iter().cloned());
        oracle.history(key.as_bytes().to_vec(), history, before_log);
    }
    for change in &pump.events {
        let key = change.key().expect("an event has a key");
        if journal.iter().any(|(known, _)| *known == key) {
            let origin = if change.capture == Capture::Log {
                Origin::Log
            } else {
                Origin::Read
            };
            let judged = oracle.observe(&key.as_bytes().to_vec(), origin, value_of(change));
            assert!(judged.is_ok(), "{}", judged.unwrap_err().what);
        }
    }
}
