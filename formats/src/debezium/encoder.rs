// SPDX-License-Identifier: Apache-2.0
//! From changes to records.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use highwater_core::change::{Change, ChangeVersion, DeletionScope, Op};
use highwater_core::clock::Clock;
use highwater_core::image::{CellRef, RowImage};
use highwater_core::schema::{SchemaFingerprint, SchemaKind, TableName, TableSchema};
use highwater_core::source_block::SourceBlock;
use highwater_core::transport::{Header, RecordBatch};
use highwater_core::{Error, ErrorKind, Result, Scope};

use super::envelope::{Envelope, Images};
use super::explain::explain;
use super::plan::{Fail, ImagePlan, Plan, cell_or_before};
use super::prepare::Preparation;
use super::repeated::Repeated;
use super::settings::{EncoderSettings, Format, Truncates};
use super::slot::{Notation, SlotWriter};
use super::topic::topic_name;
use crate::avro::writer::Avro;
use crate::json::writer::Json;
use crate::registry::SchemaRegistry;

/// Header on the delete of a row that moved to another key: the new key, as that record's key bytes.
pub const NEW_KEY_HEADER: &str = "__debezium.newkey";
/// Header on the create of a row that moved from another key: the old key, as that record's key bytes.
pub const OLD_KEY_HEADER: &str = "__debezium.oldkey";
/// Header that names, as a JSON array, the columns of `after` that hold placeholders because the log left them out as
/// unchanged. A sink keeps what it has of them.
pub const UNCHANGED_HEADER: &str = "__highwater.unchanged";

/// How many shapes of tables an encoder keeps compiled. One more replaces the one compiled first, which is compiled again
/// if it comes back.
const PLANS_MAX: usize = 16_384;

/// The longest name of a topic that Kafka takes, in bytes.
const TOPIC_BYTES_MAX: usize = 249;

/// What [`Encoder::encode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// This many records were appended: 0 when the settings skip the change.
    Appended(usize),
    /// Nothing was appended. Call [`Encoder::prepare`] with the change's schema and encode the same change again: the
    /// shape is new, or a column that the catalogue calls NOT NULL holds a NULL and needs a wider schema.
    Prepare,
}

/// Writes changes as records, each table by a plan that [`Encoder::prepare`] compiles once.
///
/// ```text
/// while encoder.encode(&change, batch)? == Outcome::Prepare {
///     encoder.prepare(&change.schema).await?;
/// }
/// ```
///
/// - An insert, update or read is one record. A delete is followed by a tombstone, if the settings say so and the table
///   has a key. A row that moved to another key is a delete of the old key (with [`NEW_KEY_HEADER`]), its tombstone, and
///   a create under the new key (with [`OLD_KEY_HEADER`]). A truncation has neither key nor images. A message has its
///   prefix as key.
/// - A column that the log left out as unchanged is taken from the row before where the log has that; else it holds a
///   placeholder (text and octets: `unavailable_placeholder`; others: null, or zero where the column is NOT NULL), and
///   the record's [`UNCHANGED_HEADER`] names it. The same goes for columns that an `after` image lacks altogether.
/// - A column that a `before` image lacks (most have the key only) is null, or zero where the column is NOT NULL.
pub struct Encoder<P> {
    pub(super) settings: EncoderSettings,
    pub(super) source: Arc<dyn SourceBlock<P>>,
    registry: Arc<dyn SchemaRegistry>,
    clock: Arc<dyn Clock>,
    pub(super) plans: Vec<Plan>,
    /// Places in `plans`; consecutive changes are mostly of one shape, so the last is tried first.
    pub(super) index: HashMap<SchemaFingerprint, usize>,
    last: Option<(SchemaFingerprint, usize)>,
    /// Where the next plan goes once there are `PLANS_MAX`.
    replace: usize,
    /// Columns that held a NULL although the catalogue calls them NOT NULL.
    widened: HashMap<SchemaFingerprint, BTreeSet<usize>>,
    topics: HashMap<TableName, Arc<str>>,
    /// Which table a prepared topic belongs to.
    owners: HashMap<Arc<str>, TableName>,
    pub(super) scratch: Scratch,
}

/// Buffers that live from record to record.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) repeated: Repeated,
    old_key: Vec<u8>,
    new_key: Vec<u8>,
    first: Vec<u8>,
    second: Vec<u8>,
}

impl<P> Encoder<P> {
    /// An encoder without any plan. JSON never asks the registry.
    ///
    /// # Errors
    /// [`highwater_core::ErrorKind::Configuration`] when the settings cannot be followed.
    pub fn new(
        settings: EncoderSettings,
        source: Arc<dyn SourceBlock<P>>,
        registry: Arc<dyn SchemaRegistry>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        settings.validate()?;
        Ok(Encoder {
            settings,
            source,
            registry,
            clock,
            plans: Vec::new(),
            index: HashMap::new(),
            last: None,
            replace: 0,
            widened: HashMap::new(),
            topics: HashMap::new(),
            owners: HashMap::new(),
            scratch: Scratch::default(),
        })
    }

    /// Whether changes of this shape can be encoded now. Cheap: by fingerprint.
    pub fn is_prepared(&self, schema: &TableSchema) -> bool {
        self.index.contains_key(&schema.fingerprint())
    }

    /// Registers the schemas of a table's keys and values and compiles its plan. Does nothing for a shape that is
    /// prepared. Cancel-safe: a table is prepared whole or not at all.
    ///
    /// A value schema that the registry refuses is tried once more with those NOT NULL columns optional that the latest
    /// schema has as optional or does not have: columns that were added with a default, or became NOT NULL.
    ///
    /// # Errors
    /// Those of [`SchemaRegistry::register`]; [`highwater_core::ErrorKind::UnsupportedValue`] for a table whose columns
    /// cannot be told apart in the format; [`highwater_core::ErrorKind::Configuration`] when two tables share a topic, or
    /// its name is too long.
    pub async fn prepare(&mut self, schema: &Arc<TableSchema>) -> Result<()> {
        let fingerprint = schema.fingerprint();
        if self.index.contains_key(&fingerprint) {
            return Ok(());
        }
        let topic = self.topic(&schema.name);
        self.check_topic(&topic, &schema.name)?;
        let mut nullable: Vec<bool> = schema.columns.iter().map(|column| column.nullable).collect();
        for index in self.widened.get(&fingerprint).into_iter().flatten() {
            if let Some(nullable) = nullable.get_mut(*index) {
                *nullable = true;
            }
        }
        let preparation = Preparation {
            settings: &self.settings,
            schema,
            topic: Arc::clone(&topic),
            nullable,
            connector: self.source.connector(),
            source_name: self.source.record_name(),
            source_fields: self.source.fields(),
        };
        let plan = preparation.run(&*self.registry).await?;
        self.owners.insert(topic, schema.name.clone());
        self.keep(fingerprint, plan);
        Ok(())
    }

    /// [`Encoder::encode_at`] at this very moment.
    ///
    /// # Errors
    /// As there.
    pub fn encode(&mut self, change: &Change<P>, out: &mut RecordBatch) -> Result<Outcome> {
        self.encode_at(change, self.clock.now_us(), out)
    }

    /// Appends the records of a change, written at `now_us`, microseconds since 1970. All go to the topic of the change's
    /// table. Changes that are at hand together may share one look at the clock, which costs as much as a column.
    ///
    /// # Errors
    /// [`highwater_core::ErrorKind::UnsupportedValue`], scope table, for a value that the format cannot carry, and for a
    /// deletion of more than a row. Nothing is appended then.
    pub fn encode_at(&mut self, change: &Change<P>, now_us: i64, out: &mut RecordBatch) -> Result<Outcome> {
        if change.op == Op::Truncate && self.settings.truncates == Truncates::Skip {
            return Ok(Outcome::Appended(0));
        }
        let Some(at) = self.find(change.schema.fingerprint()) else {
            return Ok(Outcome::Prepare);
        };
        let written = match self.settings.format {
            Format::Avro => self.write::<Avro>(at, change, now_us, out),
            Format::Json => self.write::<Json>(at, change, now_us, out),
        };
        match written {
            Ok(records) => Ok(Outcome::Appended(records)),
            Err(Fail::Null(column)) => {
                self.widen(change.schema.fingerprint(), column);
                Ok(Outcome::Prepare)
            }
            Err(fail) => Err(explain(&change.schema, fail)),
        }
    }

    /// The topic of a table.
    pub fn topic(&mut self, table: &TableName) -> Arc<str> {
        if let Some(topic) = self.topics.get(table) {
            return Arc::clone(topic);
        }
        let topic: Arc<str> = topic_name(&self.settings.topic_prefix, table).into();
        self.topics.insert(table.clone(), Arc::clone(&topic));
        topic
    }

    /// The topic of a prepared shape, found by fingerprint; `None` for one that is not prepared.
    pub fn prepared_topic(&self, schema: &TableSchema) -> Option<&Arc<str>> {
        let fingerprint = schema.fingerprint();
        let at = match self.last {
            Some((last, at)) if last == fingerprint => at,
            _ => *self.index.get(&fingerprint)?,
        };
        self.plans.get(at).map(|plan| &plan.topic)
    }

    fn check_topic(&self, topic: &Arc<str>, table: &TableName) -> Result<()> {
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("table {table}: the name of its topic is longer than Kafka takes"),
            )
            .with("bytes", topic.len())
            .with("bytes at most", TOPIC_BYTES_MAX)
            .with_scope(Scope::Table)
            .with_fix("choose a shorter topic_prefix, or leave the table out"));
        }
        match self.owners.get(topic) {
            Some(owner) if owner != table => Err(Error::new(
                ErrorKind::Configuration,
                format!("tables {owner} and {table} would both be written to topic {topic:?}"),
            )
            .with_scope(Scope::Table)
            .with_fix("leave one of them out, or capture them in two pipelines with different topic_prefix")),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, fingerprint: SchemaFingerprint, plan: Plan) {
        let at = if self.plans.len() < PLANS_MAX {
            self.plans.push(plan);
            self.plans.len() - 1
        } else {
            let at = self.replace;
            self.replace = (at + 1) % PLANS_MAX;
            self.index.retain(|_, place| *place != at);
            self.plans[at] = plan;
            at
        };
        self.last = None;
        self.scratch.repeated.forget();
        self.index.insert(fingerprint, at);
    }

    fn widen(&mut self, fingerprint: SchemaFingerprint, column: usize) {
        self.widened.entry(fingerprint).or_default().insert(column);
        // The place in `plans` stays taken until it is replaced: this happens once per column at most.
        self.index.remove(&fingerprint);
        self.last = None;
    }

    #[inline]
    pub(super) fn find(&mut self, fingerprint: SchemaFingerprint) -> Option<usize> {
        match self.last {
            Some((last, at)) if last == fingerprint => Some(at),
            _ => {
                let at = *self.index.get(&fingerprint)?;
                self.last = Some((fingerprint, at));
                Some(at)
            }
        }
    }

    fn write<N: Notation>(
        &mut self,
        at: usize,
        change: &Change<P>,
        now_us: i64,
        out: &mut RecordBatch,
    ) -> Result<usize, Fail> {
        let Some(plan) = self.plans.get(at) else {
            return Err(Fail::Source);
        };
        let envelope = Envelope {
            plan,
            plan_at: at,
            source: &*self.source,
            change,
            now_us,
        };
        let timestamp_ms = now_us.div_euclid(1_000);
        let Scratch { repeated, .. } = &mut self.scratch;
        if (change.op == Op::Message) != (plan.kind == SchemaKind::Messages) {
            return Err(Fail::Kind);
        }
        match (change.op, &change.before, &change.after) {
            (Op::Message, _, Some(message)) => {
                out.push_with(
                    timestamp_ms,
                    Vec::new(),
                    |buffer| write_key::<N>(plan.key.as_ref(), message, None, buffer),
                    |buffer| envelope.write_message::<N>(message, repeated, buffer),
                )?;
                Ok(1)
            }
            (Op::Truncate, ..) => {
                out.push_with(
                    timestamp_ms,
                    Vec::new(),
                    |_| Ok(false),
                    |buffer| envelope.write::<N>(Op::Truncate, Images::default(), repeated, buffer),
                )?;
                Ok(1)
            }
            (Op::Delete, before, _) => delete::<P, N>(
                &envelope,
                before.as_ref(),
                self.settings.tombstones,
                &mut self.scratch,
                out,
            ),
            (_, _, None) => Err(Fail::AfterMissing),
            (Op::Update, Some(before), Some(after)) if moved(plan.key.as_ref(), before, after) => move_row::<P, N>(
                &envelope,
                before,
                after,
                self.settings.tombstones,
                &mut self.scratch,
                out,
            ),
            (op, before, Some(after)) => {
                let images = Images {
                    before: before.as_ref(),
                    after: Some(after),
                    fill: before.as_ref(),
                    stored: None,
                };
                let headers = unchanged_header(plan, after, before.as_ref());
                out.push_with(
                    timestamp_ms,
                    headers,
                    |buffer| write_key::<N>(plan.key.as_ref(), after, before.as_ref(), buffer),
                    |buffer| envelope.write::<N>(op, images, repeated, buffer),
                )?;
                Ok(1)
            }
        }
    }
}

fn write_key<N: Notation>(
    key: Option<&ImagePlan>,
    image: &RowImage,
    before: Option<&RowImage>,
    out: &mut Vec<u8>,
) -> Result<bool, Fail> {
    let Some(key) = key else { return Ok(false) };
    key.write_key(image, before, &mut N::Writer::new(out))?;
    Ok(true)
}

/// A delete, and its tombstone.
fn delete<P, N: Notation>(
    envelope: &Envelope<'_, P>,
    before: Option<&RowImage>,
    tombstones: bool,
    scratch: &mut Scratch,
    out: &mut RecordBatch,
) -> Result<usize, Fail> {
    if let ChangeVersion::Deletion { scope, .. } = &envelope.change.version
        && **scope != DeletionScope::Row
    {
        return Err(Fail::DeletionScope);
    }
    let Some(before) = before else {
        return Err(Fail::BeforeMissing);
    };
    scratch.old_key.clear();
    let has_key = write_key::<N>(envelope.plan.key.as_ref(), before, None, &mut scratch.old_key)?;
    let images = Images {
        before: Some(before),
        ..Images::default()
    };
    let key = &scratch.old_key;
    let timestamp_ms = envelope.now_us.div_euclid(1_000);
    out.push_with(
        timestamp_ms,
        Vec::new(),
        |buffer| {
            buffer.extend_from_slice(key);
            Ok(has_key)
        },
        |buffer| envelope.write::<N>(Op::Delete, images, &mut scratch.repeated, buffer),
    )?;
    if has_key && tombstones {
        out.push(Some(key), None, timestamp_ms, Vec::new());
        return Ok(2);
    }
    Ok(1)
}

/// A row that moved to another key. Everything that can fail is written aside first, so that all or none is appended.
fn move_row<P, N: Notation>(
    envelope: &Envelope<'_, P>,
    before: &RowImage,
    after: &RowImage,
    tombstones: bool,
    scratch: &mut Scratch,
    out: &mut RecordBatch,
) -> Result<usize, Fail> {
    let plan = envelope.plan;
    let Scratch {
        repeated,
        old_key,
        new_key,
        first,
        second,
    } = scratch;
    for buffer in [&mut *old_key, &mut *new_key, &mut *first, &mut *second] {
        buffer.clear();
    }
    write_key::<N>(plan.key.as_ref(), before, None, old_key)?;
    write_key::<N>(plan.key.as_ref(), after, Some(before), new_key)?;
    let gone = Images {
        before: Some(before),
        ..Images::default()
    };
    envelope.write::<N>(Op::Delete, gone, repeated, first)?;
    let came = Images {
        after: Some(after),
        fill: Some(before),
        ..Images::default()
    };
    envelope.write::<N>(Op::Create, came, repeated, second)?;

    let header = |name, key: &[u8]| Header {
        name,
        value: Bytes::copy_from_slice(key),
    };
    let timestamp_ms = envelope.now_us.div_euclid(1_000);
    out.push(
        Some(old_key),
        Some(first),
        timestamp_ms,
        vec![header(NEW_KEY_HEADER, new_key)],
    );
    if tombstones {
        out.push(Some(old_key), None, timestamp_ms, Vec::new());
    }
    let mut headers = unchanged_header(plan, after, Some(before));
    headers.push(header(OLD_KEY_HEADER, old_key));
    out.push(Some(new_key), Some(second), timestamp_ms, headers);
    Ok(2 + usize::from(tombstones))
}

/// Whether a key column differs. A column that one of the images lacks did not change.
fn moved(key: Option<&ImagePlan>, before: &RowImage, after: &RowImage) -> bool {
    let missing = |cell| matches!(cell, CellRef::Absent | CellRef::Unchanged);
    key.is_some_and(|key| {
        key.columns.iter().any(|column| {
            let (old, new) = (before.cell(column.index), after.cell(column.index));
            old != new && !missing(old) && !missing(new)
        })
    })
}

/// The header that names placeholders; none, and no allocation, when there are none.
fn unchanged_header(plan: &Plan, after: &RowImage, before: Option<&RowImage>) -> Vec<Header> {
    let missing = |index: &usize| {
        matches!(
            cell_or_before(after, before, *index),
            CellRef::Absent | CellRef::Unchanged
        )
    };
    let columns = 0..plan.names.len();
    if after.len() == plan.names.len() && after.is_whole() || !columns.clone().any(|index| missing(&index)) {
        return Vec::new();
    }
    let names: Vec<&str> = columns
        .filter(missing)
        .filter_map(|index| plan.names.get(index))
        .map(String::as_str)
        .collect();
    vec![Header {
        name: UNCHANGED_HEADER,
        value: serde_json::Value::from(names).to_string().into(),
    }]
}
