// SPDX-License-Identifier: Apache-2.0
//! CPU time of the Kafka writer per million records of 330 bytes: `cargo run --release --example kafka_write_speed
//! bootstrap [records] [records per transaction] [records per append]`.

mod cpu_time;

use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{Cleanup, RecordBatch, StartAt, TopicSpec, Transport, WriterId};
use highwater_transport::kafka::{KafkaSettings, KafkaTransport};

/// As rows are: names that repeat, numbers that do not.
fn value(number: u64, value: &mut [u8]) {
    let digits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let row = format!(
        "pg_source.public.movies id={number} title=A Film About {} by director {} released {} rating {} checked={digits} ",
        digits % 977,
        digits % 331,
        1_900 + digits % 126,
        digits % 100,
    );
    for (place, byte) in value.iter_mut().zip(row.bytes().cycle()) {
        *place = byte;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap_servers = arguments.next().ok_or("name a broker as host:port")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (records, per_txn, per_append) = (number(1_000_000)?, number(10_000)?, number(1_000)?);
    let transport = KafkaTransport::connect(KafkaSettings {
        bootstrap_servers,
        ..KafkaSettings::default()
    })
    .await?;
    let name = format!("speed.{}", std::process::id());
    let spec = TopicSpec {
        name: name.clone(),
        partitions: 1,
        cleanup: Cleanup::Delete,
        retention: None,
    };
    transport.ensure_topics(&[spec]).await?;
    let mut writer = transport.open_writer(&WriterId("speed".to_owned())).await?;
    let rows: Vec<[u8; 322]> = (0..10_000)
        .map(|number| {
            let mut row = [0; 322];
            value(number, &mut row);
            row
        })
        .collect();
    let (mut batch, mut slowest) = (RecordBatch::default(), Duration::ZERO);
    let (begun, cpu) = (Instant::now(), cpu_time::used());
    for first in (0..records).step_by(per_txn) {
        let mut txn = writer.begin().await?;
        for start in (first..records.min(first + per_txn)).step_by(per_append) {
            batch.clear();
            for number in start..records.min(first + per_txn).min(start + per_append) {
                batch.push(
                    Some(&(number as u64).to_be_bytes()),
                    Some(&rows[number % rows.len()]),
                    1_767_225_600_000,
                    Vec::new(),
                );
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
        let committing = Instant::now();
        txn.commit().await?;
        slowest = slowest.max(committing.elapsed());
    }
    report("written", records, begun.elapsed(), cpu_time::used() - cpu);
    println!("slowest commit: {} ms", slowest.as_millis());

    let (begun, cpu) = (Instant::now(), cpu_time::used());
    let mut reader = transport.open_reader(&[name], None, StartAt::Earliest).await?;
    let (mut read, mut found) = (Vec::new(), 0);
    while found < records {
        reader.poll(&mut read, 10_000, Duration::from_secs(1)).await?;
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
