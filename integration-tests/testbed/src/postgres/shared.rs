// SPDX-License-Identifier: Apache-2.0
//! One server per major for all tests of a binary, a database for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::{PgOptions, Postgres};
use crate::at_exit;
use crate::error::{Error, Result};
use crate::wait;

/// A database of its own on a server that other tests of this binary use too.
///
/// Dropped, it ends its sessions, drops its replication slots and itself; after a failed test it stays, and the
/// server's directory with it.
#[derive(Debug)]
pub struct TestDatabase {
    server: Arc<Postgres>,
    name: String,
}

/// The longest that sessions may take to end when they are told to.
const SESSIONS_END_MAX: Duration = Duration::from_secs(60);

static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Postgres {
    /// A fresh database on the server of this major that all tests of the binary share, with default settings. The
    /// server is started by the first caller and ends with the process.
    pub async fn shared(major: u16) -> Result<TestDatabase> {
        let server = shared_server(major).await?;
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            DATABASES.fetch_add(1, Ordering::Relaxed)
        );
        let admin = server.connect().await?;
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .map_err(|e| Error::during(format!("cannot create database {name}"), super::explain(&e)))?;
        Ok(TestDatabase { server, name })
    }
}

async fn shared_server(major: u16) -> Result<Arc<Postgres>> {
    static SERVERS: OnceLock<Mutex<HashMap<u16, Arc<Postgres>>>> = OnceLock::new();
    let mut servers = SERVERS.get_or_init(Mutex::default).lock().await;
    if let Some(server) = servers.get(&major) {
        return Ok(Arc::clone(server));
    }
    let server = Arc::new(Postgres::start(PgOptions::major(major)).await?);
    servers.insert(major, Arc::clone(&server));
    let at_end = Arc::clone(&server);
    at_exit::run(move || at_end.end());
    Ok(server)
}

impl TestDatabase {
    /// The shared server. Do not stop or kill it: other tests use it.
    pub fn server(&self) -> &Postgres {
        &self.server
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new session of the superuser in this database.
    pub async fn connect(&self) -> Result<Client> {
        self.server.connect_to(&self.name).await
    }

    /// A connection URL of this database.
    pub fn url(&self, user: &str, password: &str) -> String {
        self.server.url(user, password, &self.name)
    }

    async fn remove(server: &Postgres, name: &str) -> Result<()> {
        let admin = server.connect().await?;
        let failed = |e: tokio_postgres::Error| Error::during(format!("cannot remove {name}"), super::explain(&e));
        // The form with a time limit, which waits, exists since 14 only.
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
        wait::until(
            SESSIONS_END_MAX,
            &format!("the end of the sessions of {name}"),
            || async {
                let left: i64 = admin.query_one(end, &[&name]).await.map_err(failed)?.get(0);
                Ok((left == 0).then_some(()))
            },
        )
        .await?;
        let slots = "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE database = $1";
        admin.execute(slots, &[&name]).await.map_err(failed)?;
        admin
            .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await
            .map_err(failed)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "testbed: kept database {} of the server in {}",
                self.name,
                self.server.socket_dir().display()
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
                .block_on(TestDatabase::remove(&server, &name))
        })
        .join();
        if let Ok(Err(error)) = removed {
            eprintln!("testbed: {error}");
        }
    }
}
