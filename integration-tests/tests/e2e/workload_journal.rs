// SPDX-License-Identifier: Apache-2.0
//! What the oracle stands on: the journal is the history of the tables.

use highwater_integration_tests::database::Database;
use highwater_integration_tests::workload::{Workload, WorkloadSettings};
use highwater_testbed::{PgOptions, Postgres};

#[tokio::test]
async fn the_journal_holds_what_was_committed_also_when_the_server_dies_under_the_writers() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let database = Database::on(&server);
    let settings = WorkloadSettings {
        rows: 300,
        pause_ms_max: 2,
        large_rows_max: 200,
        ..WorkloadSettings::new(11, "w")
    };
    let mut workload = Workload::prepare(&database, settings).await;
    workload.write();
    workload.wrote(500).await;
    server.kill9().await.unwrap();
    server.restart().await.unwrap();
    workload.wrote(500).await;
    workload.pause().await;
    workload.verify_tables().await;
    workload.write();
    workload.wrote(500).await;
    server.restart().await.unwrap();
    workload.wrote(500).await;
    workload.stop().await;
    workload.verify_tables().await;
}
