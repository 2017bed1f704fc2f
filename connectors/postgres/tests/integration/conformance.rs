// SPDX-License-Identifier: Apache-2.0
//! The conformance suite that every connector runs.

use crate::fixture::Fixture;
use crate::on_majors;
use highwater_core::schema::{Key, TableName};
use highwater_postgres::PostgresConnector;
use highwater_testkit::connector_suite::{self, Harness, SuiteWrite};

/// The suite's writes as one transaction.
pub(crate) fn transaction(writes: Vec<SuiteWrite>) -> String {
    let statement = |write| match write {
        SuiteWrite::Insert { id, value } => format!("INSERT INTO suite VALUES ({id}, '{value}'); "),
        SuiteWrite::Update { id, value } => format!("UPDATE suite SET value = '{value}' WHERE id = {id}; "),
        SuiteWrite::Delete { id } => format!("DELETE FROM suite WHERE id = {id}; "),
    };
    format!("BEGIN; {}COMMIT", writes.into_iter().map(statement).collect::<String>())
}

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
        self.0.sql(&transaction(writes)).await;
    }
}

/// On every major, whatever the majors of the run: each is a test of its own, so that they run side by side.
macro_rules! keeps_its_contract {
    ($($test:ident: $major:literal),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $test() {
                on_majors(vec![$major], the_connector_keeps_its_contract).await;
            }
        )+
    };
}

keeps_its_contract!(
    the_connector_keeps_its_contract_on_13: 13,
    the_connector_keeps_its_contract_on_14: 14,
    the_connector_keeps_its_contract_on_15: 15,
    the_connector_keeps_its_contract_on_16: 16,
    the_connector_keeps_its_contract_on_17: 17,
    the_connector_keeps_its_contract_on_18: 18,
    the_connector_keeps_its_contract_on_19: 19,
);

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
