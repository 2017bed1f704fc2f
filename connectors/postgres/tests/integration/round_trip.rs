// SPDX-License-Identifier: Apache-2.0
//! Random values of every type, against the server's own text of them: as text, and in their own form, turned back into
//! a value by the server.

use crate::fixture::{Fixture, Text, connector, open, read_commits};
use crate::fixture::{changes, range};
use crate::on_each_major;
use highwater_core::connector::{ChunkReader, SourceConnector};
use highwater_core::image::CellRef;
use serde_json::{Map, Value, json};

on_each_major!(
    every_type_as_text_is_the_servers_text,
    every_type_in_its_own_form_reads_back_as_the_servers_value,
);

const ROWS: usize = 60;

type Case = (&'static str, &'static str, &'static str);

/// A type, a random value of it in row `g`, and what reads an event's value `v` back; nothing where the form does not
/// tell everything (offsets of `timetz`, months of `interval`, zeros before a `varbit`), or is text already.
const TYPES: &[Case] = &[
    ("boolean", "random() < 0.5", "v::boolean"),
    ("smallint", "(random() * 65535 - 32768)::int", "v::smallint"),
    ("integer", "(random() * 4294967295 - 2147483648)::bigint", "v::int"),
    ("bigint", "any_bits(g)::bigint", "v::bigint"),
    ("oid", "(random() * 4294967295)::bigint::oid", "v::bigint::oid"),
    (
        "real",
        "((random() - 0.5) * 10 ^ (random() * 70 - 35))::real",
        "v::real",
    ),
    (
        "double precision",
        "(random() - 0.5) * 10 ^ (random() * 600 - 300)",
        "v::float8",
    ),
    (
        "numeric(20,6)",
        "(random() - 0.5)::numeric * 1e13",
        "(v::numeric / 1000000)::numeric(20,6)",
    ),
    ("numeric", "any_numeric(g)", "v::numeric"),
    (
        "money",
        "((random() - 0.5) * 1e9)::numeric::money",
        "(v::numeric / 100)::money",
    ),
    ("text", "any_text(g)", "v"),
    ("varchar(9)", "left(any_text(g), 9)", "v"),
    ("char(9)", "left(any_text(g), 9)", "v::char(9)"),
    ("bytea", "decode(md5(random()::text), 'hex')", "v::bytea"),
    (
        "date",
        "date '1970-01-01' + (random() * 6000000 - 2400000)::int",
        "date '1970-01-01' + v::int",
    ),
    ("time", "any_time(g)", "(v::bigint * interval '1 microsecond')::time"),
    (
        "time(3)",
        "any_time(g)",
        "(v::bigint * interval '1 millisecond')::time(3)",
    ),
    (
        "timetz",
        "any_time(g) AT TIME ZONE (interval '1 minute' * (random() * 1800 - 900)::int)",
        "",
    ),
    ("timestamp", "any_moment(g, 20000)", "from_micros(v::bigint)"),
    ("timestamp(3)", "any_moment(g, 20000)", "from_micros(v::bigint * 1000)"),
    (
        "timestamptz",
        "any_moment(g, 1900) AT TIME ZONE 'UTC'",
        "v::timestamptz",
    ),
    ("interval", "any_interval(g)", ""),
    ("uuid", "gen_random_uuid()", "v::uuid"),
    ("json", "json_build_object(any_text(g), random())", "v::json"),
    (
        "jsonb",
        "jsonb_build_object(any_text(g), random(), 'a', NULL)",
        "v::jsonb",
    ),
    ("xml", "xmlelement(name a, any_text(g))", "v::xml"),
    ("bit(1)", "(random() * 1)::int::bit(1)", "v::boolean::int::bit(1)"),
    ("bit(70)", "any_bits(g) || (random() * 63)::int::bit(6)", ""),
    ("varbit", "substring(any_bits(g)::varbit FROM 1 FOR g)", ""),
    ("inet", "any_inet(g)", "v::inet"),
    ("cidr", "network(any_inet(g))", "v::cidr"),
    ("macaddr", "left(md5(random()::text), 12)::macaddr", "v::macaddr"),
    ("macaddr8", "left(md5(random()::text), 16)::macaddr8", "v::macaddr8"),
    (
        "mood",
        "(array['sad', 'happy'])[1 + (random() * 1)::int]::mood",
        "v::mood",
    ),
    ("price", "random()::numeric * 1000", "(v::numeric / 1000)::price"),
    (
        "hstore",
        "hstore(array['k' || any_text(g), 'n'], array[any_text(g), NULL])",
        "from_json_object(v)",
    ),
    ("ltree", "('a.b' || g)::ltree", "v::ltree"),
    ("citext", "any_text(g)::citext", "v::citext"),
    (
        "cube",
        "cube(array[random(), random()], array[random(), random() - 5])",
        "v::cube",
    ),
    ("seg", "format('%s .. %s', g, 2 * g)::seg", "v::seg"),
    (
        "integer[]",
        "array[g, NULL, (random() * 1e9)::int]",
        "ARRAY(SELECT jsonb_array_elements_text(v::jsonb))::int[]",
    ),
    (
        "text[]",
        "array[any_text(g), NULL, any_text(g)]",
        "ARRAY(SELECT jsonb_array_elements_text(v::jsonb))",
    ),
    (
        "numeric[]",
        "array[any_numeric(g)]",
        "ARRAY(SELECT (jsonb_array_elements_text(v::jsonb))::numeric)",
    ),
    (
        "timestamptz[]",
        "array[any_moment(g, 1900) AT TIME ZONE 'UTC']",
        "ARRAY(SELECT jsonb_array_elements_text(v::jsonb))::timestamptz[]",
    ),
    (
        "bytea[]",
        "array[decode(md5(random()::text), 'hex')]",
        "ARRAY(SELECT jsonb_array_elements_text(v::jsonb))::bytea[]",
    ),
    (
        "mood[]",
        "array['sad', NULL]::mood[]",
        "ARRAY(SELECT jsonb_array_elements_text(v::jsonb))::mood[]",
    ),
    (
        "int2vector",
        "(g || ' 7')::int2vector",
        "(v::jsonb ->> 0 || ' ' || (v::jsonb ->> 1))::int2vector",
    ),
    (
        "pair",
        "row(g, any_text(g))::pair",
        "row((v::jsonb ->> 0)::int, v::jsonb ->> 1)::pair",
    ),
    ("pair[]", "array[row(g, any_text(g))::pair, NULL]", ""),
    ("int4range", "int4range(g, 2 * g)", "v::int4range"),
    ("numrange", "numrange(any_numeric(g), NULL, '(]')", "v::numrange"),
    (
        "tstzrange",
        "tstzrange(any_moment(g, 1900) AT TIME ZONE 'UTC', 'infinity')",
        "v::tstzrange",
    ),
    ("daterange", "daterange(NULL, date '2026-01-01' + g)", "v::daterange"),
    ("textrange", "textrange('', any_text(g), '(]')", "v::textrange"),
    (
        "pairrange",
        "pairrange(row(g, any_text(g))::pair, NULL)",
        "v::pairrange",
    ),
    (
        "int4multirange",
        "int4multirange(int4range(1, 1 + g), int4range(200, 200 + g))",
        "v::int4multirange",
    ),
    (
        "tsmultirange",
        "tsmultirange(tsrange(any_moment(g, 20000), NULL))",
        "v::tsmultirange",
    ),
    (
        "point",
        "any_point(g)",
        "point((v::jsonb ->> 0)::float8, (v::jsonb ->> 1)::float8)",
    ),
    ("line", "line(any_point(g), any_point(g))", "v::line"),
    ("lseg", "lseg(any_point(g), any_point(g))", "v::lseg"),
    ("box", "box(any_point(g), any_point(g))", "v::box"),
    (
        "box[]",
        "array[box(any_point(g), any_point(g)), NULL]",
        "from_boxes(v::jsonb)",
    ),
    ("path", "format('[%s,%s]', any_point(g), any_point(g))::path", "v::path"),
    (
        "polygon",
        "format('(%s,%s,%s)', any_point(g), any_point(g), any_point(g))::polygon",
        "v::polygon",
    ),
    ("circle", "circle(any_point(g), random() * 9)", "v::circle"),
    (
        "tsvector",
        "setweight(to_tsvector('simple', any_text(g) || ' b ' || g), 'B') || to_tsvector('simple', 'c ' || any_text(g))",
        "v::tsvector",
    ),
    ("tsquery", "any_query(g)", "v::tsquery"),
    (
        "pg_lsn",
        "format('%s/%s', to_hex((random() * 2e9)::int), to_hex((random() * 2e9)::int))::pg_lsn",
        "v::pg_lsn",
    ),
    ("xid8", "((random() * 9e18)::bigint::text)::xid8", "v::xid8"),
    (
        "tid",
        "format('(%s,%s)', (random() * 4294967295)::bigint, g)::tid",
        "v::tid",
    ),
    (
        "pg_snapshot",
        "format('%s:%s:%s', g, 3 * g, g)::pg_snapshot",
        "v::pg_snapshot",
    ),
    (
        "jsonpath",
        "format('$.a[%s] ? (@.\"b\" > %s)', g, random())::jsonpath",
        "v::jsonpath",
    ),
];

/// Types of pgvector.
const VECTOR_TYPES: &[Case] = &[
    (
        "vector",
        "array[random(), -random() * 1e9, 0.1]::real[]::vector",
        "v::vector",
    ),
    (
        "halfvec",
        "array[random(), -random() * 60000, 1e-7]::real[]::halfvec",
        "v::halfvec",
    ),
    (
        "sparsevec",
        "format('{1:%s,%s:%s}/99', random() + 1, g + 1, -random() - 1)::sparsevec",
        "from_entries(v::jsonb)",
    ),
];

const FUNCTIONS: &str = r#"
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube; CREATE EXTENSION seg;
    CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN price AS numeric(9,3);
    CREATE TYPE pair AS (no int, note text); CREATE TYPE textrange AS RANGE (subtype = text);
    CREATE TYPE pairrange AS RANGE (subtype = pair);
    CREATE FUNCTION any_text(g bigint) RETURNS text LANGUAGE sql VOLATILE AS $$
      SELECT CASE WHEN g > 55 THEN (ARRAY['null', 'NULL', '\', '"', ' '])[g - 55] ELSE coalesce(
        (SELECT string_agg(substr(E'ab ,;:"\\''(){}[]<>é€😀\tNULL', 1 + floor(random() * 27)::int, 1), '')
           FROM generate_series(1, g % 9)), '') END $$;
    CREATE FUNCTION any_bits(g bigint) RETURNS bit(64) LANGUAGE sql VOLATILE AS $$
      SELECT ('x' || left(md5(random()::text || g), 16))::bit(64) $$;
    CREATE FUNCTION any_numeric(g bigint) RETURNS numeric LANGUAGE sql VOLATILE AS $$
      SELECT round((random() - 0.5)::numeric * 10::numeric ^ (g % 40 - 10)::int, (g % 25)::int) $$;
    CREATE FUNCTION any_time(g bigint) RETURNS time LANGUAGE sql VOLATILE AS $$
      SELECT time '00:00' + (random() * 86399999999)::bigint * interval '1 microsecond' $$;
    CREATE FUNCTION any_moment(g bigint, years int) RETURNS timestamp LANGUAGE sql VOLATILE AS $$
      SELECT timestamp '2000-01-01' + (random() - 0.3) * years * interval '1 year' $$;
    CREATE FUNCTION from_micros(v bigint) RETURNS timestamp LANGUAGE sql AS $$
      SELECT timestamp 'epoch' + (v / 1000000) * interval '1 second' + (v % 1000000) * interval '1 microsecond' $$;
    CREATE FUNCTION any_interval(g bigint) RETURNS interval LANGUAGE sql VOLATILE AS $$
      SELECT make_interval(months => (random() * 60 - 30)::int * (g % 2)::int, days => (random() * 40 - 20)::int * (g % 3 - 1)::int,
                           secs => (random() - 0.5) * 1e5 * (g % 5)) $$;
    CREATE FUNCTION any_inet(g bigint) RETURNS inet LANGUAGE sql VOLATILE AS $$
      SELECT CASE g % 3
        WHEN 0 THEN set_masklen('0.0.0.0'::inet + (random() * 4294967295)::bigint, (g % 33)::int)
        WHEN 1 THEN regexp_replace(left(md5(random()::text), 32 - (g % 5)::int) || repeat('0', (g % 5)::int), '(....)(?=.)', '\1:', 'g')::inet
        ELSE set_masklen(('::' || to_hex(g))::inet, (g % 129)::int) END $$;
    CREATE FUNCTION any_point(g bigint) RETURNS point LANGUAGE sql VOLATILE AS $$
      SELECT point((random() - 0.5) * 10 ^ (g % 20), random()) $$;
    CREATE FUNCTION any_query(g bigint) RETURNS tsquery LANGUAGE plpgsql VOLATILE AS $$
      DECLARE q tsquery := plainto_tsquery('simple', 'w' || g);
      BEGIN
        FOR i IN 1 .. g % 12 LOOP
          q := CASE floor(random() * 6)
            WHEN 0 THEN q && ('''' || replace(replace(any_text(i) || 'x', '\', '\\'), '''', '''''') || '''')::tsquery WHEN 1 THEN q || 'o:*AB'::tsquery WHEN 2 THEN !! q
            WHEN 3 THEN tsquery_phrase(q, 'p:C'::tsquery, 1 + i::int) WHEN 4 THEN 'l'::tsquery || q
            ELSE tsquery_phrase('r'::tsquery, q) END;
        END LOOP;
        RETURN q;
      END $$;
    CREATE FUNCTION from_json_object(v text) RETURNS hstore LANGUAGE sql AS $$
      SELECT hstore(array_agg(key), array_agg(value)) FROM json_each_text(v::json) $$;
    CREATE FUNCTION from_boxes(v jsonb) RETURNS box[] LANGUAGE sql AS $$
      SELECT array_agg(b::box) FROM jsonb_array_elements_text(v) b $$;
"#;

/// Of a sparse vector `[dimensions, [place, number, ...]]`.
const FROM_ENTRIES: &str = "\
    CREATE FUNCTION from_entries(v jsonb) RETURNS sparsevec LANGUAGE sql AS $$ \
      SELECT ('{' || string_agg((v -> 1 ->> (2 * i)) || ':' || (v -> 1 ->> (2 * i + 1)), ',') || '}/' || (v ->> 0))::sparsevec \
        FROM generate_series(0, jsonb_array_length(v -> 1) / 2 - 1) i $$";

/// A table `random` with a column `c0`, `c1`, ... of each type.
struct Scene {
    fixture: Fixture,
    types: Vec<Case>,
}

impl Scene {
    async fn new(fixture: Fixture, types: &[Case]) -> Self {
        fixture.sql(FUNCTIONS).await;
        let types = types.to_vec();
        let columns = types.iter().enumerate().map(|(at, (of, ..))| format!(", c{at} {of}"));
        let columns = columns.collect::<String>();
        fixture
            .sql(&format!("CREATE TABLE random (id int PRIMARY KEY{columns})"))
            .await;
        Self { fixture, types }
    }

    /// Fills the table, and reads it through log and chunk, which must agree: a value in an event by row and column.
    async fn values(&self, values: Value) -> Vec<Vec<String>> {
        let mut settings = self.fixture.json(&["public.random"]);
        settings["values"] = values;
        let connector = connector(settings);
        let mut log = open(&connector).await;
        let generators = self.types.iter().map(|(_, generator, _)| format!(", {generator}"));
        let generators = generators.collect::<String>();
        self.fixture
            .sql(&format!(
                "INSERT INTO random SELECT g{generators} FROM generate_series(1, {ROWS}) g"
            ))
            .await;
        let items = read_commits(&mut log, 1).await;
        let mut chunks = connector.open_chunks().await.unwrap();
        let chunk = chunks.read(&range("random", None, ROWS as u32)).await.unwrap();
        assert_eq!((changes(&items).len(), chunk.rows.len()), (ROWS, ROWS));
        for (change, row) in changes(&items).iter().zip(&chunk.rows) {
            assert_eq!(change.after.as_ref(), Some(row));
        }
        let columns = &chunk.schema.columns[1..];
        let decoded = |row: &highwater_core::image::RowImage| {
            let cells = columns.iter().zip(row.iter().skip(1));
            let values = cells.map(|(column, cell)| {
                let CellRef::Value(bytes) = cell else {
                    panic!("{}: not a value", column.database_type)
                };
                let mut text = Text::default();
                let decoded = column.decoder.decode(bytes, &mut text);
                decoded.unwrap_or_else(|error| panic!("{}: {}", column.database_type, error.reason));
                text.text
            });
            values.collect()
        };
        chunk.rows.iter().map(decoded).collect()
    }
}

async fn every_type_as_text_is_the_servers_text(major: u16) {
    compare_texts(&Scene::new(Fixture::new(major).await, &types_of(major)).await).await;
}

async fn every_type_in_its_own_form_reads_back_as_the_servers_value(major: u16) {
    compare_values(&Scene::new(Fixture::new(major).await, &types_of(major)).await).await;
}

/// The types of [`TYPES`] for `major`. Version 13 has no multiranges, and what it reads of a query's text is another tree of
/// the same query, so that log and chunk have the same text in other bytes.
fn types_of(major: u16) -> Vec<Case> {
    let mut types = TYPES.to_vec();
    types.retain(|(of, ..)| major >= 14 || !(of.contains("multirange") || *of == "tsquery"));
    types
}

/// Random values of an extension's types, as texts and as values. A server without the extension is a counted skip: the
/// packages are Debian's.
async fn types_of_extension_come_back(extension: &str, functions: &str, types: &[Case]) {
    for compared in ["texts", "values"] {
        let fixture = Fixture::new(17).await;
        let made = fixture
            .client
            .batch_execute(&format!("CREATE EXTENSION {extension}"))
            .await;
        if made.is_err() {
            let what = format!("random values of the types of {extension}");
            return highwater_testbed::skip::counted(&what, &"no such extension here");
        }
        fixture.sql(functions).await;
        let scene = Scene::new(fixture, types).await;
        match compared {
            "texts" => compare_texts(&scene).await,
            _ => compare_values(&scene).await,
        }
    }
}

#[tokio::test]
async fn types_of_pgvector_come_back_too() {
    types_of_extension_come_back("vector", FROM_ENTRIES, VECTOR_TYPES).await;
}

async fn compare_texts(scene: &Scene) {
    scene.fixture.sql("SET timezone = 'UTC'; SET lc_monetary = 'C'").await;
    let values = scene.values(json!({"as_text": ["*"]})).await;
    for (at, (of, ..)) in scene.types.iter().enumerate() {
        // Money's text has the sign of the server's locale.
        let shown = if *of == "money" {
            format!("c{at}::numeric::text")
        } else if *of == "pg_lsn" {
            // From 19 on the server fills up the second half with zeros.
            format!("regexp_replace(c{at}::text, '/0+(?=.)', '/')")
        } else {
            format!("format('%s', c{at})")
        };
        let rows = scene
            .fixture
            .client
            .query(&format!("SELECT {shown} FROM random ORDER BY id"), &[])
            .await
            .unwrap();
        for (row, values) in rows.iter().zip(&values) {
            assert_eq!(values[at], row.get::<_, String>(0), "{of}");
        }
    }
}

async fn compare_values(scene: &Scene) {
    scene.fixture.sql("SET timezone = 'UTC'").await;
    let values = scene.values(json!({})).await;
    for (at, (of, _, back)) in scene
        .types
        .iter()
        .enumerate()
        .filter(|(_, (.., back))| !back.is_empty())
    {
        let seen: Map<String, Value> = (1..)
            .zip(&values)
            .map(|(id, row): (usize, _)| (id.to_string(), row[at].clone().into()))
            .collect();
        let sql = format!(
            "SELECT v, c, b FROM (SELECT v, c{at}::text c, ({back})::text b FROM random r JOIN \
             LATERAL jsonb_each_text($1::text::jsonb) s(id, v) ON s.id = r.id::text OFFSET 0) x"
        );
        let rows = scene
            .fixture
            .client
            .query(&sql, &[&Value::Object(seen).to_string()])
            .await;
        let rows = rows.unwrap_or_else(|error| panic!("{of}: {error:?}"));
        assert_eq!(rows.len(), ROWS, "{of}");
        for row in rows {
            let (seen, server, back): (String, String, Option<String>) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(back.as_deref(), Some(server.as_str()), "{of}: {seen}");
        }
    }
}
