// SPDX-License-Identifier: Apache-2.0
//! A log with faults around it says everything that the log itself says, also what a trait has a default for.

use std::sync::Arc;
use std::time::Duration;

use highwater_core::Result;
use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, Retention, StartSnapshot, UnloggedChange};
use highwater_core::position::Lineage;
use highwater_core::schema::TableName;
use highwater_testkit::fault::{FaultPlan, Faulty};
use highwater_testkit::model::ModelPosition;

/// A log that answers nothing as the trait does by default.
struct Telling {
    start: ModelPosition,
    released: bool,
}

fn attached() -> UnloggedChange {
    UnloggedChange {
        table: TableName::new("public", "t"),
        code: "partition_attached",
        message: "rows came".to_owned(),
        copy: None,
    }
}

const KEPT: Retention = Retention {
    kept_bytes: 3,
    left_bytes: Some(4),
    left: Some(Duration::from_secs(5)),
};

impl LogReader for Telling {
    type Position = ModelPosition;

    fn start(&self) -> &ModelPosition {
        &self.start
    }

    async fn next(&mut self, items: &mut Vec<LogItem<ModelPosition>>) -> Result<()> {
        items.push(LogItem::Progress(self.start));
        Ok(())
    }

    async fn acknowledge(&mut self, position: &ModelPosition) -> Result<()> {
        self.start = *position;
        Ok(())
    }

    fn foreign_marks(&self) -> u64 {
        6
    }

    fn lag_bytes(&self) -> Option<u64> {
        Some(7)
    }

    fn lineage(&self) -> Lineage {
        Lineage("of this history".into())
    }

    fn retention(&self) -> Option<Retention> {
        Some(KEPT)
    }

    fn overload(&self) -> Option<Arc<str>> {
        Some("it has enough to do".into())
    }

    fn unlogged_changes(&mut self) -> Vec<UnloggedChange> {
        vec![attached()]
    }

    fn start_snapshot(&self) -> StartSnapshot<ModelPosition> {
        match self.released {
            true => StartSnapshot::None,
            false => StartSnapshot::Held(self.start),
        }
    }

    fn release_snapshot(&mut self) {
        self.released = true;
    }
}

#[tokio::test]
async fn every_answer_of_the_inner_log_comes_through() {
    let start = ModelPosition(2);
    let telling = Telling { start, released: false };
    let mut log = Faulty::new(telling, FaultPlan::default());
    assert_eq!(log.lineage(), Lineage("of this history".into()));
    assert_eq!(log.overload().as_deref(), Some("it has enough to do"));
    assert_eq!(log.unlogged_changes(), [attached()]);
    assert_eq!(log.retention(), Some(KEPT));
    assert_eq!((log.foreign_marks(), log.lag_bytes()), (6, Some(7)));
    assert_eq!(log.start_snapshot(), StartSnapshot::Held(start));
    log.release_snapshot();
    assert_eq!(log.start_snapshot(), StartSnapshot::None);
    let mut items = Vec::new();
    log.next(&mut items).await.unwrap();
    assert!(matches!(items.as_slice(), [LogItem::Progress(ModelPosition(2))]));
    log.acknowledge(&ModelPosition(9)).await.unwrap();
    assert_eq!(*log.start(), ModelPosition(9));
}
