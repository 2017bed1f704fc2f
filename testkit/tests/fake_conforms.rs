// SPDX-License-Identifier: Apache-2.0
//! The fake source keeps the contract that real ones are held to.

use highwater_core::ErrorKind;
use highwater_core::change::ChunkId;
use highwater_core::connector::{ChunkReader, ChunkRequest, ChunkScope, LogReader, SourceConnector};
use highwater_core::position::{ResumePoint, RunId};
use highwater_core::schema::{Key, TableName};
use highwater_testkit::connector_suite::{Harness, SuiteWrite, run};
use highwater_testkit::fake::{FakeConnector, FakeServer, FakeWay};
use highwater_testkit::fault::{FaultPlan, Faulty, Operation, Strike};
use highwater_testkit::model::{ModelPosition, Write, key_of_id};

struct FakeHarness {
    server: FakeServer,
    way: FakeWay,
}

impl Harness for FakeHarness {
    type Connector = Faulty<FakeConnector>;

    async fn connector(&self) -> Faulty<FakeConnector> {
        Faulty::new(FakeConnector::new(self.server.clone(), self.way), FaultPlan::default())
    }

    fn table(&self) -> TableName {
        TableName::new("public", "t0")
    }

    fn key(&self, id: u64) -> Key {
        key_of_id(id)
    }

    async fn write(&self, writes: Vec<SuiteWrite>) {
        let write = |write| match write {
            SuiteWrite::Insert { id, .. } => Write::Put {
                table: 0,
                id,
                big: true,
            },
            SuiteWrite::Update { id, .. } => Write::Put {
                table: 0,
                id,
                big: false,
            },
            SuiteWrite::Delete { id } => Write::Delete { table: 0, id },
        };
        self.server.write(writes.into_iter().map(write).collect());
    }
}

async fn conforms(way: FakeWay) {
    run(|| async {
        FakeHarness {
            server: FakeServer::new(1),
            way,
        }
    })
    .await;
}

#[tokio::test]
async fn the_fake_with_marks_in_its_log_conforms() {
    conforms(FakeWay::MarksInLog).await;
}

#[tokio::test]
async fn the_fake_with_marks_at_positions_conforms() {
    conforms(FakeWay::MarksAtPositions).await;
}

#[tokio::test]
async fn the_fake_with_one_order_conforms() {
    conforms(FakeWay::Ordered).await;
}

#[tokio::test]
async fn the_fake_that_is_read_at_moments_conforms() {
    conforms(FakeWay::Moments).await;
}

#[tokio::test]
async fn the_fake_with_write_times_conforms() {
    conforms(FakeWay::WriteTimes).await;
}

#[tokio::test]
async fn a_log_that_was_acknowledged_further_is_a_lost_position() {
    let connector = FakeConnector::new(FakeServer::new(1), FakeWay::MarksInLog);
    connector.server().write(vec![Write::Put {
        table: 0,
        id: 1,
        big: true,
    }]);
    let mut log = connector.open_log(None, RunId(1)).await.unwrap();
    log.acknowledge(&ModelPosition(1)).await.unwrap();
    drop(log);
    let lost = connector
        .open_log(Some(&ResumePoint::at(ModelPosition(0))), RunId(2))
        .await
        .unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::PositionLost);
}

#[tokio::test]
async fn a_second_reader_of_the_log_is_refused_until_the_first_is_gone() {
    let connector = FakeConnector::new(FakeServer::new(1), FakeWay::MarksInLog);
    let first = connector.open_log(None, RunId(1)).await.unwrap();
    assert_eq!(
        connector.open_log(None, RunId(2)).await.unwrap_err().kind(),
        ErrorKind::Unsuitable
    );
    drop(first);
    connector.open_log(None, RunId(2)).await.unwrap();
}

#[tokio::test]
async fn faults_strike_once_and_broken_connections_stay_broken() {
    let plan = FaultPlan::default();
    let server = FakeServer::new(1);
    let connector = Faulty::new(FakeConnector::new(server.clone(), FakeWay::MarksInLog), plan.clone());
    let mut chunks = connector.open_chunks().await.unwrap();
    let request = ChunkRequest {
        chunk: ChunkId(1),
        table: TableName::new("public", "t0"),
        scope: ChunkScope::Range {
            after: None,
            through: None,
            condition: None,
        },
        rows_max: 10,
        bytes_max: 1_000,
        at_start: false,
    };
    plan.fail_next(Operation::ReadChunk, Strike::Before, ErrorKind::Unreachable);
    assert_eq!(chunks.read(&request).await.unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!(plan.left(Operation::ReadChunk), 0);
    chunks.read(&request).await.unwrap();
    server.drop_connections();
    assert_eq!(chunks.read(&request).await.unwrap_err().kind(), ErrorKind::Unreachable);
    connector.open_chunks().await.unwrap().read(&request).await.unwrap();
}
