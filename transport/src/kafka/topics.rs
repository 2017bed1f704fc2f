// SPDX-License-Identifier: Apache-2.0
//! Topics of a cluster: made with sane settings, listed, looked up.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_core::transport::{Cleanup, TopicInfo, TopicSpec, WriterId};
use highwater_core::{Error, ErrorKind, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::consumer::{Consumer, blocking, let_go};
use super::failure::{Failure, error};
use super::left_open::OpenTransactions;
use super::settings::KafkaSettings;
use crate::failure::topic_not_found;

/// Topics that are looked up each by its name; for more of them the cluster is asked for all that it has.
const ASKED_ONE_BY_ONE_MAX: usize = 16;
/// Topics that one request makes: a controller refuses requests of more than some thousand records, of which each topic has
/// some, and one for each partition.
const MADE_AT_ONCE_MAX: usize = 200;
/// How often it is looked whether new topics are led: a few, and many, which take the brokers longer and of which each look
/// is a long answer.
const LED_LOOK: Duration = Duration::from_millis(20);
const MANY_LED_LOOK: Duration = Duration::from_millis(200);
/// What else goes into a record's batch besides its bytes, at most.
const BATCH_OVERHEAD_BYTES: u32 = 4_096;
/// The brokers' default of `max.message.bytes`.
const BROKER_RECORD_BYTES: u32 = 1_048_588;

/// Asks about the topics of one cluster. Clones share their connections.
#[derive(Clone)]
pub(super) struct Topics {
    pub(super) settings: Arc<KafkaSettings>,
    consumer: Arc<Consumer>,
    /// Sees uncommitted records too.
    everything: Arc<Consumer>,
    unsettled: Arc<Mutex<HashSet<(WriterId, String)>>>,
}

impl Topics {
    pub(super) fn new(settings: Arc<KafkaSettings>) -> Result<Self> {
        let mut config = settings.consumer(&settings.client_id)?;
        config.remove("group.id");
        let consumer = Arc::new(Consumer::new(&config)?);
        config.set("isolation.level", "read_uncommitted");
        let everything = Arc::new(Consumer::new(&config)?);
        Ok(Topics {
            settings,
            consumer,
            everything,
            unsettled: Arc::default(),
        })
    }

    /// Asks what is open.
    pub(super) fn open_transactions(&self) -> OpenTransactions<'_> {
        OpenTransactions {
            settings: &self.settings,
            committed: &self.consumer,
            all: &self.everything,
        }
    }

    /// Topics of a writer in which a transaction was left open that the next writer must end before it writes anything.
    pub(super) fn unsettled(&self) -> MutexGuard<'_, HashSet<(WriterId, String)>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(u64::from(self.settings.operation_timeout_ms))
    }

    fn failed(&self, failure: &Failure, doing: &str) -> Error {
        error(failure, doing, &self.settings)
    }

    /// How many partitions each of these topics has.
    pub(super) async fn partitions(&self, topics: &[&str]) -> Result<BTreeMap<String, u32>> {
        let names: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let (this, asked) = (self.clone(), names.clone());
        let found = blocking(move || this.look_up(&asked)).await?;
        let found = found.map_err(|failure| self.failed(&failure, "look up topics"))?;
        let count = |name: String| match found.get(&name) {
            Some((partitions, _)) => Ok((name, *partitions)),
            None => Err(topic_not_found(&name)),
        };
        names.into_iter().map(count).collect()
    }

    /// All topics but Kafka's and Highwater's own, with what a reader of committed records finds in them.
    pub(super) async fn list(&self) -> Result<Vec<TopicInfo>> {
        let this = self.clone();
        let listed = blocking(move || {
            let mut found = this.consumer.topics(None, this.limit())?;
            found.retain(|name, _| !name.starts_with("__") && *name != this.settings.checkpoint_topic);
            let places: Vec<(String, u32)> = found
                .iter()
                .flat_map(|(name, (partitions, _))| (0..*partitions).map(|partition| (name.clone(), partition)))
                .collect();
            let starts = this.consumer.bounds(&places, false, this.limit())?;
            let ends = this.consumer.bounds(&places, true, this.limit())?;
            let info = |(name, (partitions, _)): (String, (u32, bool))| {
                let held = |partition| {
                    let place = (name.clone(), partition);
                    let bound = |bounds: &highwater_core::transport::Offsets| bounds.get(&place).copied().unwrap_or(0);
                    bound(&starts)..bound(&ends)
                };
                TopicInfo {
                    partitions: (0..partitions).map(held).collect(),
                    name: name.clone(),
                }
            };
            Ok(found.into_iter().map(info).collect())
        });
        listed.await?.map_err(|failure| self.failed(&failure, "list topics"))
    }

    /// Makes those that are missing and waits until they can be used.
    pub(super) async fn ensure(&self, specs: &[TopicSpec]) -> Result<()> {
        let this = self.clone();
        let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        let found = blocking(move || this.look_up(&names)).await?;
        let found = found.map_err(|failure| self.failed(&failure, "list topics"))?;
        let missing: Vec<&TopicSpec> = specs.iter().filter(|spec| !found.contains_key(&spec.name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // The brokers make those of one request while the next is under way.
        for some in missing.chunks(MADE_AT_ONCE_MAX) {
            self.make(some).await?;
        }
        let names = missing.iter().map(|spec| spec.name.clone()).collect();
        self.wait_until_led(names).await
    }

    /// Those of these topics that are there, how many partitions each has and whether all are led. Blocks. A few are asked
    /// for one by one: a cluster may have many more.
    fn look_up(&self, names: &[String]) -> Result<BTreeMap<String, (u32, bool)>, Failure> {
        if names.len() > ASKED_ONE_BY_ONE_MAX {
            return self.consumer.topics(None, self.limit());
        }
        let mut found = BTreeMap::new();
        for name in names {
            match self.consumer.topics(Some(name), self.limit()) {
                Ok(one) => found.extend(one),
                Err(failure) if matches!(failure.code, Code::UnknownTopicOrPartition | Code::UnknownTopic) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(found)
    }

    async fn make(&self, missing: &[&TopicSpec]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.settings.client()?.create().map_err(|source| {
            Error::new(
                ErrorKind::Configuration,
                "the settings of the kafka transport cannot be used",
            )
            .with_source(source)
        })?;
        let configured: Vec<Vec<(&str, String)>> = missing.iter().map(|spec| self.topic_settings(spec)).collect();
        let new: Vec<NewTopic<'_>> = missing
            .iter()
            .zip(&configured)
            .map(|(spec, settings)| {
                let replicas = TopicReplication::Fixed(self.settings.replication_factor);
                let topic = NewTopic::new(&spec.name, spec.partitions as i32, replicas);
                settings
                    .iter()
                    .fold(topic, |topic, (name, value)| topic.set(name, value))
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(self.limit()))
            .operation_timeout(Some(self.limit()));
        let made = admin.create_topics(&new, &options).await;
        let_go(admin);
        let made = made.map_err(|failed| {
            let code = failed.rdkafka_error_code().unwrap_or(Code::BrokerTransportFailure);
            self.failed(&Failure::of_code(code), "make topics")
        })?;
        for (name, code) in made.into_iter().filter_map(Result::err) {
            if code != Code::TopicAlreadyExists {
                return Err(self.failed(&Failure::of_code(code), &format!("make topic \"{name}\"")));
            }
        }
        Ok(())
    }

    fn topic_settings(&self, spec: &TopicSpec) -> Vec<(&'static str, String)> {
        let cleanup = match spec.cleanup {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
        };
        // As it was sent: nobody packs it again.
        let mut settings = vec![
            ("cleanup.policy", cleanup.to_owned()),
            ("compression.type", "producer".to_owned()),
        ];
        if let Some(retention) = spec.retention {
            settings.push(("retention.ms", retention.as_millis().to_string()));
        }
        if self.settings.replication_factor >= 3 {
            settings.push(("min.insync.replicas", "2".to_owned()));
        }
        let record_bytes = self.settings.record_bytes_max.saturating_add(BATCH_OVERHEAD_BYTES);
        if record_bytes > BROKER_RECORD_BYTES {
            settings.push(("max.message.bytes", record_bytes.to_string()));
        }
        if spec.name == self.settings.checkpoint_topic {
            // Every commit writes to it: small segments, compacted soon, keep its reading short.
            settings.push(("segment.bytes", (16 << 20).to_string()));
            settings.push(("segment.ms", "3600000".to_owned()));
            settings.push(("min.cleanable.dirty.ratio", "0.1".to_owned()));
        }
        settings
    }

    async fn wait_until_led(&self, names: Vec<String>) -> Result<()> {
        let this = self.clone();
        let look = match names.len() > ASKED_ONE_BY_ONE_MAX {
            true => MANY_LED_LOOK,
            false => LED_LOOK,
        };
        let waited = blocking(move || {
            let deadline = Instant::now() + this.limit();
            loop {
                let found = this.look_up(&names)?;
                if names.iter().all(|name| found.get(name).is_some_and(|(_, led)| *led)) {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    return Err(Failure::of_code(Code::LeaderNotAvailable));
                }
                std::thread::sleep(look);
            }
        });
        waited
            .await?
            .map_err(|failure| self.failed(&failure, "wait for new topics"))
    }
}
