// SPDX-License-Identifier: Apache-2.0
//! The conformance suite of [`Sink`], and a sink in memory that keeps it.

#![allow(clippy::unwrap_used, reason = "a suite fails by panicking, as a test does")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use highwater_core::Result;
use highwater_core::sink::Sink;
use highwater_core::transport::{Offsets, Record};

/// What a destination holds: the value of each key.
pub type Content = BTreeMap<Bytes, Bytes>;

/// An empty destination and sinks on it.
pub trait SinkHarness: Send + Sync {
    /// The sink under test.
    type Sink: Sink;

    /// A new sink on the destination, as a process that starts again has it. Sinks made before are dropped without a
    /// commit.
    fn sink(&self) -> impl Future<Output = Self::Sink> + Send;
    /// What the destination shows.
    fn content(&self) -> impl Future<Output = Content> + Send;
}

/// Runs every clause, each on a new harness.
pub async fn run<H: SinkHarness, F: Future<Output = H>>(factory: impl Fn() -> F) {
    a_new_task_has_no_offsets(&factory().await).await;
    what_was_committed_is_there_with_its_offsets(&factory().await).await;
    what_was_not_committed_comes_again_and_changes_nothing(&factory().await).await;
    records_of_a_key_take_effect_in_order(&factory().await).await;
    tasks_have_offsets_of_their_own(&factory().await).await;
}

fn record(offset: u64, key: &'static str, value: Option<&'static str>) -> Record {
    Record {
        topic: "topic".into(),
        partition: 0,
        offset,
        key: Some(Bytes::from_static(key.as_bytes())),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
        timestamp_ms: 1,
        headers: Vec::new(),
    }
}

fn offsets(next: u64) -> Offsets {
    Offsets::from([(("topic".to_owned(), 0), next)])
}

fn content(rows: &[(&'static str, &'static str)]) -> Content {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    rows.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
}

async fn a_new_task_has_no_offsets<H: SinkHarness>(harness: &H) {
    assert_eq!(harness.sink().await.open("task").await.unwrap(), None);
}

async fn what_was_committed_is_there_with_its_offsets<H: SinkHarness>(harness: &H) {
    let mut sink = harness.sink().await;
    sink.open("task").await.unwrap();
    sink.write(&[record(0, "a", Some("1")), record(1, "b", Some("2"))], &offsets(2))
        .await
        .unwrap();
    assert_eq!(sink.commit().await.unwrap(), offsets(2));
    drop(sink);
    assert_eq!(harness.sink().await.open("task").await.unwrap(), Some(offsets(2)));
    assert_eq!(harness.content().await, content(&[("a", "1"), ("b", "2")]));
}

async fn what_was_not_committed_comes_again_and_changes_nothing<H: SinkHarness>(harness: &H) {
    let mut sink = harness.sink().await;
    sink.open("task").await.unwrap();
    sink.write(&[record(0, "a", Some("1"))], &offsets(1)).await.unwrap();
    sink.commit().await.unwrap();
    sink.write(&[record(1, "a", Some("2")), record(2, "a", None)], &offsets(3))
        .await
        .unwrap();
    drop(sink);
    let mut sink = harness.sink().await;
    assert_eq!(
        sink.open("task").await.unwrap(),
        Some(offsets(1)),
        "offsets ahead of what was committed"
    );
    let replay = [
        record(0, "a", Some("1")),
        record(1, "a", Some("2")),
        record(2, "a", None),
        record(3, "b", Some("3")),
    ];
    sink.write(&replay, &offsets(4)).await.unwrap();
    assert_eq!(sink.commit().await.unwrap(), offsets(4));
    assert_eq!(harness.content().await, content(&[("b", "3")]));
}

async fn records_of_a_key_take_effect_in_order<H: SinkHarness>(harness: &H) {
    let mut sink = harness.sink().await;
    sink.open("task").await.unwrap();
    let batch = [
        record(0, "a", Some("1")),
        record(1, "a", None),
        record(2, "a", Some("3")),
        record(3, "b", Some("4")),
    ];
    sink.write(&batch, &offsets(4)).await.unwrap();
    sink.write(&[record(4, "b", None)], &offsets(5)).await.unwrap();
    sink.commit().await.unwrap();
    assert_eq!(harness.content().await, content(&[("a", "3")]));
}

async fn tasks_have_offsets_of_their_own<H: SinkHarness>(harness: &H) {
    let mut sink = harness.sink().await;
    sink.open("one").await.unwrap();
    sink.write(&[record(0, "a", Some("1"))], &offsets(1)).await.unwrap();
    sink.commit().await.unwrap();
    drop(sink);
    assert_eq!(harness.sink().await.open("two").await.unwrap(), None);
}

#[derive(Debug, Default)]
struct Stored {
    content: Content,
    tasks: BTreeMap<String, Offsets>,
}

/// A destination in memory. Clones are the same destination.
#[derive(Debug, Clone, Default)]
pub struct FakeDestination(Arc<Mutex<Stored>>);

impl FakeDestination {
    /// A sink on it.
    pub fn sink(&self) -> FakeSink {
        FakeSink {
            destination: self.clone(),
            task: String::new(),
            pending: Vec::new(),
            offsets: None,
        }
    }

    /// What it shows.
    pub fn content(&self) -> Content {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).content.clone()
    }
}

/// A sink in memory: data and offsets become durable together.
#[derive(Debug)]
pub struct FakeSink {
    destination: FakeDestination,
    task: String,
    pending: Vec<Record>,
    offsets: Option<Offsets>,
}

impl Sink for FakeSink {
    async fn open(&mut self, task: &str) -> Result<Option<Offsets>> {
        task.clone_into(&mut self.task);
        let stored = self.destination.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.offsets = stored.tasks.get(task).cloned();
        Ok(self.offsets.clone())
    }

    async fn write(&mut self, batch: &[Record], offsets: &Offsets) -> Result<()> {
        let stored = self.destination.0.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = stored.tasks.get(&self.task);
        let is_new = |record: &&Record| {
            let place = (record.topic.to_string(), record.partition);
            durable
                .and_then(|durable| durable.get(&place))
                .is_none_or(|next| record.offset >= *next)
        };
        self.pending.extend(batch.iter().filter(is_new).cloned());
        self.offsets = Some(offsets.clone());
        Ok(())
    }

    async fn commit(&mut self) -> Result<Offsets> {
        let mut stored = self.destination.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in self.pending.drain(..) {
            let Some(key) = record.key else { continue };
            match record.value {
                Some(value) => stored.content.insert(key, value),
                None => stored.content.remove(&key),
            };
        }
        let offsets = self.offsets.clone().unwrap_or_default();
        stored.tasks.insert(self.task.clone(), offsets.clone());
        Ok(offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory(FakeDestination);

    impl SinkHarness for Memory {
        type Sink = FakeSink;

        async fn sink(&self) -> FakeSink {
            self.0.sink()
        }

        async fn content(&self) -> Content {
            self.0.content()
        }
    }

    #[tokio::test]
    async fn the_sink_in_memory_conforms() {
        run(|| async { Memory(FakeDestination::default()) }).await;
    }
}
