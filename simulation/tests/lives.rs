// SPDX-License-Identifier: Apache-2.0
//! Hundreds of thousands of lives. A failure prints its seed; `HIGHWATER_SEED=n` lives it again.

use highwater_simulation::live;
use highwater_simulation::sweep::sweep;

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_life_converges_and_nothing_stale_is_ever_sent() {
    if let Some(seed) = number_from("HIGHWATER_SEED") {
        let summary = live(seed, &|_| {}).unwrap_or_else(|what| panic!("SEED={seed} {what}"));
        println!("SEED={seed} {summary:?}");
        return;
    }
    let seeds = number_from("HIGHWATER_SEEDS").unwrap_or(200_000);
    match sweep(seeds, |seed| live(seed, &|_| {})) {
        Ok(totals) => {
            println!("{totals:?}");
            assert!(
                seeds < 1_000 || totals.runs_spilled > 0 && totals.memory_overflows > 0 && totals.removed > 0,
                "nothing was spilled, the cap was never reached, or no key was gone after a lost log"
            );
        }
        Err(failure) => panic!("SEED={} {}", failure.seed, failure.what),
    }
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in 0..500 {
        assert_eq!(live(seed, &|_| {}), live(seed, &|_| {}), "SEED={seed}");
    }
}
