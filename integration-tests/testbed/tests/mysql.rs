// SPDX-License-Identifier: Apache-2.0
//! The handle of MySQL and MariaDB on real servers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use futures::StreamExt;
use highwater_testbed::certificates::{Authority, Identity};
use highwater_testbed::mysql::{ROLE, ROLE_DATABASE, ROLE_PASSWORD};
use highwater_testbed::versions::{self, MysqlLine};
use highwater_testbed::{Mysql, MysqlOptions, wait};
use mysql_async::binlog::EventType;
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{BinlogStreamRequest, ClientIdentity, Conn, Row, SslOpts};

const LIMIT: Duration = Duration::from_secs(60);

/// The server's words for a wrong password, a statement that needs a right, one that it cannot parse, and a write where
/// none may be.
const ACCESS_DENIED: u16 = 1045;
const COMMAND_DENIED: u16 = 1142;
const SYNTAX: u16 = 1064;
const READ_ONLY: u16 = 1290;

async fn one<T: FromRow + Send + 'static>(session: &mut Conn, sql: &str) -> T {
    let row: Option<T> = session.query_first(sql).await.unwrap();
    row.unwrap()
}

async fn run(session: &mut Conn, statements: &[&str]) {
    for sql in statements {
        session
            .query_drop(*sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// The number of the error with which the server answers.
async fn refusal(session: &mut Conn, sql: &str) -> u16 {
    code(&session.query_drop(sql).await.err().unwrap())
}

fn code(error: &mysql_async::Error) -> u16 {
    match error {
        mysql_async::Error::Server(error) => error.code,
        other => panic!("no answer of a server: {other}"),
    }
}

macro_rules! on_each_line {
    ($test:ident) => {
        mod $test {
            use super::MysqlLine;

            #[tokio::test]
            async fn of_mysql_9() {
                super::$test(MysqlLine::Mysql9).await;
            }
            #[tokio::test]
            async fn of_mysql_8() {
                super::$test(MysqlLine::Mysql8).await;
            }
            #[tokio::test]
            async fn of_mariadb_10() {
                super::$test(MysqlLine::MariaDb10).await;
            }
            #[tokio::test]
            async fn of_mariadb_11() {
                super::$test(MysqlLine::MariaDb11).await;
            }
        }
    };
}

on_each_line!(a_server_writes_a_binlog_and_comes_back_from_kill_9_with_its_data);
on_each_line!(the_capture_role_reads_rows_and_binlog_and_changes_no_table_but_its_own);
on_each_line!(a_replica_follows_and_takes_writes_once_promoted);

async fn a_server_writes_a_binlog_and_comes_back_from_kill_9_with_its_data(line: MysqlLine) {
    if !Mysql::is_to_be_had(line) {
        return;
    }
    let server = Mysql::start(MysqlOptions::line(line)).await.unwrap();
    let mut session = server.connect().await.unwrap();
    check_itself(&server, &mut session).await;
    check_clients(&server);
    let before = binlog_position(&mut session, line).await;
    let table = "CREATE TABLE d.kept (id int PRIMARY KEY)";
    run(
        &mut session,
        &["CREATE DATABASE d", table, "INSERT INTO d.kept VALUES (7)"],
    )
    .await;
    let after = binlog_position(&mut session, line).await;
    assert!(after > before, "{before:?} and then {after:?}");
    let logs: Vec<Row> = session.query("SHOW BINARY LOGS").await.unwrap();
    let last = logs.last().unwrap();
    assert_eq!((last.get(0).unwrap(), last.get(1).unwrap()), after);
    assert!(server.data_dir().join(after.0).is_file());

    let (port, first) = (server.port(), server.pid().unwrap());
    server.kill9().await.unwrap();
    assert_eq!(server.pid(), None);
    assert!(session.query_drop("DO 1").await.is_err());
    server.restart_with(&[("binlog_row_image", "MINIMAL")]).await.unwrap();
    assert_ne!(server.pid().unwrap(), first);
    assert_eq!(server.port(), port);
    let mut session = server.connect_to("d").await.unwrap();
    assert_eq!(one::<u32>(&mut session, "SELECT max(id) FROM kept").await, 7);
    assert_eq!(
        one::<String>(&mut session, "SELECT @@binlog_row_image").await,
        "MINIMAL"
    );
    check_pause(&server, session).await;
    server.stop().await.unwrap();
    assert_eq!(server.pid(), None);
}

/// The version, and what the default settings make of it.
async fn check_itself(server: &Mysql, session: &mut Conn) {
    let line = server.line();
    let said: String = one(session, "SELECT VERSION()").await;
    assert!(said.starts_with(versions::mysql(line).version), "{said}");
    assert!(said.starts_with(server.version()), "{said} is not {}", server.version());
    let binlog = "SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata";
    let (on, format, image, metadata): (u8, String, String, String) = one(session, binlog).await;
    assert_eq!((on, &*format, &*image, &*metadata), (1, "ROW", "FULL", "FULL"));
    let gtids = match line.is_mariadb() {
        true => "SELECT IF(@@gtid_strict_mode, 'ON', 'OFF')",
        false => "SELECT @@gtid_mode",
    };
    assert_eq!(one::<String>(session, gtids).await, "ON");
    // The statement of the one is a mistake on the other.
    match line {
        MysqlLine::Mysql9 => assert_eq!(refusal(session, "SHOW MASTER STATUS").await, SYNTAX),
        MysqlLine::Mysql8 => assert_eq!(refusal(session, "SHOW BINARY LOG STATUS").await, SYNTAX),
        MysqlLine::MariaDb10 | MysqlLine::MariaDb11 => {}
    }
}

/// The client programs run where the source has them.
fn check_clients(server: &Mysql) {
    assert_eq!(server.bin_dir().is_none(), server.line() == MysqlLine::Mysql8);
    let programs = match server.line().is_mariadb() {
        true => ["mariadb", "mariadb-binlog"],
        false => ["mysql", "mysqlbinlog"],
    };
    for program in server
        .bin_dir()
        .into_iter()
        .flat_map(|bin| programs.map(|name| bin.join(name)))
    {
        let said = std::process::Command::new(program).arg("--version").output();
        assert!(said.unwrap().status.success());
    }
}

async fn check_pause(server: &Mysql, mut session: Conn) {
    server.pause().await.unwrap();
    let limit = Duration::from_millis(200);
    let answer = tokio::time::timeout(limit, session.query_drop("DO 1")).await;
    assert!(answer.is_err(), "a frozen server answered");
    server.resume().await.unwrap();
    let mut session = server.connect().await.unwrap();
    assert_eq!(one::<String>(&mut session, "SELECT 'awake'").await, "awake");
}

/// The file and the offset to which the binlog is written.
async fn binlog_position(session: &mut Conn, line: MysqlLine) -> (String, u64) {
    let status = match line {
        MysqlLine::Mysql9 => "SHOW BINARY LOG STATUS",
        MysqlLine::Mysql8 | MysqlLine::MariaDb10 | MysqlLine::MariaDb11 => "SHOW MASTER STATUS",
    };
    let row: Row = one(session, status).await;
    (row.get(0).unwrap(), row.get(1).unwrap())
}

async fn the_capture_role_reads_rows_and_binlog_and_changes_no_table_but_its_own(line: MysqlLine) {
    if !Mysql::is_to_be_had(line) {
        return;
    }
    let database = Mysql::shared(line).await.unwrap();
    let mut admin = database.connect().await.unwrap();
    run(
        &mut admin,
        &["CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (7)"],
    )
    .await;
    // Without TLS: on MySQL the password is encrypted with the server's key, for the first log-in at least.
    let server = database.server();
    let wrong = Conn::new(server.client(ROLE, "wrong")).await.err().unwrap();
    assert_eq!(code(&wrong), ACCESS_DENIED);
    let options = server.client(ROLE, ROLE_PASSWORD).db_name(Some(database.name()));
    let mut role = Conn::new(options.clone()).await.unwrap();
    assert_eq!(one::<u32>(&mut role, "SELECT id FROM t").await, 7);
    assert_eq!(refusal(&mut role, "INSERT INTO t VALUES (8)").await, COMMAND_DENIED);
    assert_eq!(refusal(&mut role, "DROP TABLE t").await, COMMAND_DENIED);
    let own = format!("{ROLE_DATABASE}.{}", database.name());
    for sql in [
        format!("CREATE TABLE {own} (id int)"),
        format!("INSERT INTO {own} VALUES (1)"),
        format!("DROP TABLE {own}"),
    ] {
        run(&mut role, &[&sql]).await;
    }
    assert!(rows_events(role).await >= 2);
    authentication(&mut admin, line).await;
}

/// The number of events with rows written in all binlogs of the server.
async fn rows_events(mut session: Conn) -> u32 {
    let logs: Vec<Row> = session.query("SHOW BINARY LOGS").await.unwrap();
    let first: String = logs[0].get(0).unwrap();
    let request = BinlogStreamRequest::new(1).with_filename(first.as_bytes()).with_pos(4);
    let mut stream = session.get_binlog_stream(request.with_non_blocking()).await.unwrap();
    let mut rows = 0;
    while let Some(event) = stream.next().await {
        let kind = event.unwrap().header().event_type();
        if let Ok(EventType::WRITE_ROWS_EVENT | EventType::WRITE_ROWS_EVENT_V1) = kind {
            rows += 1;
        }
    }
    stream.close().await.unwrap();
    rows
}

/// What differs between the lines in how users log in.
async fn authentication(admin: &mut Conn, line: MysqlLine) {
    match line {
        MysqlLine::Mysql9 | MysqlLine::Mysql8 => {
            let plugin = format!("SELECT plugin FROM mysql.user WHERE user = '{ROLE}'");
            assert_eq!(one::<String>(admin, &plugin).await, "caching_sha2_password");
            let old = "CREATE USER old IDENTIFIED WITH mysql_native_password BY 'x'";
            let is_there = admin.query_drop(old).await.is_ok();
            assert_eq!(is_there, line == MysqlLine::Mysql8);
            if is_there {
                run(admin, &["DROP USER old"]).await;
            }
        }
        MysqlLine::MariaDb10 => assert_eq!(one::<String>(admin, "SELECT @@have_ssl").await, "DISABLED"),
        MysqlLine::MariaDb11 => assert_eq!(one::<String>(admin, "SELECT @@have_ssl").await, "YES"),
    }
}

async fn a_replica_follows_and_takes_writes_once_promoted(line: MysqlLine) {
    if !Mysql::is_to_be_had(line) {
        return;
    }
    let source = Mysql::start(MysqlOptions::line(line)).await.unwrap();
    let mut session = source.connect_to(ROLE_DATABASE).await.unwrap();
    let row = |id: u32| format!("INSERT INTO kept VALUES ({id})");
    run(&mut session, &["CREATE TABLE kept (id int PRIMARY KEY)", &row(7)]).await;
    // With a setting over the source's.
    let replica = source.replica(&[("binlog_row_image", "MINIMAL")]).await.unwrap();
    let mut follower = replica.connect().await.unwrap();
    let image: String = one(&mut follower, "SELECT @@binlog_row_image").await;
    assert_eq!(image, "MINIMAL");
    run(&mut session, &[&row(8)]).await;
    let role = replica.client(ROLE, ROLE_PASSWORD).db_name(Some(ROLE_DATABASE));
    wait::until(LIMIT, "the rows on the replica", || async {
        let mut role = Conn::new(role.clone()).await.unwrap();
        // The table itself may not be there yet.
        let found: Result<Option<u32>, _> = role.query_first("SELECT count(*) FROM kept").await;
        Ok((found.ok().flatten() == Some(2)).then_some(()))
    })
    .await
    .unwrap();
    let mut role = Conn::new(role).await.unwrap();
    assert_eq!(refusal(&mut role, &row(11)).await, READ_ONLY);
    is_no_replica(&source).await;

    let mut holder = replica.connect_to(ROLE_DATABASE).await.unwrap();
    run(&mut holder, &["LOCK TABLES kept READ"]).await;
    run(&mut session, &[&row(9), &row(10)]).await;
    everything_is_received(&mut session, &mut follower, line).await;
    source.kill9().await.unwrap();
    let (promoted, ()) = tokio::join!(replica.promote(), let_go_once_waited_for(&replica, &mut holder));
    promoted.unwrap();
    takes_writes(&replica, role, &row).await;
    is_no_replica(&replica).await;
}

/// Also after a restart. It has all that it received.
async fn takes_writes(replica: &Mysql, mut role: Conn, row: &impl Fn(u32) -> String) {
    run(&mut role, &[&row(11)]).await;
    replica.restart().await.unwrap();
    let mut promoted = replica.connect_to(ROLE_DATABASE).await.unwrap();
    run(&mut promoted, &[&row(12)]).await;
    assert_eq!(one::<u32>(&mut promoted, "SELECT count(*) FROM kept").await, 6);
}

/// Waits until a replica has received, not applied, all that its source has written.
async fn everything_is_received(source: &mut Conn, replica: &mut Conn, line: MysqlLine) {
    let (written, status, received) = match line {
        MysqlLine::Mysql9 => ("@@gtid_executed", "SHOW REPLICA STATUS", "Retrieved_Gtid_Set"),
        MysqlLine::Mysql8 => ("@@gtid_executed", "SHOW SLAVE STATUS", "Retrieved_Gtid_Set"),
        MysqlLine::MariaDb10 | MysqlLine::MariaDb11 => ("@@gtid_binlog_pos", "SHOW SLAVE STATUS", "Gtid_IO_Pos"),
    };
    let written: String = one(source, &format!("SELECT {written}")).await;
    let replica = tokio::sync::Mutex::new(replica);
    wait::until(LIMIT, "the last transactions on the replica", || async {
        let row: Row = one(*replica.lock().await, status).await;
        Ok((row.get::<String, _>(received).unwrap() == written).then_some(()))
    })
    .await
    .unwrap();
}

/// Lets a replica apply what it received once its promotion waits for that.
async fn let_go_once_waited_for(replica: &Mysql, holder: &mut Conn) {
    let waiting = "SELECT count(*) FROM information_schema.processlist \
                   WHERE info LIKE 'SELECT WAIT_FOR_EXECUTED%' OR info LIKE 'SELECT MASTER_GTID_WAIT%'";
    wait::until(LIMIT, "the promotion's waiting", || async {
        let mut session = replica.connect().await.unwrap();
        Ok((one::<u32>(&mut session, waiting).await == 1).then_some(()))
    })
    .await
    .unwrap();
    run(holder, &["UNLOCK TABLES"]).await;
}

async fn is_no_replica(server: &Mysql) {
    let error = server.promote().await.err().unwrap().to_string();
    assert!(error.contains("is no replica"), "{error}");
}

#[tokio::test]
async fn tests_share_a_server_and_have_databases_of_their_own() {
    let line = MysqlLine::MariaDb10;
    if !Mysql::is_to_be_had(line) {
        return;
    }
    let (one_of, two) = (Mysql::shared(line).await.unwrap(), Mysql::shared(line).await.unwrap());
    assert_eq!(one_of.server().pid(), two.server().pid());
    let mut session = one_of.connect().await.unwrap();
    // A transaction that is left open holds the table until its session ends.
    let table = "CREATE TABLE mine (id int PRIMARY KEY)";
    run(&mut session, &[table, "BEGIN", "INSERT INTO mine VALUES (1)"]).await;
    let mut other = two.connect().await.unwrap();
    assert!(other.query_drop("SELECT * FROM mine").await.is_err());
    let name = one_of.name().to_owned();
    let left = format!("SELECT count(*) FROM information_schema.schemata WHERE schema_name = '{name}'");
    assert_eq!(one::<u32>(&mut other, &left).await, 1);
    drop(one_of);
    assert_eq!(
        one::<u32>(&mut other, &left).await,
        0,
        "the database outlived its handle"
    );
    assert!(session.query_drop("DO 1").await.is_err(), "its session outlived it");
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_told_with_the_log() {
    for line in [MysqlLine::Mysql9, MysqlLine::MariaDb10] {
        if !Mysql::is_to_be_had(line) {
            return;
        }
        let options = MysqlOptions::line(line).with("binlog_format", "NONSENSE");
        let error = Mysql::start(options).await.err().unwrap().to_string();
        assert!(
            error.contains("died while starting") && error.contains("NONSENSE"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn tls_is_verified_against_the_authority_and_the_name() {
    for line in [MysqlLine::Mysql9, MysqlLine::MariaDb10] {
        if !Mysql::is_to_be_had(line) {
            return;
        }
        let server = Mysql::start(MysqlOptions::line(line).with_tls()).await.unwrap();
        let mut admin = server.connect().await.unwrap();
        run(&mut admin, &[&format!("ALTER USER '{ROLE}'@'%' REQUIRE SSL")]).await;
        let stranger = Authority::new().unwrap();
        let ca_pem = server.ca_pem().unwrap();
        let mut session = secured(&server, "localhost", ca_pem, None).await.unwrap();
        let (_, protocol): (String, String) = one(&mut session, "SHOW SESSION STATUS LIKE 'Ssl_version'").await;
        assert_eq!(protocol, "TLSv1.3");
        let foreign = secured(&server, "localhost", stranger.ca_pem(), None).await;
        assert!(foreign.is_err(), "a foreign authority was trusted");
        let named = secured(&server, "elsewhere", ca_pem, None).await;
        assert!(named.is_err(), "a wrong name was accepted");
        let plain = Conn::new(server.client(ROLE, ROLE_PASSWORD)).await.err().unwrap();
        assert_eq!(code(&plain), ACCESS_DENIED);
        // A certificate of the client's own.
        run(&mut admin, &[&format!("ALTER USER '{ROLE}'@'%' REQUIRE X509")]).await;
        let without = secured(&server, "localhost", ca_pem, None).await.err().unwrap();
        assert_eq!(code(&without), ACCESS_DENIED);
        let own = server.authority().unwrap().client(ROLE).unwrap();
        secured(&server, "localhost", ca_pem, Some(own)).await.unwrap();
        let strange = stranger.client(ROLE).unwrap();
        let refused = secured(&server, "localhost", ca_pem, Some(strange)).await;
        assert!(refused.is_err(), "a foreign authority's client was trusted");
    }
}

/// A session over TLS to a server that is expected to be called `name`.
async fn secured(server: &Mysql, name: &'static str, ca_pem: &str, own: Option<Identity>) -> mysql_async::Result<Conn> {
    let pem = |text: String| text.into_bytes().into();
    let tls = SslOpts::default()
        .with_disable_built_in_roots(true)
        .with_root_certs(vec![ca_pem.as_bytes().to_vec().into()])
        .with_danger_tls_hostname_override(Some(name))
        .with_client_identity(own.map(|own| ClientIdentity::new(pem(own.certificate_pem), pem(own.key_pem))));
    Conn::new(server.client(ROLE, ROLE_PASSWORD).ssl_opts(tls)).await
}
