// SPDX-License-Identifier: Apache-2.0
//! The check: each finding names the object, and its statements, executed verbatim, mend it.

use crate::fixture::{Fixture, RUN, connector, open};
use crate::on_each_major;
use highwater_core::connector::{Finding, Severity, SourceConnector};
use highwater_core::schema::TableName;
use highwater_postgres::PostgresConnector;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testbed::{PgOptions, Postgres};
use serde_json::{Value, json};
use tokio_postgres::Client;

on_each_major!(
    a_ready_database_has_no_findings,
    privileges_are_mended_by_the_statements_printed,
    publications_are_mended_by_the_statements_printed,
    a_child_that_nobody_chose_is_not_published_and_one_that_is_published_is_told,
    slots_are_mended_by_the_statements_printed,
    server_settings_are_mended_by_the_statements_printed,
    tables_and_columns_are_named,
    the_check_changes_nothing,
);
on_each_major!(since 14; what_the_stream_cannot_have_is_named);

async fn errors(connector: &PostgresConnector) -> Vec<Finding> {
    let findings = connector.preflight().await.expect("a check");
    for finding in &findings {
        assert!(!finding.why.is_empty() && !finding.code.is_empty(), "{finding:?}");
        assert!(!finding.fix_sql.is_empty() || finding.fix.is_some(), "{finding:?}");
    }
    findings
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect()
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

/// Executes every printed statement, each by itself, as they stand.
async fn mend(client: &Client, findings: &[Finding]) {
    for finding in findings {
        assert!(!finding.fix_sql.is_empty(), "{finding:?}");
        for statement in &finding.fix_sql {
            client
                .batch_execute(statement)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
    }
}

async fn a_ready_database_has_no_findings(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.*"]);
    assert_eq!(connector.preflight().await.unwrap(), []);
    let _log = open(&connector).await;
    let findings = connector.preflight().await.unwrap();
    assert_eq!(codes(&findings), ["slot_active"], "a warning while it runs");
    assert_eq!(findings[0].severity, Severity::Warning);
}

/// A role of its own that may log in and nothing else.
async fn plain_role(fixture: &Fixture, settings: &mut Value) -> String {
    let role = format!("Plain \"{}", fixture.database.name());
    let quoted = role.replace('"', "\"\"");
    fixture
        .sql(&format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE \"{quoted}\" LOGIN PASSWORD '{ROLE_PASSWORD}'"
        ))
        .await;
    settings["user"] = json!(role);
    quoted
}

async fn privileges_are_mended_by_the_statements_printed(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE SCHEMA \"Film \"\"s\"; CREATE TABLE \"Film \"\"s\".\"Mo.vies\" (id int PRIMARY KEY); \
             ALTER TABLE \"Film \"\"s\".\"Mo.vies\" ENABLE ROW LEVEL SECURITY",
        )
        .await;
    let mut settings = fixture.json(&["Film \"s.*"]);
    let role = plain_role(&fixture, &mut settings).await;
    let connector = connector(settings);
    let found = errors(&connector).await;
    assert_eq!(
        codes(&found),
        [
            "role_replication",
            "schema_privilege",
            "table_privilege",
            "row_security",
            "publication_missing"
        ]
    );
    mend(&fixture.client, &found).await;
    assert_eq!(errors(&connector).await, []);
    let log = connector.open_log(None, RUN).await.expect("it runs, too");
    drop(log);
    fixture
        .sql(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\""))
        .await;
}

async fn publications_are_mended_by_the_statements_printed(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE movies (id int PRIMARY KEY); CREATE TABLE people (id int PRIMARY KEY); \
             CREATE TABLE sales (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE sales_1 PARTITION OF sales FOR VALUES IN (1); \
             CREATE PUBLICATION \"The irs\" FOR TABLE movies WITH (publish = 'insert')",
        )
        .await;
    let mut settings = fixture.json(&["public.movies", "public.people", "public.sales"]);
    settings["publication"] = json!({"name": "The irs", "create": false});
    let foreign = connector(settings.clone());
    let found = errors(&foreign).await;
    assert_eq!(
        codes(&found),
        ["publication_operations", "publication_partitions", "publication_tables"]
    );
    mend(&fixture.client, &found).await;
    assert_eq!(errors(&foreign).await, []);

    settings["publication"]["name"] = json!("missing");
    let missing = connector(settings);
    let found = errors(&missing).await;
    assert_eq!(codes(&found), ["publication_missing"]);
    mend(&fixture.client, &found).await;
    assert_eq!(errors(&missing).await, []);
}

async fn a_child_that_nobody_chose_is_not_published_and_one_that_is_published_is_told(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children () INHERITS (parents); \
             CREATE TABLE later (id int PRIMARY KEY); CREATE TABLE of_later () INHERITS (later); \
             INSERT INTO children VALUES (1); CREATE TABLE others (id int PRIMARY KEY)",
        )
        .await;
    let connector = fixture.connector(&["public.parents"]);
    drop(open(&connector).await);
    let published = "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables";
    assert_eq!(fixture.ask(published).await, "parents");
    connector
        .add_tables(&[TableName::new("public", "later")])
        .await
        .unwrap();
    assert_eq!(fixture.ask(published).await, "later,parents");
    let update = "UPDATE children SET id = id + 1";
    fixture.sql(update).await;

    // As in a publication that an earlier release or a person made.
    fixture
        .sql("ALTER PUBLICATION highwater ADD TABLE children, others")
        .await;
    assert_eq!(fixture.ask(published).await, "children,later,others,parents");
    assert!(
        fixture.client.batch_execute(update).await.is_err(),
        "it has no identity"
    );
    drop(open(&connector).await);
    assert_eq!(
        fixture.ask(published).await,
        "children,later,others,parents",
        "nothing is taken out unasked"
    );
    let told = unchosen(&connector).await.expect("a warning");
    assert_eq!(told.severity, Severity::Warning);
    assert!(
        told.what.contains("2 tables") && told.why.contains("public.children"),
        "{told:?}"
    );
    mend(&fixture.client, &[told]).await;
    fixture.sql(update).await;
    assert_eq!(fixture.ask(published).await, "later,parents");
    assert_eq!(unchosen(&connector).await, None);

    fixture.sql("ALTER PUBLICATION highwater ADD TABLE others").await;
    let told = unchosen(&connector).await.expect("a note");
    assert_eq!(told.severity, Severity::Info, "{told:?}");
    let mut foreign = fixture.json(&["public.parents"]);
    foreign["publication"] = json!({"create": false});
    let foreign = crate::fixture::connector(foreign);
    assert_eq!(
        unchosen(&foreign).await,
        None,
        "somebody else's publication has what it has"
    );
}

async fn unchosen(connector: &PostgresConnector) -> Option<Finding> {
    let findings = connector.preflight().await.unwrap();
    findings
        .into_iter()
        .find(|finding| finding.code == "publication_unchosen")
}

async fn slots_are_mended_by_the_statements_printed(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let mut settings = fixture.json(&["public.*"]);
    settings["slot"]["create"] = json!(false);
    let foreign = connector(settings.clone());
    let found = errors(&foreign).await;
    assert_eq!(codes(&found), ["slot_missing"]);
    mend(&fixture.client, &found).await;
    assert_eq!(errors(&foreign).await, []);

    for (suffix, statement) in [
        (
            "other_plugin",
            "SELECT pg_create_logical_replication_slot('{}', 'test_decoding')",
        ),
        (
            "two_phase",
            "SELECT pg_create_logical_replication_slot('{}', 'pgoutput', false, true)",
        ),
        ("physical", "SELECT pg_create_physical_replication_slot('{}')"),
    ] {
        let name = format!("{}_{suffix}", fixture.slot());
        if suffix == "two_phase" && major < 14 {
            continue;
        }
        fixture.sql(&statement.replace("{}", &name)).await;
        settings["slot"] = json!({"name": name});
        let found = errors(&connector(settings.clone())).await;
        assert_eq!(codes(&found), ["slot_unsuitable"], "{suffix}");
        assert!(found[0].what.contains(&name));
        fixture.sql(&format!("SELECT pg_drop_replication_slot('{name}')")).await;
    }
}

async fn server_settings_are_mended_by_the_statements_printed(major: u16) {
    let options = PgOptions::major(major)
        .with("wal_level", "replica")
        .with("max_replication_slots", "1")
        .with("max_wal_senders", "0");
    let server = Postgres::start(options).await.expect("a server");
    let client = server.connect().await.unwrap();
    client
        .batch_execute("CREATE TABLE movies (id int PRIMARY KEY); SELECT pg_create_physical_replication_slot('taken')")
        .await
        .unwrap();
    let settings = json!({
        "host": server.host(), "port": server.port(), "user": ROLE, "password": ROLE_PASSWORD, "database": "postgres",
        "tables": {"include": ["public.*"]},
    });
    let connector = connector(settings);
    let found = errors(&connector).await;
    assert_eq!(codes(&found), ["wal_level", "max_replication_slots", "max_wal_senders"]);
    for finding in &found {
        assert!(finding.fix.as_ref().unwrap().contains("restart"), "{finding:?}");
    }
    mend(&client, &found).await;
    // Given on the command line, the old values would win over ALTER SYSTEM.
    let value = |name: &str| {
        let sql = found
            .iter()
            .flat_map(|finding| &finding.fix_sql)
            .find(|sql| sql.contains(name))
            .unwrap();
        sql.rsplit("= ").next().unwrap().trim_matches('\'').to_owned()
    };
    let names = ["wal_level", "max_replication_slots", "max_wal_senders"];
    let values = names.map(value);
    let pairs: Vec<(&str, &str)> = names.iter().copied().zip(values.iter().map(String::as_str)).collect();
    server.restart_with(&pairs).await.unwrap();
    assert_eq!(errors(&connector).await, []);
}

async fn tables_and_columns_are_named(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql(
            "CREATE TABLE keyless (v int); CREATE TABLE places (id int PRIMARY KEY, at gtsvector); \
             CREATE TABLE mute (id int PRIMARY KEY); ALTER TABLE mute REPLICA IDENTITY NOTHING; CREATE UNLOGGED TABLE fleeting (id int)",
        )
        .await;
    let connector = fixture.connector(&["public.*", "public.nowhere", "public.fleeting"]);
    let found = errors(&connector).await;
    assert_eq!(
        codes(&found),
        [
            "unknown_table",
            "unknown_table",
            "replica_identity",
            "replica_identity",
            "unsupported_column"
        ]
    );
    let text = format!("{found:?}");
    for name in [
        "public.nowhere",
        "public.fleeting",
        "public.keyless",
        "public.mute",
        "public.places",
        "at",
        "gtsvector",
    ] {
        assert!(text.contains(name), "{name}");
    }
    mend(&fixture.client, &found[2..4]).await;
    fixture.sql("ALTER TABLE places DROP COLUMN at").await;
    let connector = fixture.connector(&["public.*"]);
    assert_eq!(errors(&connector).await, []);
    let warnings = connector.preflight().await.unwrap();
    assert_eq!(codes(&warnings), ["table_without_key"]);
    let nothing = fixture.connector(&["nowhere.*"]);
    assert_eq!(codes(&errors(&nothing).await), ["no_tables"]);
}

async fn what_the_stream_cannot_have_is_named(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let mut settings = fixture.json(&["public.*"]);
    settings["streaming"] = json!("parallel");
    let found = errors(&connector(settings.clone())).await;
    match major {
        ..16 => {
            assert_eq!(codes(&found), ["stream_options"]);
            assert!(found[0].fix.as_ref().unwrap().contains("streaming: on"), "{found:?}");
        }
        _ => assert_eq!(found, []),
    }
    settings["streaming"] = json!("on");
    settings["spill"] = json!({"directory": "/proc/highwater"});
    let found = errors(&connector(settings.clone())).await;
    assert_eq!(codes(&found), ["spill_directory"]);
    assert!(found[0].what.contains("/proc/highwater"), "{found:?}");
    settings.as_object_mut().unwrap().remove("streaming");
    let findings = connector(settings).preflight().await.unwrap();
    assert_eq!(codes(&findings), ["spill_directory"]);
    assert_eq!(findings[0].severity, Severity::Warning);
}

async fn the_check_changes_nothing(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let connector = fixture.connector(&["public.*"]);
    connector.preflight().await.unwrap();
    assert_eq!(connector.discover().await.unwrap().tables.len(), 1);
    assert_eq!(fixture.ask("SELECT count(*) FROM pg_publication").await, "0");
    let slots = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
        fixture.slot()
    );
    assert_eq!(fixture.ask(&slots).await, "0");
}
