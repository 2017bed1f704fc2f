// SPDX-License-Identifier: Apache-2.0
//! The conformance suite of [`Spill`].

#![allow(clippy::unwrap_used, reason = "a suite fails by panicking, as a test does")]

use bytes::Bytes;
use highwater_core::ErrorKind;
use highwater_core::spill::{Spill, SpillEntry, SpillRun};

/// A place for a store.
pub trait SpillHarness {
    /// The store under test.
    type Store: Spill;

    /// Opens a store for at most `bytes_max` bytes at the place, as a process that starts has it. The one before is gone
    /// without a word.
    fn open(&self, bytes_max: u64) -> Self::Store;
    /// Changes a byte of what the store keeps, at `part` of 1,000 of it; `false` where it keeps no bytes.
    fn damage(&self, _part: u64) -> bool {
        false
    }
}

/// Runs every clause, each at a new place.
pub fn run<H: SpillHarness>(place: impl Fn() -> H) {
    clause_1_what_was_written_is_found_until_it_is_forgotten(&place());
    clause_2_a_recall_gives_exactly_what_was_asked(&place());
    clause_2_entries_of_one_digest_all_come(&place());
    clause_2_entries_of_any_size_come_back_whole(&place());
    clause_3_a_run_past_the_room_is_refused_and_a_forgotten_one_makes_room(&place());
    clause_4_a_write_that_failed_leaves_nothing_behind(&place());
    clause_5_a_run_that_is_not_known_is_nothing_to_forget_and_an_error_to_ask(&place());
    clause_6_a_store_that_was_just_opened_is_empty(&place());
    clause_7_damage_is_an_error_and_never_an_answer(&place());
}

const ROOM: u64 = 64 << 20;

fn entry(digest: u64, text: &str) -> SpillEntry {
    SpillEntry {
        digest,
        value: Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// Digests spread over their whole range, as those of keys are.
fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn entries(count: u64, salt: &str) -> Vec<SpillEntry> {
    (0..count).map(|n| entry(spread(n), &format!("{salt}{n}"))).collect()
}

fn sorted(mut entries: Vec<SpillEntry>) -> Vec<SpillEntry> {
    entries.sort_by(|a, b| (a.digest, &a.value).cmp(&(b.digest, &b.value)));
    entries
}

fn clause_1_what_was_written_is_found_until_it_is_forgotten<H: SpillHarness>(place: &H) {
    let mut store = place.open(ROOM);
    let (first, second) = (entries(3_000, "a"), entries(10, "b"));
    store.write(SpillRun(1), &first).unwrap();
    store.write(SpillRun(2), &second).unwrap();
    let all: Vec<u64> = first.iter().map(|entry| entry.digest).collect();
    assert_eq!(
        sorted(store.recall(&[SpillRun(1)], &all).unwrap()),
        sorted(first.clone())
    );
    store.forget(SpillRun(1));
    assert!(store.recall(&[SpillRun(1)], &all).is_err());
    assert_eq!(sorted(store.recall(&[SpillRun(2)], &all).unwrap()), sorted(second));
}

fn clause_2_a_recall_gives_exactly_what_was_asked<H: SpillHarness>(place: &H) {
    let mut store = place.open(ROOM);
    store.write(SpillRun(7), &entries(5_000, "a")).unwrap();
    store.write(SpillRun(8), &entries(5_000, "b")).unwrap();
    store.write(SpillRun(9), &entries(5_000, "c")).unwrap();
    // Asked twice, and for what no run has.
    let digests = [
        spread(17),
        spread(4_999),
        spread(0),
        spread(17),
        spread(5_000),
        1,
        u64::MAX,
    ];
    let found = store.recall(&[SpillRun(9), SpillRun(7)], &digests).unwrap();
    let expected = ["a", "c"].iter().flat_map(|salt| {
        [0, 17, 4_999]
            .iter()
            .map(move |n| entry(spread(*n), &format!("{salt}{n}")))
    });
    assert_eq!(sorted(found), sorted(expected.collect()));
    assert_eq!(store.recall(&[SpillRun(7)], &[]).unwrap(), []);
    assert_eq!(store.recall(&[], &digests).unwrap(), []);
}

fn clause_2_entries_of_one_digest_all_come<H: SpillHarness>(place: &H) {
    let mut store = place.open(ROOM);
    // More than fit what is read at once, with neighbours on both sides.
    let mut written: Vec<SpillEntry> = (0..2_000).map(|n| entry(1 << 40, &format!("same {n}"))).collect();
    written.extend([entry((1 << 40) - 1, "before"), entry((1 << 40) + 1, "behind")]);
    store.write(SpillRun(1), &written).unwrap();
    let found = store.recall(&[SpillRun(1)], &[1 << 40]).unwrap();
    written.truncate(2_000);
    assert_eq!(sorted(found), sorted(written));
}

fn clause_2_entries_of_any_size_come_back_whole<H: SpillHarness>(place: &H) {
    let mut store = place.open(ROOM);
    let written: Vec<SpillEntry> = [0, 1, 4_000, 4_096, 5_000, 300_000]
        .iter()
        .zip(0_u64..)
        .map(|(&size, n)| entry(spread(n), &"x".repeat(size)))
        .collect();
    store.write(SpillRun(1), &written).unwrap();
    let digests: Vec<u64> = written.iter().map(|entry| entry.digest).collect();
    assert_eq!(sorted(store.recall(&[SpillRun(1)], &digests).unwrap()), sorted(written));
}

/// Runs of about 100 kB each until one is refused: how many were taken.
fn fill<S: Spill>(store: &mut S, first: u64) -> u64 {
    for run in first..first + 100 {
        match store.write(SpillRun(run), &entries(5_000, "some bytes more ")) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::LimitReached);
                return run - first;
            }
        }
    }
    panic!("100 runs of 100 kB fit a store of 1 MB");
}

fn clause_3_a_run_past_the_room_is_refused_and_a_forgotten_one_makes_room<H: SpillHarness>(place: &H) {
    let mut store = place.open(1 << 20);
    let taken = fill(&mut store, 1);
    assert!((1..=10).contains(&taken), "{taken} runs of 100 kB fit a store of 1 MB");
    (1..=taken).for_each(|run| store.forget(SpillRun(run)));
    assert_eq!(fill(&mut store, 500), taken, "room that was given back is not free");
}

fn clause_4_a_write_that_failed_leaves_nothing_behind<H: SpillHarness>(place: &H) {
    let mut store = place.open(1 << 20);
    let kept = entries(5_000, "kept");
    store.write(SpillRun(1), &kept).unwrap();
    let large = entries(1, &"x".repeat(2 << 20));
    assert_eq!(
        store.write(SpillRun(2), &large).unwrap_err().kind(),
        ErrorKind::LimitReached
    );
    assert!(store.recall(&[SpillRun(2)], &[spread(0)]).is_err());
    assert_eq!(
        store.recall(&[SpillRun(1)], &[spread(3)]).unwrap(),
        [entry(spread(3), "kept3")]
    );
    store.write(SpillRun(3), &kept).unwrap();
}

fn clause_5_a_run_that_is_not_known_is_nothing_to_forget_and_an_error_to_ask<H: SpillHarness>(place: &H) {
    let mut store = place.open(ROOM);
    store.forget(SpillRun(5));
    store.write(SpillRun(6), &entries(1, "a")).unwrap();
    assert!(store.recall(&[SpillRun(6), SpillRun(5)], &[spread(0)]).is_err());
}

fn clause_6_a_store_that_was_just_opened_is_empty<H: SpillHarness>(place: &H) {
    let mut store = place.open(1 << 20);
    let taken = fill(&mut store, 1);
    drop(store);
    let mut store = place.open(1 << 20);
    assert!(store.recall(&[SpillRun(1)], &[spread(0)]).is_err());
    assert_eq!(fill(&mut store, 1), taken, "runs of an earlier store take room");
}

fn clause_7_damage_is_an_error_and_never_an_answer<H: SpillHarness>(place: &H) {
    let mut noticed = 0;
    for part in [0, 1, 250, 500, 999] {
        let mut store = place.open(ROOM);
        let written = entries(2_000, "a");
        store.write(SpillRun(1), &written).unwrap();
        if !place.damage(part) {
            return;
        }
        let digests: Vec<u64> = written.iter().map(|entry| entry.digest).collect();
        match store.recall(&[SpillRun(1)], &digests) {
            Err(_) => noticed += 1,
            Ok(found) => assert_eq!(sorted(found), sorted(written), "damage became an answer"),
        }
    }
    assert!(noticed > 0, "damage was never noticed");
}
