// SPDX-License-Identifier: Apache-2.0
//! Reads topics for people: decoded events, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use highwater_core::transport::{Offsets, Reader, Record, StartAt, Transport};
use highwater_core::{Error, ErrorKind, Result};
use highwater_formats::{Decoder, Format, SchemaRegistry};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Records fetched at once.
const RECORDS_MAX: usize = 500;
/// How long one wait for a record lasts; between two, the reader's caller may end it.
const WAIT: Duration = Duration::from_millis(250);

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailRequest {
    /// The topic.
    pub topic: String,
    /// From the oldest record held, instead of from now on.
    #[serde(default)]
    pub from_beginning: bool,
    /// End after this many events.
    #[serde(default)]
    pub max: Option<u64>,
    /// End where the topic ended when reading began, instead of waiting for more.
    #[serde(default)]
    pub until_end: bool,
}

/// An event as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TailEvent {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key's columns.
    pub key: Option<Value>,
    /// The envelope; `None` for a tombstone.
    pub value: Option<Value>,
    /// Columns that the log left out as unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchanged: Vec<String>,
}

/// Records of some topics, in offset order per partition.
pub struct Records {
    reader: Box<dyn Reader>,
    waiting: VecDeque<Record>,
    fetched: Vec<Record>,
    end: Option<Offsets>,
}

impl Records {
    /// Opens topics; with `until_end` it ends where they ended at this moment.
    ///
    /// # Errors
    /// Those of the transport; [`ErrorKind::NotFound`] for a topic that does not exist.
    pub async fn open(transport: &dyn Transport, topics: &[String], start: StartAt, until_end: bool) -> Result<Self> {
        let have = transport.topics().await?;
        for topic in topics {
            if !have.iter().any(|info| info.name == *topic) {
                let near = highwater_model::nearest(topic, have.iter().map(|info| info.name.as_str()));
                let fix = near.map_or("list them: highwater topics".to_owned(), |near| {
                    format!("did you mean \"{near}\"? list them: highwater topics")
                });
                return Err(Error::new(ErrorKind::NotFound, format!("topic \"{topic}\" does not exist")).with_fix(fix));
            }
        }
        let mut reader = transport.open_reader(topics, None, start).await?;
        let end = if until_end { Some(reader.end().await?) } else { None };
        Ok(Records {
            reader,
            waiting: VecDeque::new(),
            fetched: Vec::new(),
            end,
        })
    }

    /// The next record; `None` at the end that was agreed. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.waiting.pop_front() {
                return Ok(Some(record));
            }
            if self.at_end() {
                return Ok(None);
            }
            self.reader.poll(&mut self.fetched, RECORDS_MAX, WAIT).await?;
            self.waiting.extend(self.fetched.drain(..));
        }
    }

    fn at_end(&self) -> bool {
        let Some(end) = &self.end else {
            return false;
        };
        let position = self.reader.position();
        end.iter()
            .all(|(partition, end)| *end == 0 || position.get(partition).is_some_and(|at| at >= end))
    }
}

/// Decoded events of one topic.
pub struct Tail {
    records: Records,
    decoder: Decoder,
    left: Option<u64>,
}

impl Tail {
    /// Opens the topic.
    ///
    /// # Errors
    /// Those of [`Records::open`].
    pub async fn open(
        transport: &dyn Transport,
        registry: Arc<dyn SchemaRegistry>,
        format: Format,
        request: &TailRequest,
    ) -> Result<Self> {
        let start = if request.from_beginning {
            StartAt::Earliest
        } else {
            StartAt::Latest
        };
        let topics = [request.topic.clone()];
        Ok(Tail {
            records: Records::open(transport, &topics, start, request.until_end).await?,
            decoder: Decoder::new(format, registry),
            left: request.max,
        })
    }

    /// The next event; `None` at the agreed end. Topics of our own (`__…`) hold JSON, whatever the pipeline's format.
    pub async fn next(&mut self) -> Result<Option<TailEvent>> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let Some(record) = self.records.next().await? else {
            return Ok(None);
        };
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        let (key, value, unchanged) = if is_own(&record.topic) {
            (json(record.key.as_deref()), json(record.value.as_deref()), Vec::new())
        } else {
            let event = self.decoder.decode(&record).await?;
            (event.key, event.value, event.unchanged)
        };
        Ok(Some(TailEvent {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key,
            value,
            unchanged,
        }))
    }
}

fn is_own(topic: &str) -> bool {
    topic.rsplit('.').next().is_some_and(|last| last.starts_with("__"))
}

/// JSON, or text where it is none.
fn json(bytes: Option<&[u8]>) -> Option<Value> {
    let bytes = bytes?;
    Some(serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned())))
}

/// The certificates of a prefix, oldest first.
///
/// # Errors
/// Those of the transport.
pub async fn certificates(transport: &dyn Transport, prefix: &str) -> Result<Vec<Value>> {
    let topic = crate::source_task::certificates_topic(prefix).to_string();
    let mut records = Records::open(transport, &[topic], StartAt::Earliest, true).await?;
    let mut certificates = Vec::new();
    while let Some(record) = records.next().await? {
        certificates.extend(json(record.value.as_deref()));
    }
    Ok(certificates)
}
