// SPDX-License-Identifier: Apache-2.0
//! What the engine itself costs, in nanoseconds per event: `cargo run --release -p highwater-core --example engine_speed`.

#[path = "../tests/support/stage.rs"]
#[allow(dead_code, reason = "the stage serves the transcripts")]
mod stage;

use std::time::{Duration, Instant};

use highwater_core::change::{Capture, Change, ChangeVersion, ChunkId, LogItem, Op};
use highwater_core::connector::{ChunkRows, Reconcile};
use highwater_core::dblog::action::Action;
use highwater_core::dblog::input::{Input, SnapshotRows, SnapshotScope};
use highwater_core::dblog::{Engine, EngineSettings};
use highwater_core::position::{MarkId, MarkPlace, ReadView, ResumePoint, TransactionId};
use highwater_core::schema::TableName;
use stage::{At, image, shape};

const BATCHES: u64 = 2_000;
const BATCH_EVENTS: u64 = 1_000;

fn batch(number: u64, schema: &std::sync::Arc<highwater_core::schema::TableSchema>) -> Vec<LogItem<At>> {
    let commit = At(number + 1);
    let transaction = TransactionId(number + 10);
    let mut items = vec![LogItem::Begin { transaction, commit }];
    items.extend((1..=BATCH_EVENTS).map(|ordinal| {
        let id = ((number * BATCH_EVENTS + ordinal) % 100_000).to_string();
        LogItem::Change(Change {
            schema: schema.clone(),
            op: Op::Update,
            before: None,
            after: Some(image(&[&id, "a value of some length", "another value"])),
            position: commit,
            commit,
            transaction,
            ordinal,
            source_time_us: 0,
            version: ChangeVersion::InOrder,
            capture: Capture::Log,
            origin: None,
        })
    }));
    items.push(LogItem::Commit {
        transaction,
        position: commit,
    });
    items
}

#[allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn timed(spent: &mut Duration, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    *spent += start.elapsed();
}

fn run(name: &str, windows: bool) {
    let schema = shape(1);
    let mut engine = Engine::new(
        EngineSettings::default(),
        "speed",
        Reconcile::Window,
        ResumePoint::at(At(0)),
    );
    let mut actions: Vec<Action<At>> = Vec::new();
    engine
        .step(Input::Log(vec![LogItem::Schema(schema.clone())]), &mut actions)
        .expect("a first step");
    let mut spent = Duration::ZERO;
    let mut events = 0u64;
    let mut next_chunk = 1;
    for number in 0..BATCHES {
        if windows && number % 4 == 0 {
            open_window(&mut engine, &mut actions, &schema, number, &mut next_chunk);
        }
        let mut items = batch(number, &schema);
        timed(&mut spent, || {
            engine.step_log(&mut items, &mut actions).expect("a batch")
        });
        if windows && number % 4 == 3 {
            let mark = MarkId(next_chunk * 2 - 2);
            let seen = LogItem::Watermark {
                mark,
                position: At(number + 1),
            };
            timed(&mut spent, || {
                engine
                    .step(Input::Log(vec![seen]), &mut actions)
                    .expect("the high mark")
            });
        }
        events += actions
            .iter()
            .filter(|action| matches!(action, Action::Emit(_)))
            .count() as u64;
        actions.clear();
    }
    println!(
        "{name}: {events} events, {:.1} ns per event",
        spent.as_nanos() as f64 / events as f64
    );
}

/// A chunk of 4,096 rows between its marks while 4,000 events pass.
fn open_window(
    engine: &mut Engine<At>,
    actions: &mut Vec<Action<At>>,
    schema: &std::sync::Arc<highwater_core::schema::TableSchema>,
    number: u64,
    next_chunk: &mut u64,
) {
    let table = TableName::new("public", "t");
    let rows = SnapshotRows::Condition("one chunk".into());
    engine
        .step(Input::Snapshot(vec![SnapshotScope { table, rows }]), actions)
        .expect("a request");
    let low = MarkId(*next_chunk * 2 - 1);
    engine
        .step(
            Input::MarkWritten {
                mark: low,
                place: MarkPlace::InLog(low),
            },
            actions,
        )
        .expect("a mark");
    engine
        .step(
            Input::Log(vec![LogItem::Watermark {
                mark: low,
                position: At(number),
            }]),
            actions,
        )
        .expect("a mark");
    let rows = (0..4_096u64)
        .map(|row| image(&[&(number * 37 + row).to_string(), "a value", "another"]))
        .collect();
    let rows = ChunkRows {
        schema: schema.clone(),
        rows,
        versions: None,
        last_key: None,
        exhausted: true,
        view: ReadView::Ordered,
        read_time_us: 0,
        took_us: 1,
    };
    engine
        .step(
            Input::ChunkRead {
                chunk: ChunkId(*next_chunk),
                rows,
            },
            actions,
        )
        .expect("rows");
    *next_chunk += 1;
}

fn main() {
    run("pass-through", false);
    run("a window always open", true);
}
