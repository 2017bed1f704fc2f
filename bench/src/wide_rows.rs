// SPDX-License-Identifier: Apache-2.0
//! Rows of about 8,000 bytes, most of them in a value that the server stores out of line (TOAST).

use crate::dataset::WIDE;

/// What makes the table. The document is stored out of line and as it is: the server's compression is none of ours.
pub(crate) fn create_sql() -> String {
    let texts: String = (1..=20)
        .map(|number| format!("text_{number} text NOT NULL, "))
        .collect();
    format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, version int NOT NULL, {texts}document text NOT NULL);
         ALTER TABLE {table} ALTER COLUMN document SET STORAGE EXTERNAL",
        table = WIDE.name()
    )
}

/// Inserts the rows with ids from `$1` to `$2`: 20 texts of 64 bytes and a document of 6,400.
pub(crate) fn insert_sql() -> String {
    let texts: String = (1..=20)
        .map(|number| format!("md5((id * {number})::text) || md5((id + {number})::text), "))
        .collect();
    format!(
        "INSERT INTO {} SELECT id, 0, {texts}{} FROM generate_series($1::bigint, $2::bigint) AS id",
        WIDE.name(),
        document("id")
    )
}

/// Updates the rows with ids from `$1` to `$2`. Every other leaves its document as it is, so that the log does not have it.
pub(crate) fn update_sql() -> String {
    format!(
        "UPDATE {} SET version = version + 1, text_1 = md5(version::text) || text_1,
           document = CASE WHEN id % 2 = 0 THEN {} ELSE document END
         WHERE id BETWEEN $1 AND $2",
        WIDE.name(),
        document("-id")
    )
}

/// 200 different texts of 32 bytes.
fn document(seed: &str) -> String {
    format!("(SELECT string_agg(md5(({seed} * 1000 + part)::text), '') FROM generate_series(1, 200) AS part)")
}
