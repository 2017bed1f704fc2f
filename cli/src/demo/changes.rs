// SPDX-License-Identifier: Apache-2.0
//! A writer that keeps changing rows: insert, update, delete, a key that moves, now and then several in a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_core::{Error, Result};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::failed;

/// Time between two transactions.
const EVERY: Duration = Duration::from_millis(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Write,
    Pause,
    End,
}

/// The writer, in a task of its own.
pub struct Changes {
    wish: watch::Sender<Wish>,
    paused: watch::Receiver<bool>,
    statements: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Changes {
    /// Begins to write.
    pub fn start(client: Client) -> Self {
        let (wish, wishes) = watch::channel(Wish::Write);
        let (told, paused) = watch::channel(false);
        let statements = Arc::<AtomicU64>::default();
        let task = tokio::spawn(write(client, wishes, told, statements.clone()));
        Changes {
            wish,
            paused,
            statements,
            task,
        }
    }

    /// Statements so far.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Writes no more; returns when the last transaction is committed.
    pub async fn pause(&mut self) -> Result<()> {
        self.wish.send_replace(Wish::Pause);
        let paused = self.paused.wait_for(|paused| *paused).await;
        paused
            .map(drop)
            .map_err(|_| Error::bug("the demo's writer ended before its time"))
    }

    /// Returns when the writer ended by itself, which it does after a failure only. Cancel-safe.
    pub async fn gone(&self) {
        let mut paused = self.paused.clone();
        while paused.changed().await.is_ok() {}
    }

    /// Goes on.
    pub fn resume(&self) {
        self.wish.send_replace(Wish::Write);
    }

    /// Ends; an error when a statement failed.
    pub async fn stop(self) -> Result<()> {
        self.wish.send_replace(Wish::End);
        let ended = self.task.await;
        ended.map_err(|error| Error::bug("the demo's writer panicked").with_source(error))?
    }
}

async fn write(
    client: Client,
    mut wishes: watch::Receiver<Wish>,
    paused: watch::Sender<bool>,
    statements: Arc<AtomicU64>,
) -> Result<()> {
    let mut chance = SmallRng::from_os_rng();
    let mut next_id = 100_000_000;
    loop {
        let wish = *wishes.borrow_and_update();
        match wish {
            Wish::End => return Ok(()),
            Wish::Pause => {
                paused.send_replace(true);
                if wishes.changed().await.is_err() {
                    return Ok(());
                }
            }
            Wish::Write => {
                paused.send_replace(false);
                let count = if chance.random_ratio(1, 8) { 5 } else { 1 };
                let transaction: Vec<String> = (0..count).map(|_| statement(&mut chance, &mut next_id)).collect();
                let sql = transaction.join("; ");
                client
                    .batch_execute(&sql)
                    .await
                    .map_err(|error| failed("changing rows", error))?;
                statements.fetch_add(count, Ordering::Relaxed);
                tokio::time::sleep(EVERY).await;
            }
        }
    }
}

/// One statement on some row of the present ones.
fn statement(chance: &mut SmallRng, next_id: &mut i64) -> String {
    let near = chance.random_range(0..1_000_000);
    let row = |table: &str| {
        format!(
            "(SELECT id FROM {table} WHERE id >= (SELECT max(id)::bigint FROM {table} WHERE id < 100000000) * {near} / 1000000 ORDER BY id LIMIT 1)"
        )
    };
    *next_id += 1;
    let id = *next_id;
    match chance.random_range(0..10) {
        0 | 1 => format!(
            "INSERT INTO movies VALUES ({id}, 'Premiere {id}', 2026, {}.{}, now()::timestamp)",
            chance.random_range(1..10),
            chance.random_range(0..10)
        ),
        2 => format!("DELETE FROM movies WHERE id = {}", row("movies")),
        3..=5 => format!(
            "UPDATE movies SET rating = {}.{} WHERE id = {}",
            chance.random_range(1..10),
            chance.random_range(0..10),
            row("movies")
        ),
        6 => format!(
            "UPDATE people SET id = {id}, name = name || '*' WHERE id = {}",
            row("people")
        ),
        7 => format!("UPDATE people SET born = NULL WHERE id = {}", row("people")),
        8 => format!("INSERT INTO \"cast\" VALUES ({id}, {near}, NULL)"),
        _ => format!("UPDATE \"cast\" SET role = 'lead {id}' WHERE movie_id = 1 + {near} % 1000"),
    }
}
