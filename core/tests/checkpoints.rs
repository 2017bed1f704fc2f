// SPDX-License-Identifier: Apache-2.0
//! A checkpoint reads back as what was written, whatever the engine was doing; damage is an error and never a panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/stage.rs"]
#[allow(dead_code, reason = "the stage serves the transcripts")]
mod stage;

use highwater_core::checkpoint::Checkpoint;
use highwater_core::connector::Reconcile;
use highwater_core::dblog::action::Action;
use highwater_core::dblog::input::{Control, Input, SnapshotId};
use highwater_core::dblog::{Engine, EngineSettings};
use highwater_core::position::Lineage;
use highwater_core::{Class, ErrorKind};
use proptest::prelude::*;
use stage::{At, Stage};

/// Lines that make an engine busy in many ways.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        (1u64..9).prop_map(|id| format!("snapshot all {id}")),
        (1u64..9).prop_map(|id| format!("snapshot keys {id} {}", id + 1)),
        Just("snapshot where even".to_owned()),
        (1u64..400).prop_map(|id| format!("begin {id} at {id}")),
        (1u64..9).prop_map(|id| format!("update {id} a ~")),
        (1u64..9).prop_map(|id| format!("update {id} a ~ from {}", id + 10)),
        Just("commit".to_owned()),
        (1u64..6).prop_map(|mark| format!("written {mark}")),
        (1u64..6, 1u64..400).prop_map(|(mark, at)| format!("seen {mark} at {at}")),
        (1u64..6, 1u64..9).prop_map(|(chunk, id)| format!("rows {chunk} {id},a,b more")),
        (1u64..6).prop_map(|chunk| format!("failed {chunk} retryable")),
        (1u64..3).prop_map(|snapshot| format!("pause {snapshot}")),
        (1u64..400).prop_map(|at| format!("progress {at}")),
    ]
}

fn saved(engine: &mut Engine<At>) -> Checkpoint {
    let mut actions = Vec::new();
    // Steering a snapshot that does not exist changes nothing and makes a checkpoint due.
    engine
        .step(Input::Control(Control::Resume(SnapshotId(9_999))), &mut actions)
        .unwrap();
    engine.step(Input::CheckpointDue, &mut actions).unwrap();
    let checkpoint = actions.into_iter().find_map(|action| match action {
        Action::SaveCheckpoint { checkpoint, .. } => Some(checkpoint),
        _ => None,
    });
    checkpoint.expect("a checkpoint was due")
}

fn restore(checkpoint: &Checkpoint) -> highwater_core::Result<Engine<At>> {
    // No window opens, so that nothing moves by being restored.
    let settings = EngineSettings {
        windows_max: 0,
        ..EngineSettings::default()
    };
    Engine::restore(settings, Reconcile::Window, "stage", checkpoint)
}

proptest! {
    #[test]
    fn what_is_restored_saves_the_same_bytes(lines in prop::collection::vec(line(), 0..40)) {
        let mut stage = Stage::default();
        stage.perform("shape 1").unwrap();
        for line in &lines {
            stage.perform(line).unwrap();
        }
        let first = saved(&mut stage.engine);
        let mut restored = restore(&first).unwrap();
        prop_assert_eq!(restored.resume_point(), stage.engine.resume_point());
        prop_assert_eq!(restored.known_tables(), stage.engine.known_tables());
        prop_assert_eq!(saved(&mut restored), first);
    }

    #[test]
    fn damaged_bytes_are_refused_without_a_panic(
        lines in prop::collection::vec(line(), 0..20),
        at in any::<prop::sample::Index>(),
        octet: u8,
        cut: bool,
    ) {
        let mut stage = Stage::default();
        lines.iter().for_each(|line| { let _ = stage.perform(line); });
        let mut checkpoint = saved(&mut stage.engine);
        let mut bytes = checkpoint.bytes.to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = octet }
        checkpoint.bytes = bytes.into();
        let _ = restore(&checkpoint);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        let _ = restore(&Checkpoint { connector: "stage".into(), version: 1, bytes: bytes.into() });
    }
}

#[test]
fn a_checkpoint_keeps_the_history_that_its_log_is_of_and_one_without_is_read() {
    let mut engine = Stage::default().engine;
    let none = saved(&mut engine);
    let lineage = Lineage(vec![1, 2, 3].into());
    engine.reads_history(lineage.clone());
    let some = saved(&mut engine);
    assert_eq!(restore(&some).unwrap().resume_point().lineage, lineage);
    // The form before had no list of tables whose log was lost, which is empty and stands at the end.
    let mut bytes = none.bytes.to_vec();
    assert_eq!(bytes.pop(), Some(0));
    let third = Checkpoint {
        version: 3,
        bytes: bytes.clone().into(),
        ..none.clone()
    };
    assert!(restore(&third).unwrap().renewals().is_empty());
    // The one before that had no lineage: its length stands behind the position and the mark of no split transaction.
    let at = 1 + usize::from(bytes[0]) + 1;
    assert_eq!(bytes.remove(at), 0);
    let old = Checkpoint {
        version: 2,
        bytes: bytes.into(),
        ..none
    };
    let restored = restore(&old).unwrap();
    assert_eq!(restored.resume_point().position, engine.resume_point().position);
    assert_eq!(restored.resume_point().lineage, Lineage::default());
}

#[test]
fn another_connectors_checkpoint_and_an_unknown_form_are_told_apart() {
    let mut checkpoint = saved(&mut Stage::default().engine);
    checkpoint.version = 99;
    assert_eq!(restore(&checkpoint).unwrap_err().kind(), ErrorKind::Unsuitable);
    checkpoint.connector = "mysql".into();
    assert_eq!(restore(&checkpoint).unwrap_err().kind(), ErrorKind::Configuration);
    let cut = Checkpoint {
        connector: "stage".into(),
        version: 1,
        bytes: vec![9].into(),
    };
    assert_eq!(restore(&cut).unwrap_err().class(), Class::Fatal);
}
