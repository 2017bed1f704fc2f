// SPDX-License-Identifier: Apache-2.0
//! The files under `tests/samples`, and going through them as a reader of the log does.

use std::collections::HashMap;

use highwater_core::image::{CellRef, RowImage};
use highwater_mysql::protocol::event_sequence::PlacedEvent;
use highwater_mysql::protocol::rows::{RowChange, RowsKind};
use highwater_mysql::protocol::table_map::TableColumns;
use highwater_mysql::protocol::{
    Checksum, Event, EventHeader, EventSequence, Flavor, ProtocolError, RowPlan, TableMap,
};

pub const FILES: [&str; 29] = [
    "mysql-9.7-types",
    "mysql-9.7-tags",
    "mysql-9.7-xa",
    "mysql-9.7-compressed",
    "mysql-9.7-partial-json",
    "mysql-9.7-images",
    "mysql-9.7-statements",
    "mysql-9.7-no-checksum",
    "mysql-9.7-collations",
    "mysql-9.7-empty-row",
    "mysql-9.7-years",
    "mysql-9.7-open",
    "mysql-8.0-types",
    "mysql-8.0-v1",
    "mysql-8.0-anonymous",
    "mysql-8.0-collations",
    "mysql-8.0-years",
    "mariadb-10.11-types",
    "mariadb-10.11-compressed",
    "mariadb-10.11-xa",
    "mariadb-10.11-statements",
    "mariadb-10.11-collations",
    "mariadb-10.11-years",
    "mariadb-11.8-types",
    "mariadb-11.8-compressed",
    "mariadb-11.8-xa",
    "mariadb-11.8-statements",
    "mariadb-11.8-collations",
    "mariadb-11.8-years",
];
pub const STREAMS: [&str; 4] = [
    "mysql-9.7-stream",
    "mysql-9.7-stream-v1",
    "mysql-8.0-stream",
    "mariadb-11.8-stream",
];

pub fn file_bytes(name: &str) -> Vec<u8> {
    read(&format!("{name}.binlog"))
}

pub fn stream_bytes(name: &str) -> Vec<u8> {
    read(&format!("{name}.events"))
}

fn read(file: &str) -> Vec<u8> {
    let path = format!("{}/tests/samples/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The events of a sample.
pub fn events(name: &str) -> Vec<PlacedEvent> {
    let sequence = if STREAMS.contains(&name) {
        EventSequence::of_stream(stream_bytes(name).into(), Checksum::Crc32)
    } else {
        EventSequence::of_file(file_bytes(name).into()).unwrap()
    };
    sequence
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The events of a sample with those of compressed transactions in their place.
pub fn opened(name: &str) -> Vec<Event> {
    let open = |placed: PlacedEvent| match placed.event {
        Event::Payload(payload) => {
            let inner: Result<Vec<(EventHeader, Event)>, ProtocolError> =
                payload.events(placed.position).unwrap().collect();
            inner.unwrap().into_iter().map(|(_, event)| event).collect()
        }
        event => vec![event],
    };
    events(name).into_iter().flat_map(open).collect()
}

/// A table as its last TABLE_MAP has it.
pub struct Shape {
    pub map: TableMap,
    pub columns: TableColumns,
    pub plan: RowPlan,
}

impl Shape {
    pub fn of(map: TableMap, flavor: Flavor) -> Result<Self, ProtocolError> {
        let columns = map.columns(flavor)?;
        let plan = RowPlan::compile(&columns.columns);
        Ok(Self { map, columns, plan })
    }

    pub fn place(&self, column: &str) -> usize {
        let columns = self.columns.columns.iter();
        let mut names = columns.map(|column| column.metadata.name.as_deref());
        let place = names.position(|name| name == Some(column));
        place.unwrap_or_else(|| panic!("{} has a column {column}", self.map.table))
    }
}

pub fn flavor(name: &str) -> Flavor {
    if name.starts_with("mariadb") {
        Flavor::MariaDb
    } else {
        Flavor::MySql {
            version: if name.starts_with("mysql-8.0") { 80_015 } else { 90_704 },
        }
    }
}

/// The tables of a sample by name, as they are first; those that cannot be read are left out.
pub fn shapes(name: &str) -> HashMap<String, Shape> {
    let mut shapes = HashMap::new();
    for event in opened(name) {
        if let Event::TableMap(map) = event
            && let Ok(shape) = Shape::of(map, flavor(name))
        {
            shapes.entry(shape.map.table.clone()).or_insert(shape);
        }
    }
    shapes
}

/// A changed row.
pub struct Changed {
    pub kind: RowsKind,
    pub change: RowChange,
}

/// The changed rows of one table.
pub fn changes(name: &str, table: &str) -> Vec<Changed> {
    let mut shapes: HashMap<u64, Shape> = HashMap::new();
    let mut changes = Vec::new();
    for event in opened(name) {
        match event {
            Event::TableMap(map) if map.table == table => {
                shapes.insert(map.table_id, Shape::of(map, flavor(name)).unwrap());
            }
            Event::Rows(rows) => {
                let Some(shape) = shapes.get(&rows.table_id) else {
                    continue;
                };
                for change in rows.rows(&shape.plan).unwrap() {
                    let (kind, change) = (rows.kind, change.unwrap());
                    changes.push(Changed { kind, change });
                }
            }
            _ => {}
        }
    }
    changes
}

impl Changed {
    pub fn before(&self) -> &RowImage {
        self.change.before.as_ref().expect("a row before")
    }

    pub fn after(&self) -> &RowImage {
        self.change.after.as_ref().expect("a row after")
    }
}

/// The bytes of a cell.
pub fn value(image: &RowImage, place: usize) -> &[u8] {
    match image.cell(place) {
        CellRef::Value(value) => value,
        other => panic!("no value at {place}: {other:?}"),
    }
}
