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
