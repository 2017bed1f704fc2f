// SPDX-License-Identifier: Apache-2.0
//! A copy read as of moments remembers what the log changed meanwhile; beyond its memory that goes to files.

// A helper of tests fails as a test does.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the house serves other tests too")]
mod house;

use std::path::Path;

use highwater_core::dblog::input::Control;
use highwater_runtime::source_task::{Order, TaskSettings};
use highwater_testkit::fake::{FakeConnector, FakeWay};

use house::{Flaky, PATIENCE, Running, assert_faithful, churn, filled, registry, settings};

const ROWS: u64 = 60;

fn runs(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).map_or(0, Iterator::count);
    assert!(files < 1_000, "runs that nobody needs are kept");
    files
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{what} in {PATIENCE:?}");
}

/// Chunks are held back until they are let go.
fn held_back(folder: &Path) -> TaskSettings {
    let mut settings = settings();
    settings.engine.windows_max = 0;
    settings.engine.remembered_keys_max = 160;
    settings.spill_folder = Some(folder.to_owned());
    settings
}

async fn copy_under_writes(folder: &Path) {
    let (server, transport, registry) = (filled(ROWS), Flaky::new(), registry());
    let fake = server.clone();
    let make = move || FakeConnector::new(fake.clone(), FakeWay::Moments);
    let running = Running::start(make, &transport, &registry, held_back(folder));
    running.shows("a copy", |status| !status.snapshots.is_empty()).await;
    churn(&server, ROWS);
    if folder.is_dir() {
        until("a run was kept", || runs(folder) > 0).await;
    }
    let go = Control::Throttle { windows_max: 4 };
    running.order(Order::Control(go)).await.unwrap();
    churn(&server, ROWS);
    running.copied(2).await;
    // The log goes on, so that what no chunk needs any more is let go.
    churn(&server, ROWS);
    if folder.is_dir() {
        until("every run was dropped", || runs(folder) == 0).await;
    }
    let end = server.with(|database| database.end());
    let acknowledged = |text: &str| text.parse::<u64>().is_ok_and(|at| at >= end);
    running
        .shows("the end of the log", |status| {
            status.acknowledged_position.as_deref().is_some_and(acknowledged)
        })
        .await;
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_memory_goes_to_files_and_leaves_them_when_no_chunk_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    copy_under_writes(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_used_costs_reads_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A file stands where the folder belongs.
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    copy_under_writes(&taken).await;
}
