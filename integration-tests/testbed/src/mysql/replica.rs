// SPDX-License-Identifier: Apache-2.0
//! A replica: a server that follows another's binlog by GTID and can be promoted.

use std::sync::PoisonError;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::session::failed;
use super::{Mysql, MysqlOptions, SUPERUSER};
use crate::error::{Error, Result};
use crate::versions::MysqlLine;
use crate::wait;

/// Time for a replica to follow its source.
const FOLLOW_LIMIT: Duration = Duration::from_secs(60);
/// Time, in the server's seconds, for a replica to apply what it has received.
const APPLY_SECONDS_MAX: u32 = 120;

/// The words of a line for replication, and where its status says what was received.
struct Words {
    replica: &'static str,
    received: &'static str,
    /// Waits, with a position and a time, until the position was applied; anything but 0 says that it was not.
    applied: &'static str,
}

impl Words {
    fn of(line: MysqlLine) -> Self {
        let (replica, received, applied) = match line {
            MysqlLine::Mysql9 => ("REPLICA", "Retrieved_Gtid_Set", "WAIT_FOR_EXECUTED_GTID_SET"),
            MysqlLine::Mysql8 => ("SLAVE", "Retrieved_Gtid_Set", "WAIT_FOR_EXECUTED_GTID_SET"),
            MysqlLine::MariaDb10 | MysqlLine::MariaDb11 => ("SLAVE", "Gtid_IO_Pos", "MASTER_GTID_WAIT"),
        };
        Self {
            replica,
            received,
            applied,
        }
    }
}

impl Mysql {
    /// Starts a read-only replica of this server, of the same line, that follows it by GTID. `settings` go over those of
    /// this server. It begins with the first binlog, which this server must still have.
    ///
    /// A superuser can write on a read-only MariaDB all the same.
    pub async fn replica(&self, settings: &[(&str, &str)]) -> Result<Self> {
        let mut options = MysqlOptions::line(self.line);
        options.settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        options = read_only(self.line, "ON")
            .iter()
            .chain(settings)
            .fold(options, |options, (name, value)| options.with(name, value));
        let this = Self::start(options).await?;
        let mut session = this.connect().await?;
        let words = Words::of(self.line);
        this.run(&mut session, &follow(self.line, self.port())).await?;
        this.run(&mut session, &format!("START {}", words.replica)).await?;
        wait::until(FOLLOW_LIMIT, "the replica's following its source", || async {
            let status = this.status().await?;
            let is = |thread: &str| text(&status, &format!("_{thread}_Running")) == "Yes";
            for thread in ["IO", "SQL"] {
                let trouble = text(&status, &format!("Last_{thread}_Error"));
                if !trouble.is_empty() {
                    return Err(Error::new(format!("the replica does not follow: {trouble}")));
                }
            }
            Ok((is("IO") && is("SQL")).then_some(()))
        })
        .await?;
        Ok(this)
    }

    /// Makes a replica a server of its own: what it has received is applied, its source forgotten, writes are taken.
    ///
    /// # Errors
    /// When the server is no replica or does not get there.
    pub async fn promote(&self) -> Result<()> {
        self.status().await?;
        let mut session = self.connect().await?;
        let words = Words::of(self.line);
        self.run(&mut session, &format!("STOP {} IO_THREAD", words.replica))
            .await?;
        let received = text(&self.status().await?, words.received);
        let applied = format!("SELECT {}(?, ?)", words.applied);
        let waited: std::result::Result<Option<i64>, _> =
            session.exec_first(applied, (&received, APPLY_SECONDS_MAX)).await;
        if waited.map_err(|e| failed("waiting for what was received", &e))? != Some(0) {
            return Err(Error::new(format!(
                "the replica has not applied {received:?} within {APPLY_SECONDS_MAX} s"
            )));
        }
        for sql in [
            format!("STOP {}", words.replica),
            format!("RESET {} ALL", words.replica),
            "SET GLOBAL read_only = OFF".to_owned(),
        ] {
            self.run(&mut session, &sql).await?;
        }
        self.set(read_only(self.line, "OFF"));
        Ok(())
    }

    async fn run(&self, session: &mut Conn, sql: &str) -> Result<()> {
        session.query_drop(sql).await.map_err(|e| failed(sql, &e))
    }

    /// How the replication stands.
    async fn status(&self) -> Result<Row> {
        let mut session = self.connect().await?;
        let sql = format!("SHOW {} STATUS", Words::of(self.line).replica);
        let row: Option<Row> = session.query_first(&sql).await.map_err(|e| failed(&sql, &e))?;
        row.ok_or_else(|| Error::new(format!("the server at 127.0.0.1:{} is no replica", self.port())))
    }
}

/// The settings by which a replica takes no writes, also after a restart.
fn read_only(line: MysqlLine, value: &'static str) -> &'static [(&'static str, &'static str)] {
    match (line.is_mariadb(), value) {
        (true, "ON") => &[("read_only", "ON")],
        (true, _) => &[("read_only", "OFF")],
        (false, "ON") => &[("read_only", "ON"), ("super_read_only", "ON")],
        (false, _) => &[("read_only", "OFF"), ("super_read_only", "OFF")],
    }
}

fn follow(line: MysqlLine, port: u16) -> String {
    match line {
        MysqlLine::Mysql9 => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = '{SUPERUSER}', \
             SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 86400"
        ),
        MysqlLine::Mysql8 => format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = '{SUPERUSER}', \
             MASTER_AUTO_POSITION = 1, MASTER_CONNECT_RETRY = 1, MASTER_RETRY_COUNT = 86400"
        ),
        // Its TLS, on by default from 11, would verify a certificate that nobody signed.
        MysqlLine::MariaDb10 | MysqlLine::MariaDb11 => format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = '{SUPERUSER}', \
             MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_SSL = 0"
        ),
    }
}

/// The value of the column whose name ends so, empty where it is NULL or not there: `_IO_Running` is `Slave_IO_Running`
/// or `Replica_IO_Running`, as the server puts it.
fn text(status: &Row, name: &str) -> String {
    let columns = status.columns_ref();
    let at = columns.iter().position(|column| column.name_str().ends_with(name));
    at.and_then(|at| status.get::<Option<String>, _>(at).flatten())
        .unwrap_or_default()
}
