// SPDX-License-Identifier: Apache-2.0
//! The example of a program that embeds the connector, run as it stands.

use crate::fixture::{Fixture, LIMIT};
use crate::on_each_major;

#[allow(dead_code, reason = "the example's main is not called here")]
#[path = "../../examples/embed.rs"]
mod embed;

on_each_major!(the_example_follows_a_database);

async fn the_example_follows_a_database(major: u16) {
    let fixture = Fixture::new(major).await;
    fixture.sql("CREATE TABLE movies (id int PRIMARY KEY)").await;
    let slot = fixture.slot();
    fixture.sql("CREATE PUBLICATION highwater FOR TABLE movies").await;
    fixture
        .sql(&format!(
            "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ))
        .await;
    // Others write to this server too: only what came before the transaction is known to lie before its end.
    let before = fixture.ask("SELECT pg_current_wal_insert_lsn()").await;
    fixture.sql("INSERT INTO movies VALUES (1)").await;
    tokio::time::timeout(LIMIT, embed::follow(fixture.json(&["public.*"]), 1))
        .await
        .expect("in time")
        .expect("no error");
    let advanced =
        format!("SELECT confirmed_flush_lsn > '{before}' FROM pg_replication_slots WHERE slot_name = '{slot}'");
    tokio::time::timeout(LIMIT, async {
        while fixture.ask(&advanced).await != "t" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the transaction was acknowledged");
}
