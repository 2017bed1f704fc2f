// SPDX-License-Identifier: Apache-2.0
//! Readers of committed records. They choose their partitions themselves; a group gives them its offsets, no membership.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_core::transport::{GroupId, Offsets, Reader, Record, StartAt};
use highwater_core::{Error, Result};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::consumer::{Consumer, Item, blocking, let_go};
use super::failure::{Failure, error};
use super::settings::KafkaSettings;
use super::topics::Topics;
use crate::failure::{offset_not_held, partition_not_found, topic_not_found};

struct Place {
    topic: Arc<str>,
    partition: u32,
    position: u64,
}

pub(super) struct KafkaReader {
    settings: Arc<KafkaSettings>,
    limit: Duration,
    consumer: Option<Arc<Consumer>>,
    places: Vec<Place>,
    /// By topic, the index of its first place; a topic's places are next to each other.
    first_places: HashMap<Arc<str>, usize>,
    /// The place whose next offset is not held; until the reader is told where to go on, every poll says so.
    lost: Option<usize>,
}

impl KafkaReader {
    pub(super) async fn open(
        topics: &Topics,
        names: &[String],
        group: Option<&GroupId>,
        start: StartAt,
    ) -> Result<Self> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let partitions = topics.partitions(&names).await?;
        // In order and each once, as the names come out of the map.
        let places: Vec<(String, u32)> = partitions
            .into_iter()
            .flat_map(|(name, count)| (0..count).map(move |partition| (name.clone(), partition)))
            .collect();
        let settings = Arc::clone(&topics.settings);
        let name = group.map_or_else(|| format!("{}-readers", settings.client_id), |group| group.0.clone());
        let consumer = Arc::new(Consumer::new(&settings.consumer(&name)?)?);
        let (asked, limit, has_group) = (Arc::clone(&consumer), topics.limit(), group.is_some());
        let begun = blocking(move || {
            let committed = if has_group {
                asked.committed(&places, limit)?
            } else {
                Offsets::new()
            };
            let mut fresh = places;
            fresh.retain(|place| !committed.contains_key(place));
            let mut positions = asked.bounds(&fresh, start == StartAt::Latest, limit)?;
            positions.extend(committed);
            asked.assign(&positions)?;
            Ok(positions)
        });
        let positions = begun
            .await?
            .map_err(|failure: Failure| error(&failure, "begin to read", &settings))?;
        let mut reader = KafkaReader {
            settings,
            limit,
            consumer: Some(consumer),
            places: Vec::with_capacity(positions.len()),
            first_places: HashMap::new(),
            lost: None,
        };
        for ((name, partition), position) in positions {
            let topic: Arc<str> = match reader.places.last() {
                Some(last) if *last.topic == *name => Arc::clone(&last.topic),
                _ => name.into(),
            };
            reader
                .first_places
                .entry(Arc::clone(&topic))
                .or_insert(reader.places.len());
            reader.places.push(Place {
                topic,
                partition,
                position,
            });
        }
        Ok(reader)
    }

    fn consumer(&self) -> Result<Arc<Consumer>> {
        self.consumer
            .clone()
            .ok_or_else(|| Error::bug("a kafka reader has no consumer"))
    }

    /// Takes what is queued; whether there was anything.
    fn take(&mut self, consumer: &Consumer, records: &mut Vec<Record>, records_max: usize) -> Result<bool> {
        let (places, first_places) = (&mut self.places, &self.first_places);
        let (mut failed, mut lost) = (None, None);
        let index = |topic: &str, partition: u32| Some(first_places.get(topic)? + partition as usize);
        let count = consumer.take(records_max, Duration::ZERO, |item| match item {
            Item::Record(taken) => {
                let place = index(taken.topic, taken.partition).and_then(|index| places.get_mut(index));
                // What was queued before a seek is not read twice.
                if let Some(place) = place.filter(|place| taken.offset >= place.position) {
                    place.position = taken.offset + 1;
                    let (key, value) = taken.key_and_value();
                    records.push(Record {
                        topic: Arc::clone(&place.topic),
                        partition: taken.partition,
                        offset: taken.offset,
                        key,
                        value,
                        timestamp_ms: taken.timestamp_ms(),
                        headers: taken.headers(),
                    });
                }
            }
            Item::End {
                topic,
                partition,
                offset,
            } => {
                if let Some(place) = index(topic, partition).and_then(|index| places.get_mut(index)) {
                    place.position = place.position.max(offset);
                }
            }
            Item::Failed {
                topic,
                partition,
                failure,
            } => match failure.code {
                Code::AutoOffsetReset | Code::OffsetOutOfRange => lost = index(topic, partition as u32),
                Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                    failed = Some(topic_not_found(topic));
                }
                Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => {
                    failed = Some(error(&failure, &format!("read topic \"{topic}\""), &self.settings));
                }
                // librdkafka connects again by itself.
                _ => tracing::debug!(cause = %failure.text, "reading from kafka"),
            },
        });
        self.lost = self.lost.or(lost);
        match consumer.client().notes().take() {
            Some(noted) if matches!(noted.code, Code::Authentication | Code::SSL) => {
                Err(error(&noted, "read", &self.settings))
            }
            _ => failed.map_or(Ok(count > 0), Err),
        }
    }

    async fn bounds(&self, places: Vec<(String, u32)>, at_end: bool) -> Result<Offsets> {
        let (consumer, limit) = (self.consumer()?, self.limit);
        let asked = blocking(move || consumer.bounds(&places, at_end, limit)).await?;
        asked.map_err(|failure| error(&failure, "ask for offsets", &self.settings))
    }

    async fn lost_error(&self, lost: usize) -> Result<Error> {
        let place = self
            .places
            .get(lost)
            .ok_or_else(|| Error::bug("a reader lost a place that it does not have"))?;
        let name = (place.topic.to_string(), place.partition);
        let start = self.bounds(vec![name.clone()], false).await?;
        let end = self.bounds(vec![name.clone()], true).await?;
        let held = start.get(&name).copied().unwrap_or(0)..end.get(&name).copied().unwrap_or(0);
        Ok(offset_not_held(&place.topic, place.partition, place.position, held))
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn poll(&mut self, records: &mut Vec<Record>, records_max: usize, wait: Duration) -> Result<()> {
        let (before, records_max) = (records.len(), records_max.max(1));
        let consumer = self.consumer()?;
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        loop {
            let room = records_max.saturating_sub(records.len() - before);
            let more = room > 0 && self.take(&consumer, records, room)?;
            if let Some(lost) = self.lost
                && records.len() == before
            {
                return Err(self.lost_error(lost).await?);
            }
            if more {
                continue;
            }
            if records.len() > before || wait.is_zero() {
                return Ok(());
            }
            tokio::select! {
                () = consumer.queued() => {}
                () = &mut deadline => return Ok(()),
            }
        }
    }

    async fn seek(&mut self, offsets: &Offsets) -> Result<()> {
        let mut positions = self.position();
        for (place, offset) in offsets {
            let position = positions
                .get_mut(place)
                .ok_or_else(|| partition_not_found(&place.0, place.1))?;
            *position = *offset;
        }
        let (consumer, wanted) = (self.consumer()?, positions.clone());
        let assigned = blocking(move || consumer.assign(&wanted)).await?;
        assigned.map_err(|failure| error(&failure, "seek", &self.settings))?;
        self.lost = None;
        for (place, position) in self.places.iter_mut().zip(positions.into_values()) {
            place.position = position;
        }
        Ok(())
    }

    fn position(&self) -> Offsets {
        self.places
            .iter()
            .map(|place| ((place.topic.to_string(), place.partition), place.position))
            .collect()
    }

    async fn end(&mut self) -> Result<Offsets> {
        self.bounds(self.position().into_keys().collect(), true).await
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        let_go(self.consumer.take());
    }
}
