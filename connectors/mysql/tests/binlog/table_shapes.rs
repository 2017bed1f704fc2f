// SPDX-License-Identifier: Apache-2.0
//! What TABLE_MAP says, against the CREATE TABLE that made the tables.

use highwater_mysql::protocol::ProtocolError;
use highwater_mysql::protocol::column_type::ColumnType;
use highwater_mysql::protocol::optional_metadata::KeyPart;
use highwater_mysql::protocol::{Event, Flavor};

use crate::sample::{Shape, events, opened, shapes};

const TYPES: [&str; 4] = [
    "mysql-9.7-types",
    "mysql-8.0-types",
    "mariadb-10.11-types",
    "mariadb-11.8-types",
];
/// The newest server here.
const MYSQL: Flavor = Flavor::MySql { version: 90_704 };
/// The collation of bytes.
const BINARY: u64 = 63;

fn column_type(shape: &Shape, column: &str) -> ColumnType {
    shape.columns.columns[shape.place(column)].column_type
}

fn collation(shape: &Shape, column: &str) -> Option<u64> {
    shape.columns.columns[shape.place(column)].metadata.collation
}

#[test]
fn signs_are_those_of_the_columns() {
    for name in TYPES {
        let shapes = shapes(name);
        let numbers = &shapes["numbers"];
        for (column, unsigned) in [
            ("i8", Some(false)),
            ("u8", Some(true)),
            ("i16", Some(false)),
            ("u16", Some(true)),
            ("i24", Some(false)),
            ("u24", Some(true)),
            ("i32", Some(false)),
            ("u32", Some(true)),
            ("i64", Some(false)),
            ("u64", Some(true)),
            ("f", Some(false)),
            ("d", Some(false)),
            ("n", Some(false)),
            ("n2", Some(true)),
            ("b1", None),
            ("bo", Some(false)),
        ] {
            let metadata = &numbers.columns.columns[numbers.place(column)].metadata;
            assert_eq!(metadata.unsigned, unsigned, "{name} {column}");
        }
    }
}

/// MySQL 8.0.15 has no bit for YEAR among the signs, all others have one.
#[test]
fn signs_are_those_of_the_columns_around_years() {
    for (name, year) in [
        ("mysql-9.7-years", Some(true)),
        ("mysql-8.0-years", None),
        ("mariadb-10.11-years", Some(true)),
        ("mariadb-11.8-years", Some(true)),
    ] {
        let years = &shapes(name)["years"];
        let signs: Vec<_> = years
            .columns
            .columns
            .iter()
            .map(|column| column.metadata.unsigned)
            .collect();
        let (signed, unsigned) = (Some(false), Some(true));
        let expected = [signed, year, unsigned, signed, year, unsigned, signed];
        assert_eq!(signs, expected, "{name}");
    }
}

#[test]
fn signs_are_not_guessed_where_the_version_does_not_tell() {
    let of_8_4 = Flavor::MySql { version: 80_400 };
    let signs = |name: &str, table: &str| -> Vec<Option<bool>> {
        let shape = shapes(name).remove(table).unwrap();
        let columns = shape.map.columns(of_8_4).unwrap().columns;
        columns.into_iter().map(|column| column.metadata.unsigned).collect()
    };
    assert_eq!(signs("mysql-9.7-years", "years"), [None; 7]);
    assert_eq!(signs("mysql-9.7-types", "numbers")[..2], [Some(false), Some(true)]);
}

#[test]
fn types_are_those_of_the_columns() {
    for name in TYPES {
        let shapes = shapes(name);
        let (numbers, times, texts) = (&shapes["numbers"], &shapes["times"], &shapes["texts"]);
        for (shape, column, expected) in [
            (numbers, "i24", ColumnType::Int24),
            (
                numbers,
                "n",
                ColumnType::Decimal {
                    precision: 65,
                    scale: 30,
                },
            ),
            (numbers, "n2", ColumnType::Decimal { precision: 5, scale: 2 }),
            (numbers, "b1", ColumnType::Bit { bits: 1 }),
            (numbers, "b9", ColumnType::Bit { bits: 9 }),
            (numbers, "b64", ColumnType::Bit { bits: 64 }),
            (times, "t", ColumnType::Time { fraction: 0 }),
            (times, "t3", ColumnType::Time { fraction: 3 }),
            (times, "dt4", ColumnType::Datetime { fraction: 4 }),
            (times, "ts6", ColumnType::Timestamp { fraction: 6 }),
            (texts, "c", ColumnType::String { bytes_max: 10 }),
            (texts, "c255", ColumnType::String { bytes_max: 1020 }),
            (texts, "vl", ColumnType::Varchar { bytes_max: 1200 }),
            (texts, "tt", ColumnType::Blob { length_bytes: 1 }),
            (texts, "lt", ColumnType::Blob { length_bytes: 4 }),
            (texts, "e", ColumnType::Enum { bytes: 1 }),
            (texts, "st", ColumnType::Set { bytes: 1 }),
        ] {
            assert_eq!(column_type(shape, column), expected, "{name} {column}");
        }
    }
}

#[test]
fn character_sets_labels_and_keys_are_those_of_the_columns() {
    for (name, utf8mb4, gbk) in [
        ("mysql-9.7-types", 255, 28),
        ("mysql-8.0-types", 255, 28),
        ("mariadb-10.11-types", 45, 28),
        ("mariadb-11.8-types", 2304, 28),
    ] {
        let shapes = shapes(name);
        let texts = &shapes["texts"];
        assert_eq!(collation(texts, "c"), Some(8), "{name}");
        assert_eq!(collation(texts, "vc"), Some(gbk), "{name}");
        assert_eq!(collation(texts, "tx"), Some(8), "{name}");
        for column in ["b", "vb", "tb", "lb"] {
            assert_eq!(collation(texts, column), Some(BINARY), "{name} {column}");
        }
        assert_eq!(collation(texts, "k"), Some(utf8mb4), "{name}");
        assert_eq!(collation(texts, "st"), Some(8), "{name}");
        let labels = texts.columns.columns[texts.place("e")]
            .metadata
            .labels
            .as_ref()
            .unwrap();
        assert_eq!(labels[1].as_ref(), "bé".as_bytes(), "{name}");
        let (k, vc) = (texts.place("k"), texts.place("vc"));
        let key = [KeyPart { column: k, prefix: 8 }, KeyPart { column: vc, prefix: 3 }];
        assert_eq!(texts.columns.primary_key.as_deref(), Some(&key[..]), "{name}");
        let numbers = &shapes["numbers"];
        let whole = [KeyPart {
            column: numbers.place("i32"),
            prefix: 0,
        }];
        assert_eq!(numbers.columns.primary_key.as_deref(), Some(&whole[..]), "{name}");
    }
}

#[test]
fn only_mysql_9_says_which_columns_are_invisible() {
    let visible = |name: &str| {
        let shapes = shapes(name);
        let texts = &shapes["texts"];
        texts.columns.columns[texts.place("hidden")].metadata.visible
    };
    assert_eq!(visible("mysql-9.7-types"), Some(false));
    assert_eq!(visible("mysql-8.0-types"), None);
    assert_eq!(visible("mariadb-11.8-types"), None);
}

#[test]
fn shapes_and_vectors_have_their_kinds() {
    let shapes = shapes("mysql-9.7-types");
    let of = |column: &str| &shapes["shapes"].columns.columns[shapes["shapes"].place(column)];
    for (column, kind) in [("p", 1), ("l", 2), ("g", 0), ("mp", 4), ("gc", 7)] {
        assert_eq!(of(column).metadata.geometry_type, Some(kind), "{column}");
        assert_eq!(of(column).column_type, ColumnType::Geometry { length_bytes: 4 });
    }
    assert_eq!(of("v").metadata.vector_dimensions, Some(3));
    assert_eq!(of("v").column_type, ColumnType::Vector { length_bytes: 4 });
    assert_eq!(of("j").column_type, ColumnType::Json { length_bytes: 4 });
}

/// Character sets are counted over other columns on each server: a table that has all kinds between its texts.
#[test]
fn collations_are_found_between_all_kinds_of_columns() {
    for name in [
        "mysql-9.7-collations",
        "mysql-8.0-collations",
        "mariadb-10.11-collations",
        "mariadb-11.8-collations",
    ] {
        let shapes = shapes(name);
        for table in ["mixed", "mostly"] {
            let shape = &shapes[table];
            for (column, expected) in [("a", 8), ("b", 28), ("c", 54), ("d", 35), ("f", 51), ("h", 8)] {
                assert_eq!(collation(shape, column), Some(expected), "{name} {table} {column}");
            }
        }
    }
}

#[test]
fn minimal_metadata_has_signs_and_no_names() {
    let maps: Vec<_> = events("mysql-9.7-images")
        .into_iter()
        .filter_map(|placed| match placed.event {
            Event::TableMap(map) => Some(Shape::of(map, MYSQL).unwrap()),
            _ => None,
        })
        .collect();
    let (full, minimal) = (maps.first().unwrap(), maps.last().unwrap());
    assert!(full.columns.columns.iter().all(|column| column.metadata.name.is_some()));
    assert_eq!(full.columns.primary_key, Some(vec![KeyPart { column: 0, prefix: 0 }]));
    assert!(
        minimal
            .columns
            .columns
            .iter()
            .all(|column| column.metadata.name.is_none())
    );
    assert_eq!(minimal.columns.primary_key, None);
    assert_eq!(minimal.columns.columns[0].metadata.unsigned, Some(false));
    assert_eq!(minimal.columns.columns[2].metadata.collation, Some(255));
}

#[test]
fn times_of_before_mysql_5_6_are_refused_with_what_mends_them() {
    for name in ["mariadb-10.11-types", "mariadb-11.8-types"] {
        let old = opened(name).into_iter().find_map(|event| match event {
            Event::TableMap(map) if map.table == "old_times" => Some(map),
            _ => None,
        });
        let error = old.unwrap().columns(Flavor::MariaDb).unwrap_err();
        assert!(
            matches!(
                error,
                ProtocolError::ColumnType {
                    column: 2,
                    code: 11,
                    ..
                }
            ),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains("\"s\".\"old_times\"") && text.contains("ALTER TABLE … FORCE"),
            "{text}"
        );
    }
}

#[test]
fn a_column_type_from_the_future_is_named_and_its_table_as_well() {
    let bytes = crate::sample::file_bytes("mysql-9.7-types");
    let placed = events("mysql-9.7-types");
    let map = placed
        .iter()
        .find(|placed| matches!(placed.event, Event::TableMap(_)))
        .unwrap();
    let (start, end) = (
        map.position as usize + 19,
        (map.position + u64::from(map.header.length)) as usize - 4,
    );
    let mut body = bytes[start..end].to_vec();
    // number, flags, `s`, `numbers`, how many columns: the type of the first column follows.
    let first = 8 + 3 + 9 + 1;
    assert_eq!(body[first], 1);
    body[first] = 236;
    let Ok(Event::TableMap(future)) = Event::parse(&map.header, body.into(), 0) else {
        panic!("a TABLE_MAP");
    };
    assert_eq!(future.table, "numbers");
    assert_eq!(
        future.columns(MYSQL).unwrap_err().to_string(),
        "column 1 of \"s\".\"numbers\" has the type 236, which is not known"
    );
}
