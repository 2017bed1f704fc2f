// SPDX-License-Identifier: Apache-2.0
//! The bytes of fields, against what the statements put into them.

use highwater_core::image::CellRef;
use highwater_mysql::protocol::json_diff::JsonDiff;
use highwater_mysql::protocol::rows::RowsKind;

use crate::sample::{Changed, changes, shapes, value};

const TYPES: [&str; 4] = [
    "mysql-9.7-types",
    "mysql-8.0-types",
    "mariadb-10.11-types",
    "mariadb-11.8-types",
];

#[test]
fn numbers_have_the_bytes_of_the_manual() {
    for name in TYPES {
        let shape = &shapes(name)["numbers"];
        let rows = changes(name, "numbers");
        assert_eq!(rows.len(), 4, "{name}");
        let lowest = rows[0].after();
        let check = |column: &str, expected: &[u8]| {
            assert_eq!(value(lowest, shape.place(column)), expected, "{name} {column}");
        };
        check("i8", &i8::MIN.to_le_bytes());
        check("u8", &u8::MAX.to_le_bytes());
        check("i16", &i16::MIN.to_le_bytes());
        check("u16", &u16::MAX.to_le_bytes());
        check("i24", &[0, 0, 0x80]);
        check("u24", &[0xff; 3]);
        check("i32", &i32::MIN.to_le_bytes());
        check("u32", &u32::MAX.to_le_bytes());
        check("i64", &i64::MIN.to_le_bytes());
        check("u64", &u64::MAX.to_le_bytes());
        check("f", &1.5f32.to_le_bytes());
        check("d", &(-2.25f64).to_le_bytes());
        check("n2", &[0x83, 0xe7, 0x63]);
        check("b1", &[1]);
        check("b9", &[0x01, 0x55]);
        check("b64", &[0x80, 0, 0, 0, 0, 0, 0, 1]);
        check("bo", &[1]);
        assert_eq!(value(lowest, shape.place("n")).len(), 30, "{name}");
    }
}

#[test]
fn a_null_has_no_bytes_and_an_update_has_both_rows() {
    for name in TYPES {
        let shape = &shapes(name)["numbers"];
        let rows = changes(name, "numbers");
        let nulls = rows[2].after();
        for column in 0..shape.plan.columns() {
            let expected = if column == shape.place("i32") {
                CellRef::Value(&[0; 4])
            } else {
                CellRef::Null
            };
            assert_eq!(nulls.cell(column), expected, "{name} {column}");
        }
        assert_eq!(rows[3].kind, RowsKind::Update);
        assert_eq!(value(rows[3].before(), shape.place("u8")), [2]);
        assert_eq!(value(rows[3].after(), shape.place("u8")), [1]);
        assert_eq!(rows[3].after().cell(shape.place("n2")), CellRef::Null);
    }
}

/// One form on all servers, so that one decoder reads them.
#[test]
fn all_servers_write_the_same_bytes() {
    for table in ["numbers", "times", "texts"] {
        let images = |name| -> Vec<_> { changes(name, table).into_iter().map(|changed| changed.change).collect() };
        let first = images(TYPES[0]);
        assert!(first.len() > 2, "{table}");
        for name in &TYPES[1..] {
            assert_eq!(images(name), first, "{name} {table}");
        }
    }
}

#[test]
fn texts_are_in_the_character_set_of_their_columns() {
    let name = "mysql-9.7-types";
    let shape = &shapes(name)["texts"];
    let rows = changes(name, "texts");
    let first = rows[0].after();
    let check = |column: &str, expected: &[u8]| assert_eq!(value(first, shape.place(column)), expected, "{column}");
    check("c", &[0xe9]);
    check("c255", "😀".as_bytes());
    check("vc", &[0xd6, 0xd0]);
    check("vl", &[0, b'h', 0, b'i']);
    check("b", &[1, 2]);
    check("vb", &[0, 0xff]);
    check("tx", b"na\xefve");
    check("lt", b"long");
    check("mb", &[4, 5, 6]);
    check("e", &[2]);
    check("st", &[0b101]);
    check("hidden", &7i32.to_le_bytes());
    let kinds: Vec<_> = rows.iter().map(|row| row.kind).collect();
    use RowsKind::{Delete, Insert, Update};
    assert_eq!(kinds, [Insert, Insert, Insert, Update, Delete, Delete]);
    assert_eq!(value(rows[1].after(), shape.place("e")), [0], "a label that is none");
}

#[test]
fn shapes_have_a_reference_system_and_vectors_their_floats() {
    let name = "mysql-9.7-types";
    let shape = &shapes(name)["shapes"];
    let rows = changes(name, "shapes");
    let first = rows[0].after();
    let point = [
        &[0; 4][..],
        &[1],
        &1u32.to_le_bytes(),
        &1f64.to_le_bytes(),
        &2f64.to_le_bytes(),
    ]
    .concat();
    assert_eq!(value(first, shape.place("p")), point);
    assert_eq!(value(first, shape.place("gc"))[..4], 4326u32.to_le_bytes());
    let vector: Vec<u8> = [1f32, 2.5, -3.0]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    assert_eq!(value(first, shape.place("v")), vector);
    assert_eq!(value(first, shape.place("j"))[0], 0, "a small object");
    let of_mariadb = "mariadb-11.8-types";
    let vectors = changes(of_mariadb, "vectors");
    assert_eq!(value(vectors[0].after(), 1), vector);
    let row = &changes(of_mariadb, "shapes")[0];
    let shape = &shapes(of_mariadb)["shapes"];
    assert_eq!(value(row.after(), shape.place("p")), point);
    assert_eq!(value(row.after(), shape.place("i6")).len(), 16);
    assert_eq!(value(row.after(), shape.place("j")), br#"{"a": 1}"#);
    // Values of COMPRESSED columns stay compressed in the log: a kind, the length before, a stream.
    assert_eq!(value(row.after(), shape.place("cv"))[..2], [0x89, 200]);
}

#[test]
fn row_images_have_what_the_setting_says() {
    let shapes = |row: &highwater_core::image::RowImage| format!("{row:?}").split(',').next().unwrap().to_owned();
    let seen: Vec<String> = changes("mysql-9.7-images", "imaged")
        .iter()
        .map(|changed| {
            let images = [&changed.change.before, &changed.change.after];
            let images: Vec<_> = images.into_iter().flatten().map(shapes).collect();
            format!("{:?} {}", changed.kind, images.join(" "))
        })
        .collect();
    assert_eq!(
        seen,
        [
            "Insert RowImage(vvvv",
            "Insert RowImage(v-v-",
            "Update RowImage(v--- RowImage(-v--",
            "Delete RowImage(v---",
            "Update RowImage(vvv- RowImage(vvv-",
            "Update RowImage(vvv- RowImage(vvvv",
            "Delete RowImage(vvv-",
            "Insert RowImage(vvnn",
        ]
    );
}

/// The differences of a column of the row after, which has no cell for it.
fn differences(changed: &Changed, column: usize) -> Vec<JsonDiff<'_>> {
    assert_eq!(changed.kind, RowsKind::PartialUpdate);
    assert_eq!(changed.after().cell(column), CellRef::Unchanged);
    let mut diffs = changed.change.json_diffs.iter();
    let diffs = diffs.find(|diffs| diffs.column == column);
    diffs.expect("differences").parse().unwrap()
}

#[test]
fn documents_come_as_differences() {
    let rows = changes("mysql-9.7-partial-json", "docs");
    assert_eq!((rows.len(), rows[0].kind), (9, RowsKind::Insert));
    let (path, value_of_two) = ("$.a", &[5, 2, 0][..]);
    let replace = |path, value| JsonDiff::Replace { path, value };
    assert_eq!(differences(&rows[1], 1), [replace(path, value_of_two)]);
    assert_eq!(differences(&rows[1], 2), [], "the document is as before");
    assert_eq!(value(rows[1].after(), 3), [2, 0, 0, 0]);
    let (path, value_of_four) = ("$.b[3]", &b"\x0c\x04four"[..]);
    let insert = |path, value| JsonDiff::Insert { path, value };
    assert_eq!(differences(&rows[2], 1), [insert(path, value_of_four)]);
    assert_eq!(differences(&rows[2], 2), [JsonDiff::Remove { path: "$.k" }]);
    assert_eq!(differences(&rows[3], 1), [JsonDiff::Remove { path: "$.c.d" }]);
    let added = differences(&rows[5], 1);
    assert!(matches!(added[..], [JsonDiff::Insert { path: "$.e", .. }]));
    assert_eq!(rows[5].after().cell(3), CellRef::Null);
    assert_eq!(differences(&rows[7], 1), []);
    let last = &rows[8];
    assert_eq!(differences(last, 1), [replace("$.whole", &[4, 2])]);
    assert_eq!(last.before().cell(1), CellRef::Absent, "binlog_row_image=MINIMAL");
    assert_eq!(last.after().cell(2), CellRef::Absent);
}

#[test]
fn documents_that_are_no_smaller_as_differences_come_whole() {
    let rows = changes("mysql-9.7-partial-json", "docs");
    for whole in [4, 6] {
        assert!(rows[whole].change.json_diffs.iter().all(|diffs| diffs.column != 1));
        assert!(matches!(rows[whole].after().cell(1), CellRef::Value(_)));
    }
}

#[test]
fn compressed_transactions_of_mysql_hold_their_rows() {
    let rows = changes("mysql-9.7-compressed", "wide");
    let kinds = |kind| rows.iter().filter(|row| row.kind == kind).count();
    assert_eq!(
        (
            kinds(RowsKind::Insert),
            kinds(RowsKind::Update),
            kinds(RowsKind::Delete)
        ),
        (101, 10, 10)
    );
    for (number, row) in (1i32..=100).zip(&rows) {
        assert_eq!(value(row.after(), 0), number.to_le_bytes());
        assert_eq!(value(row.after(), 1), format!("row {number} ").repeat(200).as_bytes());
    }
    assert_eq!(value(rows[100].after(), 1), b"short");
}

#[test]
fn compressed_rows_of_mariadb_are_inflated() {
    for name in ["mariadb-10.11-compressed", "mariadb-11.8-compressed"] {
        let rows = changes(name, "wide");
        let kinds = |kind| rows.iter().filter(|row| row.kind == kind).count();
        assert_eq!(
            (
                kinds(RowsKind::Insert),
                kinds(RowsKind::Update),
                kinds(RowsKind::Delete)
            ),
            (60, 12, 10),
            "{name}"
        );
        for (number, row) in (1i32..=60).zip(&rows) {
            assert_eq!(value(row.after(), 0), number.to_le_bytes(), "{name}");
            assert_eq!(
                value(row.after(), 1),
                format!("row {number} ").repeat(100).as_bytes(),
                "{name}"
            );
        }
        let last = rows.last().unwrap();
        assert_eq!(
            last.after().cell(0),
            CellRef::Absent,
            "{name}: binlog_row_image=MINIMAL"
        );
        assert_eq!(value(last.after(), 1), "min ".repeat(50).as_bytes(), "{name}");
    }
}

#[test]
fn rows_in_the_first_form_are_read() {
    let rows = changes("mysql-8.0-v1", "old");
    assert_eq!(value(rows[0].after(), 1), b"x");
    assert_eq!(rows[1].after().cell(1), CellRef::Null);
    assert_eq!(rows[2].kind, RowsKind::Delete);
    assert_eq!(rows.len(), 3);
}

#[test]
fn a_row_of_which_no_column_is_logged_is_one_row() {
    let rows = changes("mysql-9.7-empty-row", "defaults");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].kind, RowsKind::Insert);
    let cells: Vec<_> = rows[0].after().iter().collect();
    assert_eq!(cells, [CellRef::Absent, CellRef::Absent]);
}

#[test]
fn debug_shows_no_values() {
    let mut shown = String::new();
    for name in [
        "mysql-9.7-partial-json",
        "mysql-9.7-images",
        "mysql-9.7-statements",
        "mysql-9.7-compressed",
    ] {
        for event in crate::sample::events(name) {
            shown.push_str(&format!("{event:?}"));
        }
    }
    for changed in changes("mysql-9.7-partial-json", "docs") {
        shown.push_str(&format!("{:?}", changed.change));
        for diffs in &changed.change.json_diffs {
            shown.push_str(&format!("{:?}", diffs.parse()));
        }
    }
    for value in ["four", "hello", "worth while", "CREATE", "whole", "$."] {
        assert!(!shown.contains(value), "{value}");
    }
    assert!(shown.contains("Replace(3 bytes)") && shown.contains("RowImage("));
}
