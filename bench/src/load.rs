// SPDX-License-Identifier: Apache-2.0
//! Commits at a steady rate: the schedule does not wait for the server, so that a slow moment is not forgiven.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_testbed::Postgres;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::clock::monotonic_us;
use crate::dataset::Table;
use crate::failure::{Failure, Result};

/// Sessions that share the commits.
const SESSIONS: u64 = 8;

/// One statement per commit, over and over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Inserts the rows 1, 2, 3, …
    Insert {
        /// The first id.
        from: u64,
        /// The last id.
        through: u64,
    },
    /// Updates rows all over a table, until stopped.
    Update {
        /// Ids of the table: from 1 to this.
        rows: u64,
    },
}

/// A load that runs.
#[derive(Debug)]
pub(crate) struct Load {
    sessions: JoinSet<Result<Vec<Commit>>>,
    stop: Arc<AtomicBool>,
}

/// One commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit {
    /// The row.
    pub(crate) id: u64,
    /// When the server had confirmed it.
    pub(crate) at_us: u64,
}

impl Load {
    /// Starts `per_second` commits a second on `table`.
    pub(crate) async fn start(server: &Postgres, table: Table, work: Work, per_second: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for _ in 0..SESSIONS {
            clients.push(server.connect().await?);
        }
        let mut sessions = JoinSet::new();
        let began = Instant::now();
        for (session, client) in (0..).zip(clients) {
            let schedule = Schedule {
                began,
                session,
                per_second,
                work,
            };
            sessions.spawn(run_session(client, table, schedule, Arc::clone(&stop)));
        }
        Ok(Self { sessions, stop })
    }

    /// Ends an endless load after the statements under way.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end and returns all commits.
    pub(crate) async fn finish(mut self) -> Result<Vec<Commit>> {
        let mut all = Vec::new();
        while let Some(ended) = self.sessions.join_next().await {
            all.extend(ended.map_err(|error| Failure::during("a writer of the load", error))??);
        }
        Ok(all)
    }
}

/// Which commit is whose, and when.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    began: Instant,
    session: u64,
    per_second: u64,
    work: Work,
}

impl Schedule {
    /// The `round`th commit of this session: its row and its time. None past the end.
    fn commit(&self, round: u64) -> Option<(u64, Instant)> {
        let number = round * SESSIONS + self.session;
        let at = self.began + Duration::from_micros(number * 1_000_000 / self.per_second);
        let id = match self.work {
            Work::Insert { from, through } => Some(from + number).filter(|id| *id <= through),
            // A step that shares no factor with any round number of rows visits all of the table.
            Work::Update { rows } => Some(1 + (number * 7_919) % rows),
        };
        id.map(|id| (id, at))
    }
}

async fn run_session(
    client: tokio_postgres::Client,
    table: Table,
    schedule: Schedule,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Commit>> {
    let (sql, is_insert) = match schedule.work {
        Work::Insert { .. } => (table.insert_sql(), true),
        Work::Update { .. } => {
            let sql = format!("UPDATE {} SET quantity = quantity + 1 WHERE id = $1", table.name());
            (sql, false)
        }
    };
    let statement = client.prepare(&sql).await?;
    let mut commits = Vec::new();
    for round in 0.. {
        let Some((id, at)) = schedule.commit(round) else { break };
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep_until(at).await;
        let key = id as i64;
        let changed = if is_insert {
            client.execute(&statement, &[&key, &key]).await?
        } else {
            client.execute(&statement, &[&key]).await?
        };
        let at_us = monotonic_us();
        if changed != 1 {
            return Err(Failure::new(format!(
                "a commit of the load changed {changed} rows of {}, not 1",
                table.name()
            )));
        }
        commits.push(Commit { id, at_us });
    }
    Ok(commits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_share_all_rows_and_keep_the_rate() {
        let began = Instant::now();
        let work = Work::Insert {
            from: 11,
            through: 2_010,
        };
        let mut commits: Vec<(u64, Instant)> = (0..SESSIONS)
            .flat_map(|session| {
                let schedule = Schedule {
                    began,
                    session,
                    per_second: 1_000,
                    work,
                };
                (0..).map_while(move |round| schedule.commit(round)).collect::<Vec<_>>()
            })
            .collect();
        commits.sort();
        assert!(commits.iter().map(|(id, _)| *id).eq(11..=2_010));
        assert_eq!(
            commits.last().map(|(_, at)| *at - began),
            Some(Duration::from_micros(1_999_000))
        );
    }
}
