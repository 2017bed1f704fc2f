// SPDX-License-Identifier: Apache-2.0
//! The conformance suite that every connector runs.

use crate::fixture::Fixture;
use crate::on_each_major;
use highwater_core::schema::{Key, TableName};
use highwater_postgres::PostgresConnector;
use highwater_testkit::connector_suite::{self, Harness, SuiteWrite};

on_each_major!(the_connector_keeps_its_contract);

struct PgHarness(Fixture);

impl Harness for PgHarness {
    type Connector = PostgresConnector;

    async fn connector(&self) -> PostgresConnector {
        self.0.connector(&["public.suite"])
    }

    fn table(&self) -> TableName {
        TableName::new("public", "suite")
    }

    fn key(&self, id: u64) -> Key {
        Key::from_columns(&[Some(id.to_be_bytes())])
    }

    async fn write(&self, writes: Vec<SuiteWrite>) {
        let statements: Vec<String> = writes
            .into_iter()
            .map(|write| match write {
                SuiteWrite::Insert { id, value } => format!("INSERT INTO suite VALUES ({id}, '{value}')"),
                SuiteWrite::Update { id, value } => format!("UPDATE suite SET value = '{value}' WHERE id = {id}"),
                SuiteWrite::Delete { id } => format!("DELETE FROM suite WHERE id = {id}"),
            })
            .collect();
        self.0.sql(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await;
    }
}

async fn the_connector_keeps_its_contract(major: u16) {
    connector_suite::run(async || {
        let fixture = Fixture::new(major).await;
        fixture
            .sql("CREATE TABLE suite (id bigint PRIMARY KEY, value text); CREATE PUBLICATION highwater FOR TABLE suite")
            .await;
        PgHarness(fixture)
    })
    .await;
}
