// SPDX-License-Identifier: Apache-2.0
//! The container back end with the same handles: through testcontainers, on an engine and images of our own.
//!
//! One test only in this file: it sets the environment, by which testcontainers finds its engine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use highwater_testbed::backend::Backend;
use highwater_testbed::container::images::LocalImage;
use highwater_testbed::container::local_engine::LocalEngine;
use highwater_testbed::postgres::{ROLE, ROLE_PASSWORD};
use highwater_testbed::{Kafka, KafkaOptions, PgOptions, Postgres, Registry, Security, skip, wait};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MAJOR: u16 = 15;
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn servers_in_containers_are_the_same_to_their_handles() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let images = [LocalImage::Postgres(MAJOR), LocalImage::Java];
    let engine = match runtime.block_on(LocalEngine::start(&images)) {
        Ok(engine) => engine,
        Err(error) => return skip::counted("container back end", &error),
    };
    let [postgres, java] = images.map(LocalImage::name);
    // SAFETY: this file's only test; no other thread reads the environment now.
    unsafe {
        std::env::set_var("DOCKER_HOST", engine.docker_host());
        std::env::set_var(format!("HIGHWATER_IMAGE_POSTGRES_{MAJOR}"), postgres);
        std::env::set_var("HIGHWATER_IMAGE_KAFKA", &java);
        std::env::set_var("HIGHWATER_IMAGE_REGISTRY", &java);
        std::env::set_var("HIGHWATER_TESTBED", "container");
    }
    let orphan = kill_a_program_with_a_postgres();
    assert!(is_running(orphan), "a container is nobody's child: {orphan}");
    runtime.block_on(async {
        tokio::join!(
            postgres_keeps_its_data(),
            kafka_keeps_its_records(),
            registry_keeps_its_ids()
        );
    });
    assert!(
        !is_running(orphan),
        "the container of a killed program goes when another uses the engine"
    );
    // The containers' removal needs the runtime; the engine goes after them.
    drop(runtime);
    drop(engine);
}

/// Starts a Postgres by `highwater-testbed up`, kills that program, and returns the server's process id.
fn kill_a_program_with_a_postgres() -> u32 {
    let mut program = Command::new(env!("CARGO_BIN_EXE_highwater-testbed"))
        .args(["up", "postgres", &MAJOR.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(program.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| line != "READY=1")
        .collect();
    program.kill().unwrap();
    program.wait().unwrap();
    let value = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).unwrap();
    value("POSTGRES_PID=").parse().unwrap()
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

async fn postgres_keeps_its_data() {
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

async fn kafka_keeps_its_records() {
    let kafka = Kafka::start(KafkaOptions::default().with_listener(Security::SaslSsl))
        .await
        .unwrap();
    assert_eq!(kafka.backend(), Backend::Container);
    let (bootstrap, first) = (kafka.bootstrap(), kafka.pid().unwrap());
    let mut plain = ClientConfig::new();
    plain.set("bootstrap.servers", &bootstrap);
    let admin: AdminClient<DefaultClientContext> = plain.create().unwrap();
    let topic = NewTopic::new("kept", 1, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    for made in admin.create_topics([&topic], &options).await.unwrap() {
        made.unwrap();
    }
    append(&plain, "before the kill").await;
    kafka.kill9().await.unwrap();
    assert_eq!(kafka.pid(), None);
    kafka.restart().await.unwrap();
    assert_ne!(kafka.pid().unwrap(), first);
    assert_eq!(kafka.bootstrap(), bootstrap);

    let mut secured = ClientConfig::new();
    secured
        .set("bootstrap.servers", kafka.bootstrap_of(Security::SaslSsl).unwrap())
        .set("security.protocol", Security::SaslSsl.name())
        .set("ssl.ca.location", kafka.ca_path().unwrap().display().to_string())
        .set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", highwater_testbed::kafka::KAFKA_USER)
        .set("sasl.password", highwater_testbed::kafka::KAFKA_PASSWORD);
    append(&secured, "over TLS after the kill").await;
    kafka.pause().await.unwrap();
    let consumer: BaseConsumer = plain.create().unwrap();
    assert!(
        consumer
            .fetch_metadata(Some("kept"), Duration::from_millis(500))
            .is_err()
    );
    kafka.resume().await.unwrap();
    assert_eq!(committed(&plain, 2), ["before the kill", "over TLS after the kill"]);
}

/// Produces one record in a transaction of its own.
async fn append(config: &ClientConfig, payload: &str) {
    let mut config = config.clone();
    config.set("transactional.id", payload);
    let producer: FutureProducer = config.create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    let record = FutureRecord::<str, str>::to("kept").payload(payload);
    producer.send(record, LIMIT).await.unwrap();
    producer.commit_transaction(LIMIT).unwrap();
}

fn committed(config: &ClientConfig, count: usize) -> Vec<String> {
    let mut config = config.clone();
    config
        .set("group.id", "readers")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&["kept"]).unwrap();
    let end = Instant::now() + LIMIT;
    let mut found = Vec::new();
    while found.len() < count && Instant::now() < end {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            found.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        }
    }
    found
}

async fn registry_keeps_its_ids() {
    let registry = Registry::start().await.unwrap();
    assert_eq!(registry.backend(), Backend::Container);
    let schema = r#"{"schema":"{\"type\":\"record\",\"name\":\"r\",\"fields\":[]}"}"#;
    let id = register(&registry, schema).await.unwrap();
    assert!(id.contains("\"id\""), "{id}");
    registry.kill9().await.unwrap();
    assert_eq!(register(&registry, schema).await, None);
    registry.restart().await.unwrap();
    let again = wait::until(LIMIT, "an answer of the registry", || async {
        Ok(register(&registry, schema).await)
    });
    assert_eq!(again.await.unwrap(), id);
}

/// The body of the registry's answer; none when nobody answers.
async fn register(registry: &Registry, schema: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", registry.port()))
        .await
        .ok()?;
    let head = format!(
        "POST /apis/ccompat/v7/subjects/kept-value/versions HTTP/1.0\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{schema}",
        schema.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}
