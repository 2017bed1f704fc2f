// SPDX-License-Identifier: Apache-2.0
//! The clauses of [`super::Lease`], for every implementation.

// A helper of tests fails as a test does.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::{FileLease, Lease};

/// Far longer than any takeover may last.
const SOON: Duration = Duration::from_secs(20);

async fn one_leads_and_the_next_takes_over(mut first: Box<dyn Lease>, mut second: Box<dyn Lease>) {
    first.acquire().await.unwrap();
    first.acquire().await.unwrap();
    {
        let mut waiting = Box::pin(second.acquire());
        let waited = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
        assert!(waited.is_err(), "clause 1: a second copy waits");
        first.release().await.unwrap();
        tokio::time::timeout(SOON, waiting)
            .await
            .expect("clause 2: a takeover")
            .unwrap();
    }
    let told = tokio::time::timeout(Duration::from_millis(50), second.lost()).await;
    assert!(told.is_err(), "clause 3: a holder that keeps it is told nothing");
    drop(second);
    tokio::time::timeout(SOON, first.acquire())
        .await
        .expect("clause 2: a death frees it")
        .unwrap();
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn kafka_leases_keep_the_clauses() {
    let kafka = highwater_testbed::Kafka::start(highwater_testbed::KafkaOptions::default())
        .await
        .unwrap();
    let lease = || -> Box<dyn Lease> {
        let mut client = rdkafka::ClientConfig::new();
        client.set("bootstrap.servers", kafka.bootstrap());
        Box::new(super::KafkaLease::new(client, -1, "shop", "movies"))
    };
    one_leads_and_the_next_takes_over(lease(), lease()).await;
}

#[tokio::test]
async fn file_leases_keep_the_clauses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/on/demand/leader.lock");
    one_leads_and_the_next_takes_over(Box::new(FileLease::new(&path)), Box::new(FileLease::new(&path))).await;
}

#[cfg(feature = "kafka")]
#[test]
fn a_holder_that_died_is_waited_for_as_long_as_its_session_lasts() {
    let free_after = |session: Option<&str>| {
        let mut client = rdkafka::ClientConfig::new();
        if let Some(session) = session {
            client.set("session.timeout.ms", session);
        }
        super::KafkaLease::new(client, -1, "shop", "movies").free_after()
    };
    assert_eq!(free_after(None), Duration::from_secs(15));
    assert_eq!(free_after(Some("45000")), Duration::from_secs(54));
}
