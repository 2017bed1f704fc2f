// SPDX-License-Identifier: Apache-2.0
//! One server per line for all tests of a binary, a database for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::Mutex;

use super::session::failed;
use super::{Mysql, MysqlOptions};
use crate::at_exit;
use crate::error::{Error, Result};
use crate::versions::MysqlLine;
use crate::wait;

/// A database of its own on a server that other tests of this binary use too.
///
/// Dropped, it ends its sessions and itself; after a failed test it stays, and the server's directory with it. The
/// binlog and the GTIDs are the server's: a test sees what others write, and must pick out its own.
#[derive(Debug)]
pub struct MysqlDatabase {
    server: Arc<Mysql>,
    name: String,
}

/// The longest that sessions may take to end when they are told to.
const SESSIONS_END_MAX: Duration = Duration::from_secs(60);
/// The server's word for a session that has ended already.
const NO_SUCH_SESSION: u16 = 1094;

static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Mysql {
    /// A fresh database on the server of this line that all tests of the binary share, with default settings. The
    /// server is started by the first caller and ends with the process.
    pub async fn shared(line: MysqlLine) -> Result<MysqlDatabase> {
        let server = shared_server(line).await?;
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            DATABASES.fetch_add(1, Ordering::Relaxed)
        );
        let doing = format!("cannot create database {name}");
        let mut admin = server.connect().await?;
        let created = admin.query_drop(format!("CREATE DATABASE {name}")).await;
        created.map_err(|e| failed(&doing, &e))?;
        Ok(MysqlDatabase { server, name })
    }
}

async fn shared_server(line: MysqlLine) -> Result<Arc<Mysql>> {
    static SERVERS: OnceLock<Mutex<HashMap<MysqlLine, Arc<Mysql>>>> = OnceLock::new();
    let mut servers = SERVERS.get_or_init(Mutex::default).lock().await;
    if let Some(server) = servers.get(&line) {
        return Ok(Arc::clone(server));
    }
    let server = Arc::new(Mysql::start(MysqlOptions::line(line)).await?);
    servers.insert(line, Arc::clone(&server));
    let at_end = Arc::clone(&server);
    at_exit::run(move || at_end.end());
    Ok(server)
}

impl MysqlDatabase {
    /// The shared server. Do not stop or kill it: other tests use it.
    pub fn server(&self) -> &Mysql {
        &self.server
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new session of the superuser in this database.
    pub async fn connect(&self) -> Result<Conn> {
        self.server.connect_to(&self.name).await
    }

    /// A connection URL of this database.
    pub fn url(&self, user: &str, password: &str) -> String {
        self.server.url(user, password, &self.name)
    }

    /// Sessions first: a transaction that one of them left open would hold the database.
    async fn remove(server: &Mysql, name: &str) -> Result<()> {
        let doing = format!("cannot remove {name}");
        wait::until(
            SESSIONS_END_MAX,
            &format!("the end of the sessions of {name}"),
            || async {
                let mut admin = server.connect().await?;
                let sessions = format!("SELECT id FROM information_schema.processlist WHERE db = '{name}'");
                let left: Vec<u64> = admin.query(sessions).await.map_err(|e| failed(&doing, &e))?;
                for session in &left {
                    match admin.query_drop(format!("KILL {session}")).await {
                        Err(mysql_async::Error::Server(e)) if e.code == NO_SUCH_SESSION => {}
                        ended => ended.map_err(|e| failed(&doing, &e))?,
                    }
                }
                Ok(left.is_empty().then_some(()))
            },
        )
        .await?;
        let mut admin = server.connect().await?;
        let dropped = admin.query_drop(format!("DROP DATABASE IF EXISTS {name}")).await;
        dropped.map_err(|e| failed(&doing, &e))
    }
}

impl Drop for MysqlDatabase {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "testbed: kept database {} of the server in {}",
                self.name,
                self.server.dir().display()
            );
            self.server.keep_dir();
            return;
        }
        // A runtime of its own on a thread of its own: a drop may happen inside or outside of any runtime.
        let (server, name) = (Arc::clone(&self.server), self.name.clone());
        let removed = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| Error::during("cannot make a runtime", e))?
                .block_on(MysqlDatabase::remove(&server, &name))
        })
        .join();
        if let Ok(Err(error)) = removed {
            eprintln!("testbed: {error}");
        }
    }
}
