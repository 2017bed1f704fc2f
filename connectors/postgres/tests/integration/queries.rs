// SPDX-License-Identifier: Apache-2.0
//! The connection of queries: refusals, broken sessions, callers that leave.

use crate::fixture::{Fixture, LIMIT};
use crate::on_each_major;
use highwater_core::{Class, Error, ErrorKind};
use highwater_postgres::Settings;
use highwater_postgres::catalog_row::CatalogRow;
use highwater_postgres::failure::sqlstate;
use highwater_postgres::query_connection::QueryConnection;
use highwater_testbed::{FaultProxy, wait};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_postgres::types::Type;

on_each_major!(
    a_refusal_tells_its_sqlstate_hides_values_and_keeps_the_session,
    every_session_is_set_up_and_named,
    a_session_that_ended_between_queries_is_replaced,
    a_session_that_ends_under_a_query_says_why,
    a_cut_connection_is_worth_a_retry_and_opened_again,
    a_query_whose_caller_left_is_never_mistaken_for_the_next,
);

const NAME: &str = "highwater test";

fn queries(settings: Value) -> QueryConnection {
    let settings = Settings::from_json(settings).expect("valid settings");
    QueryConnection::new(Arc::new(settings), NAME, "SET statement_timeout = '77s'")
}

async fn pid(queries: &mut QueryConnection) -> Result<i32, Error> {
    let rows = queries
        .query("SELECT pg_backend_pid()", &[], "asking for the process")
        .await?;
    rows[0].column(0)
}

/// Waits until the session `pid` sleeps.
async fn until_asleep(fixture: &Fixture, pid: i32) {
    let sql =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active' AND query ~ 'pg_sleep'");
    let looked = || async { Ok((fixture.ask(&sql).await == "1").then_some(())) };
    wait::until(LIMIT, "the session's sleep", looked).await.unwrap();
}

async fn a_refusal_tells_its_sqlstate_hides_values_and_keeps_the_session(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (title text PRIMARY KEY)").await;
    fixture
        .sql("GRANT INSERT ON movies TO PUBLIC; INSERT INTO movies VALUES ('secret')")
        .await;
    let mut queries = queries(fixture.json(&["public.*"]));
    let first = pid(&mut queries).await.unwrap();
    let insert = "INSERT INTO movies VALUES ($1)";
    let error = queries
        .query(insert, &[(&"secret", Type::TEXT)], "adding a movie")
        .await
        .expect_err("there already");
    assert_eq!(sqlstate(&error), Some("23505"));
    assert!(
        error.to_string().starts_with("adding a movie: duplicate key"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    let error = queries
        .batch("TRUNCATE nothing", "truncating")
        .await
        .expect_err("no table");
    assert_eq!((error.kind(), sqlstate(&error)), (ErrorKind::NotFound, Some("42P01")));
    assert_eq!(pid(&mut queries).await.unwrap(), first, "the same session");
}

async fn every_session_is_set_up_and_named(major: u16) {
    let fixture = Fixture::new(major).await;
    let mut queries = queries(fixture.json(&["public.*"]));
    assert_eq!(queries.server_version().await.unwrap().0, u32::from(major));
    let sql = "SELECT current_setting('statement_timeout'), current_setting('application_name')";
    let rows = queries.query(sql, &[], "reading settings").await.unwrap();
    assert_eq!(rows[0].column::<&str>(0).unwrap(), "77s");
    assert_eq!(rows[0].column::<&str>(1).unwrap(), NAME);
    let wrong = rows[0].column::<i64>(0).expect_err("a text");
    assert_eq!(wrong.kind(), ErrorKind::CorruptMessage);
    assert!(rows[0].column::<&str>(2).is_err(), "no such column");
}

async fn a_session_that_ended_between_queries_is_replaced(major: u16) {
    let fixture = Fixture::new(major).await;
    let mut queries = queries(fixture.json(&["public.*"]));
    assert!(!queries.is_open());
    let first = pid(&mut queries).await.unwrap();
    assert!(queries.is_open());
    fixture.sql(&format!("SELECT pg_terminate_backend({first})")).await;
    let noticed = || std::future::ready(Ok((!queries.is_open()).then_some(())));
    wait::until(LIMIT, "the session's end", noticed).await.unwrap();
    assert_ne!(pid(&mut queries).await.expect("a new session"), first);
}

async fn a_session_that_ends_under_a_query_says_why(major: u16) {
    let fixture = Fixture::new(major).await;
    let mut queries = queries(fixture.json(&["public.*"]));
    let first = pid(&mut queries).await.unwrap();
    let end = async {
        until_asleep(&fixture, first).await;
        fixture.sql(&format!("SELECT pg_terminate_backend({first})")).await;
    };
    let (result, ()) = tokio::join!(queries.query("SELECT pg_sleep(70)", &[], "sleeping"), end);
    let error = result.expect_err("terminated");
    assert_eq!(
        (error.kind(), sqlstate(&error)),
        (ErrorKind::Unreachable, Some("57P01")),
        "{error}"
    );
    assert_ne!(pid(&mut queries).await.expect("a new session"), first);
}

async fn a_cut_connection_is_worth_a_retry_and_opened_again(major: u16) {
    let fixture = Fixture::new(major).await;
    let proxy = FaultProxy::start(&format!("127.0.0.1:{}", fixture.database.server().port()))
        .await
        .unwrap();
    let mut settings = fixture.json(&["public.*"]);
    settings["port"] = json!(proxy.port());
    let mut queries = queries(settings);
    let first = pid(&mut queries).await.unwrap();
    let cut = async {
        until_asleep(&fixture, first).await;
        proxy.cut();
    };
    let (result, ()) = tokio::join!(queries.query("SELECT pg_sleep(70)", &[], "sleeping"), cut);
    let error = result.expect_err("cut");
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::Unreachable, Class::Retryable),
        "{error}"
    );
    assert!(error.to_string().starts_with("sleeping: "), "{error}");
    assert_ne!(pid(&mut queries).await.expect("a new session"), first);
}

async fn a_query_whose_caller_left_is_never_mistaken_for_the_next(major: u16) {
    let fixture = Fixture::new(major).await;
    let mut queries = queries(fixture.json(&["public.*"]));
    let first = pid(&mut queries).await.unwrap();
    tokio::select! {
        result = queries.query("SELECT -1 FROM pg_sleep(70)", &[], "sleeping") => panic!("{result:?}"),
        () = until_asleep(&fixture, first) => {}
    }
    let second = tokio::time::timeout(LIMIT, pid(&mut queries))
        .await
        .expect("not behind the other");
    assert!(![first, -1].contains(&second.unwrap()));
}
