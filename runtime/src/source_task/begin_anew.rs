// SPDX-License-Identifier: Apache-2.0
//! A person's decision to go on although the source no longer has what follows the checkpoint: committed as a checkpoint
//! from which the next run makes every table right again.

use std::collections::{BTreeMap, BTreeSet};

use highwater_core::connector::{Catalog, LogReader, SourceConnector};
use highwater_core::dblog::Renewal;
use highwater_core::dblog::action::Action;
use highwater_core::dblog::engine::Engine;
use highwater_core::dblog::input::Input;
use highwater_core::position::ResumePoint;
use highwater_core::schema::TableName;
use highwater_core::transport::{StartAt, Writer};
use highwater_core::{Error, ErrorKind, Result};
use highwater_formats::debezium::topic::topic_name;

use super::SourceTask;

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BegunAnew {
    /// Where the log begins, in the database's notation.
    pub position: String,
    /// Tables that the next run copies and compares.
    pub tables: Vec<String>,
    /// Tables without a key: they are captured from `position` on.
    pub without_key: Vec<String>,
}

impl<C: SourceConnector> SourceTask<C> {
    /// Gives the checkpoint's position up for a new one, if it is lost, or with `force` in any case. Whoever calls leads.
    ///
    /// # Errors
    /// [`ErrorKind::Unsuitable`] where there is nothing to decide: no checkpoint, or a position that is not lost.
    pub async fn begin_anew(&self, force: bool) -> Result<BegunAnew> {
        let mut writer = self.transport.open_writer(&self.settings.writer).await?;
        let Some(stored) = writer.checkpoint().await? else {
            return Err(Error::new(
                ErrorKind::Unsuitable,
                "the pipeline has no checkpoint, so that nothing is lost",
            )
            .with_fix("start it: highwater run"));
        };
        let reconcile = self.connector.capabilities().reconcile;
        let kind = self.connector.kind();
        let mut engine = Engine::restore(self.settings.engine.clone(), reconcile, kind, &stored)?;
        let run = crate::chance::run_id();
        let lost = engine.resume_point().clone();
        match self.connector.open_log(Some(&lost), run).await {
            Err(error) if error.kind() == ErrorKind::PositionLost => {}
            Err(error) => return Err(error),
            Ok(_) if force => {}
            Ok(_) => {
                return Err(Error::new(ErrorKind::Unsuitable, "the pipeline's position is not lost")
                    .with("checkpoint", &lost.position)
                    .with_fix(
                        "start it: highwater run; where it ends with a lost position all the same, add --force",
                    ));
            }
        }
        let catalog = self.connector.discover().await?;
        self.connector.begin_anew(&lost).await?;
        let log = self.connector.open_log(None, run).await?;
        let (start, lineage) = (log.start().clone(), log.lineage());
        drop(log);
        let begun = self.decide(&mut engine, &catalog, start).await?;
        engine.reads_history(lineage);
        save(&mut engine, &mut *writer).await?;
        Ok(begun)
    }

    async fn decide(
        &self,
        engine: &mut Engine<C::Position>,
        catalog: &Catalog,
        start: C::Position,
    ) -> Result<BegunAnew> {
        let mut begun = BegunAnew {
            position: start.to_string(),
            tables: Vec::new(),
            without_key: Vec::new(),
        };
        let topic = |table: &TableName| topic_name(&self.settings.encoder.topic_prefix, table);
        let mut keyed = Vec::new();
        for table in &catalog.tables {
            let name = &table.schema.name;
            if table.schema.key.is_empty() {
                begun.without_key.push(name.to_string());
            } else {
                begun.tables.push(name.to_string());
                keyed.push(name);
            }
        }
        let mut ends = self.ends(keyed.iter().map(|table| topic(table)).collect()).await?;
        let renewals = keyed.into_iter().map(|table| {
            // Of a topic that does not exist nothing left yet: nothing can be gone.
            let ends = ends.remove(&topic(table)).unwrap_or_default();
            Renewal::new(table.clone(), ends)
        });
        engine.begin_anew(ResumePoint::at(start), renewals.collect());
        Ok(begun)
    }

    /// Of each of these topics that exists, per partition the next record to be written; asked by one reader, for there may
    /// be thousands. Nobody writes: the writer before was fenced.
    async fn ends(&self, mut topics: Vec<String>) -> Result<BTreeMap<String, Vec<u64>>> {
        let have: BTreeSet<String> = self
            .transport
            .topics()
            .await?
            .into_iter()
            .map(|info| info.name)
            .collect();
        topics.retain(|topic| have.contains(topic));
        let mut ends: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        if topics.is_empty() {
            return Ok(ends);
        }
        let mut reader = self.transport.open_reader(&topics, None, StartAt::Earliest).await?;
        for ((topic, _), end) in reader.end().await? {
            ends.entry(topic).or_default().push(end);
        }
        Ok(ends)
    }
}

async fn save<P: highwater_core::position::Position>(engine: &mut Engine<P>, writer: &mut dyn Writer) -> Result<()> {
    let mut actions = Vec::new();
    engine.step(Input::CheckpointDue, &mut actions)?;
    let checkpoint = actions.into_iter().find_map(|action| match action {
        Action::SaveCheckpoint { checkpoint, .. } => Some(checkpoint),
        _ => None,
    });
    let checkpoint = checkpoint.ok_or_else(|| Error::bug("an engine that begins anew has nothing to save"))?;
    let mut txn = writer.begin().await?;
    txn.put_checkpoint(&checkpoint).await?;
    txn.commit().await
}
