// SPDX-License-Identifier: Apache-2.0
//! All that each sample says, a line an event, in `snapshots/`.

use std::collections::HashMap;
use std::fmt::Write;

use highwater_core::image::{CellRef, RowImage};
use highwater_mysql::protocol::gtid_event::GtidEvent;
use highwater_mysql::protocol::json_diff::{JsonDiff, JsonDiffs};
use highwater_mysql::protocol::mariadb_gtid_event::MariadbGtidEvent;
use highwater_mysql::protocol::rows::{RowChange, RowsEvent};
use highwater_mysql::protocol::table_map::Column;
use highwater_mysql::protocol::{Event, Flavor, TableMap};

use crate::sample::{FILES, STREAMS, Shape, events, flavor};

/// How many bytes of a value a transcript shows.
const SHOWN_BYTES: usize = 40;

#[test]
fn samples_say_what_was_done() {
    for name in FILES.into_iter().chain(STREAMS) {
        insta::assert_snapshot!(name, transcript(name));
    }
}

fn transcript(name: &str) -> String {
    let mut writer = Writer {
        out: String::new(),
        flavor: flavor(name),
        shapes: HashMap::new(),
    };
    for placed in events(name) {
        write!(writer.out, "{} ", placed.position).unwrap();
        let position = placed.position;
        match placed.event {
            Event::Payload(payload) => {
                writeln!(writer.out, "Payload {:?}", payload.inflated_length()).unwrap();
                for event in payload.events(position).unwrap() {
                    writer.out.push_str("  ");
                    writer.event(event.unwrap().1);
                }
            }
            event => writer.event(event),
        }
    }
    writer.out
}

struct Writer {
    out: String,
    flavor: Flavor,
    /// By number, and `None` for a table that cannot be read.
    shapes: HashMap<u64, Option<Shape>>,
}

impl Writer {
    fn event(&mut self, event: Event) {
        match event {
            Event::TableMap(map) => self.table(map),
            Event::Rows(rows) => self.rows(&rows),
            Event::Query(query) => {
                let (text, charset) = (shown(&query.text), query.client_charset);
                writeln!(self.out, "Query {:?} {charset:?} {text}", query.database).unwrap();
            }
            Event::RowsQuery(text) => writeln!(self.out, "RowsQuery {}", shown(&text)).unwrap(),
            Event::PreviousGtids(set) => writeln!(self.out, "PreviousGtids {set}").unwrap(),
            Event::Gtid(start) => self.gtid(&start),
            Event::MariadbGtid(start) => self.mariadb_gtid(&start),
            other => writeln!(self.out, "{other:?}").unwrap(),
        }
    }

    fn table(&mut self, map: TableMap) {
        let (id, title) = (map.table_id, format!("{}.{}", map.database, map.table));
        write!(self.out, "TableMap {id} {title}").unwrap();
        let known = self.shapes.contains_key(&id);
        match Shape::of(map, self.flavor) {
            Ok(shape) => {
                if !known {
                    self.columns(&shape);
                }
                self.shapes.insert(id, Some(shape));
            }
            Err(error) => {
                write!(self.out, "\n    {error}").unwrap();
                self.shapes.insert(id, None);
            }
        }
        self.out.push('\n');
    }

    fn gtid(&mut self, start: &GtidEvent) {
        let gtid = start.gtid.as_ref().map(ToString::to_string).unwrap_or_default();
        writeln!(
            self.out,
            "Gtid {gtid} {}/{} length {:?} version {:?} at {:?}",
            start.last_committed, start.sequence_number, start.length, start.server_version, start.commit_micros
        )
        .unwrap();
    }

    fn mariadb_gtid(&mut self, start: &MariadbGtidEvent) {
        writeln!(
            self.out,
            "MariadbGtid {}{}{}{} {:?} {:?}",
            start.gtid,
            if start.standalone { " standalone" } else { "" },
            if start.transactional { " transactional" } else { "" },
            if start.ddl { " ddl" } else { "" },
            start.xa,
            start.alter
        )
        .unwrap();
    }

    fn columns(&mut self, shape: &Shape) {
        for column in &shape.columns.columns {
            write!(self.out, "\n    {}", described(column)).unwrap();
        }
        if let Some(key) = &shape.columns.primary_key {
            let parts: Vec<_> = key.iter().map(|part| (part.column, part.prefix)).collect();
            write!(self.out, "\n    key {parts:?}").unwrap();
        }
    }

    fn rows(&mut self, rows: &RowsEvent) {
        write!(self.out, "{:?} {}", rows.kind, rows.table_id).unwrap();
        let end = if rows.ends_statement { " end" } else { "" };
        writeln!(self.out, "{end}").unwrap();
        let Some(Some(shape)) = self.shapes.get(&rows.table_id) else {
            return;
        };
        for change in rows.rows(&shape.plan).unwrap() {
            let RowChange {
                before,
                after,
                json_diffs,
            } = change.unwrap();
            for (sign, image) in [('-', before), ('+', after)] {
                if let Some(image) = image {
                    writeln!(self.out, "    {sign} {}", cells(&image)).unwrap();
                }
            }
            for diffs in &json_diffs {
                writeln!(self.out, "    {}: {}", diffs.column, differences(diffs)).unwrap();
            }
        }
    }
}

fn differences(diffs: &JsonDiffs) -> String {
    let described = |diff: JsonDiff<'_>| match diff {
        JsonDiff::Replace { path, value } => format!("replace {path} {}", shown(value)),
        JsonDiff::Insert { path, value } => format!("insert {path} {}", shown(value)),
        JsonDiff::Remove { path } => format!("remove {path}"),
    };
    let all: Vec<_> = diffs.parse().unwrap().into_iter().map(described).collect();
    if all.is_empty() {
        "as before".into()
    } else {
        all.join(", ")
    }
}

fn described(column: &Column) -> String {
    let about = &column.metadata;
    let mut text = format!("{} {:?}", about.name.as_deref().unwrap_or("?"), column.column_type);
    if !column.nullable {
        text.push_str(" not null");
    }
    if about.unsigned == Some(true) {
        text.push_str(" unsigned");
    }
    if let Some(collation) = about.collation {
        write!(text, " collation {collation}").unwrap();
    }
    if let Some(labels) = &about.labels {
        let labels: Vec<_> = labels.iter().map(|label| String::from_utf8_lossy(label)).collect();
        write!(text, " {labels:?}").unwrap();
    }
    if let Some(geometry) = about.geometry_type {
        write!(text, " shape {geometry}").unwrap();
    }
    if let Some(dimensions) = about.vector_dimensions {
        write!(text, " dimensions {dimensions}").unwrap();
    }
    if about.visible == Some(false) {
        text.push_str(" invisible");
    }
    text
}

fn cells(image: &RowImage) -> String {
    let cells: Vec<String> = image.iter().map(cell).collect();
    cells.join(" ")
}

fn cell(cell: CellRef<'_>) -> String {
    match cell {
        CellRef::Absent => "absent".into(),
        CellRef::Unchanged => "unchanged".into(),
        CellRef::Null => "null".into(),
        CellRef::Value(value) => shown(value),
    }
}

/// Text in quotes, other bytes as hexadecimal digits, not too many of either.
fn shown(value: &[u8]) -> String {
    let head = &value[..value.len().min(SHOWN_BYTES)];
    let mut text = if !value.is_empty() && value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        format!("'{}'", String::from_utf8_lossy(head))
    } else {
        head.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    if value.is_empty() {
        text = "empty".into();
    }
    if head.len() < value.len() {
        write!(text, "… {} bytes", value.len()).unwrap();
    }
    text
}
