// SPDX-License-Identifier: Apache-2.0
//! A hot standby: a copy that follows another server's log and can be promoted.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::native::Native;
use super::options::SUPERUSER;
use super::{Postgres, Server, explain};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::run_dir::RunDir;
use crate::settings;

/// The first major whose standbys keep logical slots in step with the primary's.
const SLOT_SYNC_MAJOR: u16 = 17;

static STANDBYS: AtomicU32 = AtomicU32::new(0);

impl Postgres {
    /// Starts a hot standby of this server: its data by a base backup, the log by streaming through a physical slot, whose
    /// name is [`Postgres::standby_name`] of the standby and its `application_name` as well. Feedback is on, and from 17 on
    /// failover slots are kept in step. `settings` go over those of this server. What a standby has
    /// of its own stands in `postgresql.auto.conf`, so `ALTER SYSTEM` changes it.
    ///
    /// # Errors
    /// Where this server runs in a container: containers do not reach one another.
    pub async fn standby(&self, settings: &[(&str, &str)]) -> Result<Self> {
        let began = Instant::now();
        if self.backend() != Backend::Process {
            return Err(Error::new("a standby is made of a server of the process back end only"));
        }
        let name = format!("standby_{}", STANDBYS.fetch_add(1, Ordering::Relaxed));
        let own = own_settings(self.major, self.port(), &name);
        let own = settings::merged(&own, &settings::owned(settings));
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        settings.retain(|(name, _)| own.iter().all(|(of_standby, _)| of_standby != name));
        let (major, port, slot, dir) = (self.major, self.port(), name.clone(), RunDir::new()?);
        let server = tokio::task::spawn_blocking(move || Native::prepare_standby(major, port, &slot, &own, dir))
            .await
            .map_err(|e| Error::during("preparing a standby", e))??;
        server.start(&settings).await?;
        let this = Self {
            major: self.major,
            settings: Mutex::new(settings),
            authority: None,
            ca_path: None,
            server: Server::Native(Box::new(server)),
            standby_name: Some(name),
        };
        eprintln!(
            "testbed: standby of 127.0.0.1:{port} (pid {}) at 127.0.0.1:{} in {} ms",
            this.pid().unwrap_or_default(),
            this.port(),
            began.elapsed().as_millis()
        );
        Ok(this)
    }

    /// The name of the slot through which a standby gets the log, which is how the primary knows it.
    pub fn standby_name(&self) -> Option<&str> {
        self.standby_name.as_deref()
    }

    /// Makes a standby a server of its own and waits until it takes writes.
    ///
    /// # Errors
    /// When the server is no standby or does not get there.
    pub async fn promote(&self) -> Result<()> {
        let session = self.connect().await?;
        let promoted = session.query_one("SELECT pg_promote(true, 120)", &[]).await;
        let promoted: bool = promoted.map_err(|e| Error::during("promoting", explain(&e)))?.get(0);
        if promoted {
            Ok(())
        } else {
            Err(Error::new("the standby was not promoted within 120 s"))
        }
    }
}

/// What makes a server follow the one at `port`.
fn own_settings(major: u16, port: u16, name: &str) -> Vec<(String, String)> {
    let conninfo = format!("host=127.0.0.1 port={port} user={SUPERUSER} dbname=postgres application_name={name}");
    let mut own = vec![
        ("primary_conninfo".to_owned(), conninfo),
        ("primary_slot_name".to_owned(), name.to_owned()),
        ("hot_standby_feedback".to_owned(), "on".to_owned()),
        ("wal_receiver_status_interval".to_owned(), "1s".to_owned()),
        ("wal_retrieve_retry_interval".to_owned(), "100ms".to_owned()),
    ];
    if major >= SLOT_SYNC_MAJOR {
        own.push(("sync_replication_slots".to_owned(), "on".to_owned()));
    }
    own
}
