// SPDX-License-Identifier: Apache-2.0
//! Connecting: authentication, encryption, and what happens when it fails.

use crate::fixture::{Fixture, LIMIT, RUN, connector, lines, open, read_commits};
use crate::on_each_major;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::{Class, Error, ErrorKind};
use highwater_postgres::Settings;
use highwater_postgres::connection::{Connection, Purpose};
use highwater_testbed::certificates::Authority;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD, SUPERUSER};
use highwater_testbed::{FaultProxy, PgOptions, Postgres};
use serde_json::{Value, json};

on_each_major!(
    wrong_credentials_and_places_are_told_apart,
    every_tls_mode_means_what_it_says,
    md5_and_cleartext_passwords_work_where_the_server_asks_for_them,
    a_unix_socket_serves_too,
    the_stream_survives_tls_and_much_traffic,
    a_corrupted_message_is_an_error_and_never_a_row,
    a_server_that_dies_is_worth_a_retry,
);

async fn try_open(settings: Value) -> Result<Connection, Error> {
    Connection::open(&Settings::from_json(settings).unwrap(), Purpose::Replication, "test").await
}

fn settings_of(server: &Postgres) -> Value {
    json!({
        "host": "127.0.0.1", "port": server.port(), "user": ROLE, "password": ROLE_PASSWORD, "database": "postgres",
        "tables": {"include": ["public.*"]},
    })
}

fn with(mut settings: Value, name: &str, value: Value) -> Value {
    settings[name] = value;
    settings
}

async fn wrong_credentials_and_places_are_told_apart(major: u16) {
    let fixture = Fixture::new(major).await;
    let settings = fixture.json(&["public.*"]);
    assert!(try_open(settings.clone()).await.is_ok());
    for (name, value, kind, class) in [
        ("password", json!("wrong"), ErrorKind::Authentication, Class::User),
        ("password", Value::Null, ErrorKind::Authentication, Class::User),
        ("user", json!("nobody"), ErrorKind::Authentication, Class::User),
        ("database", json!("nowhere"), ErrorKind::NotFound, Class::User),
        ("port", json!(1), ErrorKind::Unreachable, Class::Retryable),
        (
            "host",
            json!("no-such-host.invalid"),
            ErrorKind::Unreachable,
            Class::Retryable,
        ),
    ] {
        let error = try_open(with(settings.clone(), name, value)).await.expect_err(name);
        assert_eq!((error.kind(), error.class()), (kind, class), "{error}");
        assert!(!error.to_string().contains(ROLE_PASSWORD));
    }
    let error = try_open(with(settings, "tls", json!({"mode": "require"})))
        .await
        .expect_err("no TLS here");
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
}

async fn every_tls_mode_means_what_it_says(major: u16) {
    let options = PgOptions {
        tls: Some(highwater_testbed::postgres::TlsOptions {
            names: vec!["localhost".into()],
        }),
        // Only encrypted sessions of the role, and a client certificate in one database.
        ..PgOptions::major(major)
            .with_hba(&format!("hostssl template1 {ROLE} all cert"))
            .with_hba(&format!("hostnossl all {ROLE} all reject"))
    };
    let server = Postgres::start(options).await.expect("a server");
    let ca = server.ca_path().unwrap().to_owned();
    let dir = tempdir(&server);
    let stranger = dir.join("stranger.pem");
    std::fs::write(&stranger, Authority::new().unwrap().ca_pem()).unwrap();
    let settings = settings_of(&server);
    let tls = |mode: &str, root: Option<&std::path::Path>| json!({"mode": mode, "root_certificates": root});
    // 127.0.0.1 is not among the certificate's names, localhost is.
    for (host, tls, kind) in [
        ("127.0.0.1", tls("disable", None), Some(ErrorKind::Authentication)),
        ("127.0.0.1", tls("prefer", None), None),
        ("127.0.0.1", tls("require", None), None),
        ("127.0.0.1", tls("verify-ca", Some(&ca)), None),
        (
            "127.0.0.1",
            tls("verify-ca", Some(&stranger)),
            Some(ErrorKind::Authentication),
        ),
        (
            "127.0.0.1",
            tls("verify-full", Some(&ca)),
            Some(ErrorKind::Authentication),
        ),
        ("localhost", tls("verify-full", Some(&ca)), None),
        (
            "localhost",
            tls("verify-full", Some(&stranger)),
            Some(ErrorKind::Authentication),
        ),
    ] {
        let result = try_open(with(with(settings.clone(), "host", json!(host)), "tls", tls.clone())).await;
        match (result, kind) {
            (Ok(connection), None) => assert!(connection.is_encrypted(), "{host} {tls}"),
            (Err(error), Some(kind)) => assert_eq!(error.kind(), kind, "{host} {tls}: {error}"),
            (result, _) => panic!("{host} {tls}: {:?}", result.map(|_| ())),
        }
    }
    let identity = server.authority().unwrap().client(ROLE).unwrap();
    let (certificate, key) = (dir.join("client.pem"), dir.join("client.key"));
    std::fs::write(&certificate, identity.certificate_pem).unwrap();
    std::fs::write(&key, identity.key_pem).unwrap();
    let template1 = with(settings, "database", json!("template1"));
    let tls = json!({"mode": "require", "client_certificate": certificate, "client_key": key});
    assert!(try_open(with(template1.clone(), "tls", tls)).await.is_ok());
    let error = try_open(with(template1, "tls", json!({"mode": "require"})))
        .await
        .expect_err("no certificate");
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
}

fn tempdir(server: &Postgres) -> std::path::PathBuf {
    // Inside the server's directory, which goes with it.
    server.socket_dir().to_owned()
}

async fn md5_and_cleartext_passwords_work_where_the_server_asks_for_them(major: u16) {
    let options = PgOptions::major(major)
        .with_hba("host all by_md5 all md5")
        .with_hba("host all in_clear all password");
    let server = Postgres::start(options).await.expect("a server");
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "SET password_encryption = 'md5'; CREATE ROLE by_md5 LOGIN REPLICATION PASSWORD 'p'; \
             SET password_encryption = 'scram-sha-256'; CREATE ROLE in_clear LOGIN REPLICATION PASSWORD 'p'",
        )
        .await
        .unwrap();
    for user in ["by_md5", "in_clear"] {
        let settings = with(settings_of(&server), "user", json!(user));
        assert!(
            try_open(with(settings.clone(), "password", json!("p"))).await.is_ok(),
            "{user}"
        );
        let error = try_open(with(settings, "password", json!("q"))).await.expect_err(user);
        assert_eq!(error.kind(), ErrorKind::Authentication);
    }
}

async fn a_unix_socket_serves_too(major: u16) {
    let fixture = Fixture::new(major).await;
    let settings = with(
        fixture.json(&["public.*"]),
        "host",
        json!(fixture.database.server().socket_dir()),
    );
    assert!(try_open(with(settings, "user", json!(SUPERUSER))).await.is_ok());
}

async fn the_stream_survives_tls_and_much_traffic(major: u16) {
    let server = Postgres::start(PgOptions::major(major).with_tls())
        .await
        .expect("a server");
    let client = server.connect().await.unwrap();
    client
        .batch_execute("CREATE TABLE many (id int PRIMARY KEY, filler text)")
        .await
        .unwrap();
    let connector = connector(with(
        settings_of(&server),
        "tls",
        json!({"mode": "verify-full", "root_certificates": server.ca_path()}),
    ));
    let mut log = open(&connector).await;
    for part in 0..5 {
        let sql =
            format!("INSERT INTO many SELECT i + {part} * 20000, repeat('z', 200) FROM generate_series(1, 20000) i");
        client.batch_execute(&sql).await.unwrap();
    }
    let items = read_commits(&mut log, 5).await;
    assert_eq!(crate::fixture::changes(&items).len(), 100_000);
}

async fn a_corrupted_message_is_an_error_and_never_a_row(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture
        .sql("CREATE TABLE movies (id int PRIMARY KEY, title text)")
        .await;
    let proxy = FaultProxy::start(&format!("127.0.0.1:{}", fixture.database.server().port()))
        .await
        .unwrap();
    let through = with(fixture.json(&["public.movies"]), "port", json!(proxy.port()));
    let connector = connector(through);
    let mut log = open(&connector).await;
    let start = *log.start();
    // The length of the row's CopyData message, just before the row.
    proxy.corrupt_when(|bytes, _| {
        bytes
            .windows(6)
            .position(|window| window == b"target")
            .map(|at| at.saturating_sub(64).max(1))
    });
    fixture
        .sql("INSERT INTO movies VALUES (1, 'target'), (2, 'target')")
        .await;
    let error = tokio::time::timeout(LIMIT, async {
        loop {
            if let Err(error) = log.next(&mut Vec::new()).await {
                return error;
            }
        }
    })
    .await
    .expect("an error");
    assert_eq!(error.class(), Class::Retryable, "{error}");
    drop(log);
    let mut log = connector
        .open_log(Some(&highwater_core::position::ResumePoint::at(start)), RUN)
        .await
        .expect("mended");
    let items = read_commits(&mut log, 1).await;
    assert_eq!(
        lines(&items),
        [
            "Create movies -> {id=1,title=target}",
            "Create movies -> {id=2,title=target}"
        ]
    );
}

async fn a_server_that_dies_is_worth_a_retry(major: u16) {
    let server = Postgres::start(PgOptions::major(major)).await.expect("a server");
    let client = server.connect().await.unwrap();
    client
        .batch_execute("CREATE TABLE movies (id int PRIMARY KEY)")
        .await
        .unwrap();
    let connector = connector(settings_of(&server));
    let mut log = open(&connector).await;
    let start = highwater_core::position::ResumePoint::at(*log.start());
    client.batch_execute("INSERT INTO movies VALUES (1)").await.unwrap();
    server.kill9().await.unwrap();
    let error = tokio::time::timeout(LIMIT, async {
        loop {
            if let Err(error) = log.next(&mut Vec::new()).await {
                return error;
            }
        }
    })
    .await
    .expect("an error");
    assert_eq!(error.class(), Class::Retryable, "{error}");
    server.restart().await.unwrap();
    let mut log = connector.open_log(Some(&start), RUN).await.expect("open again");
    assert_eq!(lines(&read_commits(&mut log, 1).await), ["Create movies -> {id=1}"]);
}
