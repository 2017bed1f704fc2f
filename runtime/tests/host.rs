// SPDX-License-Identifier: Apache-2.0
//! A pipeline as a process has it: standby and takeover, the local socket, the admin pages.

// A helper of tests fails as a test does.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use highwater_core::Result;
use highwater_runtime::control::{Client, Request};
use highwater_runtime::source_task::{SnapshotRequest, SnapshotRequestRows};
use highwater_runtime::tail::TailRequest;
use highwater_runtime::telemetry::status::{State, StatusBoard};
use highwater_runtime::{Connector, PipelineFile, PipelineHost, connector, shutdown};
use highwater_testkit::fake::{FakeConnector, FakeServer, FakeWay};
use highwater_testkit::model::Write;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(30);

/// Fake servers by name, as settings name real ones by host.
static SERVERS: LazyLock<Mutex<HashMap<String, FakeServer>>> = LazyLock::new(Mutex::default);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    server: String,
}

fn fakes() -> Vec<Arc<dyn Connector>> {
    let make = |settings: Settings| -> Result<FakeConnector> {
        let server = SERVERS.lock().unwrap()[&settings.server].clone();
        Ok(FakeConnector::new(server, FakeWay::MarksInLog))
    };
    vec![connector("fake", make)]
}

fn server(name: &str) -> FakeServer {
    let server = FakeServer::new(1);
    write(&server, 1..=10);
    SERVERS.lock().unwrap().insert(name.to_owned(), server.clone());
    server
}

fn write(server: &FakeServer, ids: impl Iterator<Item = u64>) {
    for id in ids {
        server.write(vec![Write::Put {
            table: 0,
            id,
            big: true,
        }]);
    }
}

struct Copy {
    board: Arc<StatusBoard>,
    client: Client,
    stop: shutdown::ShutdownSender,
    task: JoinHandle<Result<()>>,
}

impl Copy {
    fn start(folder: &Path, server: &str, socket: &str) -> Self {
        let text = format!(
            "version: 1\nname: shop\nsource: {{ connector: fake, settings: {{ server: {server} }} }}\n\
             transport: {{ embedded: {{ path: store, fsync: never }} }}\nadmin: {{ listen: \"127.0.0.1:0\", socket: {socket} }}\n\
             checkpoint: {{ idle_ms: 20 }}\n"
        );
        let file = PipelineFile::from_text(&text, folder).unwrap();
        let client = Client::new(file.socket());
        let host = PipelineHost::new(file, &fakes()).unwrap();
        let board = host.board();
        let (stop, shutdown) = shutdown::channel();
        let task = tokio::spawn(async move { host.run(&shutdown).await });
        Copy {
            board,
            client,
            stop,
            task,
        }
    }

    async fn is(&self, state: State) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while self.board.state() != state {
            assert!(
                tokio::time::Instant::now() < until,
                "not {state:?}: {:#?}",
                self.board.read()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn drain(self) {
        self.stop.request();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// The keys of the first events of a topic.
    async fn keys(&self, max: u64) -> Vec<u64> {
        let request = Request::Tail(TailRequest {
            topic: "shop.public.t0".to_owned(),
            from_beginning: true,
            max: Some(max),
            until_end: false,
        });
        let read = async {
            loop {
                match self.client.list(&request).await {
                    Ok(events) => return events,
                    // The topic comes with its first event.
                    Err(error) if error.message().contains("does not exist") => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let events = tokio::time::timeout(PATIENCE, read).await.unwrap();
        events
            .iter()
            .map(|event| event["key"]["id"].as_u64().unwrap())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_stands_by_and_takes_over_when_the_first_goes() {
    let folder = tempfile::tempdir().unwrap();
    let server = server("takeover");
    let first = Copy::start(folder.path(), "takeover", "a");
    first.is(State::Running).await;
    assert_eq!(first.keys(10).await.len(), 10);
    let second = Copy::start(folder.path(), "takeover", "b");
    second.is(State::Standby).await;
    assert!(
        second.client.get(&Request::Status).await.is_err(),
        "a copy that stands by has no socket"
    );
    write(&server, 11..=20);
    first.drain().await;
    second.is(State::Running).await;
    let mut keys = second.keys(20).await;
    keys.sort_unstable();
    assert_eq!(keys, (1..=20).collect::<Vec<_>>(), "nothing lost, nothing repeated");
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_answers_topics_tail_snapshots_and_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let _server = server("socket");
    let copy = Copy::start(folder.path(), "socket", "s");
    copy.is(State::Running).await;
    assert_eq!(copy.keys(3).await.len(), 3);
    let topics = copy.client.list(&Request::Topics).await.unwrap();
    let names: Vec<&str> = topics.iter().filter_map(|topic| topic["name"].as_str()).collect();
    assert!(
        names.contains(&"shop.public.t0") && names.contains(&"shop.__certificates"),
        "{names:?}"
    );
    let wrong = Request::Tail(TailRequest {
        topic: "shop.public.t1".to_owned(),
        from_beginning: true,
        max: None,
        until_end: true,
    });
    let error = copy.client.get(&wrong).await.unwrap_err();
    assert_eq!(error.message(), "topic \"shop.public.t1\" does not exist");
    assert!(error.fix().unwrap().contains("shop.public.t0"), "{error}");
    let requests = vec![SnapshotRequest {
        table: "public.t0".to_owned(),
        rows: SnapshotRequestRows::All,
    }];
    let begun = copy.client.get(&Request::Snapshot { requests }).await.unwrap();
    assert!(begun["snapshots"][0].is_u64(), "{begun}");
    // Ten rows of the first copy, ten of the second.
    assert_eq!(copy.keys(20).await.len(), 20);
    let table = Some("public.t0".to_owned());
    let found = copy.client.list(&Request::Certificates { table }).await.unwrap();
    assert!(
        found.len() >= 2 && found.iter().all(|certificate| certificate["rows_read"].is_u64()),
        "{found:?}"
    );
    let status = copy.client.get(&Request::Status).await.unwrap();
    assert_eq!(
        (&status["state"], &status["pipeline"]),
        (&Value::from("running"), &Value::from("shop"))
    );
    copy.drain().await;
}

async fn page(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_pages_tell_health_metrics_status_and_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let _server = server("admin");
    let copy = Copy::start(folder.path(), "admin", "s");
    copy.is(State::Running).await;
    assert_eq!(copy.keys(10).await.len(), 10);
    let address = copy.board.read().admin.unwrap();
    assert_eq!(page(address, "/health/live").await, (200, "live\n".to_owned()));
    assert_eq!(page(address, "/health/ready").await, (200, "ready\n".to_owned()));
    let until = tokio::time::Instant::now() + PATIENCE;
    // Counters of the loop are told to the metrics ten times a second.
    while !page(address, "/metrics")
        .await
        .1
        .contains("highwater_events_total{pipeline=\"shop\",op=\"read\"} 10")
    {
        assert!(
            tokio::time::Instant::now() < until,
            "{}",
            page(address, "/metrics").await.1
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (code, status) = page(address, "/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((code, &status["state"]), (200, &Value::from("running")));
    let (code, certificates) = page(address, "/certificates").await;
    let certificates: Value = serde_json::from_str(&certificates).unwrap();
    assert_eq!((code, certificates[0]["rows_emitted"].as_u64()), (200, Some(10)));
    copy.drain().await;
}

#[test]
fn a_file_that_names_an_unknown_connector_is_told_the_nearest() {
    let text = "version: 1\nname: shop\nsource: { connector: fak }\ntransport: discard\n";
    let file = PipelineFile::from_text(text, Path::new(".")).unwrap();
    let error = PipelineHost::new(file, &fakes()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "source.connector: unknown connector \"fak\"; fix: did you mean \"fake\"?"
    );
}
