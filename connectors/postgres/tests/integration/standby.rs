// SPDX-License-Identifier: Apache-2.0
//! A standby that is read instead of its primary.

use crate::conformance::transaction;
use crate::failover::{in_step, primary, sql, until};
use crate::fixture::{RUN, changes, connector, lines, open, open_from, range, read_commits};
use highwater_core::change::LogItem;
use highwater_core::connector::{ChunkReader, Finding, LogReader, Severity, SourceConnector, WatermarkWriter};
use highwater_core::position::{MarkId, MarkPlace, ReadView, ResumePoint};
use highwater_core::schema::{Key, TableName};
use highwater_core::{Class, ErrorKind};
use highwater_postgres::PostgresConnector;
use highwater_testbed::Postgres;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testkit::connector_suite::{self, Harness, SuiteWrite};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

fn settings(server: &Postgres, database: &str, table: &str) -> Value {
    json!({
        "host": "127.0.0.1", "port": server.port(), "user": ROLE, "password": ROLE_PASSWORD, "database": database,
        "standby": true, "tables": {"include": [table]}, "slot": {"name": format!("slot_{database}")},
        "heartbeat": {"interval_ms": 200}
    })
}

/// Keeps the primary telling which transactions run, as a busy one does by itself.
struct Busy(JoinHandle<()>);

impl Busy {
    async fn new(primary: &Postgres) -> Self {
        let client = primary.connect().await.unwrap();
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(200));
            while client.simple_query("SELECT pg_log_standby_snapshot()").await.is_ok() {
                ticks.tick().await;
            }
        }))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct StandbyHarness<'a> {
    standby: &'a Postgres,
    database: String,
    primary: Client,
    follower: Client,
}

impl Harness for StandbyHarness<'_> {
    type Connector = PostgresConnector;

    async fn connector(&self) -> PostgresConnector {
        connector(settings(self.standby, &self.database, "public.suite"))
    }

    fn table(&self) -> TableName {
        TableName::new("public", "suite")
    }

    fn key(&self, id: u64) -> Key {
        Key::from_columns(&[Some(id.to_be_bytes())])
    }

    async fn write(&self, writes: Vec<SuiteWrite>) {
        sql(&self.primary, &transaction(writes)).await;
        in_step(&self.primary, &self.follower).await;
    }
}

#[tokio::test]
async fn a_connector_on_a_standby_keeps_its_contract() {
    let Some(first) = primary(17).await else { return };
    let standby = first.standby(&[]).await.unwrap();
    let _busy = Busy::new(&first).await;
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    connector_suite::run(async || {
        let database = format!("suite_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let admin = first.connect().await.unwrap();
        sql(&admin, &format!("CREATE DATABASE {database}")).await;
        let client = first.connect_to(&database).await.unwrap();
        let made =
            "CREATE TABLE suite (id bigint PRIMARY KEY, value text); CREATE PUBLICATION highwater FOR TABLE suite";
        sql(&client, made).await;
        in_step(&admin, &standby.connect().await.unwrap()).await;
        StandbyHarness {
            follower: standby.connect_to(&database).await.unwrap(),
            standby: &standby,
            database,
            primary: client,
        }
    })
    .await;
}

const FEEDBACK_OFF: (&str, &str) = ("hot_standby_feedback", "off");

fn told(findings: &[Finding]) -> Vec<(Severity, &str)> {
    let told = findings.iter().map(|finding| (finding.severity, finding.code.as_str()));
    told.collect()
}

/// Does what the check prints for a standby that follows without a slot and without feedback.
async fn is_mended_by_what_is_printed(source: &PostgresConnector, primary: &Client, standby: &Postgres) {
    let follower = standby.connect().await.unwrap();
    let missing = (Severity::Error, "publication_missing");
    let findings = source.preflight().await.unwrap();
    let expected = [
        (Severity::Warning, "hot_standby_feedback"),
        (Severity::Warning, "primary_slot_name"),
        missing,
    ];
    assert_eq!(told(&findings), expected);
    for statement in &findings[0].fix_sql {
        sql(&follower, statement).await;
    }
    until(&follower, "SELECT current_setting('hot_standby_feedback') = 'on'").await;
    let findings = source.preflight().await.unwrap();
    assert_eq!(told(&findings), [(Severity::Warning, "primary_slot_name"), missing]);
    let advice = findings[0].fix.as_deref().unwrap();
    assert!(
        advice.contains("a physical slot on the primary") && advice.contains("primary_slot_name"),
        "{advice}"
    );
    let slot = standby.standby_name().unwrap();
    sql(&follower, &format!("ALTER SYSTEM SET primary_slot_name = '{slot}'")).await;
    sql(&follower, "SELECT pg_reload_conf()").await;
    until(
        primary,
        &format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"),
    )
    .await;
    assert_eq!(told(&source.preflight().await.unwrap()), [missing]);
}

#[tokio::test]
async fn a_standby_is_read_without_a_mark_written_and_goes_on_when_it_is_promoted() {
    let Some(first) = primary(16).await else { return };
    let standby = first.standby(&[FEEDBACK_OFF, ("primary_slot_name", "")]).await.unwrap();
    let (client, follower) = (first.connect().await.unwrap(), standby.connect().await.unwrap());
    sql(
        &client,
        "CREATE TABLE movies (id int PRIMARY KEY); INSERT INTO movies VALUES (1)",
    )
    .await;
    in_step(&client, &follower).await;
    let source = connector(settings(&standby, "postgres", "public.movies"));
    is_mended_by_what_is_printed(&source, &client, &standby).await;
    let error = source.open_log(None, RUN).await.unwrap_err();
    assert_eq!(error.class(), Class::User);
    assert!(error.fix().unwrap().contains("on the primary"), "{error:?}");
    sql(&client, "CREATE PUBLICATION highwater FOR TABLE movies").await;
    in_step(&client, &follower).await;
    assert_eq!(source.preflight().await.unwrap(), []);
    let mut asked = settings(&standby, "postgres", "public.movies");
    asked["standby"] = json!(false);
    let refused = connector(asked.clone());
    let findings = refused.preflight().await.unwrap();
    assert_eq!(told(&findings)[0], (Severity::Error, "physical_standby"));
    let error = refused.open_log(None, RUN).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::Unreachable, Class::Retryable)
    );

    let busy = Busy::new(&first).await;
    let mut log = open(&source).await;
    let mut marks = source.open_watermarks(RUN).await.unwrap();
    assert!(matches!(marks.mark(MarkId(1)).await.unwrap(), MarkPlace::AtPosition(_)));
    assert_eq!(marks.visibility_horizon().await.unwrap(), None);
    let mut chunks = source.open_chunks().await.unwrap();
    let rows = chunks.read(&range("movies", None, 10)).await.unwrap();
    assert_eq!((rows.rows.len(), rows.view), (1, ReadView::Ordered));
    sql(&client, "INSERT INTO movies VALUES (2)").await;
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items), ["Create movies -> {id=2}"]);
    let commit = changes(&items)[0].commit;

    // What was received and not replayed yet is not visible: a mark waits for it, and the read behind it sees it.
    sql(&follower, "SELECT pg_wal_replay_pause()").await;
    until(&follower, "SELECT pg_get_wal_replay_pause_state() = 'paused'").await;
    sql(&client, "DELETE FROM movies WHERE id = 1").await;
    until(&follower, "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()").await;
    {
        let marking = marks.mark(MarkId(2));
        tokio::pin!(marking);
        let early = tokio::time::timeout(Duration::from_millis(300), &mut marking).await;
        assert!(early.is_err(), "a mark behind what a read cannot see: {early:?}");
        sql(&follower, "SELECT pg_wal_replay_resume()").await;
        marking.await.unwrap();
    }
    let rows = chunks.read(&range("movies", None, 10)).await.unwrap();
    assert_eq!(rows.rows.len(), 1, "row 2 alone is left");
    // What a read has seen lies before a mark that is placed after it: the log passes the place with that commit or later.
    let MarkPlace::AtPosition(place) = marks.mark(MarkId(3)).await.unwrap() else {
        panic!("a mark was written on a standby")
    };
    let items = read_commits(&mut log, 1).await;
    assert_eq!(lines(&items).len(), 1);
    let Some(LogItem::Commit { position, .. }) = items.last() else {
        panic!("a commit comes last")
    };
    assert!(place.0.0 + 1 >= position.0.0, "{place} lies before {position}");
    drop(busy);
    first.kill9().await.unwrap();
    standby.promote().await.unwrap();
    // The stream would go on, but of another timeline: the run begins anew, where marks may be written.
    let error = loop {
        if let Err(error) = log.next(&mut Vec::new()).await {
            break error;
        }
    };
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::Unreachable, Class::Retryable)
    );
    assert!(error.to_string().contains("was promoted"), "{error}");
    let error = chunks.read(&range("movies", None, 10)).await.unwrap_err();
    assert_eq!(error.class(), Class::Retryable, "a view that proves nothing: {error}");
    let point = ResumePoint {
        lineage: log.lineage(),
        ..ResumePoint::at(commit)
    };
    drop(log);
    sql(&follower, "INSERT INTO movies VALUES (3)").await;
    let mut log = open_from(&source, Some(&point)).await;
    let items = read_commits(&mut log, 3).await;
    assert_eq!(
        lines(&items),
        [
            "Create movies -> {id=2}",
            "Delete movies {id=1}",
            "Create movies -> {id=3}"
        ],
        "the position of a commit is where it begins"
    );
    let mut marks = source.open_watermarks(RUN).await.unwrap();
    assert_eq!(marks.mark(MarkId(1)).await.unwrap(), MarkPlace::InLog(MarkId(1)));
}

#[tokio::test]
async fn a_slot_that_a_conflict_with_the_primary_invalidated_is_a_lost_position_by_name() {
    let Some(first) = primary(17).await else { return };
    let standby = first.standby(&[FEEDBACK_OFF]).await.unwrap();
    let (client, follower) = (first.connect().await.unwrap(), standby.connect().await.unwrap());
    sql(
        &client,
        "CREATE TABLE movies (id int PRIMARY KEY); CREATE PUBLICATION highwater FOR TABLE movies",
    )
    .await;
    in_step(&client, &follower).await;
    let source = connector(settings(&standby, "postgres", "public.movies"));
    let busy = Busy::new(&first).await;
    let log = open(&source).await;
    let point = ResumePoint {
        lineage: log.lineage(),
        ..ResumePoint::at(*log.start())
    };
    drop((log, busy));
    // Rows of the catalogue that decoding may need are gone with the vacuum.
    sql(&client, "CREATE TABLE gone (id int)").await;
    sql(&client, "DROP TABLE gone").await;
    sql(&client, "VACUUM pg_class").await;
    sql(&client, "INSERT INTO movies VALUES (1)").await;
    let lost =
        "SELECT invalidation_reason = 'rows_removed' FROM pg_replication_slots WHERE slot_name = 'slot_postgres'";
    until(&follower, lost).await;
    let error = source.open_log(Some(&point), RUN).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::PositionLost, Class::User));
    assert!(error.to_string().contains("rows_removed"), "{error}");
    let findings = source.preflight().await.unwrap();
    let lost = findings
        .iter()
        .find(|finding| finding.code == "slot_lost")
        .expect("a lost slot");
    assert!(lost.what.contains("rows_removed"), "{lost:?}");
    let fix = lost.fix.as_deref().unwrap();
    assert!(
        fix.contains("`highwater renew`") && fix.contains("hot_standby_feedback = on"),
        "{fix}"
    );
}

#[tokio::test]
async fn a_standby_that_does_not_decode_is_refused_by_its_version() {
    let Some(first) = primary(15).await else { return };
    let standby = first.standby(&[]).await.unwrap();
    let source = connector(settings(&standby, "postgres", "public.movies"));
    let findings = source.preflight().await.unwrap();
    assert!(
        told(&findings).contains(&(Severity::Error, "physical_standby")),
        "{findings:?}"
    );
    let error = source.open_log(None, RUN).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Unsuitable, Class::User));
    assert!(error.to_string().contains("a standby of version 15"), "{error}");
}
