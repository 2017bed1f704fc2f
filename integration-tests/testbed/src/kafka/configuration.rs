// SPDX-License-Identifier: Apache-2.0
//! A broker's `server.properties`, the same for a process and for a container.
//!
//! In a container a listener has the port by which the machine reaches it: a client is told an address
//! (`127.0.0.1:PORT`) that holds on either side.

use crate::certificates::{Authority, LOCAL_NAMES};
use crate::error::Result;
use crate::kafka::options::{KAFKA_PASSWORD, KAFKA_USER, KafkaOptions, Security};
use crate::ports::Port;

/// What one broker is configured with over its life.
#[derive(Debug)]
pub(crate) struct Configuration {
    options: KafkaOptions,
    ports: Vec<(Security, Port)>,
    internal: Port,
    controller: Port,
    authority: Option<Authority>,
}

impl Configuration {
    /// Reserves a port for each listener and makes an authority if one of them is encrypted.
    pub(crate) fn new(options: KafkaOptions) -> Result<Self> {
        let more = options.listeners.iter().copied();
        let mut kinds = vec![Security::Plaintext];
        kinds.extend(more.filter(|kind| *kind != Security::Plaintext));
        let is_encrypted = kinds.iter().any(|kind| kind.is_encrypted());
        Ok(Self {
            options,
            authority: is_encrypted.then(Authority::new).transpose()?,
            ports: kinds
                .into_iter()
                .map(|kind| Ok((kind, Port::reserve()?)))
                .collect::<Result<_>>()?,
            internal: Port::reserve()?,
            controller: Port::reserve()?,
        })
    }

    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The ports of the listeners, the plain one's first.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (Security, u16)> {
        self.ports.iter().map(|(kind, port)| (*kind, port.number()))
    }

    /// The virtual machine's arguments.
    pub(crate) fn java(&self) -> Vec<String> {
        let mut arguments = vec!["-Xms128m".to_owned(), format!("-Xmx{}m", self.options.heap_mb)];
        if !self.options.full_speed {
            // Half the CPU of a start goes into compiling what a test never runs often.
            arguments.extend(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"].map(str::to_owned));
        }
        arguments
    }

    /// The files of a broker that listens on `address` and whose files lie in `dir`: name and content.
    pub(crate) fn files(&self, address: &str, dir: &str) -> Result<Vec<(&'static str, String)>> {
        let mut over = vec![("log.dirs".to_owned(), format!("{dir}/data"))];
        let mut files = Vec::new();
        if let Some(authority) = &self.authority {
            let server = authority.server(&LOCAL_NAMES)?;
            files.push(("ca.pem", authority.ca_pem().to_owned()));
            files.push(("server.pem", server.key_pem + &server.certificate_pem));
            for (store, file) in [("keystore", "server.pem"), ("truststore", "ca.pem")] {
                over.push((format!("ssl.{store}.type"), "PEM".to_owned()));
                over.push((format!("ssl.{store}.location"), format!("{dir}/{file}")));
            }
        }
        over.extend(self.options.settings.iter().cloned());
        let place = Place {
            address,
            internal: self.internal.number(),
            controller: self.controller.number(),
        };
        files.push(("server.properties", properties(&place, &self.listeners(), &over)));
        Ok(files)
    }

    fn listeners(&self) -> Vec<Listener> {
        let listener = |(security, port): (Security, u16)| {
            let advertised = match (&self.options.advertised, security) {
                (Some(other), Security::Plaintext) => other.clone(),
                _ => format!("127.0.0.1:{port}"),
            };
            Listener {
                security,
                port,
                advertised,
            }
        };
        self.ports().map(listener).collect()
    }
}

/// Where a broker listens.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The address of the clients' listeners.
    pub(crate) address: &'a str,
    /// The port by which the broker reaches itself: apart from the clients', which may be told a proxy's address.
    pub(crate) internal: u16,
    pub(crate) controller: u16,
}

/// One listener with its port.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) security: Security,
    pub(crate) port: u16,
    pub(crate) advertised: String,
}

/// The content of `server.properties`; `over` has the directories and certificates.
pub(crate) fn properties(place: &Place<'_>, listeners: &[Listener], over: &[(String, String)]) -> String {
    let Place {
        address,
        internal,
        controller,
    } = place;
    let join = |part: &dyn Fn(&Listener) -> String| listeners.iter().map(part).collect::<Vec<_>>().join(",");
    let bound = join(&|l| format!("{}://{address}:{}", l.security.name(), l.port));
    let advertised = join(&|l| format!("{}://{}", l.security.name(), l.advertised));
    let map = join(&|l| format!("{0}:{0}", l.security.name()));
    let own = format!("INTERNAL://127.0.0.1:{internal}");
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        format!("listeners={bound},{own},CONTROLLER://127.0.0.1:{controller}"),
        format!("advertised.listeners={advertised},{own}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=INTERNAL".to_owned(),
        format!("listener.security.protocol.map=CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,{map}"),
    ];
    lines.extend(ONE_NODE.iter().map(|(name, value)| format!("{name}={value}")));
    if listeners.iter().any(|listener| listener.security.is_authenticated()) {
        lines.extend(sasl(listeners));
    }
    lines.extend(over.iter().map(|(name, value)| format!("{name}={value}")));
    lines.join("\n") + "\n"
}

/// Settings of a cluster of one node that starts and stops fast.
const ONE_NODE: [(&str, &str); 14] = [
    ("num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "4"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    // Tests that kill members of a group need not wait the default 6 seconds until the group misses them.
    ("group.min.session.timeout.ms", "500"),
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
