// SPDX-License-Identifier: Apache-2.0
//! The tables of the workload. The content of a row is a function of its key's number and its revision, so an event can
//! be checked down to each value by knowing these alone.

use serde_json::{Map, Value};

use crate::cell::Cell;

/// A row's place in the history of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Counts the changes; ascending per key, unique within a writer.
    pub number: i64,
    /// The revision that wrote the wide column; equal to `number` where it was written with it.
    pub wide: i64,
}

/// A table of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Integer key and the everyday types.
    Items,
    /// Composite key, much of it NULL; keys change.
    Lines,
    /// Text key and a wide column outside of the row, often left alone; keys change.
    Docs,
    /// UUID key, JSON, REPLICA IDENTITY FULL.
    People,
    /// Big integer key; truncated now and then.
    Ticks,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 5] = [Table::Items, Table::Lines, Table::Docs, Table::People, Table::Ticks];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Items => "items",
            Table::Lines => "lines",
            Table::Docs => "docs",
            Table::People => "people",
            Table::Ticks => "ticks",
        }
    }

    /// The table of a name.
    pub fn named(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The statements that make it in the schema `schema`.
    pub fn ddl(self, schema: &str) -> String {
        let name = self.name();
        match self {
            Table::Items => format!(
                "CREATE TABLE {schema}.{name} (id integer PRIMARY KEY, rev bigint NOT NULL, name varchar(60) NOT NULL, \
                 price numeric(12,2), amount numeric, active boolean NOT NULL, made timestamp, changed timestamptz NOT NULL, \
                 day date, small smallint, ratio double precision, raw bytea)"
            ),
            Table::Lines => format!(
                "CREATE TABLE {schema}.{name} (orders bigint, line integer, rev bigint NOT NULL, label text, a integer, \
                 b text, c numeric(6,3), d timestamp, e boolean, PRIMARY KEY (orders, line))"
            ),
            Table::Docs => format!(
                "CREATE TABLE {schema}.{name} (code text PRIMARY KEY, rev bigint NOT NULL, wide_rev bigint NOT NULL, \
                 wide text NOT NULL, title text); ALTER TABLE {schema}.{name} ALTER wide SET STORAGE EXTERNAL"
            ),
            Table::People => format!(
                "CREATE TABLE {schema}.{name} (id uuid PRIMARY KEY, rev bigint NOT NULL, profile jsonb, note json, \
                 email text); ALTER TABLE {schema}.{name} REPLICA IDENTITY FULL"
            ),
            Table::Ticks => {
                format!("CREATE TABLE {schema}.{name} (id bigint PRIMARY KEY, rev bigint NOT NULL, value integer)")
            }
        }
    }

    /// Whether it has the wide column that updates may leave alone.
    pub fn has_wide(self) -> bool {
        self == Table::Docs
    }

    /// Whether the log has the whole row before.
    pub fn identity_is_full(self) -> bool {
        self == Table::People
    }

    /// Whether the workload moves rows to other keys.
    pub fn moves_keys(self) -> bool {
        matches!(self, Table::Lines | Table::Docs)
    }

    /// The columns of the key numbered `key`.
    pub fn key(self, key: u64) -> Vec<(&'static str, Cell)> {
        let number = key as i64;
        match self {
            Table::Items | Table::Ticks => vec![("id", Cell::Int(number))],
            Table::Lines => vec![("orders", Cell::Int(number / 10)), ("line", Cell::Int(number % 10))],
            // First letters that collations and bytes order differently.
            Table::Docs => {
                let first = ["a", "B", "ä", "_", "Z", "é"][(key % 6) as usize];
                vec![("code", Cell::Text(format!("{first}-{key}")))]
            }
            Table::People => vec![("id", Cell::Uuid(uuid(key)))],
        }
    }

    /// The key's columns as a decoded key shows them.
    pub fn key_json(self, key: u64) -> Value {
        object(self.key(key))
    }

    /// Every other column of the row at a revision.
    pub fn content(self, key: u64, revision: Revision) -> Vec<(&'static str, Cell)> {
        let rev = revision.number;
        let dice = mix(key ^ mix(rev as u64));
        let some = |bit: u32, cell: Cell| if dice >> bit & 3 == 0 { Cell::Null } else { cell };
        let mut cells = vec![("rev", Cell::Int(rev))];
        cells.extend(match self {
            Table::Items => vec![
                ("name", Cell::Text(format!("item {key} – {rev}"))),
                (
                    "price",
                    some(0, Cell::Numeric(cents(dice % 1_000_000_000, rev % 3 == 0))),
                ),
                (
                    "amount",
                    some(2, Cell::Numeric(format!("{}.{}", rev, dice % 900 + 100))),
                ),
                ("active", Cell::Bool(dice & 1 == 0)),
                ("made", some(4, Cell::Timestamp((dice % 4_000_000_000_000_000) as i64))),
                (
                    "changed",
                    Cell::TimestampTz((dice % 200_000_000_000_000) as i64 * 10 + 7),
                ),
                ("day", some(6, Cell::Date((dice % 40_000) as i32 - 10_000))),
                ("small", some(8, Cell::Int((dice % 60_000) as i64 - 30_000))),
                ("ratio", some(10, Cell::Double((dice % 100_000) as f64 / 8.0 - 1000.0))),
                (
                    "raw",
                    some(12, Cell::Bytes(dice.to_be_bytes()[..(dice % 9) as usize].to_vec())),
                ),
            ],
            Table::Lines => vec![
                ("label", some(0, Cell::Text(format!("line {key} {rev}")))),
                ("a", rare(dice, 3, Cell::Int(rev))),
                ("b", rare(dice, 5, Cell::Text(String::new()))),
                (
                    "c",
                    rare(dice, 7, Cell::Numeric(format!("-{}.{:03}", dice % 999, dice % 1000))),
                ),
                ("d", rare(dice, 9, Cell::Timestamp(rev))),
                ("e", rare(dice, 11, Cell::Bool(dice & 1 == 1))),
            ],
            Table::Docs => vec![
                ("wide_rev", Cell::Int(revision.wide)),
                ("wide", Cell::Text(wide(key, revision.wide))),
                ("title", some(0, Cell::Text(format!("Über {rev} €")))),
            ],
            Table::People => vec![
                (
                    "profile",
                    some(0, Cell::Json(format!("{{\"n\": {rev}, \"tags\": [\"a\", \"ß\"]}}"))),
                ),
                ("note", some(2, Cell::Json(format!("{{\"z\":{rev},  \"a\":null}}")))),
                ("email", some(4, Cell::Text(format!("p{key}.{rev}@example.org")))),
            ],
            Table::Ticks => vec![("value", Cell::Int((dice % 2_000_000_000) as i64))],
        });
        cells
    }

    /// The whole row as a decoded event shows it.
    pub fn row_json(self, key: u64, revision: Revision) -> Value {
        object(self.key(key).into_iter().chain(self.content(key, revision)))
    }

    /// A condition that meets the row of a key only.
    pub fn key_condition(self, key: u64) -> String {
        self.key(key)
            .iter()
            .map(|(name, cell)| format!("{name} = {}", cell.sql()))
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// The key's columns, ready for a statement.
    pub fn key_columns(self) -> String {
        self.key(0).iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

fn object(cells: impl IntoIterator<Item = (&'static str, Cell)>) -> Value {
    let fields = cells.into_iter().map(|(name, cell)| (name.to_owned(), cell.json()));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn rare(dice: u64, bit: u32, cell: Cell) -> Cell {
    if dice >> bit & 7 == 0 { cell } else { Cell::Null }
}

fn cents(number: u64, negative: bool) -> String {
    let sign = if negative && number > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", number / 100, number % 100)
}

/// Some 3,000 to 12,000 characters that compression would not be allowed to shorten anyway (STORAGE EXTERNAL).
fn wide(key: u64, revision: i64) -> String {
    let dice = mix(key ^ mix(revision as u64 ^ 0x5eed));
    let word = format!("{dice:016x}.");
    word.repeat(200 + (dice % 500) as usize)
}

fn uuid(key: u64) -> String {
    let (a, b) = (mix(key), mix(key ^ 0xabcd));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// A hash that spreads neighbours (splitmix64's finalizer).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
