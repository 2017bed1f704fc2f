// SPDX-License-Identifier: Apache-2.0
//! What identifies rows, under which names, and what becomes of rows whose tables and types are gone.

use crate::fixture::{Fixture, changes, connector, lines, open, open_from, range, read_commits, render};
use crate::on_each_major;
use highwater_core::connector::{ChunkReader, ChunkRequest, LogReader, SourceConnector};
use highwater_core::position::ResumePoint;
use highwater_core::schema::TableName;
use highwater_core::{Class, ErrorKind};
use serde_json::json;

on_each_major!(
    each_identity_gives_its_key_and_its_row_before,
    an_identity_that_changes_holds_from_the_next_row_on,
    an_identity_of_nothing_is_refused_before_it_is_published,
    names_that_need_quotes_are_captured_and_copied,
    partitions_are_captured_as_leaves_where_they_are_named,
    partitions_come_go_are_emptied_and_rows_move_between_them,
    a_parent_and_its_children_are_tables_of_their_own,
    rows_older_than_the_end_of_their_type_are_refused_by_name_and_not_lost,
    rows_of_a_table_that_was_dropped_still_come,
);

async fn each_identity_gives_its_key_and_its_row_before(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE by_default (id int PRIMARY KEY, v text); \
             CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, v text); CREATE UNIQUE INDEX by_index_ba ON by_index (b, a); \
             ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_ba; \
             CREATE TABLE by_all (id int PRIMARY KEY, v text); ALTER TABLE by_all REPLICA IDENTITY FULL; \
             CREATE TABLE loose (v text); ALTER TABLE loose REPLICA IDENTITY FULL",
        )
        .await;
    let mut log = open(&fixture.connector(&["public.*"])).await;
    fixture
        .sql(
            "BEGIN; INSERT INTO by_default VALUES (1, 'a'); UPDATE by_default SET v = 'b'; UPDATE by_default SET id = 2; DELETE FROM by_default; \
             INSERT INTO by_index VALUES (1, 2, 'a'); UPDATE by_index SET v = 'b'; UPDATE by_index SET a = 9; DELETE FROM by_index; \
             INSERT INTO by_all VALUES (1, 'a'); UPDATE by_all SET v = 'b'; DELETE FROM by_all; \
             INSERT INTO loose VALUES ('a'), (NULL); UPDATE loose SET v = 'b' WHERE v IS NULL; DELETE FROM loose WHERE v = 'a'; COMMIT",
        )
        .await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(
        lines(&items),
        [
            "Create by_default -> {id=1,v=a}",
            "Update by_default -> {id=1,v=b}",
            "Update by_default {id=1} -> {id=2,v=b}",
            "Delete by_default {id=2}",
            "Create by_index -> {a=1,b=2,v=a}",
            "Update by_index -> {a=1,b=2,v=b}",
            "Update by_index {a=1,b=2} -> {a=9,b=2,v=b}",
            "Delete by_index {a=9,b=2}",
            "Create by_all -> {id=1,v=a}",
            "Update by_all {id=1,v=a} -> {id=1,v=b}",
            "Delete by_all {id=1,v=b}",
            "Create loose -> {v=a}",
            "Create loose -> {v=null}",
            "Update loose {v=null} -> {v=b}",
            "Delete loose {v=a}",
        ]
    );
    let keys: Vec<Vec<usize>> = changes(&items).iter().map(|change| change.schema.key.clone()).collect();
    assert_eq!((&keys[0], &keys[4], &keys[8]), (&vec![0], &vec![1, 0], &vec![0]));
    assert!(changes(&items)[11..].iter().all(|change| change.key().is_none()));
}

async fn an_identity_that_changes_holds_from_the_next_row_on(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, v int); INSERT INTO t VALUES (1, 'x', 0)")
        .await;
    let mut log = open(&fixture.connector(&["public.t"])).await;
    for identity in ["FULL", "USING INDEX t_code_key", "DEFAULT"] {
        fixture.sql(&format!("ALTER TABLE t REPLICA IDENTITY {identity}")).await;
        fixture.sql("UPDATE t SET v = v + 1").await;
        fixture.sql("DELETE FROM t; INSERT INTO t VALUES (1, 'x', 0)").await;
    }
    let items = read_commits(&mut log, 6).await;
    assert_eq!(
        lines(&items),
        [
            "Update t {id=1,code=x,v=0} -> {id=1,code=x,v=1}",
            "Delete t {id=1,code=x,v=1}",
            "Create t -> {id=1,code=x,v=0}",
            "Update t -> {id=1,code=x,v=1}",
            "Delete t {code=x}",
            "Create t -> {id=1,code=x,v=0}",
            "Update t -> {id=1,code=x,v=1}",
            "Delete t {id=1}",
            "Create t -> {id=1,code=x,v=0}",
        ]
    );
    let keys: Vec<usize> = changes(&items).iter().map(|change| change.schema.key[0]).collect();
    assert_eq!(keys, [0, 0, 0, 1, 1, 1, 0, 0, 0]);
}

async fn an_identity_of_nothing_is_refused_before_it_is_published(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE mute (id int PRIMARY KEY); ALTER TABLE mute REPLICA IDENTITY NOTHING; INSERT INTO mute VALUES (1)")
        .await;
    let connector = fixture.connector(&["public.*"]);
    let error = connector.open_log(None, crate::fixture::RUN).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Unsuitable, Class::User));
    assert!(
        error.message().contains("public.mute") && error.fix().is_some(),
        "{error}"
    );
    fixture.sql("UPDATE mute SET id = 2; DELETE FROM mute").await;
}

async fn names_that_need_quotes_are_captured_and_copied(major: u16) {
    let fixture = Fixture::new(major).await;
    let long = "L".repeat(63);
    let names = [
        ("Up per", "Ta.ble"),
        ("quo\"te", "it's 😀"),
        ("select", "$1 %s {x}"),
        ("a.b", &long),
    ];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut sql = String::new();
    for (schema, table) in names {
        sql += &format!(
            "CREATE SCHEMA {0}; CREATE TABLE {0}.{1} (\"I d\" int PRIMARY KEY, \"v\"\"alue😀\" text, \"order\" int); \
             INSERT INTO {0}.{1} VALUES (1, 'old', 0);",
            quoted(schema),
            quoted(table)
        );
    }
    fixture.sql(&sql).await;
    let include: Vec<String> = names
        .iter()
        .map(|(schema, table)| format!("{schema}.{table}"))
        .collect();
    let include: Vec<&str> = include.iter().map(String::as_str).collect();
    let mut settings = fixture.json(&include);
    settings["publication"] = json!({"name": "Pub \"😀\" li.c"});
    let connector = connector(settings);
    assert_eq!(connector.preflight().await.unwrap(), []);
    let mut log = open(&connector).await;
    let mut reader = connector.open_chunks().await.unwrap();
    for (schema, table) in names {
        let request = ChunkRequest {
            table: TableName::new(schema, table),
            ..range(table, None, 10)
        };
        let chunk = reader.read(&request).await.unwrap();
        assert_eq!(
            render(&chunk.schema, &chunk.rows[0]),
            "{I d=1,v\"alue😀=old,order=0}",
            "{schema}.{table}"
        );
        fixture
            .sql(&format!(
                "UPDATE {}.{} SET \"v\"\"alue😀\" = 'new'",
                quoted(schema),
                quoted(table)
            ))
            .await;
    }
    let items = read_commits(&mut log, names.len()).await;
    for (change, (schema, table)) in changes(&items).iter().zip(names) {
        assert_eq!(change.schema.name, TableName::new(schema, table));
        assert_eq!(
            render(&change.schema, change.after.as_ref().unwrap()),
            "{I d=1,v\"alue😀=new,order=0}"
        );
    }
}

const SALES: &str = "CREATE TABLE sales (id int, year int, PRIMARY KEY (id, year)) PARTITION BY LIST (year); \
                     CREATE TABLE sales_1 PARTITION OF sales FOR VALUES IN (1); \
                     CREATE TABLE sales_2 PARTITION OF sales FOR VALUES IN (2)";

async fn partitions_are_captured_as_leaves_where_they_are_named(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql(SALES).await;
    let connector = fixture.connector(&["public.sales_1", "public.sales_2"]);
    let mut log = open(&connector).await;
    fixture
        .sql("BEGIN; INSERT INTO sales VALUES (1, 1), (2, 2); UPDATE sales SET year = 2 WHERE id = 1; DELETE FROM sales WHERE id = 2; COMMIT")
        .await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(
        lines(&items),
        [
            "Create sales_1 -> {id=1,year=1}",
            "Create sales_2 -> {id=2,year=2}",
            "Delete sales_1 {id=1,year=1}",
            "Create sales_2 -> {id=1,year=2}",
            "Delete sales_2 {id=2,year=2}",
        ]
    );
    let mut reader = connector.open_chunks().await.unwrap();
    let chunk = reader.read(&range("sales_2", None, 10)).await.unwrap();
    assert_eq!(chunk.rows.len(), 1);
}

const AFTER_DETACH: &str = "INSERT INTO sales_3 VALUES (5, 3)";

async fn partitions_come_go_are_emptied_and_rows_move_between_them(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql(SALES).await;
    let mut log = open(&fixture.connector(&["public.*"])).await;
    let statements = [
        "INSERT INTO sales VALUES (1, 1)",
        "UPDATE sales SET year = 2",
        "CREATE TABLE sales_3 PARTITION OF sales FOR VALUES IN (3)",
        "INSERT INTO sales VALUES (3, 3)",
        "CREATE TABLE sales_4 (LIKE sales INCLUDING ALL); ALTER TABLE sales ATTACH PARTITION sales_4 FOR VALUES IN (4)",
        "INSERT INTO sales_4 VALUES (4, 4)",
        "TRUNCATE sales_4",
        "ALTER TABLE sales DETACH PARTITION sales_3",
        AFTER_DETACH,
        "DROP TABLE sales_4",
        "DELETE FROM sales",
    ];
    // 13 and 14 go on sending it as a change of the table, for as long as the log's connection lives.
    let sent = statements
        .iter()
        .filter(|statement| major > 14 || **statement != AFTER_DETACH);
    for statement in sent {
        fixture.sql(statement).await;
    }
    let mut found = lines(&read_commits(&mut log, 5).await);
    // The server tells of an emptied leaf only where it publishes leaves.
    found.retain(|line| !line.starts_with("Truncate"));
    assert_eq!(
        found,
        [
            "Create sales -> {id=1,year=1}",
            "Delete sales {id=1,year=1}",
            "Create sales -> {id=1,year=2}",
            "Create sales -> {id=3,year=3}",
            "Create sales -> {id=4,year=4}",
            "Delete sales {id=1,year=2}",
        ]
    );
}

async fn a_parent_and_its_children_are_tables_of_their_own(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (more int, PRIMARY KEY (id)) INHERITS (parent); \
             INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (1, 'c', 7)",
        )
        .await;
    let connector = fixture.connector(&["public.*"]);
    let mut log = open(&connector).await;
    let mut reader = connector.open_chunks().await.unwrap();
    for (table, row) in [("parent", "{id=1,v=p}"), ("child", "{id=1,v=c,more=7}")] {
        let chunk = reader.read(&range(table, None, 10)).await.unwrap();
        let rows: Vec<String> = chunk.rows.iter().map(|row| render(&chunk.schema, row)).collect();
        assert_eq!(rows, [row]);
    }
    fixture.sql("UPDATE parent SET v = 'new'").await;
    let mut found = lines(&read_commits(&mut log, 1).await);
    found.sort();
    assert_eq!(
        found,
        ["Update child -> {id=1,v=new,more=7}", "Update parent -> {id=1,v=new}"]
    );
}

async fn rows_older_than_the_end_of_their_type_are_refused_by_name_and_not_lost(major: u16) {
    for (name, make, value) in [
        ("an enumeration", "CREATE TYPE mood AS ENUM ('sad')", "'sad'"),
        ("a composite type", "CREATE TYPE mood AS (a int, b text)", "'(1,x)'"),
        ("a domain", "CREATE DOMAIN mood AS text CHECK (value <> '')", "'x'"),
    ] {
        let fixture = Fixture::new(major).await;
        fixture
            .sql(&format!(
                "{make}; CREATE TABLE t (id int PRIMARY KEY, m mood); CREATE TABLE u (id int PRIMARY KEY)"
            ))
            .await;
        let mut log = open(&fixture.connector(&["public.*"])).await;
        let start = *log.start();
        fixture.sql("INSERT INTO u VALUES (1)").await;
        fixture.sql(&format!("INSERT INTO t VALUES (1, {value})")).await;
        fixture.sql("ALTER TABLE t DROP COLUMN m; DROP TYPE mood").await;
        fixture.sql("INSERT INTO t VALUES (2)").await;
        fixture.sql("INSERT INTO u VALUES (2)").await;
        let mut items = Vec::new();
        let error = loop {
            if let Err(error) = log.next(&mut items).await {
                break error;
            }
            let told = lines(&items);
            assert!(!told.contains(&"Create u -> {id=2}".to_owned()), "{name}: {told:?}");
        };
        assert_eq!(
            (error.kind(), error.class()),
            (ErrorKind::UnsupportedValue, Class::User),
            "{name}: {error}"
        );
        for part in ["\"m\"", "public.t", "no longer exists"] {
            assert!(error.to_string().contains(part), "{name}: {error}");
        }
        drop(log);
        // Nothing was acknowledged: without the table all the rest is there.
        let mut settings = fixture.json(&["public.*"]);
        settings["tables"]["exclude"] = json!(["public.t"]);
        let mut log = open_from(&connector(settings), Some(&ResumePoint::at(start))).await;
        assert_eq!(
            lines(&read_commits(&mut log, 2).await),
            ["Create u -> {id=1}", "Create u -> {id=2}"]
        );
    }
}

async fn rows_of_a_table_that_was_dropped_still_come(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)")
        .await;
    let mut log = open(&fixture.connector(&["public.*"])).await;
    fixture.sql("INSERT INTO t VALUES (1, 'x')").await;
    fixture.sql("UPDATE t SET v = 'y'").await;
    fixture.sql("DROP TABLE t").await;
    fixture.sql("INSERT INTO u VALUES (1)").await;
    let items = read_commits(&mut log, 3).await;
    assert_eq!(
        lines(&items),
        ["Create t -> {id=1,v=x}", "Update t -> {id=1,v=y}", "Create u -> {id=1}"]
    );
    assert!(changes(&items)[1].key().is_some(), "the log itself tells the key");
}
