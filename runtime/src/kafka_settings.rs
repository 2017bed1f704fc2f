// SPDX-License-Identifier: Apache-2.0
//! The Kafka part of a pipeline file. Its names are the transport's own, and two in words of the file: `brokers`, a list,
//! for `bootstrap_servers`, and `properties` for `extra`.

use std::path::Path;

use highwater_core::Result;
use highwater_model::{Document, SpecError};
use highwater_transport::kafka::KafkaSettings;

use crate::components::path_in;
use crate::connector::configuration;

const ROOT: &str = "transport.kafka";

/// Reads the settings; relative paths begin at `folder`.
pub(crate) fn read(written: &Document, folder: &Path) -> Result<KafkaSettings> {
    let mut settings: KafkaSettings = translated(written)
        .and_then(|document| document.read(ROOT))
        .map_err(configuration)?;
    if let Some(tls) = &mut settings.tls {
        for path in [&mut tls.ca_file, &mut tls.certificate_file, &mut tls.key_file] {
            *path = path.take().map(|path| path_in(folder, &path));
        }
    }
    settings.check()?;
    Ok(settings)
}

fn translated(written: &Document) -> Result<Document, SpecError> {
    let mut document = written.clone();
    if let Some(brokers) = document.take("brokers") {
        let list: Vec<String> = brokers.read("transport.kafka.brokers")?;
        document.set("bootstrap_servers", Document::text(&list.join(","), brokers.line()));
    }
    if let Some(properties) = document.take("properties") {
        document.set("extra", properties);
    }
    if document.get("bootstrap_servers").is_none() {
        return Err(SpecError::new("setting \"brokers\" is missing")
            .with_suggestion("add \"brokers: [host:port]\"")
            .within(ROOT)
            .at_line(written.line()));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> Result<KafkaSettings> {
        read(&Document::from_yaml(yaml).unwrap(), Path::new("/etc/hw"))
    }

    #[test]
    fn brokers_and_properties_are_the_words_of_the_file() {
        let read = settings("brokers: [a:1, b:2]\nproperties: { client.rack: x }\ntls: { ca_file: ca.pem }\n").unwrap();
        assert_eq!(read.bootstrap_servers, "a:1,b:2");
        assert_eq!(read.extra["client.rack"], "x");
        assert_eq!(read.tls.unwrap().ca_file.unwrap(), Path::new("/etc/hw/ca.pem"));
    }

    #[test]
    fn mistakes_name_path_line_and_nearest_name() {
        let unknown = settings("brokers: [a:1]\ncompresion: zstd\n").unwrap_err();
        assert_eq!(
            unknown.message(),
            "line 2: transport.kafka.compresion: unknown setting \"compresion\""
        );
        assert_eq!(unknown.fix(), Some("did you mean \"compression\"?"));
        assert!(
            settings("linger_ms: 5\n")
                .unwrap_err()
                .message()
                .contains("\"brokers\" is missing")
        );
    }
}
