// SPDX-License-Identifier: Apache-2.0
//! Kafka's bad days, against real brokers: it goes away and comes back, refuses us, refuses a record.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use highwater_core::checkpoint::Checkpoint;
use highwater_core::transport::{Cleanup, RecordBatch, StartAt, TopicSpec, Transport, Writer, WriterId};
use highwater_core::{Class, Error, ErrorKind, Result};
use highwater_testbed::certificates::Authority;
use highwater_testbed::kafka::{KAFKA_PASSWORD, KAFKA_USER};
use highwater_testbed::{Kafka, KafkaOptions, Security};
use highwater_transport::kafka::{KafkaSettings, KafkaTransport, SaslMechanism, SaslSettings, Secret, TlsSettings};

fn settings(kafka: &Kafka) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: kafka.bootstrap(),
        operation_timeout_ms: 30_000,
        ..KafkaSettings::default()
    }
}

async fn make_topic(transport: &KafkaTransport, name: &str) {
    let spec = TopicSpec {
        name: name.to_owned(),
        partitions: 1,
        cleanup: Cleanup::Delete,
        // The records below are written as of 1970, and a broker looks for expired ones half a minute after its start.
        retention: Some(Duration::from_secs(100 * 365 * 24 * 3_600)),
    };
    transport.ensure_topics(&[spec]).await.unwrap();
}

fn task(name: &str) -> WriterId {
    WriterId(name.to_owned())
}

async fn write(writer: &mut dyn Writer, topic: &str, number: u64) -> Result<()> {
    let mut batch = RecordBatch::default();
    batch.push(Some(b"key"), Some(number.to_string().as_bytes()), 0, Vec::new());
    let mut txn = writer.begin().await?;
    txn.append(topic, &batch).await?;
    let bytes = Bytes::from(number.to_string());
    txn.put_checkpoint(&Checkpoint {
        connector: "test".to_owned(),
        version: 1,
        bytes,
    })
    .await?;
    txn.commit().await
}

async fn next_number(writer: &mut dyn Writer) -> Result<u64> {
    let checkpoint = writer.checkpoint().await?;
    Ok(checkpoint.map_or(0, |found| {
        std::str::from_utf8(&found.bytes).unwrap().parse::<u64>().unwrap() + 1
    }))
}

async fn numbers(transport: &KafkaTransport, topic: &str) -> Vec<u64> {
    let mut reader = transport
        .open_reader(&[topic.to_owned()], None, StartAt::Earliest)
        .await
        .unwrap();
    let (mut records, end) = (Vec::new(), reader.end().await.unwrap());
    while reader.position() < end {
        reader
            .poll(&mut records, 1_000, Duration::from_millis(200))
            .await
            .unwrap();
    }
    let number = |value: Option<Bytes>| std::str::from_utf8(&value.unwrap()).unwrap().parse().unwrap();
    records.into_iter().map(|record| number(record.value)).collect()
}

/// Opens the writer and goes on from its checkpoint until `until` is committed, through whatever may be retried.
async fn write_on(transport: &KafkaTransport, topic: &str, until: u64, errors: &mut Vec<Error>) {
    loop {
        let outcome = async {
            let mut writer = transport.open_writer(&task("survivor")).await?;
            let mut number = next_number(&mut *writer).await?;
            while number < until {
                write(&mut *writer, topic, number).await?;
                number += 1;
            }
            Ok::<(), Error>(())
        };
        match outcome.await {
            Ok(()) => return,
            Err(error) => {
                assert_eq!(error.class(), Class::Retryable, "{error}");
                errors.push(error);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_or_killed_for_a_while_loses_and_repeats_nothing() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let short = KafkaSettings {
        operation_timeout_ms: 4_000,
        transaction_timeout_ms: 10_000,
        ..settings(&kafka)
    };
    let transport = KafkaTransport::connect(short).await.unwrap();
    make_topic(&transport, "survives").await;
    let mut errors = Vec::new();
    write_on(&transport, "survives", 20, &mut errors).await;
    assert!(errors.is_empty(), "{errors:?}");
    let away = async {
        kafka.kill9().await.unwrap();
        // Longer than a commit may take, so that one fails.
        tokio::time::sleep(Duration::from_secs(9)).await;
        kafka.restart().await.unwrap();
    };
    tokio::join!(away, write_on(&transport, "survives", 400, &mut errors));
    assert!(!errors.is_empty(), "the broker's absence went unnoticed");
    let named = errors.iter().filter(|error| error.kind() == ErrorKind::Unreachable);
    named.for_each(|error| assert!(error.to_string().contains(&kafka.bootstrap()), "{error}"));
    write_on(&transport, "survives", 450, &mut errors).await;
    assert_eq!(numbers(&transport, "survives").await, (0..450).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_large_names_its_topic_and_the_setting_and_the_next_writer_goes_on() {
    let kafka = Kafka::shared().await.unwrap();
    for (topic, record_bytes_max) in [("too-large.here", 100_000), ("too-large.broker", 3_000_000)] {
        // The topic is made by one that asks for less than the writer will send.
        let maker = KafkaTransport::connect(settings(&kafka)).await.unwrap();
        make_topic(&maker, topic).await;
        let transport = KafkaTransport::connect(KafkaSettings {
            record_bytes_max,
            ..settings(&kafka)
        })
        .await
        .unwrap();
        let mut writer = transport.open_writer(&task(topic)).await.unwrap();
        write(&mut *writer, topic, 0).await.unwrap();
        let mut batch = RecordBatch::default();
        let mut state = 1_u64;
        // Nothing that compression makes smaller.
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(2_000_000)
        .collect();
        batch.push(None, Some(&noise), 0, Vec::new());
        let refused = {
            let mut txn = writer.begin().await.unwrap();
            match txn.append(topic, &batch).await {
                Err(refused) => refused,
                Ok(()) => txn.commit().await.unwrap_err(),
            }
        };
        assert_eq!(refused.kind(), ErrorKind::LimitReached, "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains(topic) && text.contains("record_bytes_max") && text.contains("max.message.bytes"),
            "{text}"
        );
        let mut writer = transport.open_writer(&task(topic)).await.unwrap();
        assert_eq!(next_number(&mut *writer).await.unwrap(), 1);
        write(&mut *writer, topic, 1).await.unwrap();
        // The last commit shows soon after it returns.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while numbers(&transport, topic).await != [0, 1] {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{:?}",
                numbers(&transport, topic).await
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_behind_another_writers_open_transaction_is_found() {
    let kafka = Kafka::shared().await.unwrap();
    let one_partition = KafkaSettings {
        checkpoint_topic: "__one_partition".to_owned(),
        checkpoint_partitions: 1,
        transaction_timeout_ms: 5_000,
        linger_ms: 100,
        ..settings(&kafka)
    };
    let transport = KafkaTransport::connect(one_partition.clone()).await.unwrap();
    make_topic(&transport, "behind").await;
    let mut mine = transport.open_writer(&task("mine")).await.unwrap();
    write(&mut *mine, "behind", 1).await.unwrap();
    // A transaction in the checkpoint topic that stays open until its time-out.
    let mut other = transport.open_writer(&task("other")).await.unwrap();
    let mut open = other.begin().await.unwrap();
    let mut batch = RecordBatch::default();
    batch.push(Some(b"other"), Some(b"never"), 0, Vec::new());
    open.append("__one_partition", &batch).await.unwrap();
    // It is on the broker when an uncommitted reader could see it; its writer's linger is over long before this commit is.
    tokio::time::sleep(Duration::from_millis(500)).await;
    write(&mut *mine, "behind", 2).await.unwrap();
    let mut again = transport.open_writer(&task("mine")).await.unwrap();
    assert_eq!(next_number(&mut *again).await.unwrap(), 3);
}

fn secret(folder: &tempfile::TempDir, text: &str) -> Secret {
    let path = folder.path().join(text.len().to_string());
    std::fs::write(&path, format!("{text}\n")).unwrap();
    Secret::File(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_certificates_and_sasl_work_and_what_is_refused_says_so_soon() {
    // Without SASL the brokers want to know us by a certificate of ours.
    let options = KafkaOptions::default()
        .with_listener(Security::Ssl)
        .with("listener.name.ssl.ssl.client.auth", "required")
        .with_listener(Security::SaslPlaintext)
        .with_listener(Security::SaslSsl);
    let kafka = Kafka::start(options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tls = Some(TlsSettings {
        ca_file: kafka.ca_path(),
        ..TlsSettings::default()
    });
    let mutual = |authority: &Authority, name: &str| {
        let identity = authority.client("highwater").unwrap();
        let file = |kind: &str, pem: String| {
            let path = folder.path().join(format!("{name}.{kind}"));
            std::fs::write(&path, pem).unwrap();
            Some(path)
        };
        Some(TlsSettings {
            certificate_file: file("crt", identity.certificate_pem),
            key_file: file("key", identity.key_pem),
            ca_file: kafka.ca_path(),
            ..TlsSettings::default()
        })
    };
    let known = mutual(kafka.authority().unwrap(), "known");
    let foreign = mutual(&Authority::new().unwrap(), "foreign");
    let sasl = |mechanism, password: &str| {
        Some(SaslSettings {
            mechanism,
            username: Some(KAFKA_USER.to_owned()),
            password: Some(secret(&folder, password)),
            kerberos_service: None,
            kerberos_principal: None,
            kerberos_keytab: None,
        })
    };
    let at = |security, tls, sasl| KafkaSettings {
        bootstrap_servers: kafka.bootstrap_of(security).unwrap(),
        tls,
        sasl,
        ..settings(&kafka)
    };
    let good = [
        at(Security::Ssl, known, None),
        at(
            Security::SaslPlaintext,
            None,
            sasl(SaslMechanism::ScramSha256, KAFKA_PASSWORD),
        ),
        at(
            Security::SaslSsl,
            tls.clone(),
            sasl(SaslMechanism::ScramSha512, KAFKA_PASSWORD),
        ),
        at(
            Security::SaslSsl,
            tls.clone(),
            sasl(SaslMechanism::Plain, KAFKA_PASSWORD),
        ),
    ];
    for (settings, number) in good.into_iter().zip(0..) {
        let transport = KafkaTransport::connect(settings).await.unwrap();
        make_topic(&transport, "secured").await;
        let mut writer = transport.open_writer(&task("secured")).await.unwrap();
        assert_eq!(next_number(&mut *writer).await.unwrap(), number);
        write(&mut *writer, "secured", number).await.unwrap();
    }
    let bad = [
        (
            at(
                Security::SaslSsl,
                tls.clone(),
                sasl(SaslMechanism::ScramSha512, "wrong"),
            ),
            "sasl",
        ),
        (
            at(Security::SaslPlaintext, None, sasl(SaslMechanism::Plain, "wrong too")),
            "sasl",
        ),
        // Not signed by an authority of the system.
        (at(Security::Ssl, Some(TlsSettings::default()), None), "tls"),
        // No certificate of ours where one is asked for, and one of an authority that the brokers do not know.
        (at(Security::Ssl, tls, None), "tls"),
        (at(Security::Ssl, foreign, None), "tls"),
    ];
    for (settings, named) in bad {
        let begun = tokio::time::Instant::now();
        let refused = KafkaTransport::connect(settings).await.err().unwrap();
        assert_eq!(
            (refused.kind(), refused.class()),
            (ErrorKind::Authentication, Class::User),
            "{refused}"
        );
        let text = refused.to_string();
        assert!(
            text.contains(&format!("under \"{named}\"")) && !text.contains("wrong"),
            "{text}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "refused only after {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_option_or_no_broker_is_an_error_that_names_it() {
    let kafka = Kafka::shared().await.unwrap();
    let mut unknown = settings(&kafka);
    unknown.extra.insert("no.such.option".to_owned(), "1".to_owned());
    let refused = KafkaTransport::connect(unknown).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Configuration);
    assert!(refused.to_string().contains("no.such.option"), "{refused}");

    let nobody = KafkaSettings {
        bootstrap_servers: "127.0.0.1:1".to_owned(),
        operation_timeout_ms: 1_500,
        ..KafkaSettings::default()
    };
    let refused = KafkaTransport::connect(nobody).await.err().unwrap();
    assert_eq!(
        (refused.kind(), refused.class()),
        (ErrorKind::Unreachable, Class::Retryable)
    );
    assert!(refused.to_string().contains("127.0.0.1:1"), "{refused}");
}
