// SPDX-License-Identifier: Apache-2.0
//! The registry handle on a real registry.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use highwater_testbed::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status and body of one request to the Confluent API.
async fn call(registry: &Registry, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", registry.port())).await.unwrap();
    let head = format!(
        "{method} /apis/ccompat/v7{path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn record(field: &str) -> String {
    let schema = format!(r#"{{\"type\":\"record\",\"name\":\"r\",\"fields\":[{field}]}}"#);
    format!(r#"{{"schema":"{schema}"}}"#)
}

#[tokio::test]
async fn a_registry_checks_compatibility_and_keeps_ids_over_a_kill() {
    let registry = Registry::start().await.unwrap();
    let (status, config) = call(&registry, "GET", "/config", "").await;
    assert_eq!(status, 200);
    assert!(config.contains("BACKWARD"), "{config}");
    let first = record(r#"{\"name\":\"a\",\"type\":\"int\"}"#);
    let (status, id) = call(&registry, "POST", "/subjects/kept-value/versions", &first).await;
    assert_eq!(status, 200, "{id}");
    let incompatible = record(r#"{\"name\":\"b\",\"type\":\"string\"}"#);
    let (status, refusal) = call(&registry, "POST", "/subjects/kept-value/versions", &incompatible).await;
    assert_eq!(status, 409, "{refusal}");
    registry.kill9().await.unwrap();
    registry.restart().await.unwrap();
    let (status, again) = call(&registry, "POST", "/subjects/kept-value/versions", &first).await;
    assert_eq!((status, again), (200, id));
    registry.restart().await.unwrap();
    let (_, config) = call(&registry, "GET", "/config", "").await;
    assert!(config.contains("BACKWARD"), "{config}");
}
