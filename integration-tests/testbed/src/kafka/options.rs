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
