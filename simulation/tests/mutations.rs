// SPDX-License-Identifier: Apache-2.0
//! The simulation bites: with any one rule broken, a life goes wrong within 20,000 seeds.

use highwater_core::dblog::mutation::Mutation;
use highwater_simulation::live;
use highwater_simulation::sweep::{Failure, sweep};

const SEEDS_MAX: u64 = 20_000;

fn first_failure(rule: Mutation) -> Failure {
    match sweep(SEEDS_MAX, |seed| live(seed, &|engine| engine.mutate(Some(rule)))) {
        Err(failure) => {
            println!("{rule:?}: SEED={} {}", failure.seed, failure.what);
            failure
        }
        Ok(totals) => panic!("{rule:?} was broken in {} lives and nothing noticed", totals.lives),
    }
}

#[test]
fn a_row_left_in_its_window_is_noticed() {
    first_failure(Mutation::WindowRule);
}

#[test]
fn a_read_view_that_is_not_checked_is_noticed() {
    first_failure(Mutation::ReadViewCheck);
}

#[test]
fn an_acknowledgement_before_the_checkpoint_is_durable_is_noticed() {
    first_failure(Mutation::CheckpointBeforeAcknowledge);
}

#[test]
fn a_partial_row_that_is_not_read_again_is_noticed() {
    first_failure(Mutation::RereadAfterPartial);
}

#[test]
fn a_split_transaction_resumed_at_the_wrong_change_is_noticed() {
    first_failure(Mutation::SplitOrdinal);
}

#[test]
fn remembered_keys_that_are_not_asked_back_are_noticed() {
    first_failure(Mutation::RecallOfRuns);
}

#[test]
fn a_row_left_under_its_old_key_is_noticed() {
    first_failure(Mutation::OldKey);
}

#[test]
fn a_chunk_of_an_outdated_shape_is_noticed() {
    first_failure(Mutation::ShapeCheck);
}

#[test]
fn a_deletion_of_a_range_or_partition_that_is_not_remembered_is_noticed() {
    first_failure(Mutation::DeletionOfMany);
}

#[test]
fn a_checkpoint_that_forgets_what_may_be_invisible_is_noticed() {
    first_failure(Mutation::ForwardedInCheckpoint);
}

#[test]
fn a_checkpoint_that_counts_open_windows_as_read_is_noticed() {
    first_failure(Mutation::OpenWindowInCheckpoint);
}

#[test]
fn an_event_that_leaves_unwatched_before_keys_are_compared_is_noticed() {
    first_failure(Mutation::WatchBeforeCompare);
}
