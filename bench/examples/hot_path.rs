// SPDX-License-Identifier: Apache-2.0
//! Where the time of a row goes between the socket and the record, without any server:
//! `cargo run --release -p highwater-bench --example hot_path [PASSES]`. Run it under `perf record` to see inside a step.
//!
//! Prints nanoseconds per row for pgoutput's decoding, and for decoding plus the encoder.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use highwater_core::change::{Capture, Change, ChangeVersion, Op};
use highwater_core::clock::Clock;
use highwater_core::image::RowImage;
use highwater_core::position::TransactionId;
use highwater_core::schema::{Column, TableId, TableName, TableSchema};
use highwater_core::transport::RecordBatch;
use highwater_formats::registry::embedded::EmbeddedRegistry;
use highwater_formats::{Encoder, EncoderSettings, Outcome};
use highwater_postgres::position::PgPosition;
use highwater_postgres::protocol::Lsn;
use highwater_postgres::protocol::framing::FrameBatch;
use highwater_postgres::protocol::pgoutput::{PgOutput, decode};
use highwater_postgres::protocol::replication::{StreamMessage, parse_stream_message};
use highwater_postgres::source_block::PgSourceBlock;
use highwater_postgres::values::{PgType, ValueForms, resolve};

/// Rows of one pass, about what one transaction has.
const ROWS: usize = 10_000;
/// Passes, where the command line names no number; the fastest counts.
const PASSES: usize = 100;

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    let stream = stream();
    let schema = schema()?;
    let passes = std::env::args().nth(1).map_or(Ok(PASSES), |passes| passes.parse())?;
    let decoded = fastest(passes, || {
        let mut cells = 0;
        each_row(&stream, |row| cells += row.len())?;
        Ok(cells)
    })?;
    println!("decode            {:>5} ns/row", decoded.as_nanos() / ROWS as u128);

    let registry = Arc::new(EmbeddedRegistry::in_memory());
    let mut encoder = Encoder::new(
        EncoderSettings::new("bench"),
        Arc::new(PgSourceBlock::new("postgres")),
        registry,
        Arc::new(System),
    )?;
    tokio::runtime::Builder::new_current_thread()
        .build()?
        .block_on(encoder.prepare(&schema))?;
    let mut batch = RecordBatch::default();
    let encoded = fastest(passes, || {
        batch.clear();
        each_row(&stream, |row| {
            let change = change(&schema, row);
            let outcome = encoder.encode(&change, &mut batch);
            assert!(matches!(outcome, Ok(Outcome::Appended(1))), "{outcome:?}");
        })?;
        Ok(batch.len())
    })?;
    println!("decode and encode {:>5} ns/row", encoded.as_nanos() / ROWS as u128);
    println!("a record has {} bytes", batch.bytes() / ROWS);
    Ok(())
}

fn fastest(passes: usize, mut pass: impl FnMut() -> Result<usize, AnyError>) -> Result<Duration, AnyError> {
    let mut best = Duration::MAX;
    for _ in 0..passes {
        let began = Instant::now();
        std::hint::black_box(pass()?);
        best = best.min(began.elapsed());
    }
    Ok(best)
}

fn each_row(stream: &Bytes, mut row: impl FnMut(RowImage)) -> Result<(), AnyError> {
    let mut frames = FrameBatch::over(stream.clone());
    let block = frames.bytes().clone();
    while let Some(frame) = frames.next_frame() {
        let StreamMessage::XLogData(data) = parse_stream_message(frame.body)? else {
            return Err("a keepalive".into());
        };
        let PgOutput::Insert { new, .. } = decode(data.payload)? else {
            return Err("no insert".into());
        };
        row(RowImage::new(block.slice_ref(data.payload), new.cells));
    }
    Ok(())
}

fn change(schema: &Arc<TableSchema>, row: RowImage) -> Change<PgPosition> {
    Change {
        schema: Arc::clone(schema),
        op: Op::Create,
        before: None,
        after: Some(row),
        position: PgPosition(Lsn(0x1234_5678)),
        commit: PgPosition(Lsn(0x1234_9999)),
        transaction: TransactionId(4_711),
        ordinal: 1,
        source_time_us: 1_790_000_000_123_456,
        version: ChangeVersion::InOrder,
        capture: Capture::Log,
        origin: None,
    }
}

/// Columns of the bench's tables: name, type's object id, its name, its modifier.
const COLUMNS: [(&str, u32, &str, i32); 9] = [
    ("id", 20, "int8", -1),
    ("customer_id", 20, "int8", -1),
    ("status", 1043, "varchar", 20),
    ("amount", 1700, "numeric", (12 << 16 | 2) + 4),
    ("quantity", 23, "int4", -1),
    ("note", 1043, "varchar", 164),
    ("created_at", 1184, "timestamptz", -1),
    ("updated_at", 1114, "timestamp", -1),
    ("active", 16, "bool", -1),
];

fn schema() -> Result<Arc<TableSchema>, AnyError> {
    let mut columns = Vec::new();
    for (name, oid, type_name, modifier) in COLUMNS {
        let carried = resolve(&PgType::built_in(oid), modifier, &ValueForms::default());
        let carried = carried.map_err(|refused| refused.reason)?;
        columns.push(Column {
            name: name.to_owned(),
            database_type: type_name.to_owned(),
            value_type: carried.value_type,
            nullable: false,
            decoder: carried.decoder,
        });
    }
    let name = TableName::new("bench", "items");
    Ok(Arc::new(TableSchema::new(TableId(1), name, columns, vec![0])))
}

/// What a walsender sends: each row in a CopyData of its own, values in binary.
fn stream() -> Bytes {
    let mut stream = BytesMut::new();
    for id in 1..=ROWS as i64 {
        let mut tuple = BytesMut::new();
        let note = format!("{:0>32x} {:0>32x} {:0>64x}", id * 7_919, id * 104_729, id * 1_299_709);
        let whole = (id * 37 % 10_000) as u16;
        let cents = (id % 100) as u16 * 100;
        let numeric: Vec<u8> = [2, 0, 0, 2, whole, cents]
            .iter()
            .flat_map(|part| part.to_be_bytes())
            .collect();
        let values: [&[u8]; 9] = [
            &id.to_be_bytes(),
            &(id * 31).to_be_bytes(),
            b"shipped",
            &numeric,
            &(id as i32 % 50).to_be_bytes(),
            note.as_bytes(),
            &(820_540_800_123_456 + id * 1_000_000).to_be_bytes(),
            &(820_540_800_500_000 + id * 1_000_000).to_be_bytes(),
            &[u8::from(id % 3 != 0)],
        ];
        tuple.put_u16(values.len() as u16);
        for value in values {
            tuple.put_u8(b'b');
            tuple.put_u32(value.len() as u32);
            tuple.put_slice(value);
        }
        stream.put_u8(b'd');
        stream.put_u32((4 + 25 + 6 + tuple.len()) as u32);
        stream.put_u8(b'w');
        stream.put_slice(&[0; 24]);
        stream.put_u8(b'I');
        stream.put_u32(16_384);
        stream.put_u8(b'N');
        stream.put_slice(&tuple);
    }
    stream.freeze()
}

struct System;

impl Clock for System {
    fn now_us(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_micros() as i64)
    }

    fn monotonic(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
