// SPDX-License-Identifier: Apache-2.0
//! Which transport, and how: the part of a pipeline file that names it.

use std::sync::Arc;

use highwater_core::Result;
use highwater_core::transport::Transport;
use serde::{Deserialize, Serialize};

use crate::embedded::{EmbeddedSettings, EmbeddedTransport};
#[cfg(feature = "kafka")]
use crate::kafka::{KafkaSettings, KafkaTransport};
use crate::memory::MemoryTransport;

/// The transport of a pipeline, by its `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TransportSettings {
    /// A durable log in files, for one process.
    Embedded(EmbeddedSettings),
    /// A Kafka cluster.
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaSettings>),
    /// Nothing outlives the process: for tests.
    Memory {},
}

/// Opens the transport that the settings name.
pub async fn connect(settings: &TransportSettings) -> Result<Arc<dyn Transport>> {
    match settings {
        TransportSettings::Embedded(settings) => Ok(Arc::new(EmbeddedTransport::open(settings.clone()).await?)),
        #[cfg(feature = "kafka")]
        TransportSettings::Kafka(settings) => {
            Ok(Arc::new(KafkaTransport::connect(KafkaSettings::clone(settings)).await?))
        }
        TransportSettings::Memory {} => Ok(Arc::new(MemoryTransport::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_by_kind_and_unknown_ones_are_refused() {
        let embedded = r#"{"kind": "embedded", "path": "/data", "fsync": {"interval_ms": 20}}"#;
        let Ok(TransportSettings::Embedded(settings)) = serde_json::from_str(embedded) else {
            panic!("not embedded")
        };
        assert_eq!(settings.path.to_str(), Some("/data"));
        let known = [r#"{"kind": "memory"}"#, r#"{"kind": "embedded", "fsync": "never"}"#];
        for text in known {
            let settings: TransportSettings = serde_json::from_str(text).unwrap();
            let again = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<TransportSettings>(&again).unwrap(), settings);
        }
        let unknown = [
            r#"{"kind": "embedded", "pth": "/data"}"#,
            r#"{"kind": "memory", "path": "/data"}"#,
            r#"{"kind": "pulsar"}"#,
            r#"{"path": "/data"}"#,
        ];
        for text in unknown {
            assert!(serde_json::from_str::<TransportSettings>(text).is_err(), "{text}");
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn kafka_settings_name_secrets_and_hold_none() {
        let text = r#"{"kind": "kafka", "bootstrap_servers": "b:9093", "tls": {"ca_file": "/ca.pem"},
            "sasl": {"mechanism": "SCRAM-SHA-512", "username": "u", "password": {"env": "KAFKA_PASSWORD"}},
            "extra": {"client.rack": "a"}}"#;
        let Ok(TransportSettings::Kafka(settings)) = serde_json::from_str(text) else {
            panic!("not kafka")
        };
        settings.check().unwrap();
        let literal = text.replace(r#"{"env": "KAFKA_PASSWORD"}"#, r#""hunter2""#);
        assert!(serde_json::from_str::<TransportSettings>(&literal).is_err());
    }
}
