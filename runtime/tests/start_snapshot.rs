// SPDX-License-Identifier: Apache-2.0
//! First copies from the snapshot of the log's start: how long it is held, and what it is not for.

// A helper of tests fails as a test does.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the house serves other tests too")]
mod house;
mod named;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highwater_core::dblog::input::Control;
use highwater_formats::SchemaRegistry;
use highwater_runtime::source_task::{Order, TaskSettings};
use highwater_testkit::fake::{FakeConnector, FakeServer, FakeWay};

use house::{Flaky, PATIENCE, Running, assert_faithful, churn, filled, registry, settings};
use named::Named;

const ROWS: u64 = 60;
const LONG: Duration = Duration::from_secs(3_600);

fn make(server: &FakeServer) -> impl Fn() -> FakeConnector + Send + Sync + 'static {
    let fake = server.clone();
    move || FakeConnector::new(fake.clone(), FakeWay::MarksInLog)
}

/// Chunks are held back until they are let go.
fn held_back(longest: Duration) -> TaskSettings {
    let mut settings = settings();
    settings.engine.windows_max = 0;
    settings.start_snapshot_max = Some(longest);
    settings
}

async fn let_go(running: &Running) {
    let go = Control::Throttle { windows_max: 4 };
    running.order(Order::Control(go)).await.unwrap();
}

async fn released(server: &FakeServer) {
    let waiting = async {
        while server.holds_start_snapshot() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it is let go");
}

/// Waits for the end of the log, drains, and compares with the server.
async fn ends_well(running: Running, server: &FakeServer, transport: &Flaky, registry: &Arc<dyn SchemaRegistry>) {
    let end = server.with(|database| database.end());
    let acknowledged = |text: &str| text.parse::<u64>().is_ok_and(|at| at >= end);
    running
        .shows("the end of the log", |status| {
            status.acknowledged_position.as_deref().is_some_and(acknowledged)
        })
        .await;
    running.drain().await.unwrap();
    assert_faithful(server, transport, registry).await;
}

async fn told(running: &Running, why: &str) {
    running
        .shows("a report of the rest of the copy", |status| {
            let mut reports = status.reports.iter();
            reports.any(|report| report.code == "copy_by_windows" && report.message.contains(why))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_copies_are_read_from_it_and_it_is_let_go_when_they_are_done() {
    let (server, transport, registry) = (filled(ROWS), Flaky::new(), registry());
    let running = Running::start(make(&server), &transport, &registry, held_back(LONG));
    running.shows("a copy", |status| !status.snapshots.is_empty()).await;
    churn(&server, ROWS);
    assert!(server.holds_start_snapshot());
    let_go(&running).await;
    running.copied(2).await;
    released(&server).await;
    assert_eq!((server.read_at_start().len(), server.start_snapshots_taken()), (2, 1));
    churn(&server, ROWS);
    ends_well(running, &server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_its_time_it_is_let_go_also_of_copies_that_are_held_back() {
    let (server, transport, registry) = (filled(ROWS), Flaky::new(), registry());
    let running = Running::start(make(&server), &transport, &registry, held_back(Duration::ZERO));
    told(&running, "first_load_minutes_max").await;
    released(&server).await;
    churn(&server, ROWS);
    let_go(&running).await;
    running.copied(2).await;
    assert!(server.read_at_start().is_empty());
    ends_well(running, &server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_it_is_lost_the_rest_is_read_between_marks() {
    let (server, transport, registry) = (filled(ROWS), Flaky::new(), registry());
    let running = Running::start(make(&server), &transport, &registry, held_back(LONG));
    running.shows("a copy", |status| !status.snapshots.is_empty()).await;
    churn(&server, ROWS);
    server.lose_start_snapshot("its session was ended");
    let_go(&running).await;
    told(&running, "its session was ended").await;
    churn(&server, ROWS);
    running.copied(2).await;
    ends_well(running, &server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_added_to_the_running_log_is_not_read_from_it() {
    let (server, transport, registry) = (filled(ROWS), Flaky::new(), registry());
    let tables = Arc::new(AtomicUsize::new(1));
    let make = {
        let (make, tables) = (make(&server), tables.clone());
        move || Named::new(make(), tables.clone())
    };
    let running = Running::start(make, &transport, &registry, held_back(LONG));
    running.shows("a copy", |status| !status.snapshots.is_empty()).await;
    tables.store(2, Ordering::SeqCst);
    running.order(Order::Reload).await.unwrap();
    churn(&server, ROWS);
    let_go(&running).await;
    running.copied(2).await;
    let read: Vec<String> = server.read_at_start().iter().map(ToString::to_string).collect();
    assert_eq!(read, ["public.t0"]);
    ends_well(running, &server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_wants_it_none_is_taken() {
    for (initial, longest) in [(true, None), (false, Some(LONG))] {
        let (server, transport, registry) = (filled(ROWS), Flaky::new(), registry());
        let mut settings = settings();
        (settings.initial_snapshot, settings.start_snapshot_max) = (initial, longest);
        let running = Running::start(make(&server), &transport, &registry, settings);
        running
            .shows("the log", |status| status.acknowledged_position.is_some())
            .await;
        running.drain().await.unwrap();
        // One that nobody reads is let go at once: that none is held says nothing.
        assert_eq!(
            server.start_snapshots_taken(),
            0,
            "initial: {initial}, longest: {longest:?}"
        );
        assert!(server.read_at_start().is_empty());
    }
}
