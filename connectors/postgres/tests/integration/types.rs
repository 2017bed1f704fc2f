// SPDX-License-Identifier: Apache-2.0
//! Every type of a server is carried or refused by table and column.

use crate::fixture::{Fixture, changes, open, range, read_commits, render};
use crate::on_each_major;
use highwater_core::connector::{ChunkReader, SourceConnector};
use highwater_core::{ErrorKind, Scope};

on_each_major!(
    everyday_values_come_alike_from_log_and_chunk,
    values_without_a_form_stop_their_table_and_are_never_null,
    every_type_of_the_server_is_carried_or_refused_by_name,
);

/// Column type, SQL value, what is decoded.
const VALUES: &[(&str, &str, &str)] = &[
    ("boolean", "true", "true"),
    ("smallint", "-32768", "-32768"),
    ("integer", "2147483647", "2147483647"),
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("oid", "4294967295", "4294967295"),
    ("real", "1.5", "1.5"),
    ("double precision", "'-Infinity'", "-inf"),
    ("numeric(12,2)", "-1234567.89", "-123456789"),
    (
        "numeric(38,0)",
        "99999999999999999999999999999999999999",
        "99999999999999999999999999999999999999",
    ),
    ("numeric(5,-2)", "1234567", "1234600"),
    ("numeric(2,5)", "0.00012", "12"),
    ("numeric", "12345.678900", "12345678900e-6"),
    ("numeric", "0", "0e-0"),
    ("money", "12.34", "1234"),
    ("text", "'é '", "é "),
    ("varchar(5)", "'abc'", "abc"),
    ("char(5)", "'abc'", "abc  "),
    ("name", "'n'", "n"),
    ("\"char\"", "'c'", "c"),
    ("bytea", "'\\x00ff'", "[00, ff]"),
    ("date", "'1969-12-31'", "-1"),
    ("date", "'infinity'", "2146033979"),
    ("time", "'12:34:56.789012'", "45296789012"),
    ("time(3)", "'12:34:56.789'", "45296789"),
    ("time", "'24:00'", "86400000000"),
    ("timetz", "'01:00:00.5+02'", "23:00:00.5Z"),
    ("timestamp", "'1970-01-01 00:00:01.000001'", "1000001"),
    ("timestamp(3)", "'1969-12-31 23:59:59.999'", "-1"),
    ("timestamp", "'-infinity'", "-9223372036832400000"),
    (
        "timestamptz",
        "'2026-01-02 03:04:05.123456+00'",
        "2026-01-02T03:04:05.123456Z",
    ),
    ("timestamptz", "'0044-03-15 12:00:00+00 BC'", "-0043-03-15T12:00:00Z"),
    ("timestamptz", "'12026-01-02 00:00:00+00'", "+12026-01-02T00:00:00Z"),
    ("timestamptz", "'infinity'", "+292278994-08-16T23:00:00Z"),
    ("interval", "'1 mon 2 days 00:00:01'", "2802601000000"),
    (
        "uuid",
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    ),
    ("json", "'{\"a\": 1}'", "{\"a\": 1}"),
    ("jsonb", "'{\"a\":1}'", "{\"a\": 1}"),
    ("xml", "'<a/>'", "<a/>"),
    ("bit(1)", "B'1'", "true"),
    ("bit(10)", "B'1010101011'", "[ab, 02]"),
    ("varbit", "B'101'", "[05]"),
    ("inet", "'192.168.0.1/24'", "192.168.0.1/24"),
    ("inet", "'::1'", "::1"),
    ("cidr", "'10.0.0.0/8'", "10.0.0.0/8"),
    ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    ("macaddr8", "'08:00:2b:01:02:03:04:05'", "08:00:2b:01:02:03:04:05"),
    ("mood", "'happy'", "happy"),
    ("price", "3.14159", "3142"),
    ("nested", "7.5", "7500"),
    ("hstore", "'a=>\"b\\\"c\", d=>NULL'", "{\"a\":\"b\\\"c\",\"d\":null}"),
    ("citext", "'Mixed'", "Mixed"),
    ("ltree", "'a.b'", "a.b"),
];

async fn everyday_values_come_alike_from_log_and_chunk(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; \
             CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN price AS numeric(9,3); CREATE DOMAIN nested AS price",
        )
        .await;
    let columns: Vec<String> = VALUES
        .iter()
        .enumerate()
        .map(|(at, (of, ..))| format!("c{at} {of}"))
        .collect();
    let values: Vec<&str> = VALUES.iter().map(|(_, value, _)| *value).collect();
    fixture
        .sql(&format!(
            "CREATE TABLE everything (id int PRIMARY KEY, {})",
            columns.join(", ")
        ))
        .await;
    let connector = fixture.connector(&["public.everything"]);
    let mut log = open(&connector).await;
    fixture
        .sql(&format!("INSERT INTO everything VALUES (1, {})", values.join(", ")))
        .await;
    fixture.sql("INSERT INTO everything (id) VALUES (2)").await;
    let items = read_commits(&mut log, 2).await;
    let chunk = connector
        .open_chunks()
        .await
        .unwrap()
        .read(&range("everything", None, 10))
        .await
        .unwrap();
    for (change, row) in changes(&items).iter().zip(&chunk.rows) {
        assert_eq!(change.after.as_ref(), Some(row));
        assert_eq!(change.schema.fingerprint(), chunk.schema.fingerprint());
    }
    let expected: Vec<String> = VALUES
        .iter()
        .enumerate()
        .map(|(at, (.., text))| format!("c{at}={text}"))
        .collect();
    assert_eq!(
        render(&chunk.schema, &chunk.rows[0]),
        format!("{{id=1,{}}}", expected.join(","))
    );
    let nulls: Vec<String> = (0..VALUES.len()).map(|at| format!("c{at}=null")).collect();
    assert_eq!(
        render(&chunk.schema, &chunk.rows[1]),
        format!("{{id=2,{}}}", nulls.join(","))
    );
}

async fn values_without_a_form_stop_their_table_and_are_never_null(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE odd (id int PRIMARY KEY, n numeric(9,2), m numeric)")
        .await;
    let connector = fixture.connector(&["public.odd"]);
    drop(open(&connector).await);
    fixture
        .sql("INSERT INTO odd VALUES (1, 'NaN', NULL), (2, NULL, 'Infinity')")
        .await;
    let chunk = connector
        .open_chunks()
        .await
        .unwrap()
        .read(&range("odd", None, 10))
        .await
        .unwrap();
    for (row, column) in [(0, 1), (1, 2)] {
        let highwater_core::image::CellRef::Value(bytes) = chunk.rows[row].cell(column) else {
            panic!("not a value")
        };
        let mut text = crate::fixture::Text(String::new());
        assert!(chunk.schema.columns[column].decoder.decode(bytes, &mut text).is_err());
        assert!(text.0.is_empty(), "nothing was written");
    }
}

async fn every_type_of_the_server_is_carried_or_refused_by_name(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; \
             CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN price AS numeric(9,3); CREATE DOMAIN list AS int[]; \
             CREATE TYPE pair AS (a int, b int); CREATE TYPE span AS RANGE (subtype = int4)",
        )
        .await;
    let types = fixture
        .client
        .query(
            "SELECT oid::regtype::text FROM pg_type WHERE typtype <> 'p' AND typisdefined AND typnamespace <> 'information_schema'::regnamespace \
                AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = typrelid AND c.relkind <> 'c') \
                AND NOT EXISTS (SELECT FROM pg_type e JOIN pg_class c ON c.oid = e.typrelid WHERE e.oid = pg_type.typelem AND c.relkind <> 'c') \
              ORDER BY oid",
            &[],
        )
        .await
        .unwrap();
    let (mut carried, mut refused) = (Vec::new(), Vec::new());
    for (at, row) in types.iter().enumerate() {
        let of: String = row.get(0);
        // Types of the server's own catalogues only cannot be a column's.
        if fixture
            .client
            .batch_execute(&format!("CREATE TABLE t{at} (id int PRIMARY KEY, \"the column\" {of})"))
            .await
            .is_err()
        {
            continue;
        }
        match fixture.connector(&[&format!("public.t{at}")]).discover().await {
            Ok(catalog) => {
                assert_eq!(catalog.tables[0].schema.columns[1].name, "the column");
                carried.push(of);
            }
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.scope()),
                    (ErrorKind::UnsupportedValue, Scope::Table),
                    "{of}: {error}"
                );
                let text = error.to_string();
                assert!(
                    text.contains(&format!("public.t{at}")) && text.contains("\"the column\""),
                    "{text}"
                );
                refused.push(of);
            }
        }
    }
    println!("carried: {}", carried.join(", "));
    println!("refused: {}", refused.join(", "));
    for of in [
        "integer", "jsonb", "mood", "price", "hstore", "citext", "ltree", "inet", "money", "\"char\"", "interval",
    ] {
        assert!(carried.iter().any(|found| found == of), "{of} is carried: {carried:?}");
    }
    for of in [
        "integer[]",
        "list",
        "pair",
        "span",
        "point",
        "tsvector",
        "int4range",
        "xid8",
        "mood[]",
        "regclass",
    ] {
        assert!(refused.iter().any(|found| found == of), "{of} is refused: {refused:?}");
    }
    // Built-in types that are carried, and those made here.
    assert_eq!(
        carried.len(),
        highwater_postgres::values::CARRIED_OIDS.len() + 5,
        "{carried:?}"
    );
}
