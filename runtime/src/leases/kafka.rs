// SPDX-License-Identifier: Apache-2.0
//! A lease on Kafka's group membership: whoever holds the one partition of the lease topic leads. The group's
//! coordinator takes it from a member that is silent for [`SESSION`], and gives it to one that waits.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use highwater_core::{Class, Error, ErrorKind, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Lease;

/// After this long without a word a holder has lost it. Brokers take no less by default.
const SESSION: Duration = Duration::from_secs(6);
/// How long a copy takes to be let in where no holder is missed: to connect, make the topic and be the group's first member.
const JOIN_WAIT: Duration = Duration::from_secs(9);
/// How often a member gives a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The longest that making the lease topic may take.
const TOPIC_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a broker is asked for before it counts as unreachable, and how long each time.
const PROBES_MAX: u32 = 10;
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Wait after the client reported an error, before it is asked again.
const ERROR_WAIT: Duration = Duration::from_millis(500);

/// Membership in a group of one partition.
pub struct KafkaLease {
    client: ClientConfig,
    topic: String,
    replication: i32,
    member: Option<Member>,
}

struct Member {
    held: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

struct Assigned(watch::Sender<bool>);

impl ClientContext for Assigned {}

impl ConsumerContext for Assigned {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // Told before the partition is given back: this copy stops before another one starts.
        let keeps = match rebalance {
            Rebalance::Assign(_) => true,
            Rebalance::Revoke(partitions) => partitions.count() == 0,
            Rebalance::Error(_) => false,
        };
        if !keeps {
            self.0.send_replace(false);
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // The cooperative protocol tells what is new: nothing new takes nothing away.
        if let Rebalance::Assign(partitions) = rebalance
            && partitions.count() > 0
        {
            self.0.send_replace(true);
        }
    }
}

/// What a client was told about being let in.
#[derive(Default)]
struct Refused(Mutex<Option<String>>);

impl ClientContext for Refused {
    fn error(&self, error: KafkaError, reason: &str) {
        if is_refusal(&error) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Refused {}

fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL | RDKafkaErrorCode::SaslAuthenticationFailed)
    )
}

/// Asks for the brokers until one answers (`None`) or refuses this client (why). Blocks.
fn probe(config: &ClientConfig) -> Result<Option<String>, KafkaError> {
    let mut config = config.clone();
    config.set("group.id", "highwater-probe");
    let consumer: BaseConsumer<Refused> = config.create_with_context(Refused::default())?;
    let mut last = None;
    for _ in 0..PROBES_MAX {
        match consumer.fetch_metadata(Some("__highwater_checkpoints"), PROBE_WAIT) {
            Ok(_) => return Ok(None),
            Err(error) => last = Some(error),
        }
        // Serves what the client noted meanwhile.
        if let Some(Err(error)) = consumer.poll(Duration::ZERO)
            && is_refusal(&error)
        {
            return Ok(Some(error.to_string()));
        }
        let refused = consumer
            .context()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if refused.is_some() {
            return Ok(refused);
        }
    }
    last.map_or(Ok(None), Err)
}

impl KafkaLease {
    /// The lease of the pipeline `name` among the topics of `prefix`. `client` reaches the cluster; `replication` is
    /// that of the lease topic if it is made, -1 the brokers' default.
    pub fn new(client: ClientConfig, replication: i32, prefix: &str, name: &str) -> Self {
        KafkaLease {
            client,
            // Pipelines of one prefix may have different names, and lead each for itself.
            topic: format!("{prefix}.__lease.{name}"),
            replication,
            member: None,
        }
    }

    /// Reaches a broker, or says why none lets this client in: the calls that follow would only time out.
    async fn reach(&self) -> Result<()> {
        let config = self.client.clone();
        let probed = tokio::task::spawn_blocking(move || probe(&config)).await;
        let refused = probed.map_err(|error| Error::bug("probing kafka panicked").with_source(error))?;
        match refused.map_err(|error| self.failure(error))? {
            Some(reason) => Err(Error::new(
                ErrorKind::Authentication,
                format!("kafka does not let this client in: {reason}"),
            )
            .with_fix("correct transport.kafka.sasl and transport.kafka.tls")),
            None => Ok(()),
        }
    }

    async fn make_topic(&self) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client.create().map_err(|error| self.failure(error))?;
        let topic = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(self.replication));
        let options = AdminOptions::new().request_timeout(Some(TOPIC_WAIT_MAX));
        let made = admin.create_topics(&[topic], &options).await;
        match made.map_err(|error| self.failure(error))?.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                Err(self.failure(KafkaError::AdminOp(code)))
            }
            _ => Ok(()),
        }
    }

    fn join(&self) -> Result<Member> {
        let (sender, held) = watch::channel(false);
        let mut config = self.client.clone();
        config
            .set("group.id", &self.topic)
            // Whoever holds it keeps it when another copy joins.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "latest");
        for (name, default) in [("session.timeout.ms", SESSION), ("heartbeat.interval.ms", HEARTBEAT)] {
            // `transport.kafka.properties` may say otherwise.
            if config.get(name).is_none() {
                config.set(name, default.as_millis().to_string());
            }
        }
        let consumer: StreamConsumer<Assigned> = config
            .create_with_context(Assigned(sender))
            .map_err(|error| self.failure(error))?;
        consumer
            .subscribe(&[&self.topic])
            .map_err(|error| self.failure(error))?;
        let topic = self.topic.clone();
        // The topic stays empty; receiving is what keeps the membership alive.
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = consumer.recv().await {
                    tracing::debug!(%topic, %error, "the lease's group");
                    tokio::time::sleep(ERROR_WAIT).await;
                }
            }
        });
        Ok(Member { held, task })
    }

    fn failure(&self, error: KafkaError) -> Error {
        let code = error.rdkafka_error_code();
        let refused = matches!(
            code,
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
            )
        );
        let told = match (&error, refused) {
            (KafkaError::ClientConfig(..), _) => Error::new(ErrorKind::Configuration, "kafka refuses its properties")
                .with_fix("see transport.kafka in the pipeline file"),
            (_, true) => Error::new(
                ErrorKind::Privilege,
                format!("kafka refuses lease topic \"{}\"", self.topic),
            )
            .with_fix("allow the user to create, describe and read it, and to read its group of the same name"),
            _ => Error::new(
                ErrorKind::Unreachable,
                format!("cannot use lease topic \"{}\"", self.topic),
            )
            .with_class(Class::Retryable),
        };
        told.with_source(error)
    }
}

#[async_trait]
impl Lease for KafkaLease {
    fn free_after(&self) -> Duration {
        let session = self.client.get("session.timeout.ms");
        let session = session.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        JOIN_WAIT + session.unwrap_or(SESSION)
    }

    async fn acquire(&mut self) -> Result<()> {
        let gone = || Error::new(ErrorKind::Unreachable, "the lease's group ended");
        if self.member.as_ref().is_none_or(|member| member.task.is_finished()) {
            self.reach().await?;
            self.make_topic().await?;
            self.member = Some(self.join()?);
        }
        let Some(member) = &mut self.member else {
            return Err(gone());
        };
        member.held.wait_for(|held| *held).await.map(drop).map_err(|_| gone())
    }

    async fn lost(&mut self) {
        match &mut self.member {
            // An error means that the member is gone, which is a loss too.
            Some(member) => drop(member.held.wait_for(|held| !*held).await),
            None => std::future::pending().await,
        }
    }

    async fn release(&mut self) -> Result<()> {
        self.member = None;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Dropping the consumer with its task leaves the group.
        self.task.abort();
    }
}
