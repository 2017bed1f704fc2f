// SPDX-License-Identifier: Apache-2.0
//! From a pipeline file to the parts that do the work.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_core::dblog::settings::EngineSettings;
use highwater_core::transport::{Cleanup, Transport, WriterId};
use highwater_core::{Error, Result};
use highwater_formats::registry::confluent::{ConfluentRegistry, ConfluentSettings};
use highwater_formats::registry::embedded::EmbeddedRegistry;
use highwater_formats::{EncoderSettings, Format, SchemaRegistry};
use highwater_model::{
    Document, FirstLoad, Format as FormatSpec, Pipeline, RegistrySpec, SnapshotMode, TopicCleanup, TransportSpec,
};
use highwater_transport::embedded::EmbeddedSettings;
use highwater_transport::{TransportSettings, connect as transport_connect};

use crate::connector::configuration;
use crate::discard::DiscardTransport;
use crate::leases::{AloneLease, FileLease, Lease};
use crate::source_task::{PaceSettings, RenewalLimits, RetrySettings, TaskSettings, TopicSettings};

/// The format of a pipeline's records.
pub fn format(pipeline: &Pipeline) -> Format {
    match pipeline.format {
        FormatSpec::Avro => Format::Avro,
        FormatSpec::Json => Format::Json,
    }
}

/// The settings of a pipeline's task; `folder` is where relative paths of its file begin.
pub fn task_settings(pipeline: &Pipeline, folder: &Path) -> TaskSettings {
    let ms = Duration::from_millis;
    let mut encoder = EncoderSettings::new(pipeline.prefix());
    encoder.format = format(pipeline);
    let snapshot = &pipeline.snapshot;
    TaskSettings {
        writer: WriterId(pipeline.name.clone()),
        encoder,
        topics: TopicSettings {
            partitions: pipeline.topics.partitions.unwrap_or(1),
            cleanup: match pipeline.topics.cleanup {
                TopicCleanup::Delete => Cleanup::Delete,
                TopicCleanup::Compact => Cleanup::Compact,
            },
            retention: pipeline.topics.retention_ms.map(ms),
        },
        engine: EngineSettings {
            windows_max: snapshot.windows_max,
            reads_max: snapshot.readers,
            chunk_rows_max: snapshot.chunk_rows_max,
            chunk_rows_start: snapshot.chunk_rows_max.min(EngineSettings::default().chunk_rows_start),
            chunk_rows_min: snapshot.chunk_rows_max.min(EngineSettings::default().chunk_rows_min),
            chunk_bytes_max: snapshot.chunk_bytes_max,
            chunk_time_target_us: snapshot.chunk_target_ms.saturating_mul(1_000),
            ..EngineSettings::default()
        },
        initial_snapshot: snapshot.mode == SnapshotMode::Initial,
        start_snapshot_max: match snapshot.first_load {
            FirstLoad::OneSnapshot => Some(Duration::from_secs(snapshot.first_load_minutes_max.saturating_mul(60))),
            FirstLoad::Windows => None,
        },
        renewal: RenewalLimits::default(),
        pace: PaceSettings {
            linger: ms(pipeline.checkpoint.every_ms),
            events_max: pipeline.checkpoint.every_events,
            bytes_max: pipeline.checkpoint.every_bytes,
            idle: ms(pipeline.checkpoint.idle_ms),
        },
        retry: RetrySettings {
            first: ms(pipeline.retry.backoff_ms),
            longest: ms(pipeline.retry.backoff_max_ms),
            give_up_after: ms(pipeline.retry.give_up_after_ms),
        },
        drain_max: ms(pipeline.admin.shutdown_ms_max),
        spill_folder: Some(folder.join(format!("{}.spill", pipeline.name))),
    }
}

/// A path of a pipeline file: relative ones begin at the file's folder.
pub fn path_in(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path)
}

/// The local socket of a pipeline.
pub fn socket_path(pipeline: &Pipeline, folder: &Path) -> PathBuf {
    match &pipeline.admin.socket {
        Some(path) => path_in(folder, path),
        None => folder.join(format!("{}.sock", pipeline.name)),
    }
}

/// Whether the settings of transport and registry can be read; connects to nothing.
///
/// # Errors
/// [`highwater_core::ErrorKind::Configuration`] with path, line and the nearest known name.
pub fn validate(pipeline: &Pipeline, folder: &Path) -> Result<()> {
    lease(pipeline, folder)?;
    if let RegistrySpec::Confluent(settings) = &pipeline.registry {
        let _: ConfluentSettings = settings.read("registry.confluent").map_err(configuration)?;
    }
    Ok(())
}

/// Opens the transport of a pipeline. The embedded one is locked by this process from here on.
///
/// # Errors
/// Those of the transport.
pub async fn transport(pipeline: &Pipeline, folder: &Path) -> Result<Arc<dyn Transport>> {
    match &pipeline.transport {
        TransportSpec::Embedded(embedded) => embedded_transport(embedded, folder).await,
        #[cfg(feature = "kafka")]
        TransportSpec::Kafka(kafka) => {
            let settings = crate::kafka_settings::read(kafka, folder)?;
            transport_connect(&TransportSettings::Kafka(settings.into())).await
        }
        #[cfg(not(feature = "kafka"))]
        TransportSpec::Kafka(_) => Err(without_kafka()),
        TransportSpec::Discard => Ok(Arc::new(DiscardTransport::default())),
    }
}

/// Opens the registry of a pipeline.
///
/// # Errors
/// Those of the registry.
pub async fn registry(pipeline: &Pipeline, folder: &Path) -> Result<Arc<dyn SchemaRegistry>> {
    match &pipeline.registry {
        RegistrySpec::Confluent(confluent) => confluent_registry(confluent, folder),
        RegistrySpec::Embedded(spec) => {
            let own = match (&spec.path, &pipeline.transport) {
                (Some(path), _) => path_in(folder, path),
                (None, TransportSpec::Embedded(embedded)) => embedded_folder(embedded, folder)?.join("schemas"),
                (None, TransportSpec::Discard) => return Ok(Arc::new(EmbeddedRegistry::in_memory())),
                (None, TransportSpec::Kafka(_)) => folder.join(format!("{}.schemas", pipeline.name)),
            };
            let opened = tokio::task::spawn_blocking(move || EmbeddedRegistry::open(&own)).await;
            let opened = opened.map_err(|error| Error::bug("opening the registry panicked").with_source(error))?;
            Ok(Arc::new(opened?))
        }
    }
}

/// The lease of a pipeline.
///
/// # Errors
/// [`highwater_core::ErrorKind::Configuration`] when the transport's settings cannot be read.
pub fn lease(pipeline: &Pipeline, folder: &Path) -> Result<Box<dyn Lease>> {
    match &pipeline.transport {
        TransportSpec::Embedded(embedded) => {
            let path = embedded_folder(embedded, folder)?.join("leader.lock");
            Ok(Box::new(FileLease::new(path)))
        }
        #[cfg(feature = "kafka")]
        TransportSpec::Kafka(kafka) => {
            let settings = crate::kafka_settings::read(kafka, folder)?;
            let (client, replicas) = (settings.client()?, settings.replication_factor);
            let lease = crate::leases::KafkaLease::new(client, replicas, pipeline.prefix(), &pipeline.name);
            Ok(Box::new(lease))
        }
        #[cfg(not(feature = "kafka"))]
        TransportSpec::Kafka(_) => Err(without_kafka()),
        TransportSpec::Discard => Ok(Box::new(AloneLease)),
    }
}

#[cfg(not(feature = "kafka"))]
fn without_kafka() -> Error {
    Error::new(
        highwater_core::ErrorKind::Configuration,
        "transport.kafka: this program was built without Kafka",
    )
    .with_fix("use the embedded transport, or build it with the feature \"kafka\"")
}

async fn embedded_transport(settings: &Document, folder: &Path) -> Result<Arc<dyn Transport>> {
    let mut settings: EmbeddedSettings = settings.read("transport.embedded").map_err(configuration)?;
    settings.path = path_in(folder, &settings.path);
    transport_connect(&TransportSettings::Embedded(settings)).await
}

fn embedded_folder(settings: &Document, folder: &Path) -> Result<PathBuf> {
    let settings: EmbeddedSettings = settings.read("transport.embedded").map_err(configuration)?;
    Ok(path_in(folder, &settings.path))
}

fn confluent_registry(settings: &Document, folder: &Path) -> Result<Arc<dyn SchemaRegistry>> {
    let mut settings: ConfluentSettings = settings.read("registry.confluent").map_err(configuration)?;
    settings.ca_file = settings.ca_file.map(|path| path_in(folder, &path));
    Ok(Arc::new(ConfluentRegistry::new(&settings)?))
}
