// SPDX-License-Identifier: Apache-2.0
//! Every type of a server is carried or refused by table and column.

use crate::fixture::{Fixture, changes, open, range, read_commits, render};
use crate::{on_each_major, on_majors};
use highwater_core::connector::{ChunkReader, SourceConnector};
use highwater_core::image::CellRef;
use highwater_core::{ErrorKind, Scope};

on_each_major!(
    everyday_values_come_alike_from_log_and_chunk,
    values_without_a_form_stop_their_table_and_are_never_null,
    every_type_of_the_server_is_carried_or_refused_by_name,
    what_a_list_cannot_hold_is_refused_and_carried_as_text,
    identity_columns_are_carried_and_generated_ones_left_out_alike,
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
    ("bytea", "'\\x00ff'", "\\x00ff"),
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
    ("bit(10)", "B'1010101011'", "\\xab02"),
    ("varbit", "B'101'", "\\x05"),
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
    ("lquery", "'*.b{1,2}'", "*.b{1,2}"),
    ("ltxtquery", "'a & !b'", "a & !b"),
    ("cube", "'(1,2),(3,4)'", "(1, 2),(3, 4)"),
    ("isbn", "'978-0-393-04002-9'", "0-393-04002-X"),
    ("seg", "'1.0 .. 2'", "1.0 .. 2"),
    ("query_int", "'1&2|!3'", "1 & 2 | !3"),
    ("smallint[]", "'{1,NULL,-3}'", "[1,null,-3]"),
    ("integer[]", "'{}'", "[]"),
    ("bigint[]", "'{9223372036854775807}'", "[9223372036854775807]"),
    (
        "text[]",
        "array['a', '', NULL, 'null', '\"']",
        r#"["a","",null,"null","\""]"#,
    ),
    ("numeric(9,2)[]", "'{1.5,NULL}'", "[150,null]"),
    ("numeric[]", "'{1.50}'", "[150e-2]"),
    ("boolean[]", "'{t,f}'", "[true,false]"),
    ("double precision[]", "'{1.5,-Infinity}'", "[1.5,-inf]"),
    (
        "timestamptz[]",
        "'{2026-01-02 03:04:05+00}'",
        r#"["2026-01-02T03:04:05Z"]"#,
    ),
    ("bytea[]", r"array['\x00ff'::bytea]", r#"["\\x00ff"]"#),
    (
        "uuid[]",
        "array['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]",
        r#"["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]"#,
    ),
    ("jsonb[]", r#"array['{"a":1}'::jsonb]"#, r#"["{\"a\": 1}"]"#),
    ("bit(1)[]", "'{1,0}'", "[true,false]"),
    ("mood[]", "'{happy,NULL}'", r#"["happy",null]"#),
    ("price[]", "'{3.14159}'", "[3142]"),
    ("prices", "'{3.14159}'", "[3142]"),
    ("int4range[]", "'{\"[1,3)\"}'", r#"["[1,3)"]"#),
    ("pair", "row(7, 'a,\"b', NULL)", r#"[7,"a,\"b",null]"#),
    (
        "pair[]",
        "array[row(7, NULL, '{1,2}')::pair, NULL]",
        "[[7,null,[1,2]],null]",
    ),
    ("good_pair", "row(7, 'a', '{1}')::pair", r#"[7,"a",[1]]"#),
    ("int4range", "'[1,3]'", "[1,4)"),
    ("int4range", "'empty'", "empty"),
    ("int8range", "'(,5)'", "(,5)"),
    ("numrange", "'(1.50,NaN]'", "(1.50,NaN]"),
    ("daterange", "'[2026-01-01,infinity)'", "[2026-01-01,infinity)"),
    ("tsrange", "'[2026-01-01 00:00,]'", "[\"2026-01-01 00:00:00\",)"),
    (
        "tstzrange",
        "'[2026-01-01 00:00+00,2026-01-02 00:00+00]'",
        "[\"2026-01-01 00:00:00+00\",\"2026-01-02 00:00:00+00\"]",
    ),
    ("textrange", "textrange('', 'a\"(', '(]')", "(\"\",\"a\"\"(\"]"),
    ("int4multirange", "'{[1,3),[5,7]}'", "{[1,3),[5,8)}"),
    ("datemultirange", "'{}'", "{}"),
    (
        "point",
        "'(1,-2.5)'",
        r#"[1,-2.5,"\\x0101000000000000000000f03f00000000000004c0",null]"#,
    ),
    ("line", "'{1,2,3}'", "{1,2,3}"),
    ("lseg", "'[(1,2),(3,4)]'", "[(1,2),(3,4)]"),
    ("box", "'(3,4),(1,2)'", "(3,4),(1,2)"),
    (
        "box[]",
        "'{(3,4),(1,2);(1,1),(0,0)}'",
        r#"["(3,4),(1,2)","(1,1),(0,0)"]"#,
    ),
    ("path", "'((1,2),(3,4))'", "((1,2),(3,4))"),
    ("path", "'[(1,2),(3,4)]'", "[(1,2),(3,4)]"),
    ("polygon", "'((1,2),(3,4),(5,6))'", "((1,2),(3,4),(5,6))"),
    ("circle", "'<(1,2),3>'", "<(1,2),3>"),
    ("tsvector", "'''a b'':1A,2 c'", "'a b':1A,2 'c'"),
    ("tsquery", "'a:*A & !(b | c) <2> d'", "'a':*A & !( 'b' | 'c' ) <2> 'd'"),
    ("pg_lsn", "'16/b374d848'", "16/B374D848"),
    ("xid8", "'18446744073709551615'", "18446744073709551615"),
    ("oid8", "'18446744073709551615'", "18446744073709551615"),
    ("regdatabase", "'template1'", "1"),
    ("xid", "'4294967295'", "4294967295"),
    ("cid", "'7'", "7"),
    ("tid", "'(42,7)'", "(42,7)"),
    ("txid_snapshot", "'10:20:10,14,15'", "10:20:10,14,15"),
    ("pg_snapshot", "'10:20:10,14,15'", "10:20:10,14,15"),
    ("regclass", "'pg_class'", "1259"),
    ("regtype", "'integer'", "23"),
    ("regproc", "'now'", "1299"),
    ("int2vector", "'1 2'", "[1,2]"),
    ("oidvector", "'1 4294967295'", "[1,4294967295]"),
    ("jsonpath", "'$.a[*] ? (@ > 1)'", "$.\"a\"[*]?(@ > 1)"),
    ("refcursor", "'r'", "r"),
    ("aclitem", "'=r/postgres'", "=r/postgres"),
];

/// What the types of [`VALUES`] need.
const TYPES: &str = "\
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube; \
    CREATE EXTENSION isn; CREATE EXTENSION seg; CREATE EXTENSION intarray; \
    CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN price AS numeric(9,3); CREATE DOMAIN nested AS price; \
    CREATE DOMAIN prices AS price[]; CREATE TYPE pair AS (no int, note text, list int[]); \
    CREATE DOMAIN good_pair AS pair CHECK ((value).no > 0); CREATE TYPE textrange AS RANGE (subtype = text)";

/// The values of [`VALUES`] that `major` can have: multiranges exist since 14, scales below zero and above the precision
/// since 15.
fn values_of(major: u16) -> Vec<&'static (&'static str, &'static str, &'static str)> {
    let since = |of: &str| match of {
        "numeric(5,-2)" | "numeric(2,5)" => 15,
        _ if of.contains("multirange") => 14,
        "oid8" | "regdatabase" => 19,
        _ => 13,
    };
    VALUES.iter().filter(|(of, ..)| major >= since(of)).collect()
}

pub async fn everyday_values_come_alike_from_log_and_chunk(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql(TYPES).await;
    let values = values_of(major);
    let columns: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, (of, ..))| format!("c{at} {of}"))
        .collect();
    let inserted: Vec<&str> = values.iter().map(|(_, value, _)| *value).collect();
    fixture
        .sql(&format!(
            "CREATE TABLE everything (id int PRIMARY KEY, {})",
            columns.join(", ")
        ))
        .await;
    let connector = fixture.connector(&["public.everything"]);
    let mut log = open(&connector).await;
    fixture
        .sql(&format!("INSERT INTO everything VALUES (1, {})", inserted.join(", ")))
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
    let expected: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, (.., text))| format!("c{at}={text}"))
        .collect();
    assert_eq!(
        render(&chunk.schema, &chunk.rows[0]),
        format!("{{id=1,{}}}", expected.join(","))
    );
    let nulls: Vec<String> = (0..values.len()).map(|at| format!("c{at}=null")).collect();
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
    let without_a_form = if major >= 14 { "Infinity" } else { "NaN" };
    fixture
        .sql(&format!(
            "INSERT INTO odd VALUES (1, 'NaN', NULL), (2, NULL, '{without_a_form}')"
        ))
        .await;
    let chunk = connector
        .open_chunks()
        .await
        .unwrap()
        .read(&range("odd", None, 10))
        .await
        .unwrap();
    for (row, column) in [(0, 1), (1, 2)] {
        let CellRef::Value(bytes) = chunk.rows[row].cell(column) else {
            panic!("not a value")
        };
        let mut text = crate::fixture::Text::default();
        assert!(chunk.schema.columns[column].decoder.decode(bytes, &mut text).is_err());
        assert!(text.text.is_empty(), "nothing was written");
    }
}

async fn every_type_of_the_server_is_carried_or_refused_by_name(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql(TYPES).await;
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
    let names: Vec<String> = types.iter().map(|row| row.get(0)).collect();
    for (at, of) in names.iter().enumerate() {
        // Types of the server's own catalogues only cannot be a column's.
        let sql = format!("CREATE TABLE t{at} (id int PRIMARY KEY, \"the column\" {of})");
        let _ = fixture.client.batch_execute(&sql).await;
    }
    let refused = refused_tables(&fixture).await;
    let mut settings = fixture.json(&["public.t*"]);
    settings["tables"]["exclude"] = refused.iter().map(|table| format!("public.{table}")).collect();
    let catalog = crate::fixture::connector(settings).discover().await.unwrap();
    let of = |table: &str| names[table[1..].parse::<usize>().unwrap()].clone();
    let refused: Vec<String> = refused.iter().map(|table| of(table)).collect();
    let carried: Vec<String> = catalog
        .tables
        .iter()
        .map(|table| of(&table.schema.name.table))
        .collect();
    println!("carried: {}", carried.join(", "));
    println!("refused: {}", refused.join(", "));
    for of in &refused {
        assert!(is_refused(of, major), "{of} is refused");
    }
    for (of, ..) in values_of(major) {
        let of = fixture.ask(&format!("SELECT format_type('{of}'::regtype, NULL)")).await;
        assert!(carried.contains(&of), "{of} is carried: {carried:?}");
    }
}

/// The tables with a column that is not carried: as the check finds them, of which a first one is tried.
async fn refused_tables(fixture: &Fixture) -> Vec<String> {
    let findings = fixture.connector(&["public.t*"]).preflight().await.unwrap();
    let refused = findings.iter().filter(|finding| finding.code == "unsupported_column");
    let refused: Vec<String> = refused
        .map(|finding| {
            let what = finding.what.strip_prefix("column \"the column\" of table public.");
            what.and_then(|what| what.split(' ').next())
                .expect("a table's name")
                .to_owned()
        })
        .collect();
    let table = format!("public.{}", refused[0]);
    let error = fixture.connector(&[&table]).discover().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.scope()),
        (ErrorKind::UnsupportedValue, Scope::Table),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains(&table) && text.contains("\"the column\""), "{text}");
    refused
}

/// What is not carried: types that are internal to the server, and arrays of types that have no binary form, which the
/// server cannot send.
fn is_refused(of: &str, major: u16) -> bool {
    const INTERNAL: [&str; 7] = [
        "pg_node_tree",
        "pg_ndistinct",
        "pg_dependencies",
        "pg_mcv_list",
        "pg_brin_bloom_summary",
        "pg_brin_minmax_multi_summary",
        "gtsvector",
    ];
    const WITHOUT_BINARY_FORM: [&str; 15] = [
        "aclitem",
        "ean13",
        "isbn",
        "isbn13",
        "ismn",
        "ismn13",
        "issn",
        "issn13",
        "upc",
        "seg",
        "query_int",
        "gtsvector",
        "ghstore",
        "intbig_gkey",
        "ltree_gist",
    ];
    match of.strip_suffix("[]") {
        // `cube` has a binary form since 14.
        Some(item) => WITHOUT_BINARY_FORM.contains(&item) || (item == "cube" && major < 14),
        None => INTERNAL.contains(&of),
    }
}

async fn what_a_list_cannot_hold_is_refused_and_carried_as_text(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE grid (id int PRIMARY KEY, cells int[])").await;
    let mut settings = fixture.json(&["public.grid"]);
    drop(open(&crate::fixture::connector(settings.clone())).await);
    fixture
        .sql("INSERT INTO grid VALUES (1, '{{1,2},{3,NULL}}'), (2, '[0:1]={7,8}'), (3, '{9}')")
        .await;
    let read = async |settings| {
        let connector = crate::fixture::connector(settings);
        let mut chunks = connector.open_chunks().await.unwrap();
        chunks.read(&range("grid", None, 10)).await.unwrap()
    };
    let chunk = read(settings.clone()).await;
    for (row, reason) in [(0, "more than one dimension"), (1, "does not begin at index 1")] {
        let CellRef::Value(bytes) = chunk.rows[row].cell(1) else {
            panic!("not a value")
        };
        let refused = chunk.schema.columns[1]
            .decoder
            .decode(bytes, &mut crate::fixture::Text::default());
        assert!(refused.unwrap_err().reason.contains(reason));
    }
    assert_eq!(render(&chunk.schema, &chunk.rows[2]), "{id=3,cells=[9]}");
    settings["values"] = serde_json::json!({"as_text": ["integer[]"]});
    let chunk = read(settings).await;
    let rows: Vec<String> = chunk.rows.iter().map(|row| render(&chunk.schema, row)).collect();
    assert_eq!(
        rows,
        [
            "{id=1,cells={{1,2},{3,NULL}}}",
            "{id=2,cells=[0:1]={7,8}}",
            "{id=3,cells={9}}"
        ]
    );
}

async fn identity_columns_are_carried_and_generated_ones_left_out_alike(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE sums (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)")
        .await;
    assert_eq!(
        logged_and_copied(&fixture, fixture.json(&["public.sums"])).await,
        "{id=1,n=5}"
    );
}

/// Since version 18 a publication may have generated columns; virtual ones are never in the log.
#[tokio::test]
async fn generated_columns_that_the_publication_has_are_carried_on_18() {
    on_majors(vec![18], generated_columns_that_the_publication_has_are_carried).await;
}

async fn generated_columns_that_the_publication_has_are_carried(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE sums (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, \
                                twice int GENERATED ALWAYS AS (n * 2) STORED, thrice int GENERATED ALWAYS AS (n * 3) VIRTUAL)",
        )
        .await;
    fixture
        .sql("CREATE PUBLICATION with_generated FOR TABLE sums WITH (publish_generated_columns = stored)")
        .await;
    let mut settings = fixture.json(&["public.sums"]);
    settings["publication"] = serde_json::json!({"name": "with_generated", "create": false});
    assert_eq!(logged_and_copied(&fixture, settings).await, "{id=1,n=5,twice=10}");
}

/// Inserts a row into `sums`; how it comes through log and chunk, which must agree.
async fn logged_and_copied(fixture: &Fixture, settings: serde_json::Value) -> String {
    let connector = crate::fixture::connector(settings);
    let mut log = open(&connector).await;
    fixture.sql("INSERT INTO sums (n) VALUES (5)").await;
    let items = read_commits(&mut log, 1).await;
    let mut chunks = connector.open_chunks().await.unwrap();
    let chunk = chunks.read(&range("sums", None, 10)).await.unwrap();
    let change = changes(&items)[0];
    assert_eq!(change.after.as_ref(), Some(&chunk.rows[0]));
    assert_eq!(change.schema.fingerprint(), chunk.schema.fingerprint());
    render(&chunk.schema, &chunk.rows[0])
}
