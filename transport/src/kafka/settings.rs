// SPDX-License-Identifier: Apache-2.0
//! How a Kafka cluster is reached and used. Secrets are named here, never held: an environment variable or a file has them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use highwater_core::{Error, ErrorKind, Result};
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Secret {
    /// In this environment variable.
    Env(String),
    /// In this file; a line end at its end is not part of it.
    File(PathBuf),
}

impl Secret {
    fn read(&self, setting: &str) -> Result<String> {
        let missing = |place: String, why: String| {
            Error::new(
                ErrorKind::Configuration,
                format!("{place}, which transport setting \"{setting}\" names, {why}"),
            )
        };
        match self {
            Secret::Env(name) => std::env::var(name).map_err(|_| {
                missing(format!("environment variable \"{name}\""), "is not set".to_owned())
                    .with_fix(format!("set {name} for this process"))
            }),
            Secret::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(source) => {
                    let place = format!("file \"{}\"", path.display());
                    Err(missing(place, "cannot be read".to_owned())
                        .with("cause", &source)
                        .with_fix("correct the path or the file's rights"))
                }
            },
        }
    }
}

/// TLS to the brokers, their certificates always verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// Authorities to trust, PEM; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, PEM, where the brokers ask for one.
    pub certificate_file: Option<PathBuf>,
    /// Our key, PEM.
    pub key_file: Option<PathBuf>,
    /// What opens the key.
    pub key_password: Option<Secret>,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// User and password as they are: over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// Kerberos.
    #[serde(rename = "GSSAPI")]
    Gssapi,
}

impl SaslMechanism {
    fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::Gssapi => "GSSAPI",
        }
    }
}

/// Who we are to the brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaslSettings {
    /// How we prove it.
    pub mechanism: SaslMechanism,
    /// User of PLAIN and SCRAM.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of PLAIN and SCRAM.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The brokers' service name of GSSAPI; `None`: `kafka`.
    #[serde(default)]
    pub kerberos_service: Option<String>,
    /// Our principal of GSSAPI.
    #[serde(default)]
    pub kerberos_principal: Option<String>,
    /// Our key table of GSSAPI.
    #[serde(default)]
    pub kerberos_keytab: Option<PathBuf>,
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not.
    None,
    /// Cheap; the default.
    Lz4,
    /// Smaller, at more processor time.
    Zstd,
    /// For consumers that know no better.
    Gzip,
    /// For consumers that know no better.
    Snappy,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
        }
    }
}

/// Settings of the Kafka transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// Version of these settings: 1.
    pub version: u32,
    /// Brokers to begin with, `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// What the brokers see us as; also begins the transactional ids, so that two installations that share a cluster and have
    /// writers of the same names do not fence each other.
    pub client_id: String,
    /// TLS; `None`: no encryption.
    pub tls: Option<TlsSettings>,
    /// Authentication; `None`: none, or by our TLS certificate.
    pub sasl: Option<SaslSettings>,
    /// The compacted topic that holds the writers' checkpoints.
    pub checkpoint_topic: String,
    /// Partitions of that topic when it is made.
    pub checkpoint_partitions: u32,
    /// Replicas of topics that are made; -1: the brokers' default. With three or more, `min.insync.replicas` is set to two.
    pub replication_factor: i32,
    /// How batches are compressed.
    pub compression: Compression,
    /// Size in bytes at which a batch for one partition is sent. The best are 500,000 to 900,000.
    pub batch_bytes: u32,
    /// How long a batch waits to fill, in milliseconds. A commit, and a full queue in which no batch is full, send at once
    /// whatever waits, so there is nothing to gain from less: records that have waited longer while the broker is busy make
    /// librdkafka's thread spin.
    pub linger_ms: u32,
    /// The largest record in bytes. A topic's `max.message.bytes` must allow it too.
    pub record_bytes_max: u32,
    /// Memory in bytes for the values of records on their way; appends wait when it is full. More is no faster: a request
    /// is under way and one made ready behind it.
    pub queue_bytes_max: u32,
    /// Time in milliseconds after which the brokers end a transaction that is still open. For so long the readers wait
    /// behind a writer that died and was not opened again.
    pub transaction_timeout_ms: u32,
    /// Time in milliseconds that one request to the cluster, a commit included, may take in all.
    pub operation_timeout_ms: u32,
    /// Options of librdkafka by their own names, for what is not listed here; those that correctness or secrets rest on are
    /// refused.
    pub extra: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        KafkaSettings {
            version: 1,
            bootstrap_servers: "localhost:9092".to_owned(),
            client_id: "highwater".to_owned(),
            tls: None,
            sasl: None,
            checkpoint_topic: "__highwater_checkpoints".to_owned(),
            checkpoint_partitions: 4,
            replication_factor: -1,
            compression: Compression::Lz4,
            batch_bytes: 900_000,
            linger_ms: 10_000,
            record_bytes_max: 1_000_000,
            queue_bytes_max: 8 << 20,
            transaction_timeout_ms: 60_000,
            operation_timeout_ms: 60_000,
            extra: BTreeMap::new(),
        }
    }
}

/// Options that the transport sets itself, because its promises rest on them, or that would bring secrets into the file or
/// foreign code into the process. A name that ends in a dot stands for all that begin with it.
const REFUSED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "delivery.report.only.error",
    "enable.",
    "group.",
    "isolation.level",
    "log.queue",
    "max.in.flight",
    "message.send.max.retries",
    "metadata.broker.list",
    "partitioner",
    "plugin.",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "sasl.",
    "security.protocol",
    "ssl.",
    "test.",
    "transactional.id",
    "transaction.timeout.ms",
];

/// Options among those that are harmless.
const ALLOWED: &[&str] = &["ssl.cipher.suites", "ssl.curves.list", "ssl.sigalgs.list"];

fn is_refused(name: &str) -> bool {
    let covers = |refused: &&str| *refused == name || (refused.ends_with('.') && name.starts_with(*refused));
    !ALLOWED.contains(&name) && (name.ends_with("_cb") || REFUSED.iter().any(covers))
}

fn path_text(path: &std::path::Path) -> String {
    path.display().to_string()
}

impl KafkaSettings {
    /// Refuses values that cannot work.
    pub fn check(&self) -> Result<()> {
        let refused = |name: &str, why: &str, fix: &str| {
            Err(Error::new(ErrorKind::Configuration, format!("transport setting \"{name}\" {why}")).with_fix(fix))
        };
        if self.version != 1 {
            return refused(
                "version",
                "is unknown",
                "set it to 1, or run the Highwater that the file was written for",
            );
        }
        if self.bootstrap_servers.trim().is_empty() {
            return refused("bootstrap_servers", "is empty", "name at least one broker as host:port");
        }
        if let Some(name) = self.extra.keys().find(|name| is_refused(name)) {
            let why = "is set by the transport itself or belongs elsewhere";
            return refused(
                &format!("extra.{name}"),
                why,
                "remove it; TLS, SASL and transactions have settings of their own",
            );
        }
        if let Some(sasl) = &self.sasl {
            let by_password = sasl.mechanism != SaslMechanism::Gssapi;
            if by_password && (sasl.username.is_none() || sasl.password.is_none()) {
                return refused(
                    "sasl",
                    "lacks username or password",
                    "set both, the password as {\"env\": NAME} or {\"file\": PATH}",
                );
            }
        }
        Ok(())
    }

    fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }

    /// What every client of the cluster needs: where it is, TLS, SASL, further options.
    ///
    /// # Errors
    /// A secret that cannot be read.
    pub fn client(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        for (name, value) in &self.extra {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config.set("client.id", &self.client_id);
        config.set("security.protocol", self.protocol());
        config.set("topic.metadata.refresh.interval.ms", "60000");
        // Metadata of each topic that is used, not of all there are.
        config.set("topic.metadata.refresh.sparse", "true");
        if let Some(tls) = &self.tls {
            tls.apply(&mut config)?;
        }
        if let Some(sasl) = &self.sasl {
            sasl.apply(&mut config)?;
        }
        Ok(config)
    }

    /// What a transactional producer needs.
    pub(super) fn producer(&self, transactional_id: &str) -> Result<ClientConfig> {
        let mut config = self.client()?;
        config.set("transactional.id", transactional_id);
        config.set("enable.idempotence", "true");
        config.set("transaction.timeout.ms", self.transaction_timeout_ms.to_string());
        // A record has as long as its transaction.
        config.set("message.timeout.ms", self.transaction_timeout_ms.to_string());
        config.set("delivery.report.only.error", "true");
        config.set("compression.type", self.compression.name());
        config.set("batch.size", self.batch_bytes.to_string());
        config.set("batch.num.messages", "1000000");
        // librdkafka wants a record to live longer than it lingers.
        let linger_ms = self.linger_ms.min(self.transaction_timeout_ms / 2);
        config.set("linger.ms", linger_ms.to_string());
        config.set("message.max.bytes", self.record_bytes_max.max(1_000).to_string());
        config.set(
            "queue.buffering.max.kbytes",
            (self.queue_bytes_max / 1024).max(1).to_string(),
        );
        config.set("queue.buffering.max.messages", "500000");
        Ok(config)
    }

    /// What a consumer of committed records needs.
    pub(super) fn consumer(&self, group: &str) -> Result<ClientConfig> {
        let mut config = self.client()?;
        config.set("group.id", group);
        config.set("isolation.level", "read_committed");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error");
        config.set("enable.partition.eof", "true");
        config.set("allow.auto.create.topics", "false");
        // That a partition's end is reached shows only when the brokers answer a fetch with nothing, after this time.
        // A full queue is looked at again soon, not a second later.
        for (name, value) in [
            ("queued.max.messages.kbytes", "16384"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.queue.backoff.ms", "5"),
        ] {
            if !self.extra.contains_key(name) {
                config.set(name, value);
            }
        }
        Ok(config)
    }
}

impl TlsSettings {
    fn apply(&self, config: &mut ClientConfig) -> Result<()> {
        if let Some(path) = &self.ca_file {
            config.set("ssl.ca.location", path_text(path));
        }
        if let Some(path) = &self.certificate_file {
            config.set("ssl.certificate.location", path_text(path));
        }
        if let Some(path) = &self.key_file {
            config.set("ssl.key.location", path_text(path));
        }
        if let Some(password) = &self.key_password {
            config.set("ssl.key.password", password.read("tls.key_password")?);
        }
        config.set("enable.ssl.certificate.verification", "true");
        config.set("ssl.endpoint.identification.algorithm", "https");
        Ok(())
    }
}

impl SaslSettings {
    fn apply(&self, config: &mut ClientConfig) -> Result<()> {
        config.set("sasl.mechanism", self.mechanism.name());
        if let Some(username) = &self.username {
            config.set("sasl.username", username);
        }
        if let Some(password) = &self.password {
            config.set("sasl.password", password.read("sasl.password")?);
        }
        if let Some(service) = &self.kerberos_service {
            config.set("sasl.kerberos.service.name", service);
        }
        if let Some(principal) = &self.kerberos_principal {
            config.set("sasl.kerberos.principal", principal);
        }
        if let Some(keytab) = &self.kerberos_keytab {
            config.set("sasl.kerberos.keytab", path_text(keytab));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_extra(name: &str) -> KafkaSettings {
        KafkaSettings {
            extra: BTreeMap::from([(name.to_owned(), "x".to_owned())]),
            ..KafkaSettings::default()
        }
    }

    #[test]
    fn extra_options_that_break_promises_or_bring_secrets_are_refused_by_name() {
        let refused = [
            "acks",
            "enable.idempotence",
            "transactional.id",
            "sasl.password",
            "ssl.key.password",
            "plugin.library.paths",
        ];
        for name in refused {
            let error = with_extra(name).check().unwrap_err();
            assert!(error.to_string().contains(&format!("extra.{name}")), "{error}");
        }
        for name in [
            "socket.keepalive.enable",
            "fetch.min.bytes",
            "statistics.interval.ms",
            "client.rack",
        ] {
            assert!(with_extra(name).check().is_ok(), "{name}");
        }
    }

    #[test]
    fn secrets_come_from_files_or_the_environment_and_their_absence_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        assert_eq!(Secret::File(path.clone()).read("sasl.password").unwrap(), "s3cret");
        std::fs::remove_file(&path).unwrap();
        let error = Secret::File(path.clone()).read("sasl.password").unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        let error = Secret::Env("HIGHWATER_NO_SUCH_SECRET".to_owned())
            .read("sasl.password")
            .unwrap_err();
        assert!(error.to_string().contains("HIGHWATER_NO_SUCH_SECRET"), "{error}");
    }

    #[test]
    fn every_client_option_is_known_to_librdkafka() {
        let settings = KafkaSettings {
            tls: Some(TlsSettings::default()),
            sasl: Some(SaslSettings {
                mechanism: SaslMechanism::Gssapi,
                username: None,
                password: None,
                kerberos_service: Some("kafka".to_owned()),
                kerberos_principal: Some("highwater@EXAMPLE".to_owned()),
                kerberos_keytab: Some("/etc/none.keytab".into()),
            }),
            ..KafkaSettings::default()
        };
        settings.check().unwrap();
        settings.producer("id").unwrap().create_native_config().unwrap();
        settings.consumer("group").unwrap().create_native_config().unwrap();
    }
}
