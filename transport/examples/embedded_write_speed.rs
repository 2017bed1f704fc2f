// SPDX-License-Identifier: Apache-2.0
//! CPU time of the embedded transport per million records of 330 bytes: `cargo run --release --example
//! embedded_write_speed [records] [records per transaction] [folder]`.

mod cpu_time;

use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{Cleanup, RecordBatch, StartAt, TopicSpec, Transport, WriterId};
use highwater_transport::embedded::{EmbeddedSettings, EmbeddedTransport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let per_txn: usize = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let folder = arguments
        .next()
        .unwrap_or_else(|| "target/embedded-write-speed".to_owned());
    let settings = EmbeddedSettings {
        path: folder.into(),
        ..EmbeddedSettings::default()
    };
    let transport = EmbeddedTransport::open(settings).await?;
    let name = format!("speed.{}", std::process::id());
    let spec = TopicSpec {
        name: name.clone(),
        partitions: 1,
        cleanup: Cleanup::Delete,
        retention: None,
    };
    transport.ensure_topics(&[spec]).await?;
    let mut writer = transport.open_writer(&WriterId("speed".to_owned())).await?;
    let value = [b'x'; 322];
    let (begun, cpu) = (Instant::now(), cpu_time::used());
    let mut batch = RecordBatch::default();
    for first in (0..records).step_by(per_txn) {
        let mut txn = writer.begin().await?;
        for start in (first..records.min(first + per_txn)).step_by(1_000) {
            batch.clear();
            for number in start..records.min(first + per_txn).min(start + 1_000) {
                batch.push(Some(&(number as u64).to_be_bytes()), Some(&value), 0, Vec::new());
            }
            txn.append(&name, &batch).await?;
        }
        let bytes = Bytes::from_static(&[0; 200]);
        txn.put_checkpoint(&Checkpoint {
            connector: "speed".to_owned(),
            version: 1,
            bytes,
        })
        .await?;
        txn.commit().await?;
    }
    report("written", records, begun.elapsed(), cpu_time::used() - cpu);

    let (begun, cpu) = (Instant::now(), cpu_time::used());
    let mut reader = transport.open_reader(&[name], None, StartAt::Earliest).await?;
    let (mut read, mut found) = (Vec::new(), 0);
    while found < records {
        reader.poll(&mut read, 10_000, Duration::ZERO).await?;
        found += read.len();
        read.clear();
    }
    report("read", records, begun.elapsed(), cpu_time::used() - cpu);
    Ok(())
}

fn report(what: &str, records: usize, elapsed: Duration, cpu: Duration) {
    let per_million = 1e6 / records as f64;
    println!(
        "{what}: {:.0} records/s, {:.2} CPU-seconds per million",
        records as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * per_million
    );
}
