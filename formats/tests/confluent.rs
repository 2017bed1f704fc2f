// SPDX-License-Identifier: Apache-2.0
//! The client against a stand-in: a server that gives prepared answers and keeps what it was asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_core::{Class, ErrorKind};
use highwater_formats::registry::confluent::{ConfluentRegistry, ConfluentSettings, Credentials, Secret};
use highwater_formats::{Compatibility, SchemaId, SchemaRegistry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers every request alike, or never.
struct StandIn {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl StandIn {
    async fn answering(status: u16, body: &'static str) -> Self {
        Self::start(Some((status, body))).await
    }

    async fn silent() -> Self {
        Self::start(None).await
    }

    async fn start(answer: Option<(u16, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                log.lock().unwrap().push(request);
                match answer {
                    Some((status, body)) => {
                        let length = body.len();
                        let response = format!(
                            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                        );
                        stream.write_all(response.as_bytes()).await.unwrap();
                    }
                    None => open.push(stream),
                }
            }
        });
        StandIn { url, asked, serving }
    }

    fn registry(&self) -> ConfluentRegistry {
        ConfluentRegistry::new(&ConfluentSettings::new(&self.url)).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "the request ended early");
            continue;
        };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse::<usize>()
                .ok()
        });
        if body.len() >= length.unwrap_or(0) {
            return text.into_owned();
        }
    }
}

#[tokio::test]
async fn a_schema_is_registered_once_and_then_known() {
    let server = StandIn::answering(200, r#"{"id": 41}"#).await;
    let registry = server.registry();
    for _ in 0..3 {
        assert_eq!(
            registry.register("shop.public.a b-value", "\"int\"").await.unwrap(),
            SchemaId(41)
        );
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("POST /subjects/shop.public.a%20b-value/versions HTTP/1.1"));
    assert!(asked[0].ends_with(r#"{"schema":"\"int\""}"#));
    assert!(asked[0].contains("application/vnd.schemaregistry.v1+json"));
}

#[tokio::test]
async fn an_incompatible_schema_is_rejected_with_the_subject_and_the_registrys_reason() {
    let body = r#"{"error_code": 409, "message": "Schema being registered is incompatible: READER_FIELD_MISSING"}"#;
    let server = StandIn::answering(409, body).await;
    let error = server.registry().register("t-value", "\"int\"").await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::SchemaRejected, Class::User));
    assert!(error.message().contains("\"t-value\"") && error.message().contains("READER_FIELD_MISSING"));
    assert!(error.fix().unwrap().contains("compatib"));
}

#[tokio::test]
async fn each_status_means_what_a_caller_can_do() {
    let expected = [
        (401, ErrorKind::Authentication, Class::User),
        (403, ErrorKind::Privilege, Class::User),
        (404, ErrorKind::NotFound, Class::User),
        (409, ErrorKind::SchemaRejected, Class::User),
        (418, ErrorKind::Unsuitable, Class::User),
        (422, ErrorKind::SchemaRejected, Class::User),
        (429, ErrorKind::Unreachable, Class::Retryable),
        (500, ErrorKind::Unreachable, Class::Retryable),
        (503, ErrorKind::Unreachable, Class::Retryable),
    ];
    for (status, kind, class) in expected {
        let server = StandIn::answering(status, "<html>no json</html>").await;
        let error = server.registry().register("t-value", "\"int\"").await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (kind, class), "{status}");
        assert!(error.fix().is_some(), "{status}");
        assert!(error.context().contains(&("status", status.to_string())));
    }
}

#[tokio::test]
async fn a_registry_that_is_away_or_silent_is_tried_again_later() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let registry = ConfluentRegistry::new(&ConfluentSettings::new(format!("http://{closed}"))).unwrap();
    let error = registry.subjects().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::Unreachable, Class::Retryable)
    );
    assert!(error.message().contains(&closed.to_string()));

    let server = StandIn::silent().await;
    let mut settings = ConfluentSettings::new(&server.url);
    settings.timeout_ms = 100;
    let registry = ConfluentRegistry::new(&settings).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), registry.subjects()).await;
    let error = answer.expect("the client's own time-out ends the wait").unwrap_err();
    assert_eq!(error.class(), Class::Retryable);
    assert!(error.message().contains("in time"));
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let server = StandIn::answering(401, "{}").await;
    for (credentials, header) in [
        (
            Credentials::Basic {
                user: "user".to_owned(),
                password: Secret::new("hunter2"),
            },
            "authorization: Basic dXNlcjpodW50ZXIy",
        ),
        (
            Credentials::Bearer {
                token: Secret::new("hunter2"),
            },
            "authorization: Bearer hunter2",
        ),
    ] {
        let mut settings = ConfluentSettings::new(&server.url);
        settings.credentials = Some(credentials);
        let registry = ConfluentRegistry::new(&settings).unwrap();
        let error = registry.subjects().await.unwrap_err();
        assert!(server.asked().last().unwrap().contains(header));
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}

#[tokio::test]
async fn an_answer_of_another_kind_of_server_is_named_as_such() {
    let server = StandIn::answering(200, "<html>hello</html>").await;
    let error = server.registry().register("t-value", "\"int\"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    assert!(error.to_string().contains("lacks id"));
}

#[tokio::test]
async fn reading_side_answers_are_understood() {
    let server = StandIn::answering(200, r#"{"subject": "s", "id": 3, "version": 2, "schema": "\"long\""}"#).await;
    let latest = server.registry().latest("s").await.unwrap().unwrap();
    assert_eq!(
        (latest.id, latest.version, &*latest.schema),
        (SchemaId(3), 2, "\"long\"")
    );
    let registry = server.registry();
    assert_eq!(&*registry.schema(SchemaId(3)).await.unwrap(), "\"long\"");
    assert_eq!(&*registry.schema(SchemaId(3)).await.unwrap(), "\"long\"");
    assert_eq!(server.asked().len(), 2, "the second look-up is answered from memory");

    let server = StandIn::answering(404, r#"{"error_code": 40401}"#).await;
    assert_eq!(server.registry().latest("s").await.unwrap(), None);
    let check = server.registry().check_compatibility("s", "\"int\"").await.unwrap();
    assert_eq!(check, Compatibility::Compatible);

    let server = StandIn::answering(200, r#"{"is_compatible": false, "messages": ["because"]}"#).await;
    let check = server.registry().check_compatibility("s", "\"int\"").await.unwrap();
    assert_eq!(
        check,
        Compatibility::Incompatible {
            reasons: vec!["because".to_owned()]
        }
    );

    let server = StandIn::answering(200, r#"["b-value", "a-value"]"#).await;
    assert_eq!(server.registry().subjects().await.unwrap(), ["a-value", "b-value"]);
}

#[tokio::test]
async fn urls_and_certificate_files_that_cannot_be_used_are_refused_at_once() {
    for url in ["registry:8081", "ftp://r", "http://user:hunter2@r", ""] {
        let error = ConfluentRegistry::new(&ConfluentSettings::new(url)).err().expect(url);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(!error.to_string().contains("hunter2"));
    }
    let mut settings = ConfluentSettings::new("https://r");
    settings.ca_file = Some("/nowhere/ca.pem".into());
    let error = ConfluentRegistry::new(&settings).err().unwrap();
    assert!(error.message().contains("/nowhere/ca.pem"));
}
