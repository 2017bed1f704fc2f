// SPDX-License-Identifier: Apache-2.0
//! How events are written. The defaults are Debezium's, but that truncations are written and not skipped.

use highwater_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The bytes of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Avro in the Confluent wire format, schemas in the registry.
    #[default]
    Avro,
    /// JSON as Kafka Connect's JSON converter writes it. Needs no registry.
    Json,
}

/// What becomes of a truncation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncates {
    /// A record without a key and with op `t`. Debezium skips truncations by default (`skipped.operations=t`), after
    /// which the stream no longer says what the table holds; hence the other default here.
    #[default]
    Emit,
    /// Nothing, as Debezium by default.
    Skip,
}

/// How decimals are written (Debezium's `decimal.handling.mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalHandling {
    /// Connect's Decimal (unscaled bytes, scale in the schema), or a struct with its own scale where the column has none.
    #[default]
    Precise,
    /// Plain text: `-12.50`.
    String,
}

/// How precise decimals look in JSON (Connect's `decimal.format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonDecimals {
    /// The unscaled number's bytes in base64.
    #[default]
    Base64,
    /// A JSON number with all its digits.
    Numeric,
}

/// What only concerns [`Format::Json`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonSettings {
    /// Whether each key and value carries its schema: `{"schema": …, "payload": …}` (Connect's `schemas.enable`).
    pub schemas: bool,
    /// Decimals.
    pub decimals: JsonDecimals,
}

/// How events are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// First part of every topic's name, and the `name` field of the source block (Debezium's `topic.prefix`).
    pub topic_prefix: String,
    /// Keys and values.
    #[serde(default)]
    pub format: Format,
    /// The `version` field of the source block.
    #[serde(default = "source_version")]
    pub source_version: String,
    /// Whether a record without a value follows each delete, for compacted topics.
    #[serde(default = "tombstones")]
    pub tombstones: bool,
    /// What stands in text and byte columns whose value the log left out as unchanged.
    #[serde(default = "unavailable_placeholder")]
    pub unavailable_placeholder: String,
    /// Truncations.
    #[serde(default)]
    pub truncates: Truncates,
    /// Decimals.
    #[serde(default)]
    pub decimals: DecimalHandling,
    /// What only concerns JSON.
    #[serde(default)]
    pub json: JsonSettings,
}

impl EncoderSettings {
    /// The defaults.
    pub fn new(topic_prefix: impl Into<String>) -> Self {
        EncoderSettings {
            topic_prefix: topic_prefix.into(),
            format: Format::default(),
            source_version: source_version(),
            tombstones: tombstones(),
            unavailable_placeholder: unavailable_placeholder(),
            truncates: Truncates::default(),
            decimals: DecimalHandling::default(),
            json: JsonSettings::default(),
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a prefix that cannot begin a topic's name.
    pub fn validate(&self) -> Result<()> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.topic_prefix.is_empty() || !self.topic_prefix.chars().all(allowed) {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("topic_prefix {:?} cannot begin the name of a topic", self.topic_prefix),
            )
            .with_fix("set topic_prefix to letters, digits, '.', '_' and '-', at least one"));
        }
        Ok(())
    }
}

fn source_version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn tombstones() -> bool {
    true
}

fn unavailable_placeholder() -> String {
    "__debezium_unavailable_value".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_only_name_a_prefix_have_the_documented_defaults() {
        let settings: EncoderSettings = serde_json::from_str(r#"{"topic_prefix": "shop"}"#).unwrap();
        assert_eq!(settings, EncoderSettings::new("shop"));
        assert!(settings.tombstones);
        assert_eq!(settings.truncates, Truncates::Emit);
        assert_eq!(settings.unavailable_placeholder, "__debezium_unavailable_value");
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = serde_json::from_str::<EncoderSettings>(r#"{"topic_prefix": "shop", "tombstone": false}"#);
        assert!(error.unwrap_err().to_string().contains("`tombstone`"));
    }

    #[test]
    fn a_prefix_that_cannot_begin_a_topic_is_refused() {
        for prefix in ["", "a b", "ä", "a/b"] {
            let error = EncoderSettings::new(prefix).validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{prefix}");
        }
        EncoderSettings::new("shop.eu-1_x").validate().unwrap();
    }
}
