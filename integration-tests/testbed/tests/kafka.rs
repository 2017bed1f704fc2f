// SPDX-License-Identifier: Apache-2.0
//! The Kafka handle on a real broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use highwater_testbed::kafka::{KAFKA_PASSWORD, KAFKA_USER};
use highwater_testbed::{Kafka, KafkaOptions, Security};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

const LIMIT: Duration = Duration::from_secs(30);

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("message.timeout.ms", "20000");
    config
}

async fn create(config: &ClientConfig, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let made = admin
        .create_topics([&topic], &AdminOptions::new().operation_timeout(Some(LIMIT)))
        .await
        .unwrap();
    made.into_iter().for_each(|result| drop(result.unwrap()));
}

async fn send(config: &ClientConfig, topic: &str, payload: &str) -> Result<(), KafkaError> {
    let producer: FutureProducer = config.create()?;
    let record = FutureRecord::<str, str>::to(topic).payload(payload);
    producer.send(record, LIMIT).await.map(drop).map_err(|(error, _)| error)
}

fn read(config: &ClientConfig, topic: &str, count: usize) -> Vec<String> {
    let mut config = config.clone();
    config
        .set("group.id", format!("readers-of-{topic}"))
        .set("auto.offset.reset", "earliest");
    config.set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let end = Instant::now() + LIMIT;
    let mut found = Vec::new();
    while found.len() < count && Instant::now() < end {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            found.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_keeps_its_data_and_port_over_a_kill_and_an_orderly_restart() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let (bootstrap, first) = (kafka.bootstrap(), kafka.pid().unwrap());
    let config = config(&bootstrap);
    create(&config, "kept").await;
    send(&config, "kept", "before the kill").await.unwrap();
    kafka.kill9().await.unwrap();
    assert_eq!(kafka.pid(), None);
    kafka.restart().await.unwrap();
    assert_ne!(kafka.pid().unwrap(), first);
    assert_eq!(kafka.bootstrap(), bootstrap);
    send(&config, "kept", "after the kill").await.unwrap();
    kafka.restart().await.unwrap();
    assert_eq!(read(&config, "kept", 2), ["before the kill", "after the kill"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_commits_on_the_shared_broker() {
    let kafka = Kafka::shared().await.unwrap();
    assert_eq!(kafka.pid(), Kafka::shared().await.unwrap().pid());
    let mut config = config(&kafka.bootstrap());
    create(&config, "committed").await;
    let plain = config.clone();
    let producer: FutureProducer = config.set("transactional.id", "committing").create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    for (payload, commit) in [("aborted", false), ("committed", true)] {
        producer.begin_transaction().unwrap();
        producer
            .send(FutureRecord::<str, str>::to("committed").payload(payload), LIMIT)
            .await
            .unwrap();
        if commit {
            producer.commit_transaction(LIMIT)
        } else {
            producer.abort_transaction(LIMIT)
        }
        .unwrap();
    }
    assert_eq!(read(&plain, "committed", 1), ["committed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_sasl_listeners_let_in_only_who_shows_the_right_things() {
    let options = KafkaOptions::default()
        .with_listener(Security::Ssl)
        .with_listener(Security::SaslPlaintext)
        .with_listener(Security::SaslSsl);
    let kafka = Kafka::start(options).await.unwrap();
    create(&config(&kafka.bootstrap()), "secured").await;
    let ca = kafka.ca_path().unwrap().display().to_string();
    let secured = |security: Security, mechanism: &str, password: &str| {
        let mut config = config(&kafka.bootstrap_of(security).unwrap());
        config
            .set("security.protocol", security.name())
            .set("message.timeout.ms", "4000");
        if security != Security::SaslPlaintext {
            config.set("ssl.ca.location", &ca);
        }
        if security != Security::Ssl {
            config
                .set("sasl.mechanism", mechanism)
                .set("sasl.username", KAFKA_USER)
                .set("sasl.password", password);
        }
        config
    };
    send(&secured(Security::Ssl, "", ""), "secured", "tls").await.unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for security in [Security::SaslPlaintext, Security::SaslSsl] {
            send(&secured(security, mechanism, KAFKA_PASSWORD), "secured", mechanism)
                .await
                .unwrap();
        }
        let refused = send(&secured(Security::SaslSsl, mechanism, "wrong"), "secured", "never").await;
        assert!(refused.is_err(), "{mechanism} accepted a wrong password");
    }
    let stranger = highwater_testbed::certificates::Authority::new().unwrap();
    let mut untrusting = secured(Security::Ssl, "", "");
    untrusting.remove("ssl.ca.location");
    untrusting.set("ssl.ca.pem", stranger.ca_pem());
    assert!(
        send(&untrusting, "secured", "never").await.is_err(),
        "a foreign authority was trusted"
    );
    assert_eq!(read(&config(&kafka.bootstrap()), "secured", 7).len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_silent_until_it_goes_on() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let mut config = config(&kafka.bootstrap());
    create(&config, "frozen").await;
    kafka.pause().await.unwrap();
    config.set("message.timeout.ms", "1500");
    assert!(send(&config, "frozen", "unanswered").await.is_err());
    kafka.resume().await.unwrap();
    config.set("message.timeout.ms", "20000");
    send(&config, "frozen", "answered").await.unwrap();
    assert_eq!(read(&config, "frozen", 1), ["answered"]);
}
