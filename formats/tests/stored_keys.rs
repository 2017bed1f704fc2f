// SPDX-License-Identifier: Apache-2.0
//! A delete that is written from a key as it lies in the topic is the delete that the log would have given.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::sync::Arc;

use fixture::{Bench, NOW_US, change, column, table};
use highwater_core::change::Op;
use highwater_core::image::{Cell, RowImage, RowImageBuilder};
use highwater_core::schema::TableSchema;
use highwater_core::transport::RecordBatch;
use highwater_core::value::{TimeUnit, ValueType};
use highwater_formats::{EncoderSettings, Format, Gone, JsonSettings};
use proptest::prelude::*;

/// A key of a column of each layout, in another order than the table's, one of them optional; and two columns besides.
fn odd() -> Arc<TableSchema> {
    let decimal = ValueType::Decimal { precision: 9, scale: 2 };
    let columns = vec![
        column("note", ValueType::String, false),
        column("b", ValueType::Boolean, false),
        column("i", ValueType::Int32, false),
        column("l", ValueType::Timestamp(TimeUnit::Micros), true),
        column("f", ValueType::Float32, false),
        column("d", ValueType::Float64, false),
        column("s", ValueType::String, false),
        column("o", ValueType::Bytes, true),
        column("m", decimal, false),
        column("v", ValueType::VariableScaleDecimal, false),
        column("rest", ValueType::Int32, true),
    ];
    table("odd", columns, &[6, 1, 2, 3, 4, 5, 7, 8, 9])
}

fn key(text: &str, number: i32, long: Option<i64>) -> RowImage {
    let mut builder = RowImageBuilder::default();
    builder.cell(Cell::ABSENT);
    builder.value(&[1]);
    builder.value(&number.to_be_bytes());
    match long {
        Some(long) => builder.value(&long.to_be_bytes()),
        None => builder.cell(Cell::NULL),
    }
    builder.value(&1.5_f32.to_be_bytes());
    builder.value(&(-2.25_f64).to_be_bytes());
    builder.value(text.as_bytes());
    builder.value(&number.to_le_bytes());
    builder.value(&[0x7f, 3]);
    builder.value(&[&3_i32.to_be_bytes()[..], &[0x12, 0x34]].concat());
    builder.cell(Cell::ABSENT);
    builder.build()
}

fn settings() -> [EncoderSettings; 4] {
    let json = |schemas| EncoderSettings {
        format: Format::Json,
        json: JsonSettings {
            schemas,
            ..JsonSettings::default()
        },
        ..EncoderSettings::new("shop")
    };
    let without = EncoderSettings {
        tombstones: false,
        ..EncoderSettings::new("shop")
    };
    [EncoderSettings::new("shop"), without, json(false), json(true)]
}

/// Key, value and time.
type Sent = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

fn records(batch: &RecordBatch) -> Vec<Sent> {
    let own = |octets: Option<&[u8]>| octets.map(<[u8]>::to_vec);
    let one = |sent: highwater_core::transport::RecordRef<'_>| (own(sent.key), own(sent.value), sent.timestamp_ms);
    batch.iter().map(one).collect()
}

#[tokio::test]
async fn a_stored_key_gives_the_very_records_of_a_delete() {
    for settings in settings() {
        for row in [key("o'\"\n{ä", -7, Some(i64::MIN)), key("", i32::MAX, None)] {
            let mut bench = Bench::new(settings.clone());
            let deleted = change(&odd(), Op::Delete, Some(row), None);
            let expected = records(&bench.encode(&deleted).await);
            let stored = expected[0].0.clone().unwrap();
            assert!(stored.starts_with(bench.encoder.key_begins_with(&odd()).unwrap()));
            let mut template = deleted.clone();
            template.before = None;
            let mut batch = RecordBatch::default();
            let gone = bench.encoder.encode_gone(&stored, &template, NOW_US, &mut batch);
            assert_eq!(gone.unwrap(), Gone::Appended);
            assert_eq!(records(&batch), expected, "{settings:?}");
        }
    }
}

#[tokio::test]
async fn a_shape_that_is_not_prepared_and_a_key_of_another_shape_are_told_and_append_nothing() {
    for settings in settings() {
        let mut bench = Bench::new(settings);
        let mut template = change(&odd(), Op::Delete, None, None);
        let mut batch = RecordBatch::default();
        let gone = bench.encoder.encode_gone(b"", &template, NOW_US, &mut batch).unwrap();
        assert_eq!(gone, Gone::Prepare);
        assert!(bench.encoder.key_begins_with(&odd()).is_none());
        bench.encoder.prepare(&odd()).await.unwrap();

        let plain = table("plain", vec![column("s", ValueType::String, false)], &[0]);
        let row = RowImage::from_values(&[Some(b"x")]);
        let of_plain = bench.encode(&change(&plain, Op::Delete, Some(row), None)).await;
        let foreign = records(&of_plain)[0].0.clone().unwrap();
        let gone = bench
            .encoder
            .encode_gone(&foreign, &template, NOW_US, &mut batch)
            .unwrap();
        assert_eq!(gone, Gone::OtherKey);

        let keyless = table("keyless", vec![column("s", ValueType::String, false)], &[]);
        bench.encoder.prepare(&keyless).await.unwrap();
        assert!(bench.encoder.key_begins_with(&keyless).is_none());
        template.schema = keyless;
        let gone = bench
            .encoder
            .encode_gone(&foreign, &template, NOW_US, &mut batch)
            .unwrap();
        assert_eq!(gone, Gone::OtherKey);
        assert!(batch.is_empty());
    }
}

proptest! {
    #[test]
    fn foreign_and_damaged_keys_never_panic(octets: Vec<u8>, cut: usize, of_json: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut bench = Bench::new(settings()[if of_json { 2 } else { 0 }].clone());
        let mut template = change(&odd(), Op::Delete, Some(key("text", 5, Some(1))), None);
        let whole = runtime.block_on(bench.encode(&template));
        let whole = records(&whole)[0].0.clone().unwrap();
        template.before = None;
        let cut = cut % whole.len();
        let mut batch = RecordBatch::default();
        for key in [&whole[..cut], &[&whole[..cut], &octets].concat()] {
            let _ = bench.encoder.encode_gone(key, &template, NOW_US, &mut batch);
        }
        let cut = bench.encoder.encode_gone(&whole[..whole.len() - 1], &template, NOW_US, &mut batch);
        prop_assert_eq!(cut.unwrap(), Gone::OtherKey);
    }
}
