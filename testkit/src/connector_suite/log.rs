// SPDX-License-Identifier: Apache-2.0
//! Clauses of the log and its marks.

use std::time::Duration;

use highwater_core::change::{LogItem, Op};
use highwater_core::connector::{LogReader, Reconcile, Severity, SourceConnector, WatermarkWriter};
use highwater_core::position::{MarkId, MarkPlace, ResumePoint, RunId};

use crate::connector_suite::{Harness, PositionOf, RUN, SuiteWrite, changes, collect, fill};

pub(super) async fn preflight_finds_nothing_wrong_and_discovery_names_the_table_with_its_key<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    let errors: Vec<_> = connector
        .preflight()
        .await
        .unwrap()
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    assert!(errors.is_empty(), "preflight found errors: {errors:?}");
    let catalog = connector.discover().await.unwrap();
    let table = catalog.tables.iter().find(|table| table.schema.name == harness.table());
    assert_eq!(
        table.expect("the captured table is in the catalogue").schema.key.len(),
        1,
        "its key has one column"
    );
}

pub(super) async fn a_transaction_comes_once_between_its_begin_and_commit<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    let mut log = connector.open_log(None, RUN).await.unwrap();
    harness
        .write(vec![
            SuiteWrite::Insert { id: 1, value: 1 },
            SuiteWrite::Insert { id: 2, value: 2 },
        ])
        .await;
    harness.write(vec![SuiteWrite::Update { id: 1, value: 3 }]).await;
    harness.write(vec![SuiteWrite::Delete { id: 2 }]).await;
    let mut items = Vec::new();
    let ended = |items: &[LogItem<_>]| {
        changes(items) >= 4 && matches!(items.last(), Some(LogItem::Progress(_) | LogItem::Commit { .. }))
    };
    collect(&mut log, &mut items, "four changes and their commit", ended).await;
    let mut open = None;
    let mut announced = None;
    let mut ordinal = 0;
    let mut ops = Vec::new();
    let mut commits: Vec<PositionOf<H>> = Vec::new();
    for item in &items {
        match item {
            LogItem::Begin { transaction, commit } => {
                assert!(open.is_none(), "a transaction begins inside another");
                (open, ordinal) = (Some(*transaction), 0);
                commits.push(commit.clone());
            }
            LogItem::Change(change) => {
                assert_eq!(open, Some(change.transaction), "a change outside its transaction");
                assert!(change.ordinal > ordinal, "ordinals do not ascend from 1");
                assert_eq!(
                    announced,
                    Some(change.schema.fingerprint()),
                    "a change before its shape"
                );
                ordinal = change.ordinal;
                ops.push((change.op, change.key().expect("a change has a key")));
            }
            LogItem::Commit { transaction, .. } => {
                assert_eq!(open.take(), Some(*transaction), "another transaction ends")
            }
            LogItem::Schema(schema) => announced = Some(schema.fingerprint()),
            LogItem::Progress(_) => assert!(open.is_none(), "progress inside a transaction"),
            LogItem::Watermark { .. } => panic!("a mark that nobody wrote"),
        }
    }
    assert!(commits.is_sorted(), "commit positions do not ascend");
    let key = |id| harness.key(id);
    let expected = [
        (Op::Create, key(1)),
        (Op::Create, key(2)),
        (Op::Update, key(1)),
        (Op::Delete, key(2)),
    ];
    assert_eq!(ops, expected);
}

pub(super) async fn an_idle_log_says_how_far_it_is<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    let mut log = connector.open_log(None, RUN).await.unwrap();
    for round in 0..2 {
        let mut items = Vec::new();
        let progress = |items: &[LogItem<_>]| items.iter().any(|item| matches!(item, LogItem::Progress(_)));
        collect(
            &mut log,
            &mut items,
            if round == 0 { "progress" } else { "progress again" },
            progress,
        )
        .await;
    }
}

pub(super) async fn a_log_opened_again_delivers_what_came_after_and_nothing_before<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    let mut log = connector.open_log(None, RUN).await.unwrap();
    harness.write(vec![SuiteWrite::Insert { id: 1, value: 1 }]).await;
    let mut items = Vec::new();
    let committed = |items: &[LogItem<_>]| {
        matches!(items.last(), Some(LogItem::Commit { .. } | LogItem::Progress(_))) && changes(items) == 1
    };
    collect(&mut log, &mut items, "the first transaction", committed).await;
    let position = items.iter().rev().find_map(|item| match item {
        LogItem::Commit { position, .. } => Some(position.clone()),
        _ => None,
    });
    drop(log);
    let from = ResumePoint::at(position.expect("a transaction ends with a commit"));
    let mut log = connector.open_log(Some(&from), RunId(8)).await.unwrap();
    assert!(
        *log.start() >= from.position,
        "the log starts before where it was opened"
    );
    harness.write(vec![SuiteWrite::Insert { id: 2, value: 2 }]).await;
    let mut items = Vec::new();
    collect(&mut log, &mut items, "the second transaction", |items| {
        changes(items) > 0
    })
    .await;
    let first = items.iter().find_map(|item| match item {
        LogItem::Change(change) => change.key(),
        _ => None,
    });
    assert_eq!(
        first,
        Some(harness.key(2)),
        "what was delivered came again, or something is missing"
    );
}

pub(super) async fn what_was_acknowledged_is_enough_to_go_on_from<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    let mut log = connector.open_log(None, RUN).await.unwrap();
    harness.write(vec![SuiteWrite::Insert { id: 1, value: 1 }]).await;
    let mut items = Vec::new();
    collect(&mut log, &mut items, "a commit", |items| {
        items.iter().any(|item| matches!(item, LogItem::Commit { .. }))
    })
    .await;
    let position = items.iter().rev().find_map(|item| match item {
        LogItem::Commit { position, .. } => Some(position.clone()),
        _ => None,
    });
    let from = ResumePoint::at(position.expect("a commit was delivered"));
    log.acknowledge(&from.position).await.unwrap();
    drop(log);
    harness.write(vec![SuiteWrite::Update { id: 1, value: 2 }]).await;
    let mut log = connector.open_log(Some(&from), RunId(8)).await.unwrap();
    let mut items = Vec::new();
    collect(&mut log, &mut items, "the change behind the acknowledgement", |items| {
        changes(items) > 0
    })
    .await;
}

pub(super) async fn a_call_that_is_dropped_loses_nothing<H: Harness>(harness: &H) {
    const WRITES: u64 = 40;
    let connector = harness.connector().await;
    let mut log = connector.open_log(None, RUN).await.unwrap();
    let mut items = Vec::new();
    for id in 1..=WRITES {
        harness.write(vec![SuiteWrite::Insert { id, value: id }]).await;
        // Dropped wherever it happens to be.
        let patience = Duration::from_micros(id * 37 % 900);
        let _ = tokio::time::timeout(patience, log.next(&mut items)).await;
    }
    collect(&mut log, &mut items, "every change", |items| {
        changes(items) as u64 >= WRITES
    })
    .await;
    let keys: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            LogItem::Change(change) => change.key(),
            _ => None,
        })
        .collect();
    assert_eq!(
        keys,
        (1..=WRITES).map(|id| harness.key(id)).collect::<Vec<_>>(),
        "lost, repeated or out of order"
    );
}

pub(super) async fn a_mark_stands_behind_what_was_committed_before_it<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    if connector.capabilities().reconcile != Reconcile::Window {
        return;
    }
    let mut log = connector.open_log(None, RUN).await.unwrap();
    let mut marks = connector.open_watermarks(RUN).await.unwrap();
    harness.write(vec![SuiteWrite::Insert { id: 1, value: 1 }]).await;
    let place = marks.mark(MarkId(41)).await.unwrap();
    let mut items = Vec::new();
    let seen = |items: &[LogItem<PositionOf<H>>]| {
        items.iter().position(|item| match (item, &place) {
            (LogItem::Watermark { mark, .. }, MarkPlace::InLog(_)) => *mark == MarkId(41),
            (LogItem::Progress(reached), MarkPlace::AtPosition(place)) => reached >= place,
            (LogItem::Commit { position, .. }, MarkPlace::AtPosition(place)) => position >= place,
            _ => false,
        })
    };
    collect(&mut log, &mut items, "the mark", |items| seen(items).is_some()).await;
    let at = seen(&items).expect("invariant: it was just seen");
    assert_eq!(
        changes(&items[..at]),
        1,
        "a change that was committed before the mark comes behind it"
    );
}

pub(super) async fn marks_of_another_run_are_passed_over<H: Harness>(harness: &H) {
    let connector = harness.connector().await;
    if connector.capabilities().reconcile != Reconcile::Window {
        return;
    }
    let mut log = connector.open_log(None, RUN).await.unwrap();
    let mut foreign = connector.open_watermarks(RunId(99)).await.unwrap();
    let in_log = matches!(foreign.mark(MarkId(1)).await.unwrap(), MarkPlace::InLog(_));
    harness.write(vec![SuiteWrite::Insert { id: 1, value: 1 }]).await;
    let mut items = Vec::new();
    collect(&mut log, &mut items, "the change behind the mark", |items| {
        changes(items) > 0
    })
    .await;
    assert!(
        !items.iter().any(|item| matches!(item, LogItem::Watermark { .. })),
        "a mark of another run was delivered"
    );
    assert_eq!(log.foreign_marks() > 0, in_log, "foreign marks are counted");
}

/// Rows for the clauses of other files.
pub(super) async fn filled_connector<H: Harness>(harness: &H, rows: u64) -> H::Connector {
    let connector = harness.connector().await;
    fill(harness, rows).await;
    connector
}
