// SPDX-License-Identifier: Apache-2.0
//! The rows: about 200 bytes each, of the types that everyday tables have.

use highwater_testbed::Postgres;
use tokio_postgres::Client;

use crate::case::Drain;
use crate::failure::Result;

/// The schema of all tables of the bench, apart from what else a database holds.
pub(crate) const SCHEMA: &str = "bench";
/// Rows that one transaction writes when a table or the log is filled.
const TRANSACTION_ROWS: u64 = 1_000;
/// Rows that one transaction writes when a table is filled that nobody captures.
const LOAD_ROWS: u64 = 100_000;

/// A table of the bench. Ids start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table(pub(crate) &'static str);

/// Copied by the snapshot cases.
pub(crate) const ITEMS: Table = Table("items");
/// Filled while replication slots wait.
pub(crate) const ORDERS: Table = Table("orders");
/// Its rows are updated while replication slots wait.
pub(crate) const ACCOUNTS: Table = Table("accounts");
/// Filled by one transaction while replication slots wait.
pub(crate) const GIANTS: Table = Table("giants");
/// One row a commit, while its lateness is measured.
pub(crate) const TICKS: Table = Table("ticks");

impl Table {
    /// `bench.items`.
    pub(crate) fn name(self) -> String {
        format!("{SCHEMA}.{}", self.0)
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
        let insert = client.prepare(&self.insert_sql()).await?;
        let mut from = 1;
        while from <= rows {
            let through = rows.min(from + transaction_rows - 1);
            client.execute(&insert, &[&(from as i64), &(through as i64)]).await?;
            from = through + 1;
        }
        Ok(())
    }

    /// Updates the rows with ids from 1 to `rows`, once each.
    async fn update(self, client: &Client, rows: u64) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET quantity = quantity + 1, updated_at = updated_at + interval '1 day' WHERE id BETWEEN $1 AND $2",
            self.name()
        );
        let update = client.prepare(&sql).await?;
        let mut from = 1;
        while from <= rows {
            let through = rows.min(from + TRANSACTION_ROWS - 1);
            client.execute(&update, &[&(from as i64), &(through as i64)]).await?;
            from = through + 1;
        }
        Ok(())
    }
}

/// Makes the tables and fills the one to be copied.
pub(crate) async fn create(server: &Postgres, rows: u64) -> Result<()> {
    let client = server.connect().await?;
    client.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
    for table in [ITEMS, ORDERS, ACCOUNTS, GIANTS, TICKS] {
        table.create(&client).await?;
    }
    ITEMS.fill(&client, rows, LOAD_ROWS).await?;
    let vacuum = format!("VACUUM ANALYZE {}", ITEMS.name());
    client.batch_execute(&vacuum).await?;
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// The table whose changes a log is full of.
pub(crate) fn table_of(drain: Drain) -> Table {
    match drain {
        Drain::Inserts => ORDERS,
        Drain::Updates => ACCOUNTS,
        Drain::HugeTransaction => GIANTS,
    }
}

/// What must be there before slots wait for the changes.
pub(crate) async fn prepare_log(server: &Postgres, drain: Drain, rows: u64) -> Result<()> {
    let client = server.connect().await?;
    match drain {
        Drain::Updates => ACCOUNTS.fill(&client, rows, LOAD_ROWS).await,
        Drain::Inserts | Drain::HugeTransaction => Ok(()),
    }
}

/// Writes `rows` changes into the log.
pub(crate) async fn fill_log(server: &Postgres, drain: Drain, rows: u64) -> Result<()> {
    let client = server.connect().await?;
    match drain {
        Drain::Inserts => ORDERS.fill(&client, rows, TRANSACTION_ROWS).await?,
        Drain::Updates => ACCOUNTS.update(&client, rows).await?,
        Drain::HugeTransaction => GIANTS.fill(&client, rows, rows).await?,
    }
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// Makes a publication of one table and a slot that starts now.
pub(crate) async fn create_slot(server: &Postgres, name: &str, table: Table) -> Result<()> {
    let client = server.connect().await?;
    let publication = format!("CREATE PUBLICATION {name} FOR TABLE {}", table.name());
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
