// SPDX-License-Identifier: Apache-2.0
//! The loop against a database in memory: failures, retries, draining, takeover.

// A helper of tests fails as a test does.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the house serves other tests too")]
mod house;
mod named;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highwater_core::dblog::copy::CopyState;
use highwater_core::dblog::input::{Control, SnapshotId};
use highwater_core::{Class, ErrorKind};
use highwater_runtime::source_task::{Order, SnapshotRequest, SnapshotRequestRows};
use highwater_runtime::tail::certificates;
use highwater_runtime::telemetry::status::State;
use highwater_testkit::fake::{FakeConnector, FakeServer, FakeWay};
use highwater_testkit::fault::{FaultPlan, Faulty, Operation, Strike};
use highwater_testkit::model::Write;

use house::{Flaky, Running, Spot, assert_faithful, filled, put, registry, settings};
use named::Named;

fn fake(server: &FakeServer) -> impl Fn() -> FakeConnector + Send + Sync + 'static {
    let server = server.clone();
    move || FakeConnector::new(server.clone(), FakeWay::MarksInLog)
}

fn churn(server: &FakeServer, rounds: u64) {
    for n in 0..rounds {
        let (id, other) = (1 + n * 7 % 40, 1 + n * 11 % 40);
        server.write(vec![put(0, id), Write::Delete { table: 1, id: other }, put(1, id)]);
        server.write(vec![Write::Move {
            table: 0,
            id: other,
            to: 1000 + n,
        }]);
    }
}

async fn caught_up(running: &Running, server: &FakeServer) {
    let end = server.with(|database| database.end());
    running
        .shows("the end of the log", |status| {
            let acknowledged = status.acknowledged_position.as_deref();
            acknowledged
                .and_then(|text| text.parse::<u64>().ok())
                .is_some_and(|at| at >= end)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_run_copies_the_tables_follows_the_log_and_drains() {
    let (server, transport, registry) = (filled(50), Flaky::new(), registry());
    let running = Running::start(fake(&server), &transport, &registry, settings());
    churn(&server, 40);
    running.copied(2).await;
    churn(&server, 40);
    let board = running.board.clone();
    // Nobody waits for the log's end: draining takes what was captured, the next run the rest.
    running.drain().await.unwrap();
    assert_eq!(board.state(), State::Stopped);
    let again = Running::start(fake(&server), &transport, &registry, settings());
    caught_up(&again, &server).await;
    assert!(
        again.board.read().snapshots.is_empty(),
        "copies that are finished are not made again"
    );
    again.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
    let certificates = certificates(&transport, "shop").await.unwrap();
    let read: u64 = certificates.iter().map(|c| c["rows_read"].as_u64().unwrap()).sum();
    assert!(
        certificates.len() >= 14 && read >= 90,
        "{} certificates, {read} rows",
        certificates.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_neither_lost_nor_repeated() {
    let (server, transport, registry) = (filled(30), Flaky::new(), registry());
    for _ in 0..4 {
        transport.fail(Spot::CommitAfter, ErrorKind::Unreachable, 1);
        transport.fail(Spot::CommitBefore, ErrorKind::Unreachable, 1);
        transport.fail(Spot::Append, ErrorKind::Unreachable, 1);
    }
    let running = Running::start(fake(&server), &transport, &registry, settings());
    while transport.faults_left() > 0 {
        churn(&server, 3);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!running.task.is_finished());
    }
    running.copied(2).await;
    caught_up(&running, &server).await;
    assert_eq!(running.metrics.retries.get(), 12);
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_opened_again_from_the_checkpoint() {
    let (server, transport, registry) = (filled(40), Flaky::new(), registry());
    let running = Running::start(fake(&server), &transport, &registry, settings());
    for _ in 0..8 {
        churn(&server, 10);
        tokio::time::sleep(Duration::from_millis(15)).await;
        server.drop_connections();
    }
    running.copied(2).await;
    caught_up(&running, &server).await;
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_that_is_down_shows_in_the_status_until_it_is_back() {
    let (server, transport, registry) = (filled(5), Flaky::new(), registry());
    transport.fail(Spot::OpenWriter, ErrorKind::Unreachable, 5);
    let running = Running::start(fake(&server), &transport, &registry, settings());
    let status = running.shows("a retry", |status| status.state == State::Retrying).await;
    let error = status.last_error.unwrap();
    assert_eq!(
        (error.class.as_str(), error.fix.as_deref()),
        ("retryable", Some("wait"))
    );
    running.copied(2).await;
    assert_eq!((running.metrics.retries.get(), running.metrics.up.get()), (5, 1));
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_up_when_nothing_could_be_committed_for_too_long() {
    let (server, transport, registry) = (filled(5), Flaky::new(), registry());
    transport.fail(Spot::OpenWriter, ErrorKind::Unreachable, 100_000);
    let mut settings = settings();
    settings.retry.give_up_after = Duration::from_millis(100);
    let running = Running::start(fake(&server), &transport, &registry, settings);
    let error = running.ended().await.unwrap_err();
    assert_eq!((error.kind(), error.class().exit_code()), (ErrorKind::Unreachable, 75));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_person_must_mend_ends_the_task_at_once() {
    let (server, transport, registry) = (filled(5), Flaky::new(), registry());
    let plan = FaultPlan::default();
    plan.fail_next(Operation::OpenLog, Strike::Before, ErrorKind::Privilege);
    let make = {
        let (fake, plan) = (fake(&server), plan.clone());
        move || Faulty::new(fake(), plan.clone())
    };
    let running = Running::start(make, &transport, &registry, settings());
    let error = running.ended().await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Privilege, Class::User));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_chunks_and_marks_are_tried_again_while_the_log_goes_on() {
    let (server, transport, registry) = (filled(30), Flaky::new(), registry());
    let plan = FaultPlan::default();
    for operation in [
        Operation::ReadChunk,
        Operation::Mark,
        Operation::OpenChunks,
        Operation::OpenWatermarks,
    ] {
        plan.fail_next(operation, Strike::Before, ErrorKind::Unreachable);
        plan.fail_next(operation, Strike::After, ErrorKind::Unreachable);
    }
    let make = {
        let (fake, plan) = (fake(&server), plan.clone());
        move || Faulty::new(fake(), plan.clone())
    };
    let running = Running::start(make, &transport, &registry, settings());
    churn(&server, 20);
    running.copied(2).await;
    caught_up(&running, &server).await;
    assert_eq!(plan.left(Operation::ReadChunk) + plan.left(Operation::Mark), 0);
    assert!(running.metrics.chunk_failures.get() >= 4);
    assert_eq!(running.metrics.retries.get(), 0, "the log was never opened again");
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_or_log_leads_back_to_the_checkpoint() {
    let (server, transport, registry) = (filled(20), Flaky::new(), registry());
    let plan = FaultPlan::default();
    for operation in [
        Operation::Acknowledge,
        Operation::NextLog,
        Operation::Discover,
        Operation::OpenLog,
    ] {
        plan.fail_next(operation, Strike::Before, ErrorKind::Unreachable);
    }
    plan.fail_next(Operation::Acknowledge, Strike::After, ErrorKind::CorruptMessage);
    let make = {
        let (fake, plan) = (fake(&server), plan.clone());
        move || Faulty::new(fake(), plan.clone())
    };
    let running = Running::start(make, &transport, &registry, settings());
    churn(&server, 20);
    running.copied(2).await;
    churn(&server, 20);
    caught_up(&running, &server).await;
    assert_eq!(plan.left(Operation::Acknowledge), 0);
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_replaced_ends_as_fenced_and_its_successor_goes_on() {
    let (server, transport, registry) = (filled(20), Flaky::new(), registry());
    let first = Running::start(fake(&server), &transport, &registry, settings());
    first.copied(2).await;
    // The successor's log opens once the first one has gone.
    let mut settings = settings();
    settings.retry.first = Duration::from_millis(20);
    let writer = settings.writer.clone();
    let mut zombie_maker = highwater_core::transport::Transport::open_writer(&transport, &writer)
        .await
        .unwrap();
    assert!(zombie_maker.checkpoint().await.unwrap().is_some());
    churn(&server, 5);
    assert_eq!(first.ended().await.unwrap_err().kind(), ErrorKind::Fenced);
    drop(zombie_maker);
    let second = Running::start(fake(&server), &transport, &registry, settings);
    caught_up(&second, &server).await;
    second.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_split_and_a_crash_inside_it_repeats_nothing() {
    let (server, transport, registry) = (filled(3), Flaky::new(), registry());
    let running = Running::start(fake(&server), &transport, &registry, settings());
    running.copied(2).await;
    let commits = running.metrics.commits.get();
    let writes: Vec<Write> = (1..=500).map(|id| put(0, id)).collect();
    // The tenth commit inside it does not take place, another one's answer is lost.
    server.write(writes);
    transport.fail(Spot::CommitAfter, ErrorKind::Unreachable, 1);
    transport.fail(Spot::CommitBefore, ErrorKind::Unreachable, 1);
    caught_up(&running, &server).await;
    let split = running.metrics.commits.get() - commits;
    assert!(split >= 5, "500 events in commits of 20 were {split} commits");
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_the_settings_name_later_are_copied_after_a_reload_without_a_restart() {
    let (server, transport, registry) = (FakeServer::new(3), Flaky::new(), registry());
    for id in 1..=20 {
        server.write((0..3).map(|table| put(table, id)).collect());
    }
    let named = Arc::new(AtomicUsize::new(2));
    let make = {
        let (fake, named) = (fake(&server), named.clone());
        move || Named::new(fake(), named.clone())
    };
    let running = Running::start(make, &transport, &registry, settings());
    running.copied(2).await;
    assert_eq!(
        running.order(Order::Reload).await.unwrap()["added"],
        serde_json::json!([])
    );
    named.store(3, Ordering::SeqCst);
    assert_eq!(
        running.order(Order::Reload).await.unwrap()["added"],
        serde_json::json!(["public.t2"])
    );
    running.copied(3).await;
    caught_up(&running, &server).await;
    assert_eq!(running.metrics.retries.get(), 0);
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_begun_paused_resumed_and_cancelled_by_their_number() {
    let (server, transport, registry) = (filled(60), Flaky::new(), registry());
    let mut settings = settings();
    settings.initial_snapshot = false;
    let running = Running::start(fake(&server), &transport, &registry, settings);
    running
        .shows("a running task", |status| status.state == State::Running)
        .await;
    running
        .order(Order::Control(Control::Throttle { windows_max: 0 }))
        .await
        .unwrap();
    let all = |table: &str| SnapshotRequest {
        table: table.to_owned(),
        rows: SnapshotRequestRows::All,
    };
    let begun = running.order(Order::Snapshot(vec![all("public.t0")])).await.unwrap();
    let id = SnapshotId(begun["snapshots"][0].as_u64().unwrap());
    let state = |wanted: CopyState| {
        move |status: &highwater_runtime::telemetry::status::Status| {
            status
                .snapshots
                .iter()
                .any(|copy| copy.snapshot == id && copy.state == wanted)
        }
    };
    running.order(Order::Control(Control::Pause(id))).await.unwrap();
    running.shows("a paused copy", state(CopyState::Paused)).await;
    running
        .order(Order::Control(Control::Throttle { windows_max: 4 }))
        .await
        .unwrap();
    running.order(Order::Control(Control::Resume(id))).await.unwrap();
    running.shows("a finished copy", state(CopyState::Completed)).await;
    running
        .order(Order::Control(Control::Throttle { windows_max: 0 }))
        .await
        .unwrap();
    let begun = running.order(Order::Snapshot(vec![all("public.t1")])).await.unwrap();
    let id = SnapshotId(begun["snapshots"][0].as_u64().unwrap());
    running.order(Order::Control(Control::Cancel(id))).await.unwrap();
    running
        .shows("a cancelled copy", |status| {
            status
                .snapshots
                .iter()
                .any(|copy| copy.snapshot == id && copy.state == CopyState::Cancelled)
        })
        .await;
    let refused = running
        .order(Order::Snapshot(vec![all("public.t7")]))
        .await
        .unwrap_err();
    assert_eq!(refused.message(), "table \"public.t7\" is not captured");
    assert!(refused.fix().is_some_and(|fix| fix.contains("did you mean \"public.t")));
    running.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_source_is_acknowledged_and_not_committed_over_and_over() {
    let (server, transport, registry) = (filled(3), Flaky::new(), registry());
    let running = Running::start(fake(&server), &transport, &registry, settings());
    running.copied(2).await;
    caught_up(&running, &server).await;
    let commits = running.metrics.commits.get();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let idle = running.metrics.commits.get() - commits;
    assert!(
        idle <= 35,
        "{idle} commits in 300 ms of nothing with an idle time of 10 ms"
    );
    running.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_that_hangs_does_not_keep_the_process_from_stopping() {
    let (server, transport, registry) = (filled(3), Flaky::new(), registry());
    let mut settings = settings();
    settings.drain_max = Duration::from_millis(200);
    let running = Running::start(fake(&server), &transport, &registry, settings.clone());
    running.copied(2).await;
    transport.fail(Spot::AppendForEver, ErrorKind::Unreachable, 1);
    let before = running.board.read().events;
    churn(&server, 5);
    // Else the drain may come before the first append, and the next run would meet the hang.
    running.shows("events to append", |status| status.events > before).await;
    running.drain().await.unwrap();
    let again = Running::start(fake(&server), &transport, &registry, settings);
    caught_up(&again, &server).await;
    again.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}
