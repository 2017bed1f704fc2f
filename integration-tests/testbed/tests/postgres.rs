// SPDX-License-Identifier: Apache-2.0
//! The Postgres handle on real servers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use highwater_testbed::backend::Backend;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testbed::versions::POSTGRES_MAJORS;
use highwater_testbed::{PgOptions, Postgres, skip, wait};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn each_pinned_major_starts_with_logical_decoding() {
    for major in POSTGRES_MAJORS {
        let server = Postgres::start(PgOptions::major(major)).await.unwrap();
        let client = server.connect().await.unwrap();
        assert!(
            text(&client, "SHOW server_version")
                .await
                .starts_with(&format!("{major}."))
        );
        assert_eq!(text(&client, "SHOW wal_level").await, "logical");
        assert!(server.version().starts_with(&format!("{major}.")));
    }
}

#[tokio::test]
async fn the_role_must_give_its_password_and_the_superuser_need_not() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(ROLE, ROLE_PASSWORD, "postgres"), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    assert_eq!(text(&client, "SELECT current_user::text").await, ROLE);
    let refused = tokio_postgres::connect(&server.url(ROLE, "wrong", "postgres"), NoTls)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code().unwrap().code(), "28P01");
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_data_and_other_settings() {
    let server = Postgres::start(PgOptions::major(15)).await.unwrap();
    let port = server.port();
    let client = server.connect().await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (7)")
        .await
        .unwrap();
    let first = server.pid().unwrap();
    server.kill9().await.unwrap();
    assert_eq!(server.pid(), None);
    assert!(client.simple_query("SELECT 1").await.is_err());
    server.restart_with(&[("wal_level", "replica")]).await.unwrap();
    assert_ne!(server.pid().unwrap(), first);
    assert_eq!(server.port(), port);
    let client = server.connect().await.unwrap();
    assert_eq!(text(&client, "SELECT max(id)::text FROM kept").await, "7");
    assert_eq!(text(&client, "SHOW wal_level").await, "replica");
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_told_with_the_log() {
    let error = Postgres::start(PgOptions::major(17).with("wal_level", "nonsense"))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("died while starting") && error.contains("nonsense"),
        "{error}"
    );
}

#[tokio::test]
async fn tests_share_a_server_and_have_databases_of_their_own() {
    let (one, two) = (Postgres::shared(17).await.unwrap(), Postgres::shared(17).await.unwrap());
    assert_eq!(one.server().pid(), two.server().pid());
    let client = one.connect().await.unwrap();
    client.batch_execute("CREATE TABLE mine (id int)").await.unwrap();
    let slot = "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')::text";
    assert!(text(&client, slot).await.contains("mine"));
    let other = two.connect().await.unwrap();
    assert!(other.simple_query("SELECT * FROM mine").await.is_err());
    let (name, server_client) = (one.name().to_owned(), two.server().connect().await.unwrap());
    drop(one);
    let left = server_client
        .query("SELECT FROM pg_database WHERE datname = $1", &[&name])
        .await
        .unwrap();
    assert!(left.is_empty(), "the database outlived its handle");
    let slots = text(
        &server_client,
        "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'mine'",
    )
    .await;
    assert_eq!(slots, "0");
}

#[tokio::test]
async fn tls_is_verified_against_the_authority_and_the_name() {
    let server = Postgres::start(
        PgOptions::major(17)
            .with_tls()
            .with_hba("hostnossl all highwater all reject"),
    )
    .await
    .unwrap();
    let stranger = highwater_testbed::certificates::Authority::new().unwrap();
    let client = secured(&server, "localhost", server.ca_pem().unwrap()).await.unwrap();
    assert_eq!(
        text(&client, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await,
        "TLSv1.3"
    );
    assert!(
        secured(&server, "localhost", stranger.ca_pem()).await.is_err(),
        "a foreign authority was trusted"
    );
    assert!(
        secured(&server, "elsewhere", server.ca_pem().unwrap()).await.is_err(),
        "a wrong name was accepted"
    );
    let plain = tokio_postgres::connect(&server.url(ROLE, ROLE_PASSWORD, "postgres"), NoTls)
        .await
        .err()
        .unwrap();
    assert_eq!(plain.code().unwrap().code(), "28000");
}

/// A session over TLS to a server that is expected to be called `name`.
async fn secured(server: &Postgres, name: &str, ca_pem: &str) -> Result<Client, tokio_postgres::Error> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // The address to reach it by, and the name to verify.
    let mut named = tokio_postgres::Config::new();
    named.host(name).hostaddr([127, 0, 0, 1].into()).port(server.port());
    named
        .user(ROLE)
        .password(ROLE_PASSWORD)
        .dbname("postgres")
        .ssl_mode(tokio_postgres::config::SslMode::Require);
    let (client, connection) = named
        .connect(tokio_postgres_rustls::MakeRustlsConnect::new(tls))
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn a_frozen_server_answers_after_it_goes_on() {
    let server = Postgres::start(PgOptions::major(15)).await.unwrap();
    let client = server.connect().await.unwrap();
    server.pause().await.unwrap();
    let limit = std::time::Duration::from_millis(200);
    assert!(
        tokio::time::timeout(limit, client.simple_query("SELECT 1"))
            .await
            .is_err(),
        "a frozen server answered"
    );
    server.resume().await.unwrap();
    assert_eq!(text(&client, "SELECT 'awake'").await, "awake");
}

#[tokio::test]
async fn a_standby_follows_its_primary_and_takes_writes_once_promoted() {
    let primary = Postgres::start(PgOptions::major(17)).await.unwrap();
    if primary.backend() != Backend::Process {
        skip::counted("a standby", &"containers do not reach one another");
        return;
    }
    let standby = primary.standby(&[]).await.unwrap();
    let (client, follower) = (primary.connect().await.unwrap(), standby.connect().await.unwrap());
    client
        .batch_execute("CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (7)")
        .await
        .unwrap();
    wait::until(Duration::from_secs(60), "the row on the standby", || async {
        let found = follower.query("SELECT FROM kept WHERE id = 7", &[]).await;
        Ok(found.is_ok_and(|rows| rows.len() == 1).then_some(()))
    })
    .await
    .unwrap();
    let slot = format!(
        "SELECT slot_name::text FROM pg_replication_slots WHERE slot_name = '{}' AND active",
        standby.standby_name().unwrap()
    );
    assert_eq!(text(&client, &slot).await, standby.standby_name().unwrap());
    assert!(follower.simple_query("INSERT INTO kept VALUES (8)").await.is_err());
    primary.kill9().await.unwrap();
    standby.promote().await.unwrap();
    follower.simple_query("INSERT INTO kept VALUES (8)").await.unwrap();
}
