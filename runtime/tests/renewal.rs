// SPDX-License-Identifier: Apache-2.0
//! Tables whose log was lost are made right again, with room for a few keys at a time.

// A helper of tests fails as a test does.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the house serves other tests too")]
mod house;
mod named;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use highwater_core::dblog::input::{Control, SnapshotId};
use highwater_core::{ErrorKind, Result};
use highwater_formats::SchemaRegistry;
use highwater_runtime::source_task::{BegunAnew, Order, RenewalLimits, TaskSettings};
use highwater_runtime::tail::certificates;
use highwater_runtime::telemetry::status::{RenewalState, RenewalStatus, Status};
use highwater_testkit::fake::{FakeConnector, FakeServer, FakeWay};
use highwater_testkit::model::Write;

use house::{Flaky, PATIENCE, Running, Spot, assert_faithful, churn, filled, put, registry, settings};
use named::Named;

const ROWS: u64 = 60;
/// Rows of `t0` that go while the log is lost.
const GONE: std::ops::RangeInclusive<u64> = 11..=30;

struct Scene {
    server: FakeServer,
    transport: Flaky,
    registry: Arc<dyn SchemaRegistry>,
    /// How many tables the settings name.
    tables: Arc<AtomicUsize>,
    settings: TaskSettings,
}

/// Room for four keys.
fn narrow() -> TaskSettings {
    let mut settings = settings();
    settings.renewal = RenewalLimits {
        keys_bytes_max: 300,
        left_bytes_max: 300,
    };
    settings
}

impl Scene {
    /// Two tables were captured, the pipeline ended, and the source went on.
    async fn captured(settings: TaskSettings) -> Self {
        let scene = Scene {
            server: filled(ROWS),
            transport: Flaky::new(),
            registry: registry(),
            tables: Arc::new(AtomicUsize::new(2)),
            settings,
        };
        let running = scene.run();
        running.copied(2).await;
        scene.caught_up(&running).await;
        running.drain().await.unwrap();
        for id in GONE {
            scene
                .server
                .write(vec![Write::Delete { table: 0, id }, put(0, 1000 + id), put(1, id)]);
        }
        scene
    }

    /// The same, and the source forgot what the pipeline had not read.
    async fn lost(settings: TaskSettings) -> Self {
        let scene = Self::captured(settings).await;
        scene.server.with(|database| database.acknowledged = database.end());
        let error = scene.run().ended().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PositionLost);
        scene
    }

    fn make(&self) -> impl Fn() -> Named<FakeConnector> + Send + Sync + 'static {
        let (server, tables) = (self.server.clone(), self.tables.clone());
        move || Named::new(FakeConnector::new(server.clone(), FakeWay::MarksInLog), tables.clone())
    }

    fn run(&self) -> Running {
        Running::start(self.make(), &self.transport, &self.registry, self.settings.clone())
    }

    async fn renew(&self, force: bool) -> Result<BegunAnew> {
        let (task, _stop, _commands) = house::task(self.make(), &self.transport, &self.registry, self.settings.clone());
        task.begin_anew(force).await
    }

    async fn caught_up(&self, running: &Running) {
        let end = self.server.with(|database| database.end());
        let acknowledged = |text: &str| text.parse::<u64>().is_ok_and(|at| at >= end);
        running
            .shows("the end of the log", |status| {
                status.acknowledged_position.as_deref().is_some_and(acknowledged)
            })
            .await;
    }

    /// Waits until this many tables are right again; what `t0` shows.
    async fn renewed(&self, running: &Running, tables: usize) -> RenewalStatus {
        let done = |status: &Status| {
            let states = status.renewals.values().map(|renewal| renewal.state);
            states.filter(|state| *state == RenewalState::Done).count() == tables
        };
        running.shows("renewed tables", done).await.renewals["public.t0"]
    }

    /// The topics have what the tables have, and nothing in them ever went back in time.
    async fn is_right(&self, running: Running) {
        self.caught_up(&running).await;
        running.drain().await.unwrap();
        assert_faithful(&self.server, &self.transport, &self.registry).await;
    }
}

fn reports(status: &Status, code: &str) -> usize {
    status.reports.iter().filter(|report| report.code == code).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_comes_deletes_too_in_shares_of_a_few_keys() {
    let scene = Scene::lost(narrow()).await;
    let before = scene.transport.readers_opened();
    let begun = scene.renew(false).await.unwrap();
    assert_eq!(begun.tables, ["public.t0", "public.t1"]);
    assert_eq!(
        scene.transport.readers_opened() - before,
        1,
        "one reader for all topics"
    );
    let running = scene.run();
    churn(&scene.server, 10);
    let status = scene.renewed(&running, 2).await;
    assert_eq!(status.keys_compared, ROWS, "each key is compared once");
    churn(&scene.server, 10);
    scene.is_right(running).await;
    let certificates = certificates(&scene.transport, "shop").await.unwrap();
    let of_t0 = |one: &&serde_json::Value| one["renewal"] == true && one["table"]["table"] == "t0";
    let certificate = certificates.iter().find(of_t0).expect("a certificate of the renewal");
    assert_eq!(certificate["keys_removed"], status.keys_removed);
    assert!(scene.transport.readers_opened() - before > 30, "many shares");
    // A later run has nothing to do any more.
    let running = scene.run();
    scene.caught_up(&running).await;
    assert!(running.board.read().renewals.is_empty());
    scene.is_right(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_comes_to_an_end_though_every_key_leaves_while_it_lasts() {
    let scene = Scene::lost(narrow()).await;
    scene.renew(false).await.unwrap();
    let (server, came_back) = (scene.server.clone(), Arc::new(AtomicUsize::new(0)));
    let write_all = move |topics: Vec<String>| {
        let (server, came_back) = (server.clone(), came_back.clone());
        async move {
            if topics != ["shop.public.t0"] {
                return;
            }
            let alive = (1..=ROWS).filter(|id| server.with(|database| database.last(0, *id).is_some()));
            alive
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|id| server.write(vec![put(0, id)]));
            // Now and then a row comes back that is gone.
            if came_back.fetch_add(1, Ordering::SeqCst) % 5 == 0 {
                let gone = GONE
                    .into_iter()
                    .find(|id| server.with(|database| database.last(0, *id).is_none()));
                gone.into_iter().for_each(|id| server.write(vec![put(0, id)]));
            }
            // All of it left before the topic is read.
            let end = server.with(|database| database.end());
            while server.with(|database| database.acknowledged) < end {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        .boxed()
    };
    // More rows leave than fit, also of the keys that are compared.
    scene.transport.meanwhile(Some(Arc::new(write_all)));
    let running = scene.run();
    let status = scene.renewed(&running, 2).await;
    scene.transport.meanwhile(None);
    assert_eq!(status.keys_compared, ROWS);
    scene.is_right(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_be_read_for_a_while_holds_up_its_own_table_only() {
    let scene = Scene::lost(settings()).await;
    scene.renew(false).await.unwrap();
    scene.transport.fail(Spot::OpenReader, ErrorKind::Unreachable, 4);
    let running = scene.run();
    let status = scene.renewed(&running, 2).await;
    assert_eq!(status.keys_removed, GONE.count() as u64);
    assert_eq!(scene.transport.faults_left(), 0);
    assert_eq!(running.metrics.retries.get(), 0, "the capture went on");
    scene.is_right(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_that_is_not_captured_any_more_nothing_is_taken_for_gone() {
    let scene = Scene::lost(settings()).await;
    scene.renew(false).await.unwrap();
    // Both are copied; no topic can be read.
    scene.transport.fail(Spot::OpenReader, ErrorKind::Unreachable, 1_000);
    let running = scene.run();
    let compares = |status: &Status| {
        let mut renewals = status.renewals.values();
        renewals.len() == 2 && renewals.all(|renewal| renewal.state == RenewalState::Comparing)
    };
    running.shows("tables that are compared", compares).await;
    scene.caught_up(&running).await;
    running.drain().await.unwrap();
    scene.transport.forget_faults();

    scene.tables.store(1, Ordering::SeqCst);
    let running = scene.run();
    scene.renewed(&running, 1).await;
    let status = running.board.read();
    assert_eq!(reports(&status, "renewal_given_up"), 1, "{status:#?}");
    assert!(
        status
            .reports
            .iter()
            .any(|report| report.table.to_string() == "public.t1")
    );
    // Nobody sees these rows come.
    (1..=5).for_each(|id| {
        scene
            .server
            .write(vec![Write::Delete { table: 1, id }, put(1, id), put(1, 2000 + id)])
    });
    scene.caught_up(&running).await;
    running.drain().await.unwrap();

    let running = scene.run();
    scene.caught_up(&running).await;
    assert_eq!(reports(&running.board.read(), "renewal_given_up"), 0, "it is told once");
    running.drain().await.unwrap();
    scene.tables.store(2, Ordering::SeqCst);
    let running = scene.run();
    running.copied(2).await;
    scene.is_right(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_cancelled_is_told_and_made_by_the_next_run() {
    let mut scene = Scene::lost(settings()).await;
    scene.renew(false).await.unwrap();
    scene.settings.engine.windows_max = 0;
    let running = scene.run();
    let status = running.shows("copies", |status| status.snapshots.len() == 2).await;
    let snapshot: SnapshotId = status.snapshots[0].snapshot;
    running.order(Order::Control(Control::Cancel(snapshot))).await.unwrap();
    let cancelled = |status: &Status| {
        let mut renewals = status.renewals.values();
        renewals.len() == 2 && renewals.all(|renewal| renewal.state == RenewalState::Cancelled)
    };
    let status = running.shows("cancelled renewals", cancelled).await;
    assert_eq!(reports(&status, "renewal_cancelled"), 2);
    assert!(
        status.reports[0].message.contains("rows that are gone remain"),
        "{status:#?}"
    );
    scene.caught_up(&running).await;
    running.drain().await.unwrap();

    scene.settings.engine.windows_max = 4;
    let running = scene.run();
    let status = scene.renewed(&running, 2).await;
    assert_eq!(status.keys_removed, GONE.count() as u64);
    scene.is_right(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_not_lost_is_given_up_only_by_force() {
    let scene = Scene::captured(settings()).await;
    let error = scene.renew(false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    assert!(error.fix().is_some_and(|fix| fix.contains("--force")), "{error}");
    // The pipeline would go on from where it was: nothing is given up.
    let checkpoint = scene.run();
    scene.caught_up(&checkpoint).await;
    scene.is_right(checkpoint).await;

    churn(&scene.server, ROWS);
    let begun = scene.renew(true).await.unwrap();
    assert_eq!(begun.tables.len(), 2);
    let running = scene.run();
    let status = scene.renewed(&running, 2).await;
    assert!(status.keys_compared > 0);
    scene.is_right(running).await;
}

#[tokio::test]
async fn a_pipeline_that_captured_nothing_has_nothing_to_renew() {
    let scene = Scene {
        server: filled(1),
        transport: Flaky::new(),
        registry: registry(),
        tables: Arc::new(AtomicUsize::new(2)),
        settings: settings(),
    };
    for force in [false, true] {
        let error = tokio::time::timeout(PATIENCE, scene.renew(force))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsuitable);
        assert!(error.to_string().contains("no checkpoint"), "{error}");
    }
}
