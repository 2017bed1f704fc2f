// SPDX-License-Identifier: Apache-2.0
//! What each kind of case does. Every count is checked before there is a figure.

use highwater_testbed::Postgres;

use crate::case::{Case, Kind};
use crate::child::Question;
use crate::clock::{monotonic_us, seconds_between};
use crate::dataset::{self, ITEMS, TICKS, Table, WIDE};
use crate::failure::{Failure, Result};
use crate::latency::{Latency, latency};
use crate::load::{Commit, Load, Work};
use crate::pipeline_file;
use crate::read_back::Watcher;
use crate::record_key::id_of;
use crate::suite::{Suite, exactly};
use crate::tally::Status;
use crate::usage;

/// Updates a second while a table is copied.
const LOAD_PER_SECOND: u64 = 1_000;
/// Commits a second while lateness is measured.
const TICKS_PER_SECOND: u64 = 1_000;
/// Seconds of commits that are not judged: connections, caches and the broker's compiler warm up.
const WARM_UP_SECONDS: u64 = 3;
/// Seconds of commits that are.
const MEASURED_SECONDS: u64 = 20;
/// Rows of the table of single commits.
pub(crate) const TICKS_MAX: u64 = (WARM_UP_SECONDS + MEASURED_SECONDS) * TICKS_PER_SECOND;

/// What a case hands on to its line.
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) latency: Option<Latency>,
}

impl Outcome {
    fn of(status: Status) -> Self {
        Self { status, latency: None }
    }
}

impl Suite {
    /// Runs one case.
    pub(crate) async fn measure(&self, case: Case) -> Result<Outcome> {
        match case.kind {
            Kind::Snapshot | Kind::SnapshotAtStart | Kind::SnapshotOverTls => self.snapshot(case, ITEMS).await,
            Kind::SnapshotWide => self.snapshot(case, WIDE).await,
            Kind::SnapshotUnderLoad => self.snapshot_under_load(case).await,
            Kind::IncrementalSnapshot => self.incremental_snapshot(case).await,
            Kind::StreamDrain(drain) => self.stream_drain(case, dataset::table_of(drain)).await,
            Kind::StreamLatency => self.stream_latency(case).await,
        }
    }

    async fn snapshot(&self, case: Case, table: Table) -> Result<Outcome> {
        let rows = case.rows(self.rows);
        let mut capture = self.capture(case, table, rows).await?;
        capture.wait_until("every row", |status| status.keys >= rows).await?;
        let status = self.ended(case, capture, table, rows).await?;
        exactly("rows read by chunks", status.reads, rows)?;
        Ok(Outcome::of(status))
    }

    /// Each update must come through the log, and each row once more unless an update within its window replaced it.
    async fn snapshot_under_load(&self, case: Case) -> Result<Outcome> {
        // An insert after the last update: when its key arrives, everything before it has.
        let last = self.rows + 1;
        let mut capture = self.capture(case, ITEMS, last).await?;
        // Only what is committed behind the start of the log comes through it.
        capture.wait_until("the log", |status| status.captures).await?;
        let work = Work::Update { rows: self.rows };
        let load = Load::start(&self.postgres, ITEMS, work, LOAD_PER_SECOND).await?;
        let rows = self.rows;
        capture
            .wait_until("every row", |status| status.keys >= rows && status.snapshots_done > 0)
            .await?;
        load.stop();
        let updates = load.finish().await?.len() as u64;
        let insert = Work::Insert {
            from: last,
            through: last,
        };
        Load::start(&self.postgres, ITEMS, insert, LOAD_PER_SECOND)
            .await?
            .finish()
            .await?;
        let status = capture
            .wait_until("the last insert", |status| status.keys > rows)
            .await?;
        let expected = updates + 1 + rows - status.rows_dropped;
        let status = self.ended(case, capture, ITEMS, expected).await;
        let client = self.postgres.connect().await?;
        client
            .execute(
                &format!("DELETE FROM {} WHERE id = $1", ITEMS.name()),
                &[&(last as i64)],
            )
            .await?;
        let status = status?;
        exactly("updates and inserts from the log", status.log_events, updates + 1)?;
        exactly(
            "rows read by chunks and not replaced",
            status.reads,
            rows - status.rows_dropped,
        )?;
        Ok(Outcome::of(status))
    }

    async fn incremental_snapshot(&self, case: Case) -> Result<Outcome> {
        let mut capture = self.capture(case, ITEMS, self.rows).await?;
        capture.wait_until("the log", |status| status.captures).await?;
        let asked_us = capture.ask(Question::Snapshot).await?.now_us;
        let rows = self.rows;
        capture.wait_until("every row", |status| status.keys >= rows).await?;
        let mut status = self.ended(case, capture, ITEMS, rows).await?;
        exactly("rows read by chunks", status.reads, rows)?;
        status.ready_us = asked_us;
        Ok(Outcome::of(status))
    }

    async fn stream_drain(&self, case: Case, table: Table) -> Result<Outcome> {
        let rows = case.rows(self.rows);
        let mut capture = self.capture(case, table, rows).await?;
        capture.wait_until("every row", |status| status.keys >= rows).await?;
        print_walsender(&self.postgres).await?;
        let status = self.ended(case, capture, table, rows).await?;
        exactly("changes from the log", status.log_events, rows)?;
        Ok(Outcome::of(status))
    }

    async fn stream_latency(&self, case: Case) -> Result<Outcome> {
        let client = self.postgres.connect().await?;
        client.batch_execute(&format!("TRUNCATE {}", TICKS.name())).await?;
        let all = TICKS_MAX;
        let mut capture = self.capture(case, TICKS, all).await?;
        capture.wait_until("the log", |status| status.captures).await?;
        self.insert_ticks(1, 1).await?;
        capture.wait_until("the first row", |status| status.events > 0).await?;
        let topics = pipeline_file::topics(&case.name(), TICKS);
        let watcher = match self.brokers(case) {
            Some(brokers) => Some(Watcher::start(&brokers, &topics, id_of)?),
            None => None,
        };
        let commits = self.insert_judged_ticks().await?;
        capture.wait_until("every row", |status| status.keys >= all).await?;
        let status = self.ended(case, capture, TICKS, all).await?;
        let arrivals = match watcher {
            Some(watcher) => watcher.finish()?,
            None => status.arrivals.clone(),
        };
        exactly("records seen as they came", arrivals.len() as u64, all)?;
        Ok(Outcome {
            latency: Some(latency(&commits, &arrivals)?),
            status,
        })
    }

    /// Inserts every row but the first, and returns the commits that are judged.
    pub(crate) async fn insert_judged_ticks(&self) -> Result<Vec<Commit>> {
        let warm_up = WARM_UP_SECONDS * TICKS_PER_SECOND;
        self.insert_ticks(2, warm_up).await?;
        let began = monotonic_us();
        let commits = self.insert_ticks(warm_up + 1, TICKS_MAX).await?;
        let rate = commits.len() as f64 / seconds_between(began, monotonic_us());
        if rate < 0.95 * TICKS_PER_SECOND as f64 {
            return Err(Failure::new(format!(
                "the server took {rate:.0} commits/s only: the machine is busy"
            )));
        }
        Ok(commits)
    }

    pub(crate) async fn insert_ticks(&self, from: u64, through: u64) -> Result<Vec<Commit>> {
        let work = Work::Insert { from, through };
        Load::start(&self.postgres, TICKS, work, TICKS_PER_SECOND)
            .await?
            .finish()
            .await
    }
}

/// Prints what the server spent on sending its log.
async fn print_walsender(postgres: &Postgres) -> Result<()> {
    let client = postgres.connect().await?;
    for row in client.query("SELECT pid FROM pg_stat_replication", &[]).await? {
        let used = usage::cpu_seconds_of(row.get::<_, i32>(0) as u32)?;
        eprintln!("bench: the server's walsender used {used:.2} CPU-s");
    }
    Ok(())
}
