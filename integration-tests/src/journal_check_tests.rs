// SPDX-License-Identifier: Apache-2.0
//! The oracle must see each kind of fault, or a green test says nothing.

use super::*;
use crate::table::{Revision, Table};

const ID: KeyId = (Table::Items, 7);

fn revision(number: i64) -> Revision {
    Revision { number, wide: number }
}

fn put(number: i64, transaction: u64) -> Entry {
    Entry {
        transaction,
        change: Change::Put(revision(number)),
    }
}

/// Put 1, 2 and 3 in transactions of their own, a delete in the fourth, put 5 in the fifth.
fn histories() -> HashMap<KeyId, Vec<Entry>> {
    let delete = Entry {
        transaction: 104,
        change: Change::Delete,
    };
    HashMap::from([(ID, vec![put(1, 101), put(2, 102), put(3, 103), delete, put(5, 105)])])
}

fn event(kind: Kind, transaction: u64) -> Event {
    let log = !matches!(kind, Kind::Read(_) | Kind::Tombstone);
    Event {
        table: ID.0,
        key: Some(ID.1),
        kind,
        transaction: log.then_some(transaction),
        before: None,
        partial: false,
        place: (0, 0),
    }
}

fn log(number: i64) -> Event {
    event(Kind::Put(revision(number)), 100 + number as u64)
}

fn read(number: i64) -> Event {
    event(Kind::Read(revision(number)), 0)
}

fn delete() -> [Event; 2] {
    [event(Kind::Delete, 104), event(Kind::Tombstone, 0)]
}

fn faults(events: &[Event], extent: Extent) -> Vec<String> {
    check(events, &histories(), extent).faults
}

fn assert_fault(events: &[Event], fault: &str) {
    let found = faults(events, Extent::Whole);
    assert!(
        found.iter().any(|text| text.contains(fault)),
        "{fault:?} is not among {found:#?}"
    );
}

#[test]
fn a_read_and_the_whole_log_after_it_are_right() {
    let [gone, tombstone] = delete();
    let events = [read(2), log(3), read(3), gone, tombstone, log(5), read(5)];
    assert_eq!(faults(&events, Extent::Whole), Vec::<String>::new());
    let [gone, tombstone] = delete();
    assert_eq!(faults(&[gone, tombstone, log(5)], Extent::Whole), Vec::<String>::new());
}

#[test]
fn a_repeated_change_is_seen() {
    let [gone, tombstone] = delete();
    assert_fault(&[log(2), log(3), log(3), gone, tombstone, log(5)], "repeated");
    let [gone, tombstone] = delete();
    let [again, and_again] = delete();
    assert_fault(&[log(3), gone, tombstone, log(5), again, and_again], "repeated");
}

#[test]
fn a_lost_change_is_seen_in_the_middle_and_at_the_end() {
    assert_fault(&[log(2), log(5)], "lost: changes before");
    assert_fault(&[log(2), log(3)], "lost: the last changes");
    assert_fault(&[], "lost: nothing of this key");
    assert_eq!(faults(&[log(2), log(3)], Extent::SoFar), Vec::<String>::new());
}

#[test]
fn a_stale_read_is_time_travel_and_a_read_ahead_of_the_log_is_a_loss() {
    assert_fault(&[log(2), log(3), read(2)], "time travel");
    assert_fault(&[log(2), read(3)], "the log lost");
    let [gone, tombstone] = delete();
    assert_fault(&[log(3), gone, tombstone, read(3), log(5)], "time travel");
}

#[test]
fn a_state_that_never_was_is_seen() {
    assert_fault(&[log(2), event(Kind::Put(revision(4)), 104)], "never had");
    assert_fault(&[read(4)], "never had");
    assert_fault(&[event(Kind::Put(revision(2)), 103)], "another transaction");
    assert_fault(&[log(3), event(Kind::Tombstone, 0)], "no delete comes before");
}

#[test]
fn a_state_inside_a_transaction_may_come_from_the_log_only() {
    let histories = HashMap::from([(ID, vec![put(1, 101), put(2, 101)])]);
    let log = |number| event(Kind::Put(revision(number)), 101);
    assert!(check(&[log(1), log(2)], &histories, Extent::Whole).faults.is_empty());
    let verdict = check(&[read(1)], &histories, Extent::SoFar);
    assert!(
        verdict.faults[0].contains("only its own transaction"),
        "{:?}",
        verdict.faults
    );
}

#[test]
fn a_truncation_ends_every_row_that_was_there() {
    let truncate = Entry {
        transaction: 102,
        change: Change::Truncate,
    };
    let histories = HashMap::from([
        (ID, vec![put(1, 101), truncate]),
        ((ID.0, 8), vec![put(2, 101), truncate, put(3, 103)]),
    ]);
    let mut event = event(Kind::Truncate, 102);
    event.key = None;
    let mut last = log(3);
    last.key = Some(8);
    let mut first = log(1);
    assert!(
        check(&[first.clone(), event.clone(), last.clone()], &histories, Extent::Whole)
            .faults
            .is_empty()
    );
    first.kind = Kind::Read(revision(1));
    first.transaction = None;
    assert!(
        !check(&[event, first, last], &histories, Extent::Whole)
            .faults
            .is_empty(),
        "a row rose again"
    );
}

#[test]
fn a_column_that_the_log_left_out_must_have_arrived_before_or_by_a_read() {
    let left_alone = Revision { number: 2, wide: 1 };
    let entry = Entry {
        transaction: 102,
        change: Change::Put(left_alone),
    };
    let histories = HashMap::from([(ID, vec![put(1, 101), entry])]);
    let mut partial = event(Kind::Put(left_alone), 102);
    partial.partial = true;
    let faults = |events: &[Event]| check(events, &histories, Extent::Whole).faults;
    assert!(faults(&[log(1), partial.clone()]).is_empty());
    assert!(faults(&[read(1), partial.clone()]).is_empty());
    assert!(faults(&[partial.clone()])[0].contains("never arrived"));
    assert!(faults(&[partial, event(Kind::Read(left_alone), 0)]).is_empty());
}

#[test]
fn a_row_before_must_be_the_one_that_was_there() {
    let mut third = log(3);
    third.before = Some(1);
    assert_fault(&[log(2), third], "the row before");
}
