// SPDX-License-Identifier: Apache-2.0
//! Large tables are copied by several readers side by side.

// A helper of tests fails as a test does.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the house serves other tests too")]
mod house;

use highwater_core::dblog::copy::CopyState;
use highwater_runtime::source_task::{Order, SnapshotRequest, SnapshotRequestRows};
use highwater_runtime::tail::certificates;
use highwater_testkit::fake::{FakeConnector, FakeWay};

use house::{Flaky, Running, assert_faithful, filled, registry, settings};

/// Rows of a table: chunks of 7 where it is read as one, of 6 and less where it is cut for 4 readers.
const ROWS: u64 = 20;

/// Rows of the largest chunk, and rows of all.
async fn read(transport: &Flaky) -> (u64, u64) {
    let certificates = certificates(transport, "shop").await.unwrap();
    let rows = certificates.iter().map(|chunk| chunk["rows_read"].as_u64().unwrap());
    (rows.clone().max().unwrap(), rows.sum())
}

async fn copied_once_and_again(bytes: u64) -> [(u64, u64); 2] {
    let (server, transport, registry) = (filled(ROWS), Flaky::new(), registry());
    let fake = server.clone();
    let make = move || FakeConnector::new(fake.clone(), FakeWay::MarksInLog).claiming_bytes(bytes);
    let running = Running::start(make, &transport, &registry, settings());
    running.copied(2).await;
    let first = read(&transport).await;
    let whole = |table: &str| SnapshotRequest {
        table: table.to_owned(),
        rows: SnapshotRequestRows::All,
    };
    let asked = Order::Snapshot(vec![whole("public.t0"), whole("public.t1")]);
    let answer = running.order(asked).await.unwrap();
    let number = answer["snapshots"][0].as_u64().unwrap();
    running
        .shows("both copied again", |status| {
            let done = status
                .snapshots
                .iter()
                .filter(|copy| copy.state == CopyState::Completed);
            done.filter(|copy| copy.snapshot.0 == number).count() == 2
        })
        .await;
    running.drain().await.unwrap();
    assert_faithful(&server, &transport, &registry).await;
    [first, read(&transport).await]
}

#[tokio::test]
async fn a_table_of_many_bytes_is_cut_for_its_first_copy_and_where_a_person_asks() {
    assert_eq!(copied_once_and_again(64 << 20).await, [(6, 2 * ROWS), (6, 4 * ROWS)]);
    assert_eq!(
        copied_once_and_again((64 << 20) - 1).await,
        [(7, 2 * ROWS), (7, 4 * ROWS)]
    );
}

#[tokio::test]
async fn of_what_is_not_captured_nothing_is_begun() {
    let (server, transport, registry) = (filled(ROWS), Flaky::new(), registry());
    let make = move || FakeConnector::new(server.clone(), FakeWay::MarksInLog).claiming_bytes(u64::MAX);
    let running = Running::start(make, &transport, &registry, settings());
    running.copied(2).await;
    let requests = ["public.t0", "public.none"].map(|table| SnapshotRequest {
        table: table.to_owned(),
        rows: SnapshotRequestRows::All,
    });
    let error = running.order(Order::Snapshot(requests.into())).await.unwrap_err();
    assert!(error.to_string().contains("public.none"), "{error}");
    running.drain().await.unwrap();
    assert_eq!(read(&transport).await.1, 2 * ROWS);
}
