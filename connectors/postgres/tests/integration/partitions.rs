// SPDX-License-Identifier: Apache-2.0
//! What becomes part of a partitioned table with rows in it, and what goes, for which the log has no change.

use crate::fixture::{Fixture, LIMIT, open, open_from};
use crate::on_each_major;
use highwater_core::connector::{LogReader, UnloggedChange};
use highwater_core::position::ResumePoint;
use highwater_postgres::{PgPosition, PostgresConnector};
use std::time::Duration;

on_each_major!(
    what_comes_while_nobody_looks_is_copied_after_the_next_start_and_only_once,
    what_comes_and_goes_between_two_looks_is_seen,
);

const SALES: &str = "CREATE TABLE sales (id int, year int, v text DEFAULT 'x', PRIMARY KEY (id, year)) PARTITION BY LIST (year); \
                     CREATE TABLE sales_1 PARTITION OF sales FOR VALUES IN (1); INSERT INTO sales VALUES (1, 1)";

/// Each a transaction, and the rows that are to be copied because of it.
const WAYS: [(&str, Option<&str>); 8] = [
    (
        "CREATE TABLE sales_2 (LIKE sales INCLUDING ALL); INSERT INTO sales_2 VALUES (2, 2); \
         ALTER TABLE sales ATTACH PARTITION sales_2 FOR VALUES IN (2)",
        Some("(year = 2)"),
    ),
    (
        "CREATE TABLE sales_3 (LIKE sales INCLUDING ALL); SAVEPOINT a; INSERT INTO sales_3 VALUES (3, 3); RELEASE a; \
         ALTER TABLE sales ATTACH PARTITION sales_3 FOR VALUES IN (3)",
        Some("(year = 3)"),
    ),
    (
        "CREATE TABLE sales_4 PARTITION OF sales FOR VALUES IN (4); INSERT INTO sales VALUES (4, 4); \
         INSERT INTO sales_4 VALUES (5, 4)",
        None,
    ),
    ("CREATE TABLE sales_5 PARTITION OF sales FOR VALUES IN (5)", None),
    ("INSERT INTO sales VALUES (6, 5)", None),
    (
        "CREATE TABLE sales_6 (LIKE sales INCLUDING ALL); ALTER TABLE sales ATTACH PARTITION sales_6 FOR VALUES IN (6); \
         INSERT INTO sales VALUES (7, 6)",
        None,
    ),
    (
        "CREATE TABLE parts (LIKE sales INCLUDING ALL) PARTITION BY LIST (year); \
         CREATE TABLE parts_7 PARTITION OF parts FOR VALUES IN (7); CREATE TABLE parts_8 PARTITION OF parts FOR VALUES IN (8); \
         INSERT INTO parts VALUES (8, 8); ALTER TABLE sales ATTACH PARTITION parts FOR VALUES IN (7, 8)",
        Some("(year = ANY (ARRAY[7, 8]))"),
    ),
    (
        "INSERT INTO later VALUES (9, 9); ALTER TABLE sales ATTACH PARTITION later FOR VALUES IN (9)",
        Some("(year = 9)"),
    ),
];

/// The outcome of looks, until one has something to say.
async fn told(log: &mut impl LogReader) -> Vec<UnloggedChange> {
    let looked = async {
        loop {
            let changes = log.unlogged_changes();
            if !changes.is_empty() {
                return changes;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, looked)
        .await
        .expect("partitions are looked at")
}

/// What a log says that goes on from a checkpoint of `log`.
async fn told_after(
    connector: &PostgresConnector,
    log: impl LogReader<Position = PgPosition>,
) -> (Vec<String>, ResumePoint<PgPosition>) {
    let mut point = ResumePoint::at(*log.start());
    point.lineage = log.lineage();
    drop(log);
    let mut log = open_from(connector, Some(&point)).await;
    let changes = told(&mut log).await;
    point.lineage = log.lineage();
    assert!(changes.iter().all(|change| change.code == "partition_attached"));
    let mut bounds: Vec<String> = changes.into_iter().filter_map(|change| change.copy).collect();
    // Every part of the condition that does not say which rows they are.
    bounds
        .iter_mut()
        .for_each(|text| *text = text.replace("((year IS NOT NULL) AND ", "").replace("))", ")"));
    bounds.sort();
    (bounds, point)
}

async fn what_comes_while_nobody_looks_is_copied_after_the_next_start_and_only_once(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql(SALES).await;
    fixture.sql("CREATE TABLE later (LIKE sales INCLUDING ALL)").await;
    let connector = fixture.connector(&["public.sales"]);
    let log = open(&connector).await;
    for (way, _) in WAYS {
        fixture.sql(&format!("BEGIN; {way}; COMMIT")).await;
    }
    let (found, point) = told_after(&connector, log).await;
    let mut expected: Vec<&str> = WAYS.iter().filter_map(|(_, rows)| *rows).collect();
    expected.sort();
    assert_eq!(found, expected);

    // The next checkpoint has those copies, and another partition is all that is new.
    let log = open_from(&connector, Some(&point)).await;
    fixture
        .sql("CREATE TABLE more (LIKE sales INCLUDING ALL); INSERT INTO more VALUES (10, 10)")
        .await;
    fixture
        .sql("ALTER TABLE sales ATTACH PARTITION more FOR VALUES IN (10)")
        .await;
    let (found, _) = told_after(&connector, log).await;
    assert_eq!(found, ["(year = 10)"]);
}

async fn what_comes_and_goes_between_two_looks_is_seen(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql(SALES).await;
    fixture
        .sql("CREATE TABLE empty (id int, year int, PRIMARY KEY (id, year)) PARTITION BY LIST (year)")
        .await;
    let connector = fixture.connector(&["public.sales", "public.empty"]);
    let mut log = open(&connector).await;
    fixture
        .sql("CREATE TABLE sales_2 (LIKE sales INCLUDING ALL); INSERT INTO sales_2 VALUES (2, 2)")
        .await;
    fixture
        .sql("ALTER TABLE sales ATTACH PARTITION sales_2 FOR VALUES IN (2)")
        .await;
    assert_eq!(told(&mut log).await.len(), 1, "it looks, from here on");
    fixture.sql("ALTER TABLE sales DETACH PARTITION sales_1").await;
    fixture.sql("INSERT INTO sales_1 VALUES (3, 1)").await;
    fixture
        .sql("ALTER TABLE sales ATTACH PARTITION sales_1 FOR VALUES IN (1)")
        .await;
    let changes = told(&mut log).await;
    let told_of: Vec<_> = changes
        .iter()
        .map(|change| (change.code, change.copy.is_some()))
        .collect();
    // A look may fall between the statements.
    match told_of[..] {
        [("partition_gone", false)] => assert_eq!(told(&mut log).await[0].code, "partition_attached"),
        _ => assert_eq!(told_of, [("partition_attached", true)]),
    }
    fixture
        .sql("CREATE TABLE first (LIKE empty); INSERT INTO first VALUES (1, 1)")
        .await;
    fixture
        .sql("BEGIN; DROP TABLE sales_2; ALTER TABLE empty ATTACH PARTITION first FOR VALUES IN (1); COMMIT")
        .await;
    let changes = told(&mut log).await;
    let mut told_of: Vec<_> = changes
        .iter()
        .map(|change| (change.code, change.table.table.as_str()))
        .collect();
    told_of.sort();
    assert_eq!(told_of, [("partition_attached", "empty"), ("partition_gone", "sales")]);
}
