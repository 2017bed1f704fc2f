// SPDX-License-Identifier: Apache-2.0
//! How a Kafka broker is to be started.

/// The user of the SASL listeners.
pub const KAFKA_USER: &str = "highwater";
/// The password of [`KAFKA_USER`], for PLAIN and for SCRAM.
pub const KAFKA_PASSWORD: &str = "highwater-secret";

/// A kind of listener; each has a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Neither encrypted nor authenticated; always there.
    Plaintext,
    /// TLS, the broker's certificate signed by [`super::Kafka::ca_pem`].
    Ssl,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 without TLS.
    SaslPlaintext,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 over TLS.
    SaslSsl,
}

impl Security {
    /// Kafka's word for it, as in librdkafka's `security.protocol`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    pub(crate) fn is_encrypted(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    pub(crate) fn is_authenticated(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

/// How a broker is to be started.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Listeners besides the plain one.
    pub listeners: Vec<Security>,
    /// Broker settings over the defaults (no automatic topics, one replica of everything).
    pub settings: Vec<(String, String)>,
    /// Largest Java heap, in MiB.
    pub heap_mb: u32,
    /// Let the virtual machine compile fully: a slower start and the broker's real speed, for benchmarks.
    pub full_speed: bool,
    /// The host and port that clients are told to use for the plain listener, such as a fault proxy's; by default
    /// the listener itself.
    pub advertised: Option<String>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            settings: Vec::new(),
            heap_mb: 384,
            full_speed: false,
            advertised: None,
        }
    }
}

impl KafkaOptions {
    /// The same options with one more listener.
    #[must_use]
    pub fn with_listener(mut self, security: Security) -> Self {
        self.listeners.push(security);
        self
    }

    /// The same options with one more broker setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same options with another advertised address (`127.0.0.1:PORT`) of the plain listener.
    #[must_use]
    pub fn with_advertised(mut self, address: &str) -> Self {
        self.advertised = Some(address.to_owned());
        self
    }
}

/// One listener with its port.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) security: Security,
    pub(crate) port: u16,
    pub(crate) advertised: String,
}

/// The content of `server.properties`, less the directories and certificates.
pub(crate) fn properties(listeners: &[Listener], controller: u16, over: &[(String, String)]) -> String {
    let join = |part: &dyn Fn(&Listener) -> String| listeners.iter().map(part).collect::<Vec<_>>().join(",");
    let bound = join(&|l| format!("{}://127.0.0.1:{}", l.security.name(), l.port));
    let advertised = join(&|l| format!("{}://{}", l.security.name(), l.advertised));
    let map = join(&|l| format!("{0}:{0}", l.security.name()));
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        format!("listeners={bound},CONTROLLER://127.0.0.1:{controller}"),
        format!("advertised.listeners={advertised}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
        format!("listener.security.protocol.map=CONTROLLER:PLAINTEXT,{map}"),
    ];
    lines.extend(ONE_NODE.iter().map(|(name, value)| format!("{name}={value}")));
    if listeners.iter().any(|listener| listener.security.is_authenticated()) {
        lines.extend(sasl(listeners));
    }
    lines.extend(over.iter().map(|(name, value)| format!("{name}={value}")));
    lines.join("\n") + "\n"
}

/// Settings of a cluster of one node that starts and stops fast.
const ONE_NODE: [(&str, &str); 13] = [
    ("num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "4"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "false"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    // A client on this machine is told of a dead broker at once, so nothing waits for drained fetches.
    ("controlled.shutdown.enable", "false"),
];

fn sasl(listeners: &[Listener]) -> Vec<String> {
    let mechanisms = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512";
    let mut lines = vec![format!("sasl.enabled.mechanisms={mechanisms}")];
    for listener in listeners.iter().filter(|listener| listener.security.is_authenticated()) {
        let prefix = format!("listener.name.{}", listener.security.name().to_ascii_lowercase());
        lines.push(format!(
            "{prefix}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_{KAFKA_USER}=\"{KAFKA_PASSWORD}\";"
        ));
        for mechanism in ["scram-sha-256", "scram-sha-512"] {
            lines.push(format!(
                "{prefix}.{mechanism}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ));
        }
    }
    lines
}
