// SPDX-License-Identifier: Apache-2.0
//! A thousand small tables in one publication and one slot.

use tokio_postgres::Client;

use crate::failure::Result;

/// The schema that holds nothing else.
pub(crate) const SCHEMA: &str = "bench_many";
/// How many tables there are.
pub(crate) const TABLES: u64 = 1_000;
/// Tables that one transaction writes to.
const TABLES_OF_A_TRANSACTION: u64 = 100;
/// Rows of each of them, one after the other.
const RUN_ROWS: u64 = 10;

/// Makes the tables.
pub(crate) async fn create(client: &Client) -> Result<()> {
    client.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
    let sql = format!(
        "DO $$ BEGIN FOR number IN 0..{} LOOP
           EXECUTE format('CREATE TABLE {SCHEMA}.t%s (id bigint PRIMARY KEY, customer_id bigint NOT NULL,
             amount numeric(12,2) NOT NULL, note varchar(160) NOT NULL, created_at timestamptz NOT NULL)', number);
         END LOOP; END $$",
        TABLES - 1
    );
    Ok(client.batch_execute(&sql).await?)
}

/// Inserts `rows` rows, as many into each table; their ids, from 1 on, are distinct over all tables.
pub(crate) async fn fill(client: &Client, rows: u64) -> Result<()> {
    for transaction in transactions(rows) {
        client.batch_execute(&sql(&transaction)).await?;
    }
    Ok(())
}

/// Rows that go into a table in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    table: u64,
    from: u64,
    through: u64,
}

/// All rows, transaction by transaction.
fn transactions(rows: u64) -> Vec<Vec<Run>> {
    let per_table = rows / TABLES;
    let (mut all, mut next, mut done) = (Vec::new(), 1, 0);
    while done < per_table {
        let count = RUN_ROWS.min(per_table - done);
        for first in (0..TABLES).step_by(TABLES_OF_A_TRANSACTION as usize) {
            let mut runs = Vec::new();
            for table in first..first + TABLES_OF_A_TRANSACTION {
                let (from, through) = (next, next + count - 1);
                runs.push(Run { table, from, through });
                next = through + 1;
            }
            all.push(runs);
        }
        done += count;
    }
    all
}

/// One statement without parameters is one transaction.
fn sql(runs: &[Run]) -> String {
    let insert = |run: &Run| {
        let Run { table, from, through } = run;
        format!(
            "INSERT INTO {SCHEMA}.t{table} SELECT id, 1 + id * 7919 % 100000, (id * 37 % 1000000)::numeric / 100,
               md5(id::text) || md5((-id)::text), timestamptz '2026-01-01Z' + id * interval '1 second'
             FROM generate_series({from}::bigint, {through}) AS id"
        )
    };
    runs.iter().map(insert).collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_gets_as_many_rows_and_each_id_is_used_once() {
        let all = transactions(25 * TABLES);
        let mut rows = vec![0; TABLES as usize];
        let mut ids = Vec::new();
        for run in all.iter().flatten() {
            rows[run.table as usize] += run.through - run.from + 1;
            ids.extend(run.from..=run.through);
        }
        assert!(rows.iter().all(|rows| *rows == 25));
        assert!(ids.into_iter().eq(1..=25 * TABLES));
        assert!(all.iter().all(|runs| runs.len() == 100));
    }
}
