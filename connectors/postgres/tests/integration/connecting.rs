// SPDX-License-Identifier: Apache-2.0
//! Connecting: authentication, encryption, and what happens when it fails; alike for the stream's connection and for that
//! of queries.

use crate::fixture::{Fixture, LIMIT, RUN, connector, lines, open, read_commits};
use crate::on_each_major;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::{Class, Error, ErrorKind};
use highwater_postgres::Settings;
use highwater_postgres::catalog_row::CatalogRow;
use highwater_postgres::connection::{Connection, Purpose};
use highwater_postgres::query_connection::QueryConnection;
use highwater_postgres::settings::{TlsMode, TlsSettings};
use highwater_postgres::tls::client_config;
use highwater_testbed::certificates::Authority;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD, SUPERUSER};
use highwater_testbed::{FaultProxy, PgOptions, Postgres};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

on_each_major!(
    wrong_credentials_and_places_are_told_apart,
    a_server_that_says_nothing_is_not_waited_for,
    a_man_in_the_middle_is_found_out_even_where_no_certificate_is_verified,
    every_tls_mode_means_what_it_says,
    md5_and_cleartext_passwords_work_where_the_server_asks_for_them,
    a_unix_socket_serves_too,
    the_stream_survives_tls_and_much_traffic,
    a_server_that_dies_is_worth_a_retry,
);
// It hits the length of a row whose values are binary.
on_each_major!(since 14; a_corrupted_message_is_an_error_and_never_a_row);

/// Whether both ways to connect are encrypted. Where one fails, both fail alike.
async fn try_open(settings: Value) -> Result<bool, Error> {
    let settings = Settings::from_json(settings).unwrap();
    let stream = Connection::open(&settings, Purpose::Replication, "test").await;
    let stream = stream.map(|connection| connection.is_encrypted());
    let queries = ask_encryption(settings).await;
    match (stream, queries) {
        (Ok(stream), Ok(queries)) => {
            assert_eq!(stream, queries, "encrypted alike");
            Ok(stream)
        }
        (Err(stream), Err(queries)) => {
            assert_eq!(
                (stream.kind(), stream.class()),
                (queries.kind(), queries.class()),
                "{stream} / {queries}"
            );
            assert!(!queries.to_string().contains(ROLE_PASSWORD));
            Err(stream)
        }
        (stream, queries) => panic!("stream: {stream:?}, queries: {queries:?}"),
    }
}

async fn ask_encryption(settings: Settings) -> Result<bool, Error> {
    let mut queries = QueryConnection::new(Arc::new(settings), "test", "");
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let rows = queries.query(sql, &[], "asking for encryption").await?;
    rows[0].column(0)
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

async fn a_server_that_says_nothing_is_not_waited_for(major: u16) {
    let fixture = Fixture::new(major).await;
    let proxy = FaultProxy::start(&format!("127.0.0.1:{}", fixture.database.server().port()))
        .await
        .unwrap();
    proxy.stall();
    let settings = with(fixture.json(&["public.*"]), "port", json!(proxy.port()));
    let error = try_open(with(settings, "connect_timeout_ms", json!(200)))
        .await
        .expect_err("silence");
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::Unreachable, Class::Retryable)
    );
    assert!(error.to_string().contains("no connection within 200ms"), "{error}");
}

/// SCRAM binds the session to the certificate that the client was shown: whoever decrypts between the two shows another.
async fn a_man_in_the_middle_is_found_out_even_where_no_certificate_is_verified(major: u16) {
    let server = Postgres::start(PgOptions::major(major).with_tls())
        .await
        .expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = server.port();
    let middle = tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(decrypt_between(client, upstream));
        }
    });
    let settings = with(settings_of(&server), "tls", json!({"mode": "require"}));
    assert!(try_open(settings.clone()).await.expect("the server itself"));
    let error = try_open(with(settings, "port", json!(port)))
        .await
        .expect_err("another certificate");
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(error.to_string().contains("channel binding"), "{error}");
    middle.abort();
}

/// Terminates the client's TLS with a certificate of its own and speaks TLS to the server.
async fn decrypt_between(mut client: TcpStream, upstream: u16) {
    let identity = Authority::new().unwrap().server(&["localhost"]).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut request = [0; 8];
    client.read_exact(&mut request).await.unwrap();
    client.write_all(b"S").await.unwrap();
    let mut client = TlsAcceptor::from(Arc::new(config)).accept(client).await.unwrap();

    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
    server.write_all(&request).await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'S');
    let unverified = TlsSettings {
        mode: TlsMode::Require,
        ..TlsSettings::default()
    };
    let config = client_config(&unverified).unwrap().unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut server = TlsConnector::from(config).connect(name, server).await.unwrap();
    // Ends as either side hangs up, however it does.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
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
            (Ok(encrypted), None) => assert!(encrypted, "{host} {tls}"),
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
