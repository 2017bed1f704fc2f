// SPDX-License-Identifier: Apache-2.0
//! The container back end with the same handle: through testcontainers, on an engine and an image of our own.
//!
//! One test only in this file: it sets the environment, by which testcontainers finds its engine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use highwater_testbed::backend::Backend;
use highwater_testbed::container::local_engine::LocalEngine;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testbed::{PgOptions, Postgres, Result, skip};

const MAJOR: u16 = 15;

#[test]
fn a_postgres_in_a_container_is_the_same_to_its_handle() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let prepared = runtime.block_on(prepare());
    let (engine, image) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return skip::counted("container back end", &error),
    };
    // SAFETY: this file's only test; no other thread reads the environment now.
    unsafe {
        std::env::set_var("DOCKER_HOST", engine.docker_host());
        std::env::set_var(format!("HIGHWATER_IMAGE_POSTGRES_{MAJOR}"), image);
        std::env::set_var("HIGHWATER_TESTBED", "container");
    }
    runtime.block_on(exercise());
    // The containers' removal needs the runtime; the engine goes after them.
    drop(runtime);
    drop(engine);
}

async fn prepare() -> Result<(LocalEngine, String)> {
    let engine = LocalEngine::start().await?;
    let image = engine.load_postgres(MAJOR)?;
    Ok((engine, image))
}

async fn exercise() {
    let server = Postgres::start(PgOptions::major(MAJOR).with("wal_level", "logical"))
        .await
        .unwrap();
    assert_eq!(server.backend(), Backend::Container);
    let (port, first) = (server.port(), server.pid().unwrap());
    let client = server.connect().await.unwrap();
    let version: String = client.query_one("SELECT version()", &[]).await.unwrap().get(0);
    assert!(version.starts_with(&format!("PostgreSQL {MAJOR}.")), "{version}");
    client
        .batch_execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
        .await
        .unwrap();

    server.kill9().await.unwrap();
    assert_eq!(server.pid(), None);
    assert!(client.simple_query("SELECT 1").await.is_err());
    server.restart_with(&[("wal_level", "replica")]).await.unwrap();
    assert_ne!(server.pid().unwrap(), first);
    assert_eq!(server.port(), port);
    let url = server.url(ROLE, ROLE_PASSWORD, "postgres");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client
        .query_one("SELECT max(id), current_setting('wal_level') FROM kept", &[])
        .await
        .unwrap();
    assert_eq!(
        (row.get::<_, i32>(0), row.get::<_, String>(1)),
        (7, "replica".to_owned())
    );
    let refused = tokio_postgres::connect(&server.url(ROLE, "wrong", "postgres"), tokio_postgres::NoTls).await;
    assert_eq!(refused.err().unwrap().code().unwrap().code(), "28P01");
    server.stop().await.unwrap();
    assert!(server.connect().await.is_err());
}
