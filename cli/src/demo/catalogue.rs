// SPDX-License-Identifier: Apache-2.0
//! A small catalogue of movies, people and who played in what.

use highwater_core::Result;
use tokio_postgres::Client;

use super::failed;

const TABLES: &str = r#"
CREATE TABLE movies (
    id integer PRIMARY KEY,
    title text NOT NULL,
    year integer,
    rating numeric(3,1),
    added timestamp NOT NULL
);
CREATE TABLE people (
    id integer PRIMARY KEY,
    name text NOT NULL,
    born date
);
CREATE TABLE "cast" (
    movie_id integer NOT NULL,
    person_id integer NOT NULL,
    role text,
    PRIMARY KEY (movie_id, person_id)
);
"#;

/// Makes the tables and fills them with about `rows` rows; gives the exact number.
pub async fn fill(client: &Client, rows: u64) -> Result<u64> {
    let rows = rows.clamp(66, 20_000_000);
    // Movies, people and parts stand 5 to 8 to 20.
    let (movies, people, parts) = (rows * 5 / 33, rows * 8 / 33, rows * 20 / 33);
    let fill = format!(
        r#"
INSERT INTO movies SELECT n, 'The ' || (ARRAY['Long','Silent','Last','Red','Hidden','Second'])[1 + n % 6] || ' '
        || (ARRAY['River','Summer','Letter','Harbour','Garden','Signal','Winter'])[1 + n % 7] || ' ' || n,
    1930 + n % 95, (n % 91 + 10) / 10.0, timestamp '2020-01-01' + n * interval '1 hour'
    FROM generate_series(1, {movies}) n;
INSERT INTO people SELECT n, (ARRAY['Ada','Ines','Tomas','Wanda','Yusuf','Mei','Olga','Paul'])[1 + n % 8] || ' '
        || (ARRAY['Arnold','Berg','Castro','Demir','Eklund','Fischer','Garcia'])[1 + n % 7] || ' ' || n,
    CASE WHEN n % 13 > 0 THEN date '1920-01-01' + n % 30000 END
    FROM generate_series(1, {people}) n;
INSERT INTO "cast" SELECT 1 + n % {movies}, 1 + (n / {movies}) * 977 % {people} + (n % {movies}) * 31 % 97, 'part ' || n % 500
    FROM generate_series(0, {parts} - 1) n ON CONFLICT DO NOTHING;
ANALYZE;
"#
    );
    client
        .batch_execute(TABLES)
        .await
        .map_err(|error| failed("its tables", error))?;
    client
        .batch_execute(&fill)
        .await
        .map_err(|error| failed("its rows", error))?;
    let counted =
        r#"SELECT (SELECT count(*) FROM movies) + (SELECT count(*) FROM people) + (SELECT count(*) FROM "cast")"#;
    let row = client
        .query_one(counted, &[])
        .await
        .map_err(|error| failed("its rows", error))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}
