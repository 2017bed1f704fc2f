// SPDX-License-Identifier: Apache-2.0
//! Large transactions, sent in pieces before they commit: what is delivered is what is delivered without.

use crate::fixture::{Fixture, Item, LIMIT, changes, connector, lines, open, open_from, read_commits, read_until};
use crate::on_each_major;
use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::position::{InsideTransaction, Lineage, ResumePoint};
use highwater_core::{Class, ErrorKind};
use highwater_postgres::PostgresConnector;
use highwater_testbed::skip;
use highwater_testbed::versions::POSTGRES_MAJORS;
use serde_json::{Value, json};

on_each_major!(
    since 14;
    a_large_transaction_comes_in_pieces_and_is_delivered_as_one_through_the_disk,
    interleaved_transactions_are_delivered_in_the_order_of_their_commits,
    parts_that_were_rolled_back_leave_nothing_and_the_count_is_that_of_a_whole_transaction,
    a_rolled_back_transaction_in_pieces_is_never_seen,
    shapes_inside_pieces_hold_for_their_rows_and_no_longer_than_their_part,
    a_checkpoint_inside_holds_whatever_way_the_transaction_comes_again,
    a_full_spill_is_told_by_its_limit_and_with_room_all_comes,
    a_place_that_cannot_be_written_is_refused_by_name,
    a_huge_transaction_is_read_block_by_block,
);

/// Rows of the largest transaction: `HIGHWATER_LARGE_ROWS`, 100,000 by default.
fn large_rows() -> u64 {
    let rows = std::env::var("HIGHWATER_LARGE_ROWS").ok();
    rows.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// A fixture whose server sends what is larger than 64 kB.
async fn fixture(major: u16, sql: &str) -> Fixture {
    let fixture = Fixture::new(major).await;
    let database = fixture.database.name().to_owned();
    fixture
        .sql(&format!(
            "ALTER DATABASE \"{database}\" SET logical_decoding_work_mem = '64kB'"
        ))
        .await;
    fixture.sql(sql).await;
    fixture
}

/// A connector of this mode that keeps no more than it must in memory.
fn of_mode(fixture: &Fixture, mode: &str) -> PostgresConnector {
    with(fixture, mode, json!({"memory_bytes_max": 65_536}))
}

fn with(fixture: &Fixture, mode: &str, spill: Value) -> PostgresConnector {
    let mut settings = fixture.json(&["public.*"]);
    settings["streaming"] = json!(mode);
    settings["spill"] = spill;
    connector(settings)
}

/// The modes of a server.
fn modes(major: u16) -> &'static [&'static str] {
    if major < 16 {
        &["off", "on"]
    } else {
        &["off", "on", "parallel"]
    }
}

/// Waits until the server says that it sent transactions in pieces, so that a test is not about something else.
async fn were_in_pieces(fixture: &Fixture) {
    let sql = format!(
        "SELECT coalesce(stream_count, 0) FROM pg_stat_replication_slots WHERE slot_name = '{}'",
        fixture.slot()
    );
    tokio::time::timeout(LIMIT, async {
        while fixture.ask(&sql).await.parse::<u64>().unwrap_or_default() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the server sends the transaction in pieces");
}

/// What must be the same in every mode: change by change, its place, number and content.
fn facts(items: &[Item]) -> Vec<(String, u64, String, u64)> {
    changes(items)
        .iter()
        .zip(lines(items))
        .map(|(change, line)| (change.position.to_string(), change.ordinal, line, change.transaction.0))
        .collect()
}

/// The key of each change.
fn ids(items: &[Item]) -> Vec<u32> {
    let id = |line: &String| {
        let (_, behind) = line.split_once("{id=").expect("a key");
        let end = behind.find([',', '}']).expect("its end");
        behind[..end].parse().expect("a number")
    };
    lines(items).iter().map(id).collect()
}

/// Reads the same log once in each mode, and requires that it is the same.
async fn same_in_all_modes(
    fixture: &Fixture,
    major: u16,
    commits: usize,
    write: impl AsyncFnOnce(&Fixture),
) -> Vec<Item> {
    // The slot first, so that every mode reads all of it; nothing is acknowledged.
    drop(open(&of_mode(fixture, "off")).await);
    write(fixture).await;
    let mut first: Option<Vec<Item>> = None;
    for mode in modes(major) {
        let mut log = open(&of_mode(fixture, mode)).await;
        let items = read_commits(&mut log, commits).await;
        match &first {
            None => first = Some(items),
            Some(first) => assert!(facts(first) == facts(&items), "{mode} delivers something else than off"),
        }
    }
    were_in_pieces(fixture).await;
    first.unwrap()
}

async fn a_large_transaction_comes_in_pieces_and_is_delivered_as_one_through_the_disk(major: u16) {
    let fixture = fixture(major, "CREATE TABLE many (id int PRIMARY KEY, v text)").await;
    let items = same_in_all_modes(&fixture, major, 2, async |fixture| {
        fixture
            .sql("INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series(1, 60000) i")
            .await;
        fixture.sql("UPDATE many SET v = 'z' WHERE id = 7").await;
    })
    .await;
    let changes = changes(&items);
    assert_eq!(changes.len(), 60_001);
    assert!(
        changes
            .iter()
            .take(60_000)
            .zip(1..)
            .all(|(change, ordinal)| change.ordinal == ordinal)
    );
}

async fn interleaved_transactions_are_delivered_in_the_order_of_their_commits(major: u16) {
    let fixture = fixture(major, "CREATE TABLE many (id int PRIMARY KEY, v text)").await;
    let items = same_in_all_modes(&fixture, major, 4, async |fixture| {
        let second = fixture.database.connect().await.unwrap();
        let third = fixture.database.connect().await.unwrap();
        let insert = |from: u32| {
            let to = from + 1_999;
            format!("INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series({from}, {to}) i")
        };
        for session in [&fixture.client, &second, &third] {
            session.batch_execute("BEGIN").await.unwrap();
        }
        for round in 0..3 {
            for (place, session) in [&fixture.client, &second, &third].into_iter().enumerate() {
                let from = place as u32 * 100_000 + round * 2_000 + 1;
                session.batch_execute(&insert(from)).await.unwrap();
            }
        }
        third.batch_execute("COMMIT").await.unwrap();
        second
            .batch_execute("INSERT INTO many VALUES (500000, 'last of second'); COMMIT")
            .await
            .unwrap();
        third
            .batch_execute("INSERT INTO many VALUES (600000, 'small')")
            .await
            .unwrap();
        fixture.sql("COMMIT").await;
    })
    .await;
    let hundred_thousands: Vec<u32> = ids(&items).iter().map(|id| id / 100_000).collect();
    let mut expected = vec![2; 6_000];
    expected.extend([1].repeat(6_000));
    expected.extend([5, 6]);
    expected.extend([0].repeat(6_000));
    assert!(hundred_thousands == expected, "not in the order of the commits");
}

async fn parts_that_were_rolled_back_leave_nothing_and_the_count_is_that_of_a_whole_transaction(major: u16) {
    let fixture = fixture(major, "CREATE TABLE many (id int PRIMARY KEY, v text)").await;
    let items = same_in_all_modes(&fixture, major, 1, async |fixture| {
        let rows = |from: u32| {
            format!(
                "INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series({from}, {}) i;",
                from + 1_499
            )
        };
        let sql = format!(
            "BEGIN; {} SAVEPOINT a; {} SAVEPOINT b; {} ROLLBACK TO b; {} RELEASE a; {} SAVEPOINT c; {} ROLLBACK TO c; \
             DELETE FROM many WHERE id <= 100; COMMIT",
            rows(1),
            rows(10_001),
            rows(20_001),
            rows(30_001),
            rows(40_001),
            rows(50_001)
        );
        fixture.sql(&sql).await;
    })
    .await;
    let changes = changes(&items);
    assert_eq!(changes.len(), 4 * 1_500 + 100);
    assert!(
        changes
            .iter()
            .zip(1..)
            .all(|(change, ordinal)| change.ordinal == ordinal)
    );
    let rolled_back = [20_001..21_501, 50_001..51_501];
    assert!(
        ids(&items)
            .iter()
            .all(|id| rolled_back.iter().all(|range| !range.contains(id)))
    );
}

async fn a_rolled_back_transaction_in_pieces_is_never_seen(major: u16) {
    let fixture = fixture(major, "CREATE TABLE many (id int PRIMARY KEY, v text)").await;
    let mode = modes(major).last().unwrap();
    let mut log = open(&of_mode(&fixture, mode)).await;
    // Rolled back when pieces were sent: since 18 the server sends none of one that it knows to be rolled back.
    let writer = fixture.database.connect().await.unwrap();
    let large = "BEGIN; INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series(1, 5000) i";
    writer.batch_execute(large).await.unwrap();
    were_in_pieces(&fixture).await;
    writer.batch_execute("ROLLBACK").await.unwrap();
    fixture.sql("INSERT INTO many VALUES (1, 'kept')").await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items), ["Create many -> {id=1,v=kept}"]);
}

async fn shapes_inside_pieces_hold_for_their_rows_and_no_longer_than_their_part(major: u16) {
    if !POSTGRES_MAJORS.contains(&major) {
        let reason = "its minor release ends this stream by an error of its own";
        return skip::counted(&format!("shapes inside pieces on postgres {major}"), &reason);
    }
    let fixture = fixture(major, "CREATE TABLE many (id int PRIMARY KEY, v text)").await;
    let items = same_in_all_modes(&fixture, major, 3, async |fixture| {
        fixture.sql("INSERT INTO many VALUES (0, 'before')").await;
        let rows = |from: u32, columns: &str| {
            format!("INSERT INTO many SELECT i, repeat('y', 100) {columns} FROM generate_series({from}, {}) i;", from + 999)
        };
        let sql = format!(
            "BEGIN; {} SAVEPOINT a; ALTER TABLE many ADD COLUMN w int; {} ROLLBACK TO a; {} ALTER TABLE many ADD COLUMN x int; \
             {} COMMIT",
            rows(1, ""),
            rows(10_001, ", 5"),
            rows(20_001, ""),
            rows(30_001, ", 6")
        );
        fixture.sql(&sql).await;
        fixture.sql("INSERT INTO many VALUES (90099, 'after', 7)").await;
    })
    .await;
    let lines = lines(&items);
    assert_eq!(lines.len(), 3_002);
    assert!(lines.get(1).unwrap().ends_with("y}") && lines.get(1_500).unwrap().ends_with("y}"));
    assert!(
        lines
            .get(2_001..3_001)
            .unwrap()
            .iter()
            .all(|line| line.ends_with(",x=6}"))
    );
    assert_eq!(lines.last().unwrap(), "Create many -> {id=90099,v=after,x=7}");
}

async fn a_checkpoint_inside_holds_whatever_way_the_transaction_comes_again(major: u16) {
    let fixture = fixture(major, "CREATE TABLE many (id int PRIMARY KEY, v text)").await;
    let mut log = open(&of_mode(&fixture, modes(major).last().unwrap())).await;
    let start = *log.start();
    fixture
        .sql(
            "BEGIN; INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series(1, 3000) i; SAVEPOINT a; \
             INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series(3001, 6000) i; ROLLBACK TO a; \
             INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series(6001, 9000) i; COMMIT",
        )
        .await;
    let items = read_commits(&mut log, 1).await;
    drop(log);
    let last = changes(&items)[4_321];
    let point = ResumePoint {
        position: start,
        inside: Some(InsideTransaction {
            transaction: last.transaction,
            change: last.position,
            ordinal: last.ordinal,
        }),
        lineage: Lineage::default(),
    };
    for mode in modes(major) {
        let mut log = open_from(&of_mode(&fixture, mode), Some(&point)).await;
        let rest = read_commits(&mut log, 1).await;
        assert!(
            facts(&rest) == facts(&items).split_off(4_322),
            "{mode} goes on elsewhere"
        );
    }
}

async fn a_full_spill_is_told_by_its_limit_and_with_room_all_comes(major: u16) {
    let fixture = fixture(major, "CREATE TABLE many (id int PRIMARY KEY, v text)").await;
    let spill = |bytes: u64| json!({"memory_bytes_max": 65_536, "spill_bytes_max": bytes});
    let small = with(&fixture, "on", spill(200_000));
    let mut log = open(&small).await;
    fixture
        .sql("INSERT INTO many SELECT i, repeat('y', 100) FROM generate_series(1, 9000) i")
        .await;
    let error = tokio::time::timeout(LIMIT, async {
        loop {
            if let Err(error) = log.next(&mut Vec::new()).await {
                return error;
            }
        }
    })
    .await
    .expect("a refusal");
    assert_eq!((error.kind(), error.class()), (ErrorKind::LimitReached, Class::User));
    assert!(error.fix().unwrap().contains("spill.spill_bytes_max"), "{error}");
    drop(log);
    let mut log = open(&with(&fixture, "on", spill(200_000_000))).await;
    assert_eq!(
        changes(&read_commits(&mut log, 1).await).len(),
        9_000,
        "nothing is lost"
    );
}

async fn a_place_that_cannot_be_written_is_refused_by_name(major: u16) {
    let fixture = fixture(major, "CREATE TABLE many (id int PRIMARY KEY)").await;
    let spill = json!({"directory": "/proc/highwater"});
    let error = with(&fixture, "on", spill.clone())
        .open_log(None, crate::fixture::RUN)
        .await
        .expect_err("no such place");
    assert_eq!((error.kind(), error.class()), (ErrorKind::Storage, Class::User));
    assert!(error.to_string().contains("/proc/highwater"), "{error}");
    // Nobody asked for pieces: the server keeps large transactions then.
    let mut settings = fixture.json(&["public.*"]);
    settings["spill"] = spill;
    let mut log = open(&connector(settings)).await;
    fixture.sql("INSERT INTO many VALUES (1)").await;
    read_until(&mut log, |item| matches!(item, LogItem::Change(_))).await;
}

async fn a_huge_transaction_is_read_block_by_block(major: u16) {
    let rows = large_rows();
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE many (id bigint PRIMARY KEY, v text)").await;
    let mut settings = fixture.json(&["public.many"]);
    settings["spill"] = json!({"memory_bytes_max": 1 << 20});
    let database = fixture.database.name().to_owned();
    fixture
        .sql(&format!(
            "ALTER DATABASE \"{database}\" SET logical_decoding_work_mem = '64kB'"
        ))
        .await;
    let mut log = open(&connector(settings)).await;
    let writer = fixture.database.connect().await.unwrap();
    let writing = tokio::spawn(async move {
        let sql = format!("INSERT INTO many SELECT i, repeat('y', 60) FROM generate_series(1, {rows}) i");
        writer.batch_execute(&sql).await.unwrap();
    });
    let (mut items, mut seen, mut committed) = (Vec::new(), 0, false);
    while !committed {
        tokio::time::timeout(LIMIT * 10, log.next(&mut items))
            .await
            .expect("items")
            .unwrap();
        for item in items.drain(..) {
            match item {
                LogItem::Change(change) => {
                    seen += 1;
                    assert_eq!(change.ordinal, seen, "each once and in order");
                }
                LogItem::Commit { .. } => committed = seen > 0,
                _ => {}
            }
        }
    }
    assert_eq!(seen, rows);
    writing.await.unwrap();
    were_in_pieces(&fixture).await;
    if std::env::var_os("HIGHWATER_LARGE_ROWS").is_some() {
        // Of this process, which has done nothing else then; the server's own is not in it.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_kb: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
        eprintln!("{rows} rows in one transaction: {peak_kb} kB resident at most");
        assert!(peak_kb < 128_000, "{peak_kb} kB");
    }
}
