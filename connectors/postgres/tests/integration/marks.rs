// SPDX-License-Identifier: Apache-2.0
//! Marks in the log.

use crate::fixture::{Fixture, RUN, lines, open, read_until};
use crate::on_each_major;
use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, SourceConnector, WatermarkWriter};
use highwater_core::position::{MarkId, MarkPlace, RunId};

on_each_major!(
    marks_stand_between_the_changes_around_them,
    the_horizon_is_the_oldest_running_transaction
);
on_each_major!(since 14; foreign_marks_are_counted);

async fn marks_stand_between_the_changes_around_them(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.movies"]);
    let mut log = open(&connector).await;
    let mut marks = connector.open_watermarks(RUN).await.unwrap();
    fixture.sql("INSERT INTO movies VALUES (1)").await;
    let place = marks.mark(MarkId(5)).await.unwrap();
    assert_eq!(place == MarkPlace::InLog(MarkId(5)), major >= 14, "{place:?}");
    fixture.sql("INSERT INTO movies VALUES (2)").await;
    let last = |item: &crate::fixture::Item| matches!(item, LogItem::Change(change) if change.after.is_some() && lines(&[LogItem::Change(change.clone())])[0].contains("id=2"));
    let items = read_until(&mut log, last).await;
    let outline: Vec<String> = items
        .iter()
        .filter_map(|item| match item {
            LogItem::Change(_) => Some(lines(std::slice::from_ref(item)).remove(0)),
            LogItem::Watermark { mark, .. } => Some(format!("mark {}", mark.0)),
            LogItem::Commit { position, .. } => match place {
                MarkPlace::AtPosition(place) if *position >= place => Some("mark 5".to_owned()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(
        outline,
        ["Create movies -> {id=1}", "mark 5", "Create movies -> {id=2}"]
    );
}

async fn foreign_marks_are_counted(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.movies"]);
    let mut log = open(&connector).await;
    let mut earlier = connector.open_watermarks(RunId(1)).await.unwrap();
    let mut marks = connector.open_watermarks(RUN).await.unwrap();
    earlier.mark(MarkId(1)).await.unwrap();
    fixture.sql("SELECT pg_logical_emit_message(true, 'highwater.mark', 'nonsense'), pg_logical_emit_message(true, 'other', 'x')").await;
    marks.mark(MarkId(2)).await.unwrap();
    read_until(&mut log, |item| {
        matches!(item, LogItem::Watermark { mark: MarkId(2), .. })
    })
    .await;
    assert_eq!(log.foreign_marks(), 2);
}

async fn the_horizon_is_the_oldest_running_transaction(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let mut marks = fixture
        .connector(&["public.movies"])
        .open_watermarks(RUN)
        .await
        .unwrap();
    let writer = fixture.database.connect().await.unwrap();
    writer
        .batch_execute("BEGIN; INSERT INTO movies VALUES (1)")
        .await
        .unwrap();
    let running: u64 = writer
        .query_one("SELECT pg_current_xact_id()::text", &[])
        .await
        .unwrap()
        .get::<_, String>(0)
        .parse()
        .unwrap();
    fixture.sql("INSERT INTO movies VALUES (2)").await;
    assert!(marks.visibility_horizon().await.unwrap().unwrap() <= running);
    writer.batch_execute("COMMIT").await.unwrap();
}
