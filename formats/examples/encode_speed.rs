// SPDX-License-Identifier: Apache-2.0
//! How much CPU it takes to write rows as Avro and JSON events, and to read them back.
//!
//! `cargo run --release -p highwater-formats --example encode_speed [rows]`

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::sync::Arc;
use std::time::Duration;

use fixture::{Bench, change, column, record, table};
use highwater_core::change::{Change, Op};
use highwater_core::image::RowImage;
use highwater_core::transport::{Record, RecordBatch};
use highwater_core::value::{TimeUnit, ValueType};
use highwater_formats::{Decoder, EncoderSettings, Format, Outcome, SchemaRegistry};

/// Distinct rows, written over and over: enough that they do not stay in the first cache.
const DISTINCT: u64 = 10_000;
/// Bytes after which a batch is emptied, as a transport would take it.
const BATCH_BYTES: usize = 512 * 1024;

fn items() -> Arc<highwater_core::schema::TableSchema> {
    let columns = vec![
        column("id", ValueType::Int64, false),
        column("customer_id", ValueType::Int64, false),
        column("status", ValueType::String, false),
        column(
            "amount",
            ValueType::Decimal {
                precision: 12,
                scale: 2,
            },
            false,
        ),
        column("quantity", ValueType::Int32, false),
        column("note", ValueType::String, false),
        column("created_at", ValueType::ZonedTimestamp, false),
        column("updated_at", ValueType::Timestamp(TimeUnit::Micros), false),
        column("active", ValueType::Boolean, false),
    ];
    table("items", columns, &[0])
}

fn row(id: u64) -> RowImage {
    let note = "the quick brown fox jumps over the lazy dog while the river keeps flowing to the sea, always and ever";
    RowImage::from_values(&[
        Some(id.to_be_bytes().to_vec()),
        Some((id * 7 % 50_000).to_be_bytes().to_vec()),
        Some(b"processing".to_vec()),
        Some((id as u32 * 13).to_be_bytes()[..].to_vec()),
        Some(((id % 90) as u32).to_be_bytes().to_vec()),
        Some(note.as_bytes().to_vec()),
        Some(b"2026-01-02T03:04:05.123456Z".to_vec()),
        Some((1_767_323_045_123_456i64 + id as i64).to_be_bytes().to_vec()),
        Some(vec![(id % 2) as u8]),
    ])
}

async fn encode(name: &str, settings: EncoderSettings, changes: &[Change<u64>], rows: usize) {
    let mut bench = Bench::new(settings.clone());
    bench.encode(&changes[0]).await;
    let mut batch = RecordBatch::default();
    let (mut bytes, started) = (0, cpu_time());
    for change in changes.iter().cycle().take(rows) {
        assert!(matches!(
            bench.encoder.encode(change, &mut batch),
            Ok(Outcome::Appended(_))
        ));
        if batch.bytes() > BATCH_BYTES {
            bytes += batch.bytes();
            batch.clear();
        }
    }
    bytes += batch.bytes();
    report(&format!("{name} encode"), started, rows, bytes);

    let record = record(bench.encode(&changes[0]).await.iter().next().expect("a record"));
    let decoder = || Decoder::new(settings.format, Arc::clone(&bench.registry) as Arc<dyn SchemaRegistry>);
    decode(&format!("{name} decode"), decoder(), &record, rows / 4).await;
    decode(
        &format!("{name} decode, no source"),
        decoder().without_source(),
        &record,
        rows / 4,
    )
    .await;
}

async fn decode(name: &str, mut decoder: Decoder, record: &Record, rows: usize) {
    let started = cpu_time();
    for _ in 0..rows {
        let event = decoder.decode(record).await.expect("a record that reads back");
        assert!(event.after().is_some());
    }
    report(name, started, rows, 0);
}

fn report(name: &str, started: Duration, rows: usize, bytes: usize) {
    let seconds = (cpu_time() - started).as_secs_f64();
    println!(
        "{name:<36} {:>6.3} CPU-s per million, {:>9.0} per s, {:>4} bytes each",
        seconds / rows as f64 * 1e6,
        rows as f64 / seconds,
        bytes / rows
    );
}

/// Time that this thread spent on a processor: other programs running beside it do not count.
fn cpu_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux with schedstat");
    let nanos = statistics.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rows = std::env::args()
        .nth(1)
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(2_000_000);
    let schema = items();
    let inserts: Vec<_> = (0..DISTINCT)
        .map(|id| change(&schema, Op::Create, None, Some(row(id))))
        .collect();
    let updates: Vec<_> = (0..DISTINCT)
        .map(|id| change(&schema, Op::Update, Some(row(id)), Some(row(id))))
        .collect();
    encode("avro inserts", EncoderSettings::new("shop"), &inserts, rows).await;
    encode("avro full updates", EncoderSettings::new("shop"), &updates, rows).await;
    let json = EncoderSettings {
        format: Format::Json,
        ..EncoderSettings::new("shop")
    };
    encode("json inserts", json, &inserts, rows).await;
}
