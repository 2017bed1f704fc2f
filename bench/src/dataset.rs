// SPDX-License-Identifier: Apache-2.0
//! The rows: about 200 bytes each, of the types that everyday tables have.

use highwater_testbed::Postgres;
use tokio_postgres::Client;

use crate::case::Drain;
use crate::failure::Result;
use crate::{many_tables, wide_rows};

/// The schema of all tables of the bench, apart from what else a database holds.
pub(crate) const SCHEMA: &str = "bench";
/// Rows that one transaction writes when a table or the log is filled.
const TRANSACTION_ROWS: u64 = 1_000;
/// Rows that one transaction writes when a table is filled that nobody captures.
const LOAD_ROWS: u64 = 100_000;
/// The same for wide rows.
const WIDE_TRANSACTION_ROWS: u64 = 100;
const WIDE_LOAD_ROWS: u64 = 5_000;

/// A table of the bench, or all tables of a schema. Ids start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Table {
    schema: &'static str,
    /// `*` is every table of the schema.
    table: &'static str,
}

const fn table(table: &'static str) -> Table {
    Table { schema: SCHEMA, table }
}

/// Copied by the snapshot cases.
pub(crate) const ITEMS: Table = table("items");
/// Its rows are wide; copied, then updated while replication slots wait.
pub(crate) const WIDE: Table = table("wide");
/// Filled while replication slots wait.
pub(crate) const ORDERS: Table = table("orders");
/// Filled while replication slots wait that are read over TLS.
pub(crate) const SECRETS: Table = table("secrets");
/// Its rows are updated, and later deleted, while replication slots wait.
pub(crate) const ACCOUNTS: Table = table("accounts");
/// Filled by one transaction while replication slots wait.
pub(crate) const GIANTS: Table = table("giants");
/// Filled by a larger one.
pub(crate) const TITANS: Table = table("titans");
/// One row a commit, while its lateness is measured.
pub(crate) const TICKS: Table = table("ticks");
/// A thousand tables.
pub(crate) const MANY: Table = Table {
    schema: many_tables::SCHEMA,
    table: "*",
};

impl Table {
    /// `bench.items`; `bench_many.*`, a pattern, for all tables of a schema.
    pub(crate) fn name(self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// What a publication is made for.
    fn published(self) -> String {
        match self.table {
            "*" => format!("TABLES IN SCHEMA {}", self.schema),
            _ => format!("TABLE {}", self.name()),
        }
    }

    async fn create(self, client: &Client) -> Result<()> {
        let sql = format!(
            "CREATE TABLE {} (
               id bigint PRIMARY KEY, customer_id bigint NOT NULL, status varchar(16) NOT NULL,
               amount numeric(12,2) NOT NULL, quantity int NOT NULL, note varchar(160) NOT NULL,
               created_at timestamptz NOT NULL, updated_at timestamp NOT NULL, active boolean NOT NULL)",
            self.name()
        );
        Ok(client.batch_execute(&sql).await?)
    }

    /// The statement that inserts the rows with ids from `$1` to `$2`. A note does not compress better than prose would.
    pub(crate) fn insert_sql(self) -> String {
        format!(
            "INSERT INTO {}
             SELECT id, 1 + id * 7919 % 100000, (ARRAY['new', 'paid', 'packed', 'shipped', 'returned'])[1 + id % 5],
               (id * 37 % 1000000)::numeric / 100, 1 + (id % 50)::int,
               left(md5(id::text) || ' ' || md5((id + 1)::text) || ' ' || md5((-id)::text) || ' '
                 || md5((id * 3)::text) || ' ' || md5((id * 5)::text), 120 + (id % 41)::int),
               timestamptz '2026-01-01 00:00:00.123456Z' + id * interval '1 second',
               timestamp '2026-01-01 00:00:00.5' + id * interval '1 second', id % 3 <> 0
             FROM generate_series($1::bigint, $2::bigint) AS id",
            self.name()
        )
    }

    /// Inserts the rows with ids from 1 to `rows`, `transaction_rows` a transaction.
    async fn fill(self, client: &Client, rows: u64, transaction_rows: u64) -> Result<()> {
        in_steps(client, &self.insert_sql(), rows, transaction_rows).await
    }
}

/// Runs a statement for the ids from 1 to `rows`, `step` ids a transaction.
async fn in_steps(client: &Client, sql: &str, rows: u64, step: u64) -> Result<()> {
    let statement = client.prepare(sql).await?;
    let mut from = 1;
    while from <= rows {
        let through = rows.min(from + step - 1);
        client.execute(&statement, &[&(from as i64), &(through as i64)]).await?;
        from = through + 1;
    }
    Ok(())
}

/// Makes the tables.
pub(crate) async fn create(server: &Postgres) -> Result<()> {
    let client = server.connect().await?;
    client.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
    for table in [ITEMS, ORDERS, SECRETS, ACCOUNTS, GIANTS, TITANS, TICKS] {
        table.create(&client).await?;
    }
    Ok(client.batch_execute(&wide_rows::create_sql()).await?)
}

/// Fills the table of everyday rows that is copied.
pub(crate) async fn fill_items(server: &Postgres, rows: u64) -> Result<()> {
    let client = server.connect().await?;
    ITEMS.fill(&client, rows, LOAD_ROWS).await?;
    settle(&client, ITEMS).await
}

/// Fills the table of wide rows where it is empty.
pub(crate) async fn fill_wide(server: &Postgres, rows: u64) -> Result<()> {
    let client = server.connect().await?;
    if is_filled(&client, WIDE).await? {
        return Ok(());
    }
    in_steps(&client, &wide_rows::insert_sql(), rows, WIDE_LOAD_ROWS).await?;
    settle(&client, WIDE).await
}

async fn is_filled(client: &Client, table: Table) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM {})", table.name());
    Ok(client.query_one(&sql, &[]).await?.get(0))
}

/// Does the server's upkeep now, not while something is measured.
async fn settle(client: &Client, table: Table) -> Result<()> {
    client
        .batch_execute(&format!("VACUUM ANALYZE {}", table.name()))
        .await?;
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// The table whose changes a log is full of.
pub(crate) fn table_of(drain: Drain) -> Table {
    match drain {
        Drain::Inserts => ORDERS,
        Drain::OverTls => SECRETS,
        Drain::Updates | Drain::Deletes => ACCOUNTS,
        Drain::WideUpdates => WIDE,
        Drain::ManyTables => MANY,
        Drain::HugeTransaction => GIANTS,
        Drain::TenfoldTransaction => TITANS,
    }
}

/// What must be there before slots wait for the changes.
pub(crate) async fn prepare_log(server: &Postgres, drain: Drain, rows: u64) -> Result<()> {
    let client = server.connect().await?;
    match drain {
        Drain::Updates | Drain::Deletes if is_filled(&client, ACCOUNTS).await? => Ok(()),
        Drain::Updates | Drain::Deletes => ACCOUNTS.fill(&client, rows, LOAD_ROWS).await,
        Drain::WideUpdates => fill_wide(server, rows).await,
        Drain::ManyTables => many_tables::create(&client).await,
        Drain::Inserts | Drain::OverTls | Drain::HugeTransaction | Drain::TenfoldTransaction => Ok(()),
    }
}

/// Writes `rows` changes into the log.
pub(crate) async fn fill_log(server: &Postgres, drain: Drain, rows: u64) -> Result<()> {
    let client = server.connect().await?;
    let table = table_of(drain);
    match drain {
        Drain::Inserts | Drain::OverTls => table.fill(&client, rows, TRANSACTION_ROWS).await?,
        Drain::Updates => in_steps(&client, &update_sql(), rows, TRANSACTION_ROWS).await?,
        Drain::Deletes => in_steps(&client, &delete_sql(), rows, TRANSACTION_ROWS).await?,
        Drain::WideUpdates => in_steps(&client, &wide_rows::update_sql(), rows, WIDE_TRANSACTION_ROWS).await?,
        Drain::ManyTables => many_tables::fill(&client, rows).await?,
        Drain::HugeTransaction | Drain::TenfoldTransaction => table.fill(&client, rows, rows).await?,
    }
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// Updates the rows with ids from `$1` to `$2`.
fn update_sql() -> String {
    format!(
        "UPDATE {} SET quantity = quantity + 1, updated_at = updated_at + interval '1 day' WHERE id BETWEEN $1 AND $2",
        ACCOUNTS.name()
    )
}

/// Deletes the rows with ids from `$1` to `$2`.
fn delete_sql() -> String {
    format!("DELETE FROM {} WHERE id BETWEEN $1 AND $2", ACCOUNTS.name())
}

/// Makes a publication and a slot that starts now.
pub(crate) async fn create_slot(server: &Postgres, name: &str, table: Table) -> Result<()> {
    let client = server.connect().await?;
    let publication = format!("CREATE PUBLICATION {name} FOR {}", table.published());
    client.batch_execute(&publication).await?;
    let slot = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')::text";
    client.query_one(slot, &[&name]).await?;
    Ok(())
}

/// Drops a slot, so that the server forgets its log, and its publication.
pub(crate) async fn drop_slot(server: &Postgres, name: &str) -> Result<()> {
    let client = server.connect().await?;
    // The walsender of a capture that has just ended may take a moment to notice.
    let freed = "SELECT count(pg_terminate_backend(active_pid, 10000)) FROM pg_replication_slots
                 WHERE slot_name = $1 AND active_pid IS NOT NULL";
    client.query_one(freed, &[&name]).await?;
    client
        .query_one("SELECT pg_drop_replication_slot($1)::text", &[&name])
        .await?;
    let publication = format!("DROP PUBLICATION {name}");
    Ok(client.batch_execute(&publication).await?)
}
