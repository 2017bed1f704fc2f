// SPDX-License-Identifier: Apache-2.0
//! How fast the server can give its rows away at all: its own programs, writing to nowhere.

use std::process::{Command, Stdio};

use highwater_testbed::Postgres;
use highwater_testbed::postgres::SUPERUSER;

use crate::clock::{monotonic_us, seconds_between};
use crate::dataset::{self, Table};
use crate::failure::{Failure, Result};

/// What a case is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    /// How it was measured.
    pub(crate) name: &'static str,
    /// Rows a second.
    pub(crate) rows_per_s: f64,
}

/// Whether the server's programs encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Over {
    /// They do not.
    Plain,
    /// They do.
    Tls,
}

/// `COPY … TO STDOUT` by psql, over TCP.
pub(crate) async fn copy_out(server: &Postgres, table: Table, over: Over, rows: u64) -> Result<Limit> {
    let mut psql = program(server, "psql")?;
    psql.args(connection(server, over)).args(["-X", "-q", "-c"]);
    psql.arg(format!("COPY {} TO STDOUT", table.name()));
    psql.stdout(Stdio::null());
    let rows_per_s = rows as f64 / timed(psql).await?;
    Ok(Limit {
        name: "COPY TO STDOUT",
        rows_per_s,
    })
}

/// `pg_recvlogical` from a slot made before, to `/dev/null`, up to what is in the log now. Drops the slot.
pub(crate) async fn receive_log(server: &Postgres, slot: &str, over: Over, rows: u64) -> Result<Limit> {
    let client = server.connect().await?;
    let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.get(0);
    let mut receive = program(server, "pg_recvlogical")?;
    receive
        .args(connection(server, over))
        .args(["--start", "--no-loop", "-F", "0", "-f", "/dev/null"]);
    receive.args(["--slot", slot, "--endpos", &end]);
    receive.args(["-o", "proto_version=1", "-o", "binary=true"]);
    receive.args(["-o", &format!("publication_names={slot}")]);
    let rows_per_s = rows as f64 / timed(receive).await?;
    dataset::drop_slot(server, slot).await?;
    Ok(Limit {
        name: "pg_recvlogical",
        rows_per_s,
    })
}

fn program(server: &Postgres, name: &str) -> Result<Command> {
    let found = server.bin_dir().map(|bin| bin.join(name)).filter(|path| path.exists());
    let found = found.ok_or_else(|| {
        Failure::new(format!(
            "{name} did not come with the server: set HIGHWATER_TESTBED=process and HIGHWATER_POSTGRES_FROM=debian"
        ))
    })?;
    Ok(Command::new(found))
}

fn connection(server: &Postgres, over: Over) -> [String; 8] {
    let port = server.port().to_string();
    let database = match over {
        Over::Plain => "dbname=postgres sslmode=disable",
        Over::Tls => "dbname=postgres sslmode=require",
    };
    ["-h", server.host(), "-p", &port, "-U", SUPERUSER, "-d", database].map(str::to_owned)
}

/// Runs a program to its end and returns how many seconds it took.
async fn timed(mut command: Command) -> Result<f64> {
    let name = command.get_program().to_string_lossy().into_owned();
    let run = move || {
        let began = monotonic_us();
        let status = command.stdin(Stdio::null()).status();
        (status, seconds_between(began, monotonic_us()))
    };
    let (status, seconds) = tokio::task::spawn_blocking(run)
        .await
        .map_err(|error| Failure::during(&name, error))?;
    match status {
        Ok(status) if status.success() => Ok(seconds),
        Ok(status) => Err(Failure::new(format!("{name} failed: {status}"))),
        Err(error) => Err(Failure::during(format!("cannot run {name}"), error)),
    }
}
