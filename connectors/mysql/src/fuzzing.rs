// SPDX-License-Identifier: Apache-2.0
//! What the fuzz targets and the property tests drive: every parser of foreign bytes, one function each. They return
//! nothing and must not panic, whatever the bytes are.

use std::collections::HashMap;

use bytes::Bytes;
use highwater_core::image::{CellRef, RowImage};
use highwater_core::value::{ColumnDecoder, TimeUnit, ValueWriter};

use crate::gtid::{GtidSet, MariadbPosition};
use crate::protocol::event_type::TABLE_MAP;
use crate::protocol::header::HEADER_BYTES;
use crate::protocol::rows::{RowChange, RowsEvent};
use crate::protocol::{Checksum, Event, EventHeader, EventSequence, Flavor, RowPlan, TableMap};
use crate::values::bits::Bits;
use crate::values::decimal::Decimal;
use crate::values::integer::Integer;
use crate::values::json::Json;
use crate::values::shape::{Geometry, Point};
use crate::values::time::{Date, Datetime, Time, Timestamp};
use crate::values::vector::Vector;

/// Takes `bytes` as a whole file.
pub fn file(bytes: &[u8]) {
    if let Ok(events) = EventSequence::of_file(Bytes::copy_from_slice(bytes)) {
        walk(events.map_while(|placed| placed.ok().map(|placed| placed.event)));
    }
}

/// Takes `bytes` as events of a stream, with checksums and without.
pub fn stream(bytes: &[u8]) {
    for checksum in [Checksum::None, Checksum::Crc32] {
        let events = EventSequence::of_stream(Bytes::copy_from_slice(bytes), checksum);
        walk(events.map_while(|placed| placed.ok().map(|placed| placed.event)));
    }
}

/// Takes `bytes` as one event without a checksum: a flipped bit reaches its parser.
pub fn event(bytes: &[u8]) {
    let Ok(header) = EventHeader::parse(bytes) else {
        return;
    };
    let body = Bytes::copy_from_slice(bytes.get(HEADER_BYTES..).unwrap_or_default());
    if let Ok(event) = Event::parse(&header, body, 0) {
        walk(std::iter::once(event));
    }
}

/// Takes `bytes` as a table and its rows: the length of a TABLE_MAP's body in two bytes, the body, the type of a row event,
/// its body.
pub fn rows(bytes: &[u8]) {
    let Some(([low, high], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let Some((table, [code, rows @ ..])) = rest.split_at_checked(length) else {
        return;
    };
    let parse = |code, body| Event::parse(&header(code), Bytes::copy_from_slice(body), 0);
    let (Ok(Event::TableMap(table)), Ok(Event::Rows(rows))) = (parse(TABLE_MAP, table), parse(*code, rows)) else {
        return;
    };
    for flavor in [Flavor::MySql { version: 90_704 }, Flavor::MariaDb] {
        split(&table, &rows, flavor);
    }
}

fn header(code: u8) -> EventHeader {
    EventHeader {
        timestamp: 0,
        code,
        server_id: 1,
        length: 0,
        end_position: 0,
        flags: 0,
    }
}

/// Takes `bytes` as sets of GTIDs, in every notation; what was read is written and read again.
pub fn gtids(bytes: &[u8]) {
    if let Ok(set) = GtidSet::decode(bytes) {
        assert_eq!(GtidSet::decode(&set.encode()).as_ref(), Ok(&set), "bytes are read back");
        assert_eq!(set.to_string().parse().as_ref(), Ok(&set), "text is read back");
        assert!(set.is_subset_of(&set) && set.subtract(&set).is_empty());
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(set) = text.parse::<GtidSet>() {
        assert_eq!(GtidSet::decode(&set.encode()).as_ref(), Ok(&set), "bytes are read back");
    }
    if let Ok(position) = text.parse::<MariadbPosition>() {
        assert_eq!(
            position.to_string().parse().as_ref(),
            Ok(&position),
            "text is read back"
        );
    }
}

/// Takes `bytes` as a value of each type that has more than one way to be read: one call on success, none on failure.
pub fn values(bytes: &[u8]) {
    let unit = TimeUnit::Micros;
    let fraction = bytes.len() as u8 % 7;
    let decoders: [&dyn ColumnDecoder; 11] = [
        &Json,
        &Decimal {
            precision: 65,
            scale: 30,
        },
        &Integer {
            bytes: 3,
            unsigned: false,
        },
        &Bits,
        &Date,
        &Time { fraction },
        &Datetime { fraction, unit },
        &Timestamp { fraction },
        &Vector,
        &Geometry,
        &Point,
    ];
    for decoder in decoders {
        let mut calls = Calls::default();
        let decoded = decoder.decode(bytes, &mut calls);
        assert_eq!(calls.values, usize::from(decoded.is_ok()), "{decoder:?}");
    }
}

/// Counts the values that are written, but not what lies inside of others.
#[derive(Default)]
struct Calls {
    values: usize,
    is_open: bool,
}

impl Calls {
    fn value(&mut self) {
        self.values += usize::from(!self.is_open);
    }
}

impl ValueWriter for Calls {
    fn null(&mut self) {
        self.value();
    }
    fn boolean(&mut self, _: bool) {
        self.value();
    }
    fn int(&mut self, _: i32) {
        self.value();
    }
    fn long(&mut self, _: i64) {
        self.value();
    }
    fn float(&mut self, _: f32) {
        self.value();
    }
    fn double(&mut self, _: f64) {
        self.value();
    }
    fn string(&mut self, _: &str) {
        self.value();
    }
    fn bytes(&mut self, _: &[u8]) {
        self.value();
    }
    fn decimal(&mut self, unscaled: &[u8]) {
        assert!(!unscaled.is_empty(), "a decimal has a byte at least");
        self.value();
    }
    fn variable_scale_decimal(&mut self, _: i32, unscaled: &[u8]) {
        self.decimal(unscaled);
    }
    fn begin(&mut self, _: usize) {
        self.value();
        self.is_open = true;
    }
    fn next(&mut self) {
        assert!(self.is_open, "a value was begun");
    }
    fn end(&mut self) {
        self.is_open = false;
    }
}

/// Goes through events as a reader of the log does: tables are kept for their rows, payloads are opened.
fn walk(events: impl Iterator<Item = Event>) {
    let mut tables = HashMap::new();
    for event in events {
        match event {
            Event::Payload(payload) => {
                let inner = payload.events(0).into_iter().flatten();
                for event in inner.map_while(Result::ok) {
                    visit(&mut tables, event.1);
                }
            }
            event => visit(&mut tables, event),
        }
    }
}

fn visit(tables: &mut HashMap<u64, TableMap>, event: Event) {
    match event {
        Event::TableMap(table) => {
            let _ = table.columns(Flavor::MariaDb);
            tables.insert(table.table_id, table);
        }
        Event::Rows(rows) => {
            if let Some(table) = tables.get(&rows.table_id) {
                split(table, &rows, Flavor::MySql { version: 80_400 });
            }
        }
        _ => {}
    }
}

/// Splits the rows and looks at each cell.
fn split(table: &TableMap, rows: &RowsEvent, flavor: Flavor) {
    let Ok(columns) = table.columns(flavor) else {
        return;
    };
    let plan = RowPlan::compile(&columns.columns);
    for change in rows.rows(&plan).into_iter().flatten().map_while(Result::ok) {
        let RowChange {
            before,
            after,
            json_diffs,
        } = &change;
        assert!(before.is_some() || after.is_some(), "a row has an image");
        for image in [before, after].into_iter().flatten() {
            touch(image, &plan);
        }
        for diffs in json_diffs {
            let after = after.as_ref().map(|image| image.cell(diffs.column));
            assert_eq!(
                after,
                Some(CellRef::Unchanged),
                "a document that is given by differences has no cell"
            );
            let _ = diffs.parse();
        }
    }
}

fn touch(image: &RowImage, plan: &RowPlan) {
    assert_eq!(image.len(), plan.columns(), "a cell for each column");
    let bytes: usize = image
        .iter()
        .map(|cell| {
            if let CellRef::Value(value) = cell {
                value.len()
            } else {
                0
            }
        })
        .sum();
    assert_eq!(bytes, image.value_bytes(), "cells lie inside of the event");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// A table of `codes` with random metadata, and rows of it.
    fn table_and_rows() -> impl Strategy<Value = Vec<u8>> {
        let code =
            prop::sample::select(&[1u8, 2, 3, 4, 8, 9, 10, 15, 16, 17, 19, 242, 245, 246, 252, 254, 255, 20][..]);
        (
            prop::collection::vec(code, 0..6),
            prop::collection::vec(0u8..12, 0..12),
            prop::sample::select(&[23u8, 24, 25, 30, 31, 32, 39, 166, 167][..]),
            prop::collection::vec(any::<u8>(), 0..80),
        )
            .prop_map(|(codes, metadata, rows_code, rows)| {
                let count = codes.len() as u8;
                let mut table = vec![1, 0, 0, 0, 0, 0, 0, 0, 1, b's', 0, 1, b't', 0, count];
                table.extend(&codes);
                table.push(metadata.len() as u8);
                table.extend(&metadata);
                table.push(0xff);
                let mut body = vec![1, 0, 0, 0, 0, 0, 1, 0];
                if (30..40).contains(&rows_code) {
                    body.extend([2, 0]);
                }
                body.extend([count, 0xff]);
                if matches!(rows_code, 24 | 31 | 39 | 167) {
                    body.push(0xff);
                }
                body.extend(&rows);
                [&(table.len() as u16).to_le_bytes()[..], &table, &[rows_code], &body].concat()
            })
    }

    fn events() -> impl Strategy<Value = Vec<u8>> {
        let event = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(code, body)| {
            let mut event = vec![0, 0, 0, 0, code, 1, 0, 0, 0];
            event.extend((body.len() as u32 + 19).to_le_bytes());
            event.extend([0; 6]);
            event.extend(body);
            event
        });
        prop::collection::vec(event, 0..6).prop_map(|events| events.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn tables_and_rows_never_panic(bytes in table_and_rows()) {
            super::rows(&bytes);
        }

        #[test]
        fn events_never_panic(bytes in events()) {
            super::stream(&bytes);
            super::event(&bytes);
            super::file(&[b"\xfebin", &bytes[..]].concat());
        }

        #[test]
        fn values_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), kind in 0u8..16) {
            super::values(&bytes);
            super::values(&[&[kind], &bytes[..]].concat());
        }

        #[test]
        fn gtids_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            super::gtids(&bytes);
        }
    }
}
